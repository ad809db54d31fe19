"""Which payload goes next: one probe for each cold model, then the oldest models, and only so many models at once.

A model that is not known to be loaded gets one payload as a probe; the others wait for its answer, so that a cold model
is asked once and not by a stampede, while warm ones work. A model that was evicted is probed again, or parked when more
models are in use than the endpoint holds. The order is in :mod:`airflow_sm_plugin.multi_model.engine.model_queue`.

Mutable and single-threaded, for it is asked thousands of times a second; it reads no clock and does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.eviction_signs import EvictionSigns
from airflow_sm_plugin.multi_model.engine.model_queue import Job, ModelQueue, ModelStage, QueueOrder

_FIRST = 4
_CUT = 0.75


@dataclass(frozen=True, slots=True)
class WarmLimit:
    """How many models may be loading or warm. Made by :meth:`starting`; each method returns a new one."""

    limit: int
    is_fixed: bool
    _settled: bool = False
    _undisturbed: int = 0

    @classmethod
    def starting(cls, max_warm_models: int | None) -> WarmLimit:
        """Return the limit to begin with; None lets it be found.

        :raises InvalidRequest: it is below 1
        """
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        return cls(max_warm_models or _FIRST, max_warm_models is not None)

    def loaded(self) -> WarmLimit:
        """Return the limit after a model was loaded for the first time."""
        if self.is_fixed or self._settled:
            return self
        return replace(self, limit=self.limit + 1)

    def finished(self) -> WarmLimit:
        """Return the limit after a model has done all its work."""
        if self.is_fixed or not self._settled:
            return self
        if self._undisturbed + 1 < self.limit:
            return replace(self, _undisturbed=self._undisturbed + 1)
        return replace(self, limit=self.limit + 1, _undisturbed=0)

    def evicted(self, active: int) -> WarmLimit:
        """Return the limit after a warm model was evicted, or the endpoint had no memory left for one.

        :param active: how many models were loading or warm
        """
        if self.is_fixed:
            return self
        return replace(self, limit=max(1, min(self.limit, int(active * _CUT))), _settled=True, _undisturbed=0)


_STALLED_PROBES = 20
"""Probes in vain that mean that models evict each other before they ever answer. SageMaker itself holds a probe for a
minute while the model loads, so that its deadline comes first there."""


class Schedule(Generic[Job]):
    """The queues of all open models.

    :param max_warm_models: how many models may be loading or warm at once; None lets it be found
    """

    def __init__(self, *, max_warm_models: int | None = None) -> None:
        self._limit = WarmLimit.starting(max_warm_models)
        self._signs = EvictionSigns()
        self._queues: dict[str, ModelQueue[Job]] = {}
        self._parked: list[ModelQueue[Job]] = []
        self._order: QueueOrder[Job] = QueueOrder()
        self._opened = 0
        self.in_flight = 0
        """Payloads in flight."""

    # Models

    @property
    def active(self) -> int:
        """How many models are loading or warm."""
        return len(self._queues) - len(self._parked)

    @property
    def has_room(self) -> bool:
        """Whether another model may be opened: parked ones go first."""
        return not self._parked and self.active < self._limit.limit

    def busy(self) -> set[str]:
        """Return the models that have payloads ready or in flight."""
        return {queue.model for queue in self._queues.values() if queue.ready or queue.in_flight}

    def queues(self) -> tuple[ModelQueue[Job], ...]:
        return tuple(self._queues.values())

    def count(self, stage: ModelStage) -> int:
        return sum(queue.stage is stage for queue in self._queues.values())

    def open(self, model: str) -> ModelQueue[Job]:
        queue = self._queues[model] = ModelQueue[Job](model, self._opened)
        self._opened += 1
        return queue

    def close(self, queue: ModelQueue[Job]) -> None:
        """End a model that has no work left; a parked one takes its place."""
        if self._queues.pop(queue.model, None) is None:
            return
        if queue.stage is ModelStage.PARKED:
            self._parked.remove(queue)
        elif queue.has_loaded:
            self._limit = self._limit.finished()
        if queue.probing:
            self._end_probe(queue)
        queue.stage = ModelStage.CLOSED
        self._order.place(queue)
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self.active < self._limit.limit:
            queue = min(self._parked, key=lambda queue: queue.number)
            self._parked.remove(queue)
            queue.stage, queue.asked_at, queue.probe_at = ModelStage.COLD, None, 0.0
            self._order.place(queue)

    # Payloads

    def add(self, queue: ModelQueue[Job], job: Job) -> None:
        """Add a payload behind the model's others."""
        queue.ready.append(job)
        if queue.rank is None:
            self._order.place(queue)

    def put_back(self, queue: ModelQueue[Job], job: Job) -> None:
        """Add a payload before the model's others: it was in flight already."""
        queue.ready.appendleft(job)
        if queue.rank is None:
            self._order.place(queue)

    def take(self, now: float, *, limit: int) -> tuple[ModelQueue[Job], Job] | None:
        """Return the next payload to send, counted as in flight; None while none may go.

        :param limit: how many may be in flight at once
        """
        if self.in_flight >= limit:
            return None
        self._order.limit, self._order.active = limit, max(1, self.active)
        queue = self._order.first(now)
        if queue is None:
            return None
        if queue.stage is ModelStage.COLD:
            queue.probing = True
            self._order.probes += 1
            if queue.asked_at is None:
                queue.asked_at = now
        queue.in_flight += 1
        self.in_flight += 1
        job = queue.ready.popleft()
        self._order.place(queue)
        return queue, job

    # Answers

    def answered(
        self, queue: ModelQueue[Job], *, now: float = 0.0, seconds: float | None = None
    ) -> float | None:
        """Note an answer that only a loaded model gives.

        :param seconds: how long it took; None when it failed
        :return: when a cold model was asked first, at its first answer; else None
        """
        self._landed(queue)
        asked_at = None
        if queue.stage is ModelStage.COLD:
            asked_at, queue.asked_at, queue.probes = queue.asked_at, None, 0
            queue.stage, queue.probe_at = ModelStage.WARM, 0.0
            if asked_at is not None:
                self._signs.loaded(now - asked_at)
            if not queue.has_loaded:
                queue.has_loaded = True
                self._limit = self._limit.loaded()
        elif seconds is not None:
            self._signs.answered(queue.number, queue.latency, seconds=seconds, now=now)
            if self._signs.are_many(self.active) and queue.stage is ModelStage.WARM:
                self._cut(now)
        self._order.place(queue)
        return asked_at

    def _cut(self, now: float) -> None:
        """Keep fewer models warm: those begun last wait."""
        self._signs.cut(now)
        self._limit = self._limit.evicted(self.active)
        warm = sorted(
            (queue for queue in self._queues.values() if queue.stage is ModelStage.WARM),
            key=lambda queue: -queue.number,
        )
        for queue in warm[: max(0, self.active - self._limit.limit)]:
            self._park(queue)

    def _park(self, queue: ModelQueue[Job]) -> None:
        queue.stage = ModelStage.PARKED
        self._parked.append(queue)
        self._order.place(queue)

    def _landed(self, queue: ModelQueue[Job]) -> None:
        queue.in_flight -= 1
        self.in_flight -= 1
        if queue.probing:
            self._end_probe(queue)

    def _end_probe(self, queue: ModelQueue[Job]) -> None:
        queue.probing = False
        self._order.probes -= 1

    def unsettled(self, queue: ModelQueue[Job]) -> None:
        """Note an answer that says nothing about the model: throttling, an outage, a lost connection."""
        self._landed(queue)
        self._order.place(queue)

    def not_ready(self, queue: ModelQueue[Job], *, probe_at: float) -> bool:
        """Note that the model is not loaded; return whether it was evicted: it had answered before.

        :param probe_at: when it may be probed again
        """
        return self._missed(queue, probe_at, is_full=False)

    def no_memory(self, queue: ModelQueue[Job], *, probe_at: float) -> bool:
        """Note that the endpoint has no memory for the model; return whether it had answered before.

        :param probe_at: when it may be probed again
        """
        return self._missed(queue, probe_at, is_full=True)

    def _missed(self, queue: ModelQueue[Job], probe_at: float, *, is_full: bool) -> bool:
        self._landed(queue)
        if queue.stage in (ModelStage.PARKED, ModelStage.CLOSED):
            return False
        was_warm = queue.stage is ModelStage.WARM
        if not is_full:
            queue.probes += 1
            is_full = was_warm or queue.probes >= _STALLED_PROBES
            queue.probes = 0 if is_full else queue.probes
        if is_full:
            self._limit = self._limit.evicted(self.active)
            if self.active > self._limit.limit:
                self._park(queue)
            else:
                queue.stage = ModelStage.COLD
        self._order.rest(queue, probe_at)
        return was_warm
