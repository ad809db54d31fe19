"""Locations of an asynchronous batch's state in S3: ``<ledger_prefix>/_batch/<owner>/<arguments>/…``.

Locations of folders are ``s3://…`` without a slash at their end; prefixes have one.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE, state_folder

_PLANNED = "planned-"


@dataclass(frozen=True)
class RoundFolder:
    """Locations of one round's objects below ``location``: its inputs' numbers, descriptions of waits, the ledger."""

    location: str

    @property
    def numbers(self) -> str:
        """The numbers of the plan's inputs that the round sends."""
        return f"{self.location}/numbers.json"

    def wait(self, claim: int) -> str:
        """Locate the description of a wait, for a trigger. Each claim has its own, so that none is overwritten."""
        return f"{self.location}/wait-{claim:08d}.json"

    @property
    def ledger(self) -> str:
        """The prefix of the ledger's parts, a :class:`~airflow_sm_plugin.batches.numbered_log.NumberedLog`."""
        return f"{self.location}/ledger/"


@dataclass(frozen=True)
class AttemptFolder:
    """The objects of one plan: one attempt at the whole batch."""

    location: str

    @property
    def plan(self) -> str:
        """The plan itself, written after all of its inputs."""
        return f"{self.location}/plan.json"

    @property
    def report(self) -> str:
        return f"{self.location}/{REPORT}"

    @property
    def report_page(self) -> str:
        return f"{self.location}/{REPORT_PAGE}"

    @property
    def rows(self) -> str:
        return f"{self.location}/rows/"

    @property
    def failures(self) -> str:
        """The prefix of the rows of inputs without an output."""
        return f"{self.location}/failures/"

    def inputs(self, token: str) -> str:
        """Locate the shards of one planner; two planners use two folders."""
        return f"{self.location}/{_PLANNED}{token}"

    @property
    def behind_inputs(self) -> str:
        """A key that sorts after the planners' shards, and before report, rounds and rows."""
        return f"{self.location}/{_PLANNED}~"

    def rows_of(self, shard: int) -> str:
        return f"{self.rows}{shard:05d}.jsonl"

    def failures_of(self, shard: int) -> str:
        return f"{self.failures}{shard:05d}.jsonl"

    def round(self, round_number: int) -> RoundFolder:
        """Locate one round, counted from 1."""
        return RoundFolder(f"{self.location}/round-{round_number}")


@dataclass(frozen=True)
class BatchFolder:
    """All state of one task instance's batch with certain arguments."""

    location: str

    @classmethod
    def below(cls, ledger_prefix: str, *, owner: str, arguments: str) -> BatchFolder:
        """Locate a batch; parameters as of :func:`~airflow_sm_plugin.batches.folder.state_folder`."""
        return cls(state_folder(ledger_prefix, owner=owner, arguments=arguments))

    @property
    def claims(self) -> str:
        """The prefix of the claims: one object for each process that took the batch over."""
        return f"{self.location}/claims/"

    def plan(self, plan_number: int) -> AttemptFolder:
        """Locate one plan, counted from 0."""
        return AttemptFolder(f"{self.location}/plan-{plan_number:03d}")
