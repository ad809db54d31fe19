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

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batch.batch_progress import BatchProgress, Before
from airflow_sm_plugin.batch.claim import Claim, fenced_off
from airflow_sm_plugin.batch.engine_settings import EngineSettings
from airflow_sm_plugin.batch.journal_store import JournalStore, read_journal, sweep
from airflow_sm_plugin.batch.model_engine import ModelEngine
from airflow_sm_plugin.batch.output_writer import OutputWriter
from airflow_sm_plugin.batch.plan_folder import GenerationFolder, PlanFolder, ShardFolder
from airflow_sm_plugin.batch.shard_inputs import ShardInputs, read_plan, read_shard_plan
from airflow_sm_plugin.batch.shard_state import latest_generation
from airflow_sm_plugin.core.batch_journal import Failure, Journal, Part, PlacedFailure
from airflow_sm_plugin.core.batch_report import MOST_FAILURES, ModelCounts, ShardReport
from airflow_sm_plugin.core.batch_statistics import Statistics
from airflow_sm_plugin.core.shard_plan import ModelWork, MultiModelPlan, ShardPlan
from airflow_sm_plugin.exceptions import AccessDenied
from airflow_sm_plugin.hooks.connection import AwsConnection
from airflow_sm_plugin.hooks.endpoint_invoker import EndpointInvoker
from airflow_sm_plugin.hooks.multi_model_endpoint import endpoint_models
from airflow_sm_plugin.hooks.s3_objects import S3Objects
from airflow_sm_plugin.hooks.s3_upload_calls import ObjectOptions

log = get_log(__name__)

_WRITING_CONNECTIONS = 48
_READING_CONNECTIONS = 1_024
"""One is held for each input that is being read while its model is waited for."""

_LONGEST_ROW = 1_048_576

