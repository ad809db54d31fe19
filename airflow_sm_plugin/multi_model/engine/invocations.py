"""Invoke payloads: as many at once as the endpoint bears, each again while that may help, none longer than allowed.

What goes next is decided in :mod:`airflow_sm_plugin.multi_model.engine.schedule`, how many may be in flight in
:mod:`airflow_sm_plugin.batches.adaptive`, what follows from failures in
:mod:`airflow_sm_plugin.multi_model.engine.attempts`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.batches.templates import attributes_of
from airflow_sm_plugin.exceptions import InvalidRequest, SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.attempts import Attempts, Settler
from airflow_sm_plugin.multi_model.engine.feed import Job, Result
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue
from airflow_sm_plugin.multi_model.engine.settings import UNWRITTEN_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.assembly import output_of
from airflow_sm_plugin.multi_model.payloads.payload import Payload

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.invoker import EndpointInvoker, ModelAnswer
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics


class Invocations:
    """Payloads in flight through one endpoint.

    :param spawn: starts a task of the engine
    :param unwritten_bytes: how many bytes of results are not written down yet
    """

    def __init__(
        self,
        invoker: EndpointInvoker,
        settings: EngineSettings,
        statistics: Statistics,
        settler: Settler,
        *,
        spawn: Callable[..., object],
        unwritten_bytes: Callable[[], int],
    ) -> None:
        self._invoker = invoker
        self._settings = settings
        self._statistics = statistics
        self._settler = settler
        self._spawn = spawn
        self._unwritten_bytes = unwritten_bytes
        self._stopped = False
        self.attempts = Attempts(settings, statistics, settler, pump=self.pump)
        self.schedule, self.in_flight = self.attempts.schedule, self.attempts.in_flight
        self._clock, self._epoch = self.attempts.clock, self.attempts.epoch

    def add(self, queue: ModelQueue[Job], job: Job) -> None:
        """Add a payload behind its model's others. Then :meth:`pump`."""
        job.open_input.feed.waiting_bytes += job.size
        self.schedule.add(queue, job)

    def pump(self) -> None:
        """Send what may go now."""
        while not self._stopped and (next_job := self._next()) is not None:
            self._spawn(self._work(*next_job))

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self.attempts.stop()

    def _next(self) -> tuple[ModelQueue[Job], Job] | None:
        if self._unwritten_bytes() > UNWRITTEN_BYTES or self.attempts.holds_back:
            return None
        next_job = self.schedule.take(self._clock(), limit=self.in_flight.limit)
        if next_job is not None:
            job = next_job[1]
            self.attempts.taken()
            job.open_input.feed.taken(job.size)
            self.in_flight.sent(self.schedule.in_flight)
        return next_job

    async def _work(self, queue: ModelQueue[Job], job: Job) -> None:
        """Invoke one payload after the other while there are any: a task for each would cost more."""
        next_job: tuple[ModelQueue[Job], Job] | None = (queue, job)
        while next_job is not None:
            await self._invoke(*next_job)
            next_job = self._next()

    async def _invoke(self, queue: ModelQueue[Job], job: Job) -> None:
        settings, payload, began = self._settings, job.payload, self._clock()
        job.began = job.began or began
        try:
            custom_attributes = self._attributes(job)
        except InvalidRequest as error:
            self.schedule.unsettled(queue)
            self.attempts.refused(job, type(error), status=None, message=str(error))
            return
        try:
            answer = await self._invoker.invoke(
                payload.body,
                target_model=settings.name_to_send(queue.model),
                content_type=job.open_input.batch_input.content_type or settings.content_type,
                accept=settings.accept,
                custom_attributes=custom_attributes,
                target_variant=settings.target_variant,
            )
        except (ClientError, BotoCoreError) as error:
            self._statistics.called_in_vain(queue.model)
            self.attempts.failed(queue, job, error)
            return
        now = self._clock()
        self.in_flight.answered(now, slow_down=False)
        self.attempts.loaded(queue, job, now, seconds=now - began)
        try:
            body = output_of(payload, answer.body, job.open_input.output)
        except SageMakerInferenceError as error:
            self._statistics.called_in_vain(queue.model)
            self.attempts.refused(job, type(error), status=None, message=str(error))
            return
        self.attempts.succeeded(job, now)
        self._statistics.invoked(
            queue.model, seconds=now - began, records=payload.records, at=self._epoch + now
        )
        note = self._note(payload, answer) if settings.keep_attributes else b""
        self._settler.succeeded(
            job, Result(payload.start, payload.end, payload.first_record, payload.records, body, note)
        )

    def _attributes(self, job: Job) -> str | None:
        own = job.open_input.batch_input.custom_attributes
        template, fields = self._settings.custom_attributes, job.open_input.fields
        if own is not None or template is None or fields is None:
            return own
        return attributes_of(template, fields, first_record=job.payload.first_record)

    @staticmethod
    def _note(payload: Payload, answer: ModelAnswer) -> bytes:
        row = {
            "first_record": payload.first_record,
            "record_count": payload.records,
            "custom_attributes": answer.custom_attributes,
        }
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"
