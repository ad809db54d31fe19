"""Run one shard of a plan, or resume it: the process may end at any step, and a later one goes on."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.claim import Claim, fenced_off
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
from airflow_sm_plugin.batches.inputs import CHUNK
from airflow_sm_plugin.batches.task_try import Origin, StateWriter
from airflow_sm_plugin.core.text import count, plural
from airflow_sm_plugin.exceptions import FencedOff, PlanReplaced, SageMakerInferenceError, ServiceError
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
from airflow_sm_plugin.multi_model.engine.engine import run_engine
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.plan.plan import ModelWork, MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.plan.store import PlanFence, read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.report.shard_sum import group_of, shard_report
from airflow_sm_plugin.multi_model.state.fenced_objects import UploadRecords
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.state.journal import Journal, StoredFailure
from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
from airflow_sm_plugin.multi_model.state.records import Failure, JournalPart
from airflow_sm_plugin.multi_model.state.store import JournalStore, TakeOver, read_journal, sweep
from airflow_sm_plugin.multi_model.statistics.counters import Statistics
from airflow_sm_plugin.multi_model.statistics.progress import BatchProgress
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES, ShardReport, StopReason

log = get_log(__name__)

_WRITING_CONNECTIONS = 48
"""For the state and the outputs: two large outputs read with 16, the others are for small outputs, checkpoints and the
claim. With fewer, checkpoints wait for outputs; each connection takes a quarter of a megabyte with TLS."""
_READING_CONNECTIONS = 1_024
"""Each input that is being read holds one while its model loads. ``OPEN_INPUTS`` (512, and one for each model) is
reached first; with fewer connections, inputs of models that do not load would keep others from being read."""

_LONGEST_ROW = 1_048_576
"""Bytes read to find an earlier failure's first row, whose error text has 1,000 characters by default."""

Todo = list[tuple[ModelWork, list[int]]]


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """Arguments of a task that runs one shard.

    :param plan_location: the plan's folder
    :param writer: this try of the task instance
    :param restart: when the task was cleared after the shard was finished: repeat everything, or only the failures
    :param options: how outputs and all state are stored
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
    :param retryable: inputs with a failure that a retry can mend
    """

    report: ShardReport
    location: str
    retryable: int


async def run_shard(connection: AwsConnection, settings: ShardSettings) -> FinishedShard:
    """Run a shard, or the rest of it, and write its report.

    :raises InputNotFound: there is no such plan
    :raises EndpointNotFound: and EndpointNotMultiModel, EndpointNotRealTime, EndpointNotInService, AccessDenied:
        no model can be invoked
    :raises FencedOff: another process has taken the shard over
    :raises PlanReplaced: a later plan counts
    :raises ServiceError: the endpoint or S3 did not serve; results so far are in the journal
    """
    async with S3Objects.open(
        connection, max_connections=_WRITING_CONNECTIONS, options=settings.options
    ) as s3:
        plan = await read_plan(s3, settings.plan_location)
        shard = await read_shard_plan(s3, MultiModelPlanFolder(settings.plan_location).shard(settings.shard))
        run = _ShardRun(connection, s3, settings, plan, shard)
        return await run.earlier_result() or await run.resume()


