"""Choose the next payload: one probe for each cold model, then the oldest models, and a limited number of models.

A model that is not known to be loaded gets one payload as a probe. The other payloads wait for its answer, so that a
cold model gets one request at a time, while warm models work. A model that was evicted is probed again, or parked when
more models are in use than the endpoint holds. :mod:`airflow_sm_plugin.multi_model.engine.model_queue` has the order.

Mutable and single-threaded, because it is asked thousands of times a second. It reads no clock and does no I/O.
"""

from __future__ import annotations

from math import inf
from typing import Generic

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import (
    Job,
    LoadedLatency,
    ModelQueue,
    ModelStage,
    QueueOrder,
)

_FIRST, _CUT = 4, 0.75
"""The adaptive limit begins with four models; an eviction cuts it to three quarters of the models in use. A higher
beginning evicts models of a small endpoint at once; each first load raises the limit by one, so that a large endpoint
is soon full. A deeper cut leaves memory unused; a lighter one needs several evictions, each of which costs a load."""

_LEAST_LOAD = 0.25
"""Seconds: a shorter load costs little, and cannot be distinguished from a slow answer. Smaller, pauses of a busy
container count as evictions; larger, quick loads that evict each other stay unnoticed."""

_OF_LOAD, _TIMES_LEAST = 0.5, 8.0
"""An answer is a sign when it takes this share of the quickest load, and so many times the quickest answer. The first
alone would suspect models that are slow by nature, the second alone models with a short queue in their container."""

_DOUBTS = 4
"""A model that gives so many signs, with no quick answer between them, is slow. Fewer would accept a model that is
evicted again and again as slow; more would cut the limit for the sake of a model that has merely become slower."""

_MODELS = 2
"""Models with signs that prove evictions: a single one can be slow by itself, and each further one that is demanded
costs another load before the limit falls."""

_STALLED_PROBES = 20
"""So many probes in vain mean that models evict each other before they ever answer. SageMaker itself holds a probe for
a minute while the model loads, so that there the model's deadline comes first."""


class WarmLimit:
    """The limit of models that are loading or warm. Without a fixed one it begins with four and adapts.

    :raises InvalidRequest: *max_warm_models* is below 1
    """

    def __init__(self, max_warm_models: int | None) -> None:
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        self.value = max_warm_models or _FIRST
        self._is_fixed = max_warm_models is not None
        self._settled = False
        self._undisturbed = 0

    def loaded(self) -> None:
        """Grow by one for a model's first load, until the first eviction."""
        if not (self._is_fixed or self._settled):
            self.value += 1

    def finished(self) -> None:
        """Grow by one, after an eviction, when as many models as the limit permits have done all their work."""
        if self._is_fixed or not self._settled:
            return
        self._undisturbed += 1
        if self._undisturbed >= self.value:
            self.value += 1
            self._undisturbed = 0

    def evicted(self, active: int) -> None:
        """Fall to three quarters of *active*, the models that were loading or warm: their memory did not suffice."""
        if not self._is_fixed:
            self.value = max(1, min(self.value, int(active * _CUT)))
            self._settled, self._undisturbed = True, 0


class EvictionSigns:
    """Signs of evictions since the limit of warm models last fell, from the latency of loaded models.

    SageMaker holds a call for up to a minute while it loads a model, and answers ModelNotReady only then. So an evicted
    model that is loaded again for a call shows as one answer that takes about as long as a load, from a model that is
    quick otherwise. One such answer proves nothing. Several models with such answers to calls that were sent after the
    limit last fell mean that still too many models are warm.
    """

    __slots__ = ("_cut_at", "_least", "_least_load", "_models")

    def __init__(self) -> None:
        self._least_load = self._least = inf
        self._models: set[int] = set()
        self._cut_at = -inf

    def loaded(self, seconds: float) -> None:
        """Note how long a model was loading."""
        if _LEAST_LOAD <= seconds < self._least_load:
            self._least_load = seconds

    def answered(self, model_number: int, latency: LoadedLatency, *, seconds: float, now: float) -> None:
        """Note a loaded model's answer."""
        least = self._least if latency.usual is None else latency.least
        if seconds < _OF_LOAD * self._least_load or seconds < _TIMES_LEAST * least:
            latency.answered(seconds)
            self._least = min(self._least, seconds)
            return
        if now - seconds >= self._cut_at:
            self._models.add(model_number)
        latency.doubts += 1
        if latency.doubts >= _DOUBTS:
            latency.least = inf
            latency.answered(seconds)

    def are_many(self, active: int) -> bool:
        """Decide whether too many models are in use.

        :param active: models that are loading or warm
        """
        return len(self._models) >= min(_MODELS, active)

    def cut(self, now: float) -> None:
        """Begin again: the limit of warm models falls now."""
        self._models.clear()
        self._cut_at = now


