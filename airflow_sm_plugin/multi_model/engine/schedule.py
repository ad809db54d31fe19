"""Choose the next payload: a probe of a cold model, or else one of the oldest model; and limit the number of models.

A model that is not known to be loaded gets one payload as a probe. The other payloads wait for its answer, so that a
cold model gets one request at a time, while warm models work. A model that was evicted is probed again, or parked when
more models are in use than the endpoint holds. :mod:`airflow_sm_plugin.multi_model.engine.model_queue` has the order,
:mod:`airflow_sm_plugin.multi_model.engine.warm_limit` the number of models.

A finished model is replaced by the next one only when as many payloads have been answered as were in flight. By then
the endpoint has used every other model again, the finished one least recently, and evicts it. Replaced at once, a model
with work left is evicted now and then, and one load too many at the end of a batch costs all of its last models a load.

Mutable and single-threaded, because it is asked thousands of times a second. It reads no clock and does no I/O.
"""

from __future__ import annotations

from collections import deque
from typing import Generic

from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue, ModelState, QueuedT, QueueOrder
from airflow_sm_plugin.multi_model.engine.warm_limit import WarmLimit

_STALLED_PROBES = 20
"""So many probes in vain mean that models evict each other before they ever answer. SageMaker itself holds a probe for
a minute while the model loads, so that there the model's deadline comes first."""


