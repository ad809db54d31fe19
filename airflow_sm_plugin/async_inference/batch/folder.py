"""Where the state of an asynchronous batch lies in S3: ``<ledger_prefix>/_batch/<owner>/<arguments>/…``.

Locations of folders are ``s3://…`` without a slash at their end; prefixes have one.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.batches.folder import REPORT, state_folder

_PLANNED = "planned-"


@dataclass(frozen=True)
class RoundFolder:
    """The objects of one round of a plan."""

    location: str

    @property
    def numbers(self) -> str:
        """Which of the plan's inputs the round sends."""
        return f"{self.location}/numbers.json"

    def wait(self, claim: int) -> str:
        """Return where it lies what a trigger waits for; each owner of the batch has one, so that none replaces it.

        :param claim: number of the owner's claim
        """
        return f"{self.location}/wait-{claim:08d}.json"

    @property
    def ledger(self) -> str:
        return f"{self.location}/ledger/"

    def part(self, number: int) -> str:
        return f"{self.ledger}{number:08d}.json"


@dataclass(frozen=True)
class AttemptFolder:
    """The objects of one plan: one attempt at the whole batch."""

    location: str

    @property
    def plan(self) -> str:
        """The plan itself, written when its inputs are all there."""
        return f"{self.location}/plan.json"

    @property
    def report(self) -> str:
        """The report; with it the plan is finished."""
        return f"{self.location}/{REPORT}"

    @property
    def rows(self) -> str:
        return f"{self.location}/rows/"

    @property
    def failures(self) -> str:
        """The prefix of the rows of inputs without an output."""
        return f"{self.location}/failures/"

    def inputs(self, token: str) -> str:
        """Return where one planner writes its shards, so that two do not mix."""
        return f"{self.location}/{_PLANNED}{token}"

    @property
    def behind_inputs(self) -> str:
        """What every name of report, rounds and rows is behind of, in S3's order, and no planner's shards are."""
        return f"{self.location}/{_PLANNED}~"

    def rows_of(self, shard: int) -> str:
        return f"{self.rows}{shard:05d}.jsonl"

    def failures_of(self, shard: int) -> str:
        return f"{self.failures}{shard:05d}.jsonl"

    def round(self, number: int) -> RoundFolder:
        """Return the folder of one round; rounds count from 1."""
        return RoundFolder(f"{self.location}/round-{number}")


@dataclass(frozen=True)
class BatchFolder:
    """Everything of one task instance's batch with certain arguments."""

    location: str

    @classmethod
    def below(cls, ledger_prefix: str, *, owner: str, arguments: str) -> BatchFolder:
        """Return the folder of a batch.

        :param owner: what names the task instance over all its tries
        :param arguments: digest of the batch's arguments
        """
        return cls(state_folder(ledger_prefix, owner=owner, arguments=arguments))

    @property
    def claims(self) -> str:
        """The prefix of the claims: one object for each process that took the batch over."""
        return f"{self.location}/claims/"

    def claim(self, number: int) -> str:
        return f"{self.claims}{number:08d}.json"

    def plan(self, number: int) -> AttemptFolder:
        """Return the folder of one plan; plans count from 0."""
        return AttemptFolder(f"{self.location}/plan-{number:03d}")
