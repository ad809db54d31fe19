"""Invoke payloads, as many at the same time as the endpoint bears, each again while a retry can help.

:mod:`airflow_sm_plugin.multi_model.engine.attempts` acts on failures.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.batches.templates import attributes_of
from airflow_sm_plugin.core.names import joined_to
from airflow_sm_plugin.exceptions import InvalidRequest, SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.attempts import Attempts
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate
from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
from airflow_sm_plugin.multi_model.payloads.assembly import output_of
from airflow_sm_plugin.multi_model.state.records import Result

if TYPE_CHECKING:
    from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
    from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
    from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
    from airflow_sm_plugin.multi_model.engine.work import Job
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics


@dataclass(eq=False, repr=False)
class Invocations:
    """Take payloads from one queue, invoke them, and put their results and failures into the other."""

    settings: EngineSettings
    invoker: EndpointInvoker
    payloads: PayloadQueue
    results: ResultQueue
    statistics: Statistics

    def __post_init__(self) -> None:
        self.attempts = Attempts(self.settings, self.statistics, self.payloads, self.results)

    async def run(self) -> None:
        """Work until the queue of payloads ends, then close the queue of results.

        :raises SageMakerInferenceError: the endpoint cannot be used, or does not serve
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self.settings.max_concurrent_transforms):
                group.create_task(self._work())
        self.results.close()

    async def _work(self) -> None:
        """Invoke payloads one after the other: a task for each would cost more."""
        payloads, results = self.payloads, self.results
        while (job := await payloads.take()) is not None:
            await self._invoke(job)
            if results.is_full:
                await results.until_room()

    async def _invoke(self, job: Job) -> None:
        settings, payloads, payload, model = self.settings, self.payloads, job.payload, job.model
        began = payloads.clock()
        job.began = job.began or began
        try:
            custom_attributes = self._attributes(job)
        except InvalidRequest as error:
            payloads.inconclusive(model)
            self._refused(job, error)
            return
        try:
            answer = await self.invoker.invoke(
                payload.body,
                target_model=joined_to(model.queue.model, prefix_ends_in_slash=settings.prefix_ends_in_slash),
                content_type=job.open_input.batch_input.content_type or settings.content_type,
                accept=settings.accept,
                custom_attributes=custom_attributes,
                target_variant=settings.target_variant,
            )
        except (ClientError, BotoCoreError) as error:
            self.statistics.called_in_vain(model.queue.model)
            self.attempts.failed(job, error)
            return
        now = payloads.clock()
        payloads.in_flight.answered(now, slow_down=False)
        payloads.loaded(model, now, seconds=now - began)
        try:
            body = output_of(payload, answer.body, job.open_input.output)
        except SageMakerInferenceError as error:
            self.statistics.called_in_vain(model.queue.model)
            self._refused(job, error)
            return
        self.attempts.succeeded(job, now)
        records, first_record = payload.records, payload.first_record
        self.statistics.invoked(
            model.queue.model, seconds=now - began, records=records, epoch_seconds=payloads.epoch + now
        )
        note = b""
        if settings.keep_attributes:
            note = _note(first_record, records, answer.custom_attributes)
        self.results.put(
            job.open_input, Result(payload.start, payload.end, first_record, records, body, note)
        )
        payloads.settled(model)

    def _refused(self, job: Job, error: SageMakerInferenceError) -> None:
        self.attempts.refused(
            job, Judgement(PayloadFate.FAILED, type(error), None, message=error.as_sentence)
        )

    def _attributes(self, job: Job) -> str | None:
        own = job.open_input.batch_input.custom_attributes
        template, fields = self.settings.custom_attributes, job.open_input.fields
        if own is not None or template is None or fields is None:
            return own
        return attributes_of(template, fields, first_record=job.payload.first_record)


def _note(first_record: int, records: int, custom_attributes: str | None) -> bytes:
    row = {"first_record": first_record, "record_count": records, "custom_attributes": custom_attributes}
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