class Schedule(Generic[QueuedT]):
    """The queues of all open models.

    :param max_warm_models: limit of models that are loading or warm; None adapts to the endpoint
    """

    def __init__(self, *, max_warm_models: int | None = None) -> None:
        self._limit = WarmLimit(max_warm_models)
        self._queues: dict[str, ModelQueue[QueuedT]] = {}
        self._parked: list[ModelQueue[QueuedT]] = []
        self._order: QueueOrder[QueuedT] = QueueOrder()
        self._opened = 0
        self._now = 0.0
        self._in_use = 0
        """Models that were probed since they were opened, or parked, and that have work left."""
        self._answers = 0
        """Payloads that have come back, other than probes."""
        self._replaceable: deque[int] = deque()
        """The number of answers at which each finished model may be replaced."""
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

    def queues(self) -> tuple[ModelQueue[QueuedT], ...]:
        return tuple(self._queues.values())

    def count(self, state: ModelState) -> int:
        return sum(queue.state is state for queue in self._queues.values())

    def open(self, model: str) -> ModelQueue[QueuedT]:
        queue = self._queues[model] = ModelQueue[QueuedT](model, self._opened)
        self._opened += 1
        return queue

    def close(self, queue: ModelQueue[QueuedT]) -> None:
        """End a model that has no work left, and let a parked model load instead."""
        if self._queues.pop(queue.model, None) is None:
            return
        if queue.state is ModelState.PARKED:
            self._parked.remove(queue)
        elif queue.has_loaded:
            self._limit.finished()
        if queue.probing:
            self._end_probe(queue)
        if queue.in_use:
            self._release(queue)
            self._replaceable.append(self._answers + self.in_flight - self._order.probes)
        queue.state = ModelState.CLOSED
        self._order.update(queue)
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self.active < self._limit.value:
            queue = min(self._parked, key=lambda queue: queue.position)
            self._parked.remove(queue)
            queue.state, queue.first_probe_at, queue.probe_at = ModelState.COLD, None, 0.0
            self._order.update(queue)

    # Payloads

    def add(self, queue: ModelQueue[QueuedT], job: QueuedT) -> None:
        """Add a payload behind the model's others."""
        queue.ready.append(job)
        if queue.rank is None:
            self._order.update(queue)

    def put_back(self, queue: ModelQueue[QueuedT], job: QueuedT) -> None:
        """Add a payload that was in flight already before the model's others."""
        queue.ready.appendleft(job)
        if queue.rank is None:
            self._order.update(queue)

    def take(self, now: float, *, limit: int) -> tuple[ModelQueue[QueuedT], QueuedT] | None:
        """Choose the next payload to send, and count it as in flight; None while no payload may be sent.

        :param limit: payloads that may be in flight at the same time
        """
        self._now = now
        if self.in_flight >= limit:
            return None
        self._order.limit, self._order.active = limit, max(1, self.active)
        queue = self._order.first(now, may_load=self._may_load)
        if queue is None:
            return None
        if queue.state is ModelState.COLD:
            queue.probing = True
            self._order.probes += 1
            self._in_use += not queue.in_use
            queue.in_use = True
            if queue.first_probe_at is None:
                queue.first_probe_at = now
        queue.in_flight += 1
        self.in_flight += 1
        job = queue.ready.popleft()
        self._order.update(queue)
        return queue, job

    @property
    def _may_load(self) -> bool:
        """Decide whether a further model may be loaded."""
        replaceable = self._replaceable
        while replaceable and replaceable[0] <= self._answers:
            replaceable.popleft()
        return self._in_use + len(replaceable) < self._limit.value

    def _release(self, queue: ModelQueue[QueuedT]) -> None:
        self._in_use -= queue.in_use
        queue.in_use = False

    # Answers

    def answered(
        self, queue: ModelQueue[QueuedT], *, now: float = 0.0, seconds: float | None = None
    ) -> float | None:
        """Note an answer that only a loaded model gives.

        :param seconds: its latency; None when it was an error
        :return: at a cold model's first answer the time of its first probe, else None
        """
        self._landed(queue)
        first_probe_at = None
        if queue.state is ModelState.COLD:
            first_probe_at, queue.first_probe_at, queue.probes = queue.first_probe_at, None, 0
            queue.state, queue.probe_at = ModelState.WARM, 0.0
            if first_probe_at is not None and not queue.has_loaded:
                self._limit.loaded(queue.position, seconds=now - first_probe_at, now=now)
            queue.has_loaded = True
        elif queue.state is ModelState.WARM and seconds is not None:
            position, latency = queue.position, queue.latency
            if self._limit.answered(position, latency, seconds=seconds, now=now, active=self.active):
                self._park_excess()
        self._order.update(queue)
        return first_probe_at

    def inconclusive(self, queue: ModelQueue[QueuedT]) -> None:
        """Note an answer that does not show whether the model is loaded: throttling, an outage, a lost connection."""
        self._landed(queue)
        self._order.update(queue)

    def not_ready(self, queue: ModelQueue[QueuedT], *, probe_at: float, is_full: bool = False) -> bool:
        """Note that the model is not loaded; report whether it was evicted, so that it had answered before.

        :param probe_at: when it may be probed again
        :param is_full: whether the endpoint has no memory for it
        """
        self._landed(queue)
        if queue.state in (ModelState.PARKED, ModelState.CLOSED):
            return False
        was_warm = queue.state is ModelState.WARM
        if not is_full:
            queue.probes += 1
            is_full = was_warm or queue.probes >= _STALLED_PROBES
            queue.probes = 0 if is_full else queue.probes
        if is_full:
            self._limit.evicted(self.active, now=self._now)
            if self.active > self._limit.value:
                self._park(queue)
            else:
                queue.state = ModelState.COLD
        self._order.rest(queue, probe_at)
        return was_warm

    def _park_excess(self) -> None:
        """Keep as many models warm as the limit permits, and park those opened last."""
        warm = [queue for queue in self._queues.values() if queue.state is ModelState.WARM]
        warm.sort(key=lambda queue: -queue.position)
        for queue in warm[: max(0, self.active - self._limit.value)]:
            self._park(queue)

    def _park(self, queue: ModelQueue[QueuedT]) -> None:
        self._release(queue)
        queue.state = ModelState.PARKED
        self._parked.append(queue)
        self._order.update(queue)

    def _landed(self, queue: ModelQueue[QueuedT]) -> None:
        queue.in_flight -= 1
        self.in_flight -= 1
        if queue.probing:
            self._end_probe(queue)
        else:
            self._answers += 1

    def _end_probe(self, queue: ModelQueue[QueuedT]) -> None:
        queue.probing = False
        self._order.probes -= 1