@dataclass(eq=False, repr=False)
class _ShardRun:
    """One process's run of a shard."""

    connection: AwsConnection
    s3: S3Objects
    settings: ShardSettings
    plan: MultiModelPlan
    shard: ShardPlan

    def __post_init__(self) -> None:
        plan_folder = MultiModelPlanFolder(self.settings.plan_location)
        self._fence = PlanFence(self.s3, plan_folder)
        self.folder = plan_folder.shard(self.settings.shard)
        self._group_of = group_of(self.shard)
        self._trusts_plan = True
        """Whether an artefact that the plan did not find is still missing."""
        self._kept: list[StoredFailure] = []
        """Failures of earlier processes that are not tried again."""
        self.about = f"endpoint {self.settings.engine.endpoint_name}, shard {self.settings.shard} of {self.plan.shards}"

    async def earlier_result(self) -> FinishedShard | None:
        """Read the report if an earlier try of this run has finished the shard; None when work is left.

        :raises FencedOff: a later try has worked on the shard
        :raises PlanReplaced: a later plan counts
        """
        await self._fence.check()
        journal = await read_journal(self.s3, self.folder, self._group_of, keep=False)
        if self._origin_of(journal.writer) is not Origin.SAME_RUN or not journal.is_finished:
            return None
        if any(ended.retryable for ended in journal.failed.values()):
            return None
        body = await self.s3.read_if_any(self.folder.report(journal.claim))
        if body is None:
            return None
        log.info("%s: this run has done it before", self.about)
        claim = Claim(self.s3, self.folder, token="", number=journal.claim, also=self._fence.check)
        return await self._finished(ShardReport.from_json(body), journal, claim)

    def _origin_of(self, writer: StateWriter | None) -> Origin | None:
        """Compare the try that wrote the journal with this one; None when there is no journal.

        :raises FencedOff: it is a later try
        """
        origin = None if writer is None else self.settings.writer.origin_of(writer)
        if origin is Origin.LATER_TRY:
            raise fenced_off(self.folder.location)
        return origin

    async def resume(self) -> FinishedShard:
        """Do the work that is left."""
        settings = self.settings
        claim = await Claim.taken(
            self.s3,
            self.folder,
            token=uuid.uuid4().hex[:16],
            task_try=settings.writer.task_try,
            also=self._fence.check,
        )
        store = await JournalStore.take_over(
            self.s3, self.folder, claim, group_of=self._group_of, writer=settings.writer, decide=self._decide
        )
        journal = store.journal
        todo = self._todo(journal)
        failures: Sequence[Mapping[str, object]] = ()
        if todo:
            try:
                failures = await self._work(store, todo)
            except (FencedOff, PlanReplaced):
                raise
            except SageMakerInferenceError as error:
                await self._stop(journal, claim, error)
                raise
        else:
            await store.append(JournalPart(token=store.token, written_at=time.time(), finished=True), b"")
        await claim.check()
        report = await self._report(journal, failures)
        await self.s3.write(self.folder.report(claim.number), report.as_json())
        total = report.total
        counts = (total.inputs, total.records, total.records_failed)
        log.info("%s: %d inputs, %d records, %d failed", self.about, *counts)
        return await self._finished(report, journal, claim)

    def _decide(self, journal: Journal) -> TakeOver:
        """Decide which parts of the journal count, and which failures are tried again: all in a cleared task."""
        origin = self._origin_of(journal.writer)
        if self._origin_of(journal.first_writer) not in (None, Origin.SAME_RUN):
            self._trusts_plan = False  # a missing artefact may have been added before the task was cleared
        if origin is Origin.DELETED_RUN or (
            origin is Origin.CLEARED and self.settings.restart and journal.is_finished
        ):
            self._kept = []
            return TakeOver(is_restart=True)
        again = journal.to_retry(everything=origin is Origin.CLEARED)
        chosen = set(again)
        self._kept = [kept for kept in journal.failures() if kept.failure not in chosen][:MOST_FAILURES]
        if not again:
            return TakeOver()
        log.info("%s: %d ranges of records that failed before are tried again", self.about, len(again))
        counted = Statistics()
        for failure in again:
            model = self.shard.models[self._group_of(failure.entry)].target_model
            counted.failed(model, failure.error, records=-(failure.records or 0))
        errors = {failure.error for failure in again}  # all failures of a class are tried again, or none
        for model, statistics in journal.statistics.models.items():
            if groups := statistics.groups.taken_back(errors):
                counted.of(model).groups.add_json(groups)
        return TakeOver(again=again, taken_back=counted.as_json())

    def _todo(self, journal: Journal) -> Todo:
        return [
            (msgspec.structs.replace(work, missing=work.missing and self._trusts_plan), entries)
            for work in self.shard.models
            if (entries := journal.left(work.first, work.count))
        ]

    def _progress(self, journal: Journal) -> BatchProgress:
        inputs_before = journal.clean.bit_count() + len(journal.failed)
        left = 1 - inputs_before / self.shard.inputs if self.shard.inputs else 0.0
        return BatchProgress(
            about=self.about,
            total_inputs=self.shard.inputs,
            left_bytes=0 if self.settings.engine.gunzip else round(self.shard.bytes * left),
            inputs_before=inputs_before,
            records_before=journal.clean_records.total()
            + sum(ended.records for ended in journal.failed.values())
            + sum(progress.records for progress in journal.progress.values()),
        )

    async def _work(self, store: JournalStore, todo: Todo) -> Sequence[Mapping[str, object]]:
        """Run the engine; return the first rows of errors."""
        progress = self._progress(store.journal)
        progress.begin(models=len(todo))
        endpoint_name = self.settings.engine.endpoint_name
        endpoint = await EndpointFacts(self.connection, endpoint_name).models()
        slash = None if endpoint is None else endpoint.ends_in_slash
        settings = dataclasses.replace(self.settings.engine, prefix_ends_in_slash=slash)
        async with (
            S3Objects.open(self.connection, max_connections=_READING_CONNECTIONS) as reads,
            EndpointInvoker.open(
                self.connection, endpoint_name, max_connections=settings.max_concurrent_transforms
            ) as invoker,
            self._writer(store) as writer,
        ):
            loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
            carrier = f"{invoker.carrier} ({invoker.reason})" if invoker.reason else invoker.carrier
            log.info("%s: requests go through %s, on the event loop of %s", self.about, carrier, loop)
            return await run_engine(
                settings,
                todo,
                reads=reads,
                inputs=ChunkedInputs(self.s3, self.folder.location, CHUNK),
                invoker=invoker,
                writer=writer,
                store=store,
                progress=progress,
            )

    @asynccontextmanager
    async def _writer(self, store: JournalStore) -> AsyncIterator[OutputWriter]:
        claim = store.claim
        records = UploadRecords(self.s3, self.folder.uploads)
        await records.give_up_all(claim.check)
        writer = OutputWriter(
            self.s3,
            self.plan.outputs,
            content_type=self.settings.engine.accept or "application/octet-stream",
            data_prefix=self.folder.data(""),
            mark=f"{self.plan.nonce}/{claim.token}",
            records=records,
            options=self.settings.options,
            check=claim.check,
            check_lately=claim.check_lately,
        )
        writer.start_listing()
        try:
            yield writer
        finally:
            await asyncio.shield(writer.close())

    async def _stop(self, journal: Journal, claim: Claim, error: SageMakerInferenceError) -> None:
        """Report on what is done, for the batch's report, and add it to the error's text."""
        reason = StopReason.of(type(error).__name__, str(error))
        report = shard_report(self.plan, self.shard, journal, finished_at=time.time(), stopped=reason)
        with suppress(ServiceError):  # the error itself counts
            await self.s3.write(self.folder.stop(claim.number), report.as_json())
        total, inputs = report.total, plural(self.shard.inputs, "input")
        kept = (
            f"Kept: the results of {plural(total.records - total.records_failed, 'record')}; "
            f"{count(total.inputs - total.inputs_failed)} of {inputs} are done. A retry, or clearing this task, sends "
            f"only the rest."
        )
        error.args = (*error.args, presentable(kept))

    async def _report(self, journal: Journal, failures: Sequence[Mapping[str, object]]) -> ShardReport:
        rows = [await self._row(*kept) for kept in self._kept]
        first = [*rows, *failures][:MOST_FAILURES]
        return shard_report(self.plan, self.shard, journal, finished_at=time.time(), failures=first)

    async def _row(self, failure: Failure, data: str) -> Mapping[str, Any]:
        """Read the first row of a failure of an earlier process."""
        size = min(failure.size, _LONGEST_ROW)
        body = await self.s3.read_range(self.folder.data(data), failure.offset, size)
        row: Mapping[str, Any] = json.loads(body.partition(b"\n")[0])
        return row

    async def _finished(self, report: ShardReport, journal: Journal, claim: Claim) -> FinishedShard:
        if not report.total.failed:
            await sweep(self.s3, self.folder, claim)
        retryable = sum(ended.retryable for ended in journal.failed.values())
        return FinishedShard(report, self.folder.report(claim.number), retryable)