Todo = list[tuple[ModelWork, list[int]]]


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What is to be done with a shard.

    :param plan_location: of the plan's folder
    :param run: what stays the same over the retries of one run of the task, and differs when it is cleared; None where
        that cannot be told: every call then counts as a run of its own
    :param restart: whether another run of a finished shard does everything anew, or only what failed
    :param options: how outputs are kept
    """

    plan_location: str
    shard: int
    engine: EngineSettings
    run: str | None = None
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
    :raises ServiceError: the endpoint or S3 did not serve; what was done is written down
    """
    async with S3Objects.open(connection, max_connections=_WRITING_CONNECTIONS) as s3:
        run = await _ShardRun.of(connection, s3, settings)
        done = await run.done_before()
        if done is not None:
            log.info("%s: this run has done it before", run.about)
        else:
            done = await run.go_on()
        if not done.report.total.failed:
            await sweep(s3, run.folder)
        return done


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
        self._shard_folder: ShardFolder = PlanFolder(settings.plan_location).shard(settings.shard)
        self._inputs = ShardInputs(s3, self._shard_folder)
        self._generation = 0
        self._firsts = [work.first for work in shard.models]
        self._trusts_plan = True
        """Whether models are missing that the plan did not find."""
        self._kept: list[PlacedFailure] = []
        self.about = f"endpoint {settings.engine.endpoint_name}, shard {settings.shard} of {plan.shards}"

    @classmethod
    async def of(cls, connection: AwsConnection, s3: S3Objects, settings: ShardSettings) -> _ShardRun:
        plan = await read_plan(s3, settings.plan_location)
        shard = await read_shard_plan(s3, PlanFolder(settings.plan_location).shard(settings.shard))
        return cls(connection, s3, settings, plan, shard)

    @property
    def folder(self) -> GenerationFolder:
        """What this process, and those before it, keep."""
        return self._shard_folder.generation(self._generation)

    async def done_before(self) -> FinishedShard | None:
        """Return what this very run has finished; else choose the generation to go on with."""
        number = await latest_generation(self._s3, self._shard_folder)
        if number is None:
            return None
        self._generation = number
        journal = await read_journal(self._s3, self.folder, self._group_of, keep=False)
        if not journal.is_finished:
            return None
        if self._differs(journal):
            if self._settings.restart:
                self._generation = number + 1
                self._trusts_plan = False
            return None
        if any(ended.retryable for ended in journal.failed.values()):
            return None
        body = await self._s3.read_if_any(self.folder.report)
        report = None if body is None else ShardReport.from_json(body)
        return None if report is None or report.run != self._settings.run else self._finished(report, journal)

    def _differs(self, journal: Journal) -> bool:
        """Say whether another run wrote it: the task was cleared."""
        return journal.parts > 0 and (self._settings.run is None or journal.run != self._settings.run)

    async def go_on(self) -> FinishedShard:
        """Do what is left."""
        claim = await Claim.taken(self._s3, self.folder, token=uuid.uuid4().hex[:16])
        store = await JournalStore.take_over(
            self._s3,
            self.folder,
            claim,
            group_of=self._group_of,
            run=self._settings.run,
            choose=self._choose,
            taken_back=self._taken_back,
            options=self._settings.options,
        )
        journal, statistics = store.journal, Statistics()
        todo = self._todo(journal)
        progress = self._progress(journal)
        await self._forget_report()
        failures: Sequence[Mapping[str, object]] = ()
        if todo:
            progress.begin(models=len(todo))
            await endpoint_models(self._connection, self._settings.engine.endpoint_name)
            failures = await self._work(store, statistics, progress, todo)
        else:
            await store.append(Part(token=store.token, at=time.time(), finished=True), b"")
        await self._check(store)
        report = await self._report(journal, failures)
        await self._s3.write(self.folder.report, report.as_json(), options=self._settings.options)
        log.info("%s: %d inputs, %d records, %d failed", self.about, *_in_short(report))
        return self._finished(report, journal)

    def _choose(self, journal: Journal) -> Sequence[Failure]:
        """Say which failures are tried again: what may pass; when the task was cleared, all."""
        if journal.parts and (self._settings.run is None or journal.first_run != self._settings.run):
            self._trusts_plan = False  # who cleared the task may have brought a missing artefact
        again = journal.to_retry(everything=self._differs(journal))
        chosen = set(again)
        self._kept = [each for each in journal.failures() if each.failure not in chosen][:MOST_FAILURES]
        if again:
            log.info("%s: failures of before in %d places are tried again", self.about, len(again))
        return again

    def _taken_back(self, again: Sequence[Failure]) -> Mapping[str, Any]:
        """Return what the statistics counted of failures that are tried again."""
        counted = Statistics()
        for failure in again:
            model = self._shard.models[self._group_of(failure.entry)].target_model
            counted.failed(model, failure.error, records=-(failure.records or 0))
        return counted.as_json() if again else {}

    async def _forget_report(self) -> None:
        """Delete the report of before: until there is a new one, the shard has none."""
        try:
            await self._s3.delete(self.folder.report)
        except AccessDenied as error:
            log.info("%s stays until it is written anew: %s", self.folder.report, error)

    def _group_of(self, entry: int) -> int:
        return bisect.bisect_right(self._firsts, entry) - 1

    def _todo(self, journal: Journal) -> Todo:
        found: Todo = []
        for work in self._shard.models:
            numbers = journal.left(work.first, work.count)
            if numbers:
                missing = work.missing and self._trusts_plan
                found.append((dataclasses.replace(work, missing=missing), numbers))
        return found

    def _progress(self, journal: Journal) -> BatchProgress:
        before = Before(
            inputs=journal.clean.bit_count() + len(journal.failed),
            records=journal.clean_records.total()
            + sum(ended.records for ended in journal.failed.values())
            + sum(story.records for story in journal.stories.values()),
        )
        left = 1 - before.inputs / self._shard.inputs if self._shard.inputs else 0.0
        size = 0 if self._settings.engine.gunzip else round(self._shard.bytes * left)
        return BatchProgress(self.about, total_inputs=self._shard.inputs, left_bytes=size, before=before)

    async def _work(
        self, store: JournalStore, statistics: Statistics, progress: BatchProgress, todo: Todo
    ) -> Sequence[Mapping[str, object]]:
        engine = self._settings.engine
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

    async def _check(self, store: JournalStore) -> None:
        """Make sure that nobody has taken the shard over, or begun it anew.

        :raises FencedOff: somebody has
        """
        await store.claim.check()
        newest = await latest_generation(self._s3, self._shard_folder, above=self._generation)
        if newest is not None:
            raise fenced_off(self.folder.location)

    @asynccontextmanager
    async def _writer(self, store: JournalStore) -> AsyncIterator[OutputWriter]:
        writer = OutputWriter(
            self._s3,
            self._plan.outputs,
            content_type=self._settings.engine.accept or "application/octet-stream",
            data_prefix=self.folder.data(""),
            options=self._settings.options,
            check=lambda: self._check(store),
            check_lately=store.claim.check_lately,
        )
        writer.look_for_stale()
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
        rows = [await self._row(*each) for each in self._kept]
        return ShardReport(
            shard=self._shard.number,
            plan_digest=self._plan.digest,
            endpoint_name=self._plan.endpoint_name,
            run=self._settings.run,
            counts=counts,
            statistics=journal.statistics.as_json(),
            failures=[*rows, *failures][:MOST_FAILURES],
            started_at=_iso(journal.began_at or time.time()),
            finished_at=_iso(time.time()),
        )

    async def _row(self, failure: Failure, data: str) -> Mapping[str, Any]:
        """Return the first row of a failure of before."""
        size = min(failure.size, _LONGEST_ROW)
        body = await self._s3.read_range(self.folder.data(data), failure.at, size)
        row: Mapping[str, Any] = json.loads(body.partition(b"\n")[0])
        return row

    def _finished(self, report: ShardReport, journal: Journal) -> FinishedShard:
        retryable = sum(ended.retryable for ended in journal.failed.values())
        return FinishedShard(report, self.folder.report, retryable)


def _in_short(report: ShardReport) -> tuple[int, int, int]:
    total = report.total
    return total.inputs, total.records, total.records_failed


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
