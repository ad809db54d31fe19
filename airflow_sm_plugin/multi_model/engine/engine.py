"""Run one shard of a multi-model batch: read → invoke → record → write outputs, with a queue between each."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.exceptions import FencedOff, SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.invocations import Invocations
from airflow_sm_plugin.multi_model.engine.output_writing import OutputWriting
from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
from airflow_sm_plugin.multi_model.engine.reader import Reader
from airflow_sm_plugin.multi_model.engine.recorder import Recorder
from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.engine.work import OpenInput
from airflow_sm_plugin.multi_model.statistics.counters import Statistics

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
    from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
    from airflow_sm_plugin.multi_model.plan.plan import ModelWork
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
    from airflow_sm_plugin.multi_model.state.store import JournalStore
    from airflow_sm_plugin.multi_model.statistics.progress import BatchProgress

log = get_log(__name__)

_SAMPLE_SECONDS = 1.0
"""Seconds between samples for the report, whose narrowest bins are one second: more often adds nothing to them."""


async def run_engine(
    settings: EngineSettings,
    todo: Sequence[tuple[ModelWork, list[int]]],
    *,
    reads: S3Objects,
    inputs: ChunkedInputs,
    invoker: EndpointInvoker,
    writer: OutputWriter,
    store: JournalStore,
    progress: BatchProgress,
) -> list[Mapping[str, object]]:
    """Work until every input has ended; return the first rows of errors.

    Every payload is settled once: its result or its failure is recorded. When a stage fails, or the task is cancelled,
    all stages end but the recorder, which writes what was answered into the journal first.

    :param todo: the models with work left, in order, each with the positions of its inputs that have not ended
    :param reads: connections for inputs, separate from those for writing: an input's connection stays open, half read,
        while its model loads
    :raises FencedOff: another process has taken the shard over
    :raises SageMakerInferenceError: the endpoint or S3 cannot be used; results so far are in the journal
    """
    statistics = Statistics()
    payloads, results = PayloadQueue(settings, statistics), ResultQueue()
    complete: asyncio.Queue[OpenInput | None] = asyncio.Queue()
    reader = Reader(settings, reads, inputs, store.journal, payloads, results)
    invocations = Invocations(settings, invoker, payloads, results, statistics)
    recorder = Recorder(store, results, complete, statistics, progress, seconds=settings.checkpoint_seconds)
    writing = OutputWriting(writer, complete, results)
    recording = asyncio.create_task(recorder.run())
    gc.freeze()  # a collection of what is there already, as botocore's service models, would take 0.15 s
    try:
        async with asyncio.TaskGroup() as stages:
            stages.create_task(reader.run(todo))
            stages.create_task(invocations.run())
            stages.create_task(writing.run())
            sampling = stages.create_task(_sample(payloads, invocations, statistics, progress))
            await asyncio.shield(recording)
            sampling.cancel()
    except BaseException as error:  # noqa: BLE001 - raised again
        first = first_error(error)
        results.stop()
        await _end(recording, after=first)
        raise first from None
    finally:
        gc.unfreeze()
    invocations.attempts.conclusions.check_served()
    return recorder.rows


async def _end(recording: asyncio.Task[None], *, after: BaseException) -> None:
    """Wait until the recorder has written what came before an error.

    :raises FencedOff: another process has taken over, which says more than the error before
    """
    try:
        await recording
    except BaseExceptionGroup as errors:
        later = first_error(errors)
        if isinstance(later, FencedOff):
            raise later from None
        if later is not after:
            log.warning("the last answers could not be recorded, they are asked for again: %s", later)


async def _sample(
    payloads: PayloadQueue, invocations: Invocations, statistics: Statistics, progress: BatchProgress
) -> None:
    """Record once a second how much is under way."""
    while True:
        await asyncio.sleep(_SAMPLE_SECONDS)
        payloads.note_work()
        gauges = payloads.gauges()
        statistics.sample(epoch_seconds=time.time(), **gauges)
        progress.report(**gauges, repeats=invocations.attempts.repeats)


def first_error(error: BaseException) -> BaseException:
    """Choose the first of our errors in a group, else the first error."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    ours, _ = error.split(SageMakerInferenceError)
    return first_error((ours or error).exceptions[0])
