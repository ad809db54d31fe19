"""Invoke payloads: as many at the same time as the endpoint bears, each again while a retry can help.

:mod:`airflow_sm_plugin.multi_model.engine.schedule` chooses the next payload,
:mod:`airflow_sm_plugin.batches.adaptive` limits how many are in flight, and
:mod:`airflow_sm_plugin.multi_model.engine.attempts` acts on failures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.batches.templates import attributes_of
from airflow_sm_plugin.core.names import joined_to
from airflow_sm_plugin.exceptions import InvalidRequest, SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.attempts import Attempts, Settler
from airflow_sm_plugin.multi_model.engine.feed import Job, Result
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate
from airflow_sm_plugin.multi_model.engine.settings import UNWRITTEN_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.assembly import output_of

if TYPE_CHECKING:
    from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics


@dataclass(eq=False, repr=False)
class Invocations:
    """Payloads in flight through one endpoint.

    :param spawn: starts a task of the engine
    :param unwritten_bytes: size of the results that are not in S3 yet
    """

    invoker: EndpointInvoker
    settings: EngineSettings
    statistics: Statistics
    settler: Settler
    spawn: Callable[..., object]
    unwritten_bytes: Callable[[], int]

    def __post_init__(self) -> None:
        self._stopped = False
        self.attempts = Attempts(self.settings, self.statistics, self.settler, pump=self.pump)
        self.schedule, self.in_flight = self.attempts.schedule, self.attempts.in_flight
        self._clock, self._epoch = self.attempts.clock, self.attempts.epoch

    def pump(self) -> None:
        """Send as many payloads as permitted."""
        while not self._stopped and (job := self._next()) is not None:
            self.spawn(self._work(job))

    def stop(self) -> None:
        self._stopped = True
        self.attempts.stop()

    def _next(self) -> Job | None:
        if self.unwritten_bytes() > UNWRITTEN_BYTES or self.attempts.holds_back:
            return None
        scheduled = self.schedule.take(self._clock(), limit=self.in_flight.limit)
        if scheduled is None:
            return None
        job = scheduled[1]
        self.attempts.taken()
        job.open_input.feed.taken(job.size)
        self.in_flight.sent(self.schedule.in_flight)
        return job

    async def _work(self, first: Job) -> None:
        """Invoke payloads one after the other while there are any: a task for each would cost more."""
        job: Job | None = first
        while job is not None:
            await self._invoke(job)
            job = self._next()

    async def _invoke(self, job: Job) -> None:
        settings, payload, began = self.settings, job.payload, self._clock()
        queue = job.open_input.feed.queue
        job.began = job.began or began
        try:
            custom_attributes = self._attributes(job)
        except InvalidRequest as error:
            self.schedule.unsettled(queue)
            self._refused(job, error)
            return
        try:
            answer = await self.invoker.invoke(
                payload.body,
                target_model=joined_to(queue.model, prefix_ends_in_slash=settings.prefix_ends_in_slash),
                content_type=job.open_input.batch_input.content_type or settings.content_type,
                accept=settings.accept,
                custom_attributes=custom_attributes,
                target_variant=settings.target_variant,
            )
        except (ClientError, BotoCoreError) as error:
            self.statistics.called_in_vain(queue.model)
            self.attempts.failed(job, error)
            return
        now = self._clock()
        self.in_flight.answered(now, slow_down=False)
        self.attempts.loaded(job, now, seconds=now - began)
        try:
            body = output_of(payload, answer.body, job.open_input.output)
        except SageMakerInferenceError as error:
            self.statistics.called_in_vain(queue.model)
            self._refused(job, error)
            return
        self.attempts.succeeded(job, now)
        records, first_record = payload.records, payload.first_record
        self.statistics.invoked(
            queue.model, seconds=now - began, records=records, epoch_seconds=self._epoch + now
        )
        note = b""
        if settings.keep_attributes:
            note = _note(first_record, records, answer.custom_attributes)
        self.settler.succeeded(job, Result(payload.start, payload.end, first_record, records, body, note))

    def _refused(self, job: Job, error: SageMakerInferenceError) -> None:
        self.attempts.refused(job, Judgement(PayloadFate.FAILED, type(error), None, message=str(error)))

    def _attributes(self, job: Job) -> str | None:
        own = job.open_input.batch_input.custom_attributes
        template, fields = self.settings.custom_attributes, job.open_input.fields
        if own is not None or template is None or fields is None:
            return own
        return attributes_of(template, fields, first_record=job.payload.first_record)


def _note(first_record: int, records: int, custom_attributes: str | None) -> bytes:
    row = {"first_record": first_record, "record_count": records, "custom_attributes": custom_attributes}
    return json.dumps(row, separators=(",", ":")).encode() + b"\n"