class Schedule(Generic[Job]):
    """The queues of all open models.

    :param max_warm_models: limit of models that are loading or warm; None adapts to the endpoint
    """

    def __init__(self, *, max_warm_models: int | None = None) -> None:
        self._limit = WarmLimit(max_warm_models)
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
        """Models that are loading or warm."""
        return len(self._queues) - len(self._parked)

    @property
    def has_room(self) -> bool:
        """Decide whether another model is permitted to be opened: parked models come first."""
        return not self._parked and self.active < self._limit.value

    def busy(self) -> set[str]:
        """List the models that have payloads ready or in flight."""
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
        """End a model that has no work left, and let a parked model load instead."""
        if self._queues.pop(queue.model, None) is None:
            return
        if queue.stage is ModelStage.PARKED:
            self._parked.remove(queue)
        elif queue.has_loaded:
            self._limit.finished()
        if queue.probing:
            self._end_probe(queue)
        queue.stage = ModelStage.CLOSED
        self._order.update(queue)
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self.active < self._limit.value:
            queue = min(self._parked, key=lambda queue: queue.position)
            self._parked.remove(queue)
            queue.stage, queue.first_probe_at, queue.probe_at = ModelStage.COLD, None, 0.0
            self._order.update(queue)

    # Payloads

    def add(self, queue: ModelQueue[Job], job: Job) -> None:
        """Add a payload behind the model's others."""
        queue.ready.append(job)
        if queue.rank is None:
            self._order.update(queue)

    def put_back(self, queue: ModelQueue[Job], job: Job) -> None:
        """Add a payload that was in flight already before the model's others."""
        queue.ready.appendleft(job)
        if queue.rank is None:
            self._order.update(queue)

    def take(self, now: float, *, limit: int) -> tuple[ModelQueue[Job], Job] | None:
        """Choose the next payload to send, and count it as in flight; None while no payload may be sent.

        :param limit: payloads that may be in flight at the same time
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
            if queue.first_probe_at is None:
                queue.first_probe_at = now
        queue.in_flight += 1
        self.in_flight += 1
        job = queue.ready.popleft()
        self._order.update(queue)
        return queue, job

    # Answers

    def answered(
        self, queue: ModelQueue[Job], *, now: float = 0.0, seconds: float | None = None
    ) -> float | None:
        """Note an answer that only a loaded model gives.

        :param seconds: its latency; None when it was an error
        :return: at a cold model's first answer the time of its first probe, else None
        """
        self._landed(queue)
        first_probe_at = None
        if queue.stage is ModelStage.COLD:
            first_probe_at, queue.first_probe_at, queue.probes = queue.first_probe_at, None, 0
            queue.stage, queue.probe_at = ModelStage.WARM, 0.0
            if first_probe_at is not None:
                self._signs.loaded(now - first_probe_at)
            if not queue.has_loaded:
                queue.has_loaded = True
                self._limit.loaded()
        elif seconds is not None:
            self._signs.answered(queue.position, queue.latency, seconds=seconds, now=now)
            if self._signs.are_many(self.active) and queue.stage is ModelStage.WARM:
                self._cut(now)
        self._order.update(queue)
        return first_probe_at

    def unsettled(self, queue: ModelQueue[Job]) -> None:
        """Note an answer that does not show whether the model is loaded: throttling, an outage, a lost connection."""
        self._landed(queue)
        self._order.update(queue)

    def not_ready(self, queue: ModelQueue[Job], *, probe_at: float, is_full: bool = False) -> bool:
        """Note that the model is not loaded; report whether it was evicted, so that it had answered before.

        :param probe_at: when it may be probed again
        :param is_full: whether the endpoint has no memory for it
        """
        self._landed(queue)
        if queue.stage in (ModelStage.PARKED, ModelStage.CLOSED):
            return False
        was_warm = queue.stage is ModelStage.WARM
        if not is_full:
            queue.probes += 1
            is_full = was_warm or queue.probes >= _STALLED_PROBES
            queue.probes = 0 if is_full else queue.probes
        if is_full:
            self._limit.evicted(self.active)
            if self.active > self._limit.value:
                self._park(queue)
            else:
                queue.stage = ModelStage.COLD
        self._order.rest(queue, probe_at)
        return was_warm

    def _cut(self, now: float) -> None:
        """Keep fewer models warm, and park those opened last."""
        self._signs.cut(now)
        self._limit.evicted(self.active)
        warm = [queue for queue in self._queues.values() if queue.stage is ModelStage.WARM]
        warm.sort(key=lambda queue: -queue.position)
        for queue in warm[: max(0, self.active - self._limit.value)]:
            self._park(queue)

    def _park(self, queue: ModelQueue[Job]) -> None:
        queue.stage = ModelStage.PARKED
        self._parked.append(queue)
        self._order.update(queue)

    def _landed(self, queue: ModelQueue[Job]) -> None:
        queue.in_flight -= 1
        self.in_flight -= 1
        if queue.probing:
            self._end_probe(queue)

    def _end_probe(self, queue: ModelQueue[Job]) -> None:
        queue.probing = False
        self._order.probes -= 1
