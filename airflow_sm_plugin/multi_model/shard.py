"""Do one shard of a plan, or go on with it: any step may be killed and done again."""

from __future__ import annotations

import asyncio
import bisect
import dataclasses
import datetime
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.claim import Claim, fenced_off
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
from airflow_sm_plugin.batches.inputs import CHUNK
from airflow_sm_plugin.batches.task_try import Origin, StateWriter
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.multi_model.engine.engine import ModelEngine
from airflow_sm_plugin.multi_model.engine.invoker import EndpointInvoker
from airflow_sm_plugin.multi_model.engine.progress import BatchProgress, Before
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.plan.plan import ModelWork, MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.plan.store import PlanFence, read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.fenced_objects import UploadRecords
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.state.journal import Journal, StoredFailure
from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
from airflow_sm_plugin.multi_model.state.records import Failure, JournalPart
from airflow_sm_plugin.multi_model.state.store import JournalStore, TakeOver, read_journal, sweep
from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES, ModelCounts, ShardReport

log = get_log(__name__)

_WRITING_CONNECTIONS = 48
_READING_CONNECTIONS = 1_024
"""One is held for each input that is being read while its model is waited for."""

_LONGEST_ROW = 1_048_576

Todo = list[tuple[ModelWork, list[int]]]


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """How a shard is done.

    :param plan_location: of the plan's folder
    :param writer: this try of the task instance
    :param restart: whether another run of a finished shard does everything again, or only what failed
    :param options: how outputs and all state are kept
    """

    plan_location: str
    shard: int
    engine: EngineSettings
    writer: StateWriter = field(default_factory=StateWriter)
    restart: bool = False
    options: ObjectOptions = field(default_factory=ObjectOptions)


@dataclass(frozen=True)
class FinishedShard:
    """A shard all of whose inputs have ended.

    :param location: of the report
    :param retryable: inputs of which something failed for reasons that may pass
    """

    report: ShardReport
    location: str
    retryable: int


async def run_shard(connection: AwsConnection, settings: ShardSettings) -> FinishedShard:
    """Do a shard, or what is left of it, and write its report.

    :raises InputNotFound: there is no such plan
    :raises EndpointNotFound: and EndpointNotMultiModel, EndpointNotRealTime, EndpointNotInService, AccessDenied:
        nothing can be invoked
    :raises FencedOff: another process has taken the shard over
    :raises PlanReplaced: a later plan counts
    :raises ServiceError: the endpoint or S3 did not serve; what was done is written down
    """
    async with S3Objects.open(
        connection, max_connections=_WRITING_CONNECTIONS, options=settings.options
    ) as s3:
        run = await _ShardRun.of(connection, s3, settings)
        return await run.result_of_before() or await run.resume()


