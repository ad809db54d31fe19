"""The folders of a multi-model batch's state in S3: ``<outputs>/_batch/<owner>/<arguments>/plan-000-<nonce>/…``.

A folder's ``location`` is ``s3://…`` without a slash at its end, a prefix has one. Plans and shards count from 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE, state_folder


@dataclass(frozen=True)
class ShardFolder:
    """The folder of one shard; its inputs are chunks (:mod:`~airflow_sm_plugin.batches.input_chunks`) below it."""

    location: str

    @property
    def plan(self) -> str:
        return f"{self.location}/shard.json"

    @property
    def claims(self) -> str:
        """Prefix of the claims: one object for each process that took the shard over."""
        return f"{self.location}/claims/"

    @property
    def journal(self) -> str:
        return f"{self.location}/journal/"

    def data(self, name: str) -> str:
        """Locate the bytes of one part's results; the name is unique to a process."""
        return f"{self.location}/data/{name}"

    @property
    def uploads(self) -> str:
        """Prefix of the records of multipart uploads that have not ended."""
        return f"{self.location}/uploads/"

    def report(self, claim: int) -> str:
        """Locate the report of the process with a claim; only the report of the latest claim counts."""
        return f"{self.location}/reports/{claim:08d}.json"

    def stop(self, claim: int) -> str:
        """Locate the report of the process with a claim on what was done before an error stopped it."""
        return f"{self.location}/stops/{claim:08d}.json"


@dataclass(frozen=True)
class MultiModelPlanFolder:
    """Locations of one plan's objects below ``location``: the plan, its shards, claims of merges, the report."""

    location: str

    @property
    def plan(self) -> str:
        return f"{self.location}/plan.json"

    @property
    def claims(self) -> str:
        """Prefix of the claims: one object for each process that merged the shards' reports."""
        return f"{self.location}/claims/"

    @property
    def report(self) -> str:
        return f"{self.location}/{REPORT}"

    @property
    def report_page(self) -> str:
        return f"{self.location}/{REPORT_PAGE}"

    def shard(self, number: int) -> ShardFolder:
        return ShardFolder(f"{self.location}/shards/{number:05d}")

    @property
    def number(self) -> int:
        return int(self.location.rpartition("/plan-")[2].partition("-")[0])

    @property
    def batch(self) -> MultiModelFolder:
        return MultiModelFolder(self.location.rpartition("/")[0])


@dataclass(frozen=True)
class MultiModelFolder:
    """The folder of all plans of one task instance with the same arguments."""

    location: str

    @classmethod
    def below(
        cls, outputs: str, *, owner: str, arguments: str, state_prefix: str | None = None
    ) -> MultiModelFolder:
        """Locate a batch.

        :param owner: name of the task instance that plans, the same for all of its tries
        :param arguments: digest of the arguments that make it another batch
        :param state_prefix: by default the outputs
        """
        prefix = outputs if state_prefix is None else state_prefix
        return cls(state_folder(prefix, owner=owner, arguments=arguments))

    @property
    def choices(self) -> str:
        """Prefix of the log of plans: its last entry names the current plan."""
        return f"{self.location}/plans/"

    def plan(self, number: int, nonce: str) -> MultiModelPlanFolder:
        return MultiModelPlanFolder(f"{self.location}/plan-{number:03d}-{nonce}")
