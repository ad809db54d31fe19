"""Invoke payloads: as many at once as the endpoint bears, each again while that may help, none longer than allowed.

What goes next is decided in :mod:`airflow_sm_plugin.multi_model.engine.schedule`, how many may be on their way in
:mod:`airflow_sm_plugin.batches.in_flight`, what follows from failures in
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
from airflow_sm_plugin.multi_model.engine.model_queue import Lane
from airflow_sm_plugin.multi_model.engine.settings import UNWRITTEN_BYTES, EngineSettings
from airflow_sm_plugin.multi_model.payloads.assembly import output_of
from airflow_sm_plugin.multi_model.payloads.payload import Payload

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.invoker import EndpointInvoker, ModelAnswer
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics


class Invocations:
    """Payloads on their way through one endpoint.

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
        self.turns, self.bound = self.attempts.turns, self.attempts.bound
        self._clock, self._epoch = self.attempts.clock, self.attempts.epoch

    def add(self, lane: Lane[Job], job: Job) -> None:
        """Add a payload behind its model's others. Then :meth:`pump`."""
        job.input.feed.waiting_bytes += job.size
        self.turns.add(lane, job)

    def pump(self) -> None:
        """Send what may go now."""
        while not self._stopped and (turn := self._next()) is not None:
            self._spawn(self._work(*turn))

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        self.attempts.stop()

    def _next(self) -> tuple[Lane[Job], Job] | None:
        if self._unwritten_bytes() > UNWRITTEN_BYTES:
            return None
        if self.attempts.holds_back:
            return None
        turn = self.turns.take(self._clock(), bound=self.bound.bound)
        if turn is not None:
            job = turn[1]
            self.attempts.taken()
            job.input.feed.taken(job.size)
            self.bound.sent(self.turns.in_flight)
        return turn

    async def _work(self, lane: Lane[Job], job: Job) -> None:
        """Invoke one payload after the other while there are any: a task for each would cost more."""
        turn: tuple[Lane[Job], Job] | None = (lane, job)
        while turn is not None:
            await self._invoke(*turn)
            turn = self._next()

    async def _invoke(self, lane: Lane[Job], job: Job) -> None:
        settings, payload, began = self._settings, job.payload, self._clock()
        job.began = job.began or began
        try:
            custom_attributes = self._attributes(job)
        except InvalidRequest as error:
            self.turns.unsettled(lane)
            self.attempts.refused(job, type(error), status=None, message=str(error))
            return
        try:
            answer = await self._invoker.invoke(
                payload.body,
                target_model=settings.name_to_send(lane.model),
                content_type=job.input.one.content_type or settings.content_type,
                accept=settings.accept,
                custom_attributes=custom_attributes,
                target_variant=settings.target_variant,
            )
        except (ClientError, BotoCoreError) as error:
            self._statistics.called_in_vain(lane.model)
            self.attempts.fell(lane, job, error)
            return
        now = self._clock()
        self.bound.answered(now, slow_down=False)
        self.attempts.loaded(lane, job, now, seconds=now - began)
        try:
            body = output_of(payload, answer.body, job.input.output)
        except SageMakerInferenceError as error:
            self._statistics.called_in_vain(lane.model)
            self.attempts.refused(job, type(error), status=None, message=str(error))
            return
        self.attempts.succeeded(lane, job, now)
        self._statistics.invoked(
            lane.model, seconds=now - began, records=payload.records, at=self._epoch + now
        )
        note = self._note(payload, answer) if settings.keep_attributes else b""
        self._settler.succeeded(
            job, Result(payload.start, payload.end, payload.first_record, payload.records, body, note)
        )

    def _attributes(self, job: Job) -> str | None:
        own = job.input.one.custom_attributes
        template, fields = self._settings.custom_attributes, job.input.fields
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