class _ShardRun:
    """One process's run of a shard."""

    def __init__(
        self,
        connection: AwsConnection,
        s3: S3Objects,
        settings: ShardSettings,
        plan: MultiModelPlan,
        shard: ShardPlan,
    ) -> None:
        self._connection = connection
        self._s3 = s3
        self._settings = settings
        self._plan = plan
        self._shard = shard
        self._fence = PlanFence(s3, MultiModelPlanFolder(settings.plan_location))
        self.folder = MultiModelPlanFolder(settings.plan_location).shard(settings.shard)
        """What this process, and those before it, keep."""
        self._inputs = ChunkedInputs(s3, self.folder.location, CHUNK)
        self._firsts = [work.first for work in shard.models]
        self._trusts_plan = True
        """Whether models are missing that the plan did not find."""
        self._kept: list[StoredFailure] = []
        self.about = f"endpoint {settings.engine.endpoint_name}, shard {settings.shard} of {plan.shards}"

    @classmethod
    async def of(cls, connection: AwsConnection, s3: S3Objects, settings: ShardSettings) -> _ShardRun:
        plan = await read_plan(s3, settings.plan_location)
        shard = await read_shard_plan(s3, MultiModelPlanFolder(settings.plan_location).shard(settings.shard))
        return cls(connection, s3, settings, plan, shard)

    async def result_of_before(self) -> FinishedShard | None:
        """Return what this very run has finished before; None when there is something to do.

        :raises FencedOff: a later try has worked on the shard
        :raises PlanReplaced: a later plan counts
        """
        await self._fence.check()
        journal = await read_journal(self._s3, self.folder, self._group_of, keep=False)
        if self._origin_of(journal.writer) is not Origin.SAME_RUN or not journal.is_finished:
            return None
        if any(ended.retryable for ended in journal.failed.values()):
            return None
        body = await self._s3.read_if_any(self.folder.report(journal.claim))
        if body is None:
            return None
        log.info("%s: this run has done it before", self.about)
        return await self._finished(ShardReport.from_json(body), journal, self._claim(journal.claim))

    def _claim(self, number: int) -> Claim:
        return Claim(self._s3, self.folder, token="", number=number, also=self._fence.check)

    def _origin_of(self, writer: StateWriter | None) -> Origin | None:
        """Return how the try that wrote the journal relates to this one; None when there is no journal.

        :raises FencedOff: it is a later one
        """
        origin = None if writer is None else self._settings.writer.origin_of(writer)
        if origin is Origin.LATER_TRY:
            raise fenced_off(self.folder.location)
        return origin

    async def resume(self) -> FinishedShard:
        """Do what is left."""
        settings = self._settings
        claim = await Claim.taken(
            self._s3,
            self.folder,
            token=uuid.uuid4().hex[:16],
            task_try=settings.writer.task_try,
            also=self._fence.check,
        )
        store = await JournalStore.take_over(
            self._s3,
            self.folder,
            claim,
            group_of=self._group_of,
            writer=settings.writer,
            decide=self._decide,
        )
        journal, statistics = store.journal, Statistics()
        todo = self._todo(journal)
        progress = self._progress(journal)
        failures: Sequence[Mapping[str, object]] = ()
        if todo:
            progress.begin(models=len(todo))
            endpoint = await EndpointFacts(self._connection, settings.engine.endpoint_name).models()
            slash = None if endpoint is None else endpoint.ends_in_slash
            engine = dataclasses.replace(settings.engine, prefix_ends_in_slash=slash)
            failures = await self._work(engine, store, statistics, progress, todo)
        else:
            await store.append(JournalPart(token=store.token, at=time.time(), finished=True), b"")
        await claim.check()
        report = await self._report(journal, failures)
        await self._s3.write(self.folder.report(claim.number), report.as_json())
        total = report.total
        log.info(
            "%s: %d inputs, %d records, %d failed",
            self.about,
            total.inputs,
            total.records,
            total.records_failed,
        )
        return await self._finished(report, journal, claim)

    def _decide(self, journal: Journal) -> TakeOver:
        """Decide what of the journal counts, and which failures are tried again: what may pass; when cleared, all."""
        origin = self._origin_of(journal.writer)
        if self._origin_of(journal.first_writer) not in (None, Origin.SAME_RUN):
            self._trusts_plan = False  # a missing artefact may have been added before the task was cleared
        if origin is Origin.DELETED_RUN or (
            origin is Origin.CLEARED and self._settings.restart and journal.is_finished
        ):
            self._kept = []
            return TakeOver(is_restart=True)
        again = journal.to_retry(everything=origin is Origin.CLEARED)
        chosen = set(again)
        self._kept = [placed for placed in journal.failures() if placed.failure not in chosen][:MOST_FAILURES]
        if again:
            log.info("%s: failures of before in %d places are tried again", self.about, len(again))
        return TakeOver(again=again, taken_back=self._counted(again))

    def _counted(self, again: Sequence[Failure]) -> Mapping[str, Any]:
        """Return what takes failures that are tried again out of the statistics."""
        counted = Statistics()
        for failure in again:
            model = self._shard.models[self._group_of(failure.entry)].target_model
            counted.failed(model, failure.error, records=-(failure.records or 0))
        return counted.as_json() if again else {}

    def _group_of(self, entry: int) -> int:
        return bisect.bisect_right(self._firsts, entry) - 1

    def _todo(self, journal: Journal) -> Todo:
        todo: Todo = []
        for work in self._shard.models:
            numbers = journal.left(work.first, work.count)
            if numbers:
                missing = work.missing and self._trusts_plan
                todo.append((msgspec.structs.replace(work, missing=missing), numbers))
        return todo

    def _progress(self, journal: Journal) -> BatchProgress:
        before = Before(
            inputs=journal.clean.bit_count() + len(journal.failed),
            records=journal.clean_records.total()
            + sum(ended.records for ended in journal.failed.values())
            + sum(progress.records for progress in journal.progress.values()),
        )
        left = 1 - before.inputs / self._shard.inputs if self._shard.inputs else 0.0
        size = 0 if self._settings.engine.gunzip else round(self._shard.bytes * left)
        return BatchProgress(self.about, total_inputs=self._shard.inputs, left_bytes=size, before=before)

    async def _work(
        self,
        engine: EngineSettings,
        store: JournalStore,
        statistics: Statistics,
        progress: BatchProgress,
        todo: Todo,
    ) -> Sequence[Mapping[str, object]]:
        async with (
            S3Objects.open(self._connection, max_connections=_READING_CONNECTIONS) as reads,
            EndpointInvoker.open(
                self._connection, engine.endpoint_name, max_connections=engine.max_concurrent_transforms
            ) as invoker,
            self._writer(store) as writer,
        ):
            working = ModelEngine(
                engine,
                reads=reads,
                inputs=self._inputs,
                invoker=invoker,
                writer=writer,
                store=store,
                statistics=statistics,
                progress=progress,
                todo=todo,
            )
            await working.run()
            return working.failures

    @asynccontextmanager
    async def _writer(self, store: JournalStore) -> AsyncIterator[OutputWriter]:
        claim = store.claim
        records = UploadRecords(self._s3, self.folder.uploads)
        await records.give_up_all(claim.check)
        writer = OutputWriter(
            self._s3,
            self._plan.outputs,
            content_type=self._settings.engine.accept or "application/octet-stream",
            data_prefix=self.folder.data(""),
            mark=f"{self._plan.nonce}/{claim.token}",
            records=records,
            options=self._settings.options,
            check=claim.check,
            check_lately=claim.check_lately,
        )
        writer.start_listing()
        try:
            yield writer
        finally:
            await asyncio.shield(writer.close())

    async def _report(self, journal: Journal, failures: Sequence[Mapping[str, object]]) -> ShardReport:
        counts = {
            work.target_model: ModelCounts(
                inputs=journal.clean_inputs[group], records=journal.clean_records[group]
            )
            for group, work in enumerate(self._shard.models)
        }
        for entry, ended in journal.failed.items():
            model = self._shard.models[self._group_of(entry)].target_model
            counts[model] += ModelCounts(
                inputs=1,
                inputs_failed=1,
                records=ended.records,
                records_failed=ended.failed,
                inputs_unread=int(ended.unreadable),
            )
        rows = [await self._row(*placed) for placed in self._kept]
        return ShardReport(
            shard=self._shard.number,
            plan_digest=self._plan.digest,
            plan_nonce=self._plan.nonce,
            endpoint_name=self._plan.endpoint_name,
            counts=counts,
            statistics=journal.statistics.as_json(),
            failures=[*rows, *failures][:MOST_FAILURES],
            started_at=_iso(journal.began_at or time.time()),
            finished_at=_iso(time.time()),
        )

    async def _row(self, failure: Failure, data: str) -> Mapping[str, Any]:
        """Return the first row of a failure of before."""
        size = min(failure.size, _LONGEST_ROW)
        body = await self._s3.read_range(self.folder.data(data), failure.offset, size)
        row: Mapping[str, Any] = json.loads(body.partition(b"\n")[0])
        return row

    async def _finished(self, report: ShardReport, journal: Journal, claim: Claim) -> FinishedShard:
        if not report.total.failed:
            await sweep(self._s3, self.folder, claim)
        retryable = sum(ended.retryable for ended in journal.failed.values())
        return FinishedShard(report, self.folder.report(claim.number), retryable)


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
