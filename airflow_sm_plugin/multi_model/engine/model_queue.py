"""A queue per model of a batch, and the order in which the queues send.

The oldest models come first: so they end one after the other, memory of the endpoint becomes free bit by bit, and the
next models load while others work, instead of all at the same time. Before that, every cold model is probed, and every
warm one gets three quarters of its fair share. A slow model has no more than twice its share, one whose latency is not
known yet half of all slots, and one that is slower than its best, because of its backlog, its share: none starves the
others.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf
from typing import Generic, TypeVar

_PROBE, _LOAD, _LEAST, _MORE = range(4)
"""Ranks: the queues of a lower rank send first, and of one rank the oldest; probes come last while they hold half of
the slots."""

_MEMORY = 16
"""Answers over which a mean is taken. Over fewer, one slow answer moves it; over more, a backlog is noticed late."""

_QUICK = 0.5
"""Seconds: a model that becomes warm waits no longer for slots that a quick model has taken. Larger, slow models get
slots beyond their share and keep others waiting; smaller, slots stay empty while only a few models have work."""

_UNHURRIED = 2.0
"""A model that takes more than so many times its best has more to do than it can. Nearer to 1, jitter of the network
narrows its window; greater, its payloads queue in the container instead of going to other models."""

QueuedT = TypeVar("QueuedT")


class ModelState(enum.Enum):
    """A model's progress at the endpoint."""

    COLD = "not invoked yet, or loading: it is probed"
    WARM = "it has answered"
    PARKED = "it was evicted, and waits until fewer models are in use"
    CLOSED = "it has no work left"


@dataclass(slots=True, eq=False)
class LoadedLatency:
    """Times of one loaded model's answers, in seconds, and the payloads beyond its share that it can bear."""

    answers: int = 0
    usual: float | None = None
    """Mean of its recent answers."""
    best: float = inf
    """The lowest mean so far: that of a model without a backlog."""
    least: float = inf
    """The quickest answer."""
    doubts: int = 0
    """Signs of an eviction since the last quick answer."""
    doubted_at: float = -inf
    """When the last sign of an eviction came."""
    window: int = 0
    """Payloads permitted in flight where the model's share is less: more while it answers as quickly as it can."""

    def answered(self, seconds: float) -> None:
        count = self.answers = min(self.answers + 1, _MEMORY)
        before = 0.0 if self.usual is None else self.usual
        self.usual = usual = before + (seconds - before) / count
        if count == _MEMORY and usual < self.best:
            self.best = usual
        self.least = min(self.least, seconds)
        self.doubts = 0
        if seconds < _QUICK and seconds <= _UNHURRIED * self.best:
            self.window += 1
        elif self.window:
            self.window -= 1


@dataclass(slots=True, eq=False)
class ModelQueue(Generic[QueuedT]):
    """One model's payloads that are ready to be sent, and the model's state.

    :param position: in the order in which models were opened
    """

    model: str
    position: int = 0
    state: ModelState = ModelState.COLD
    ready: deque[QueuedT] = field(default_factory=deque)
    in_flight: int = 0
    first_probe_at: float | None = None
    """When the cold model was first probed."""
    has_loaded: bool = False
    in_use: bool = False
    """Whether it was probed since it was opened, or parked, and has work left."""
    probing: bool = False
    probe_at: float = 0.0
    probes: int = 0
    latency: LoadedLatency = field(default_factory=LoadedLatency)
    rank: int | None = None
    """None when it has nothing to send."""
    entered: int = 0
    """Bit set of the ranks whose heaps hold it."""


class QueueOrder(Generic[QueuedT]):
    """Queues that have something to send."""

    def __init__(self) -> None:
        self.limit = 1
        """Payloads that may be in flight at the same time."""
        self.active = 1
        """Models that are loading or warm."""
        self.probes = 0
        """Probes in flight."""
        self._waiting: tuple[list[tuple[int, ModelQueue[QueuedT]]], ...] = ([], [], [], [])
        self._resting: list[tuple[float, int, ModelQueue[QueuedT]]] = []

    def first(self, now: float, *, may_load: bool) -> ModelQueue[QueuedT] | None:
        """Choose the queue that sends next; probes hold at most half of the slots while other queues have work.

        :param may_load: whether a further model may be loaded
        """
        while self._resting and self._resting[0][0] <= now:
            queue = heapq.heappop(self._resting)[2]
            if queue.state is ModelState.COLD and queue.probe_at <= now:
                queue.probe_at = 0.0
                self.update(queue)
        has_many_probes = 2 * self.probes >= self.limit > 1
        for rank in (_LEAST, _MORE, _PROBE, _LOAD) if has_many_probes else (_PROBE, _LOAD, _LEAST, _MORE):
            if rank == _LOAD and not may_load:
                continue
            waiting = self._waiting[rank]
            while waiting:
                queue = waiting[0][1]
                if queue.rank == rank:
                    return queue
                heapq.heappop(waiting)
                queue.entered &= ~(1 << rank)
        return None

    def rest(self, queue: ModelQueue[QueuedT], until: float) -> None:
        """Hold a cold model back until its next probe is due."""
        queue.probe_at = until
        heapq.heappush(self._resting, (until, queue.position, queue))
        self.update(queue)

    def update(self, queue: ModelQueue[QueuedT]) -> None:
        """Rank a queue again. Call it after every change of the queue."""
        rank = queue.rank = self._rank(queue)
        if rank is not None and not queue.entered >> rank & 1:
            queue.entered |= 1 << rank
            heapq.heappush(self._waiting[rank], (queue.position, queue))

    def _rank(self, queue: ModelQueue[QueuedT]) -> int | None:
        if not queue.ready:
            return None
        if queue.state is ModelState.WARM:
            if queue.in_flight < max(1, 3 * self.limit // (4 * self.active)):
                return _LEAST
            return _MORE if queue.in_flight < self._most(queue.latency) else None
        if queue.state is not ModelState.COLD or queue.probing or queue.probe_at:
            return None
        return _PROBE if queue.in_use else _LOAD

    def _most(self, latency: LoadedLatency) -> int:
        twice = ceil(2 * self.limit / (self.active + 1))
        if latency.usual is None:
            return max(twice, self.limit // 2)
        if latency.usual >= _QUICK:
            return twice
        return max(ceil(self.limit / self.active), min(latency.window, self.limit))
