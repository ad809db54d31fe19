"""Run one shard of a multi-model batch: open models, read their inputs, record results until all inputs have ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    RecordTooLarge,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
)
from airflow_sm_plugin.multi_model.engine.feed import (
    InputReader,
    Job,
    ModelFeed,
    OpenInput,
    Result,
    failed_records,
)
from airflow_sm_plugin.multi_model.engine.invocations import Invocations
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue, ModelStage
from airflow_sm_plugin.multi_model.engine.recorder import ResultRecorder
from airflow_sm_plugin.multi_model.engine.settings import OPEN_INPUTS, WAITING_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.state.records import FailedRecords
from airflow_sm_plugin.multi_model.statistics.counters import Statistics

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
    from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
    from airflow_sm_plugin.multi_model.engine.progress import BatchProgress
    from airflow_sm_plugin.multi_model.plan.plan import ModelWork
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
    from airflow_sm_plugin.multi_model.state.store import JournalStore

_DRAINS = 4
"""Models without an artefact that are drained at the same time: their inputs are read only to count the records that
fail."""

_LEAST_BUDGET = 65_536
"""Bytes of waiting payloads that every model may have, however many models are open."""

_UNREADABLE_IN_A_ROW = 20
"""When so many inputs in a row cannot be read because of S3 or credentials, the task fails instead of its inputs."""

_SAMPLE_SECONDS = 1.0
"""Seconds between samples for the report, whose narrowest bins are one second: more often adds nothing to them."""
_MISSING = "the endpoint's model prefix holds no such artefact"
_NO_ARTEFACT = Judgement(PayloadFate.NO_MODEL, TargetModelNotFound, None, message=_MISSING)


@dataclass(eq=False, repr=False, kw_only=True)
class ModelEngine:
    """One process's work on a shard. Every payload is settled once: its result or its failure is recorded.

    :param reads: connections for inputs, separate from those for writing: an input's connection stays open, half read,
        while its model loads
    :param todo: the models with work left, in order, each with the positions of its inputs that have not ended
    """

    settings: EngineSettings
    reads: S3Objects
    inputs: ChunkedInputs
    invoker: EndpointInvoker
    writer: OutputWriter
    store: JournalStore
    progress: BatchProgress
    todo: Sequence[tuple[ModelWork, list[int]]]

    def __post_init__(self) -> None:
        self._statistics = Statistics()
        self._begun = 0
        self._draining = 0
        self._feeds: set[ModelFeed] = set()
        self._open = 0
        self._unreadable = 0
        self._stopped = False
        self._over = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._recorder = ResultRecorder(
            self.store,
            self.writer,
            self._statistics,
            seconds=self.settings.checkpoint_seconds,
            spawn=self._spawn,
            ended=self._ended,
            written=self._pump,
        )
        self._reader = InputReader(
            self.settings, self.reads, self.inputs, self.store.journal, record_etag=self._recorder.etag
        )
        self._calls = Invocations(
            self.invoker,
            self.settings,
            self._statistics,
            settler=self,
            spawn=self._spawn,
            unwritten_bytes=lambda: self._recorder.unwritten_bytes,
        )

    async def run(self) -> list[Mapping[str, object]]:
        """Work until every input has ended; return the first rows of errors.

        :raises FencedOff: another process has taken the shard over
        :raises SageMakerInferenceError: the endpoint or S3 cannot be used; results so far are in the journal
        """
        recording = asyncio.create_task(self._recorder.run(is_over=self._over.is_set))
        try:
            async with self._group:
                watching = self._group.create_task(self._guarded(asyncio.shield(recording)))
                sampling = self._group.create_task(self._guarded(self._sample()))
                self._admit()
                self._end_if_done()
                await self._over.wait()
                watching.cancel()
                sampling.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None
        finally:
            self._stop()
            self._over.set()
            self._recorder.hurry()
            await recording
        await self._recorder.flush(finished=True)
        self._calls.attempts.conclusions.check_served()
        return self._recorder.rows

    def _stop(self) -> None:
        """Start no further work; the running tasks end, or are cancelled by the task group."""
        self._stopped = True
        self._calls.stop()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._stopped:
            work.close()
        else:
            self._group.create_task(self._guarded(work))

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Let an error of this work stop all the other work; :meth:`run` raises it."""
        try:
            await work
        except BaseException:
            self._stop()
            raise

    def _pump(self) -> None:
        if not self._over.is_set():
            self._calls.pump()

    # Models

    def _admit(self) -> None:
        """Open further models, as many as may be warm."""
        while self._begun < len(self.todo):
            work, entries = self.todo[self._begun]
            if not (self._draining < _DRAINS if work.missing else self._calls.schedule.has_room):
                return
            self._begun += 1
            model = work.target_model
            queue = ModelQueue[Job](model) if work.missing else self._calls.schedule.open(model)
            feed = ModelFeed(work, queue, entries)
            if work.missing:
                self._draining += 1
                feed.lost = _NO_ARTEFACT
            self._feeds.add(feed)
            self._spawn(self._feed(feed))

    async def _feed(self, feed: ModelFeed) -> None:
        await feed.run(
            lambda entry: self._open_input(entry, feed),
            self._read,
            budget=self._budget,
            has_room=lambda: self._open < OPEN_INPUTS,
        )
        self._close_if_done(feed)

    def _budget(self) -> int:
        return max(_LEAST_BUDGET, WAITING_BYTES // max(1, self._calls.schedule.active))

    def _close_if_done(self, feed: ModelFeed) -> None:
        if not feed.is_read or feed.outstanding or feed.is_closed:
            return
        feed.is_closed = True
        self._feeds.discard(feed)
        self._calls.schedule.close(feed.queue)
        if feed.work.missing:
            self._draining -= 1
        self._note_work(feed)
        self._admit()
        self._pump()
        if not self._feeds:
            self._recorder.hurry()  # no further result is to come that could wait for the same write
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._begun == len(self.todo) and not self._feeds and not self._open:
            self._over.set()

    # Inputs

    async def _open_input(self, entry: int, feed: ModelFeed) -> OpenInput:
        open_input = await self._reader.open(entry, feed)
        self._open += 1
        return open_input

    async def _read(self, open_input: OpenInput) -> None:
        try:
            await self._reader.read(open_input, self._offer, budget=self._budget)
            self._unreadable = 0
        except SageMakerInferenceError as error:
            self._fail_rest(open_input, error)
        open_input.is_read = True
        if not open_input.unsettled:
            self._complete(open_input)

    def _offer(self, open_input: OpenInput, batch: Sequence[Payload]) -> None:
        feed, add = open_input.feed, self._calls.attempts.add
        open_input.unsettled += len(batch)
        feed.outstanding += len(batch)
        for payload in batch:
            if payload.oversized:
                limit = self.settings.split.max_payload_bytes
                message = f"the record has {payload.oversized} bytes, a payload takes up to {limit}"
                too_large = Judgement(PayloadFate.FAILED, RecordTooLarge, None, message=message)
                self.failed(open_input, failed_records(payload, too_large, attempts=0))
            elif feed.lost is not None:
                self.failed(open_input, failed_records(payload, feed.lost, attempts=0))
            else:
                add(Job(open_input, payload))
        self._pump()

    def _fail_rest(self, open_input: OpenInput, error: SageMakerInferenceError) -> None:
        """Record the unread rest of an input as failed; raise the error when many inputs in a row were unreadable."""
        if isinstance(error, CredentialsExpired | ServiceUnavailable):
            self._unreadable += 1
            if self._unreadable >= _UNREADABLE_IN_A_ROW:
                raise error
        message = str(error)[: max(self.settings.error_text_limit, 200)]
        byte, record = open_input.read_to
        self._keep(open_input, FailedRecords(byte, byte, record, None, type(error), None, message, 0))

    # Payloads: what Invocations reports (its ``Settler``)

    def succeeded(self, job: Job, result: Result) -> None:
        self._recorder.result(job.open_input, result)
        self.progress.records += result.records
        self._settled(job.open_input, result.end - result.start)

    def failed(self, open_input: OpenInput, failed: FailedRecords) -> None:
        self._keep(open_input, failed)
        self._settled(open_input, failed.end - failed.start)

    def _keep(self, open_input: OpenInput, failed: FailedRecords) -> None:
        records = failed.records or 0
        self._recorder.failure(open_input, failed)
        self._statistics.failed(open_input.feed.queue.model, failed.error.__name__, records=records)
        self.progress.records_failed += records

    def model_lost(self) -> None:
        """Open another model instead."""
        self._admit()

    def _complete(self, open_input: OpenInput) -> None:
        self._recorder.complete(open_input)
        if not self._feeds:
            self._recorder.hurry()

    def _settled(self, open_input: OpenInput, size: int) -> None:
        self.progress.bytes += size
        open_input.unsettled -= 1
        feed = open_input.feed
        feed.outstanding -= 1
        if open_input.is_read and not open_input.unsettled:
            self._complete(open_input)
        if feed.is_read and not feed.outstanding:
            self._close_if_done(feed)

    def _ended(self) -> None:
        self.progress.inputs += 1
        self._open -= 1
        if self._open >= OPEN_INPUTS - 1:  # feeds may be waiting for room
            for feed in self._feeds:
                feed.wake()
        self._pump()
        self._end_if_done()

    # Statistics and progress

    def _note_work(self, feed: ModelFeed) -> None:
        if feed.worked_from is not None:
            now = time.time()
            self._statistics.worked(feed.queue.model, began=feed.worked_from, ended=now)
            feed.worked_from = now

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            for feed in self._feeds:
                self._note_work(feed)
            schedule = self._calls.schedule
            load = {
                "in_flight": schedule.in_flight,
                "bound": self._calls.in_flight.limit,
                "warm": schedule.count(ModelStage.WARM),
                "loading": schedule.count(ModelStage.COLD),
            }
            self._statistics.sample(epoch_seconds=time.time(), **load)
            self.progress.report(**load, repeats=self._calls.attempts.repeats)
            self._pump()


def _first(error: BaseException) -> BaseException:
    """Choose the first of our errors in a group, else the first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    ours, _ = error.split(SageMakerInferenceError)
    return _first((ours or error).exceptions[0])
