"""Where a multi-model batch keeps its state in S3: ``<outputs>/_batch/<owner>/<arguments>/plan-000-<nonce>/…``."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE, state_folder


@dataclass(frozen=True)
class ShardFolder:
    """What one shard keeps. Its inputs lie below it in chunks (:mod:`~airflow_sm_plugin.batches.input_chunks`).

    :param location: ``s3://…`` without a slash at its end
    """

    location: str

    @property
    def plan(self) -> str:
        """Which models the shard has, and which of its inputs are theirs."""
        return f"{self.location}/shard.json"

    @property
    def claims(self) -> str:
        """The prefix of the claims: one object for each process that took the shard over."""
        return f"{self.location}/claims/"

    @property
    def journal(self) -> str:
        """The prefix of the journal's parts: which results there are, and where their bytes lie."""
        return f"{self.location}/journal/"

    def data(self, name: str) -> str:
        """Return the location of the bytes of one part's results; the name is no other process's."""
        return f"{self.location}/data/{name}"

    @property
    def uploads(self) -> str:
        """The prefix of the records of multipart uploads that have not ended."""
        return f"{self.location}/uploads/"

    def report(self, claim: int) -> str:
        """Return the location of the report of the process with that claim; only the latest claim's counts."""
        return f"{self.location}/reports/{claim:08d}.json"


@dataclass(frozen=True)
class MultiModelPlanFolder:
    """What one plan keeps.

    :param location: ``s3://…`` without a slash at its end
    """

    location: str

    @property
    def plan(self) -> str:
        """The plan itself, written when its shards are all there."""
        return f"{self.location}/plan.json"

    @property
    def claims(self) -> str:
        """The prefix of the claims: one object for each process that merged the shards' reports."""
        return f"{self.location}/claims/"

    @property
    def report(self) -> str:
        """The merged report."""
        return f"{self.location}/{REPORT}"

    @property
    def report_page(self) -> str:
        """The merged report for people."""
        return f"{self.location}/{REPORT_PAGE}"

    def shard(self, number: int) -> ShardFolder:
        """Return what one shard keeps; shards count from 0."""
        return ShardFolder(f"{self.location}/shards/{number:05d}")

    @property
    def number(self) -> int:
        """The plan's number, from 0."""
        return int(self.location.rpartition("/plan-")[2].partition("-")[0])

    @property
    def batch(self) -> MultiModelFolder:
        """All plans of the batch."""
        return MultiModelFolder(self.location.rpartition("/")[0])


@dataclass(frozen=True)
class MultiModelFolder:
    """All plans of one task instance with certain arguments.

    :param location: ``s3://…`` without a slash at its end
    """

    location: str

    @classmethod
    def below(
        cls, outputs: str, *, owner: str, arguments: str, state_prefix: str | None = None
    ) -> MultiModelFolder:
        """Return the folder of a batch.

        :param owner: what names the task instance that plans, over all its tries
        :param arguments: digest of the arguments that make it another batch
        :param state_prefix: by default the outputs
        """
        prefix = outputs if state_prefix is None else state_prefix
        return cls(state_folder(prefix, owner=owner, arguments=arguments))

    @property
    def choices(self) -> str:
        """The prefix of the log of plans: its last entry names the plan that counts."""
        return f"{self.location}/plans/"

    def plan(self, number: int, nonce: str) -> MultiModelPlanFolder:
        """Return what one plan keeps; plans count from 0."""
        return MultiModelPlanFolder(f"{self.location}/plan-{number:03d}-{nonce}")
