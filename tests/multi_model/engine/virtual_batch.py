"""A batch in virtual time: the schedule and the limits drive an endpoint that is a heap of events.

It does with them what ``payload_queue``, ``invocations`` and ``attempts`` do, without any input or output. The endpoint
behaves as :class:`tests.stubs.models.StubModels`: models load side by side, each into a slot of its own; the least
recently used one is evicted for the next; a call is held while its model loads, for up to a minute.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from airflow_sm_plugin.batches.adaptive import InFlightLimit
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.multi_model.engine.attempts import _FIRST_PROBE_PAUSE, _LONGEST_PROBE_PAUSE
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue
from airflow_sm_plugin.multi_model.engine.payload_queue import _PAUSING, _PAUSING_PER_SLOT
from airflow_sm_plugin.multi_model.engine.schedule import Schedule

_REFUSAL_SECONDS = 0.003
_LONGEST_RUN = 36_000.0

Job = list[int]
"""A payload: the number of its attempts so far."""


@dataclass(frozen=True, kw_only=True)
class VirtualEndpoint:
    """Settings of the endpoint; times in seconds.

    :param latency: what a call takes once its model is loaded
    :param spread: share of its latency by which a call may take less or more
    :param load: how long a model loads
    :param load_spread: share of it by which a load may take less or more
    :param hold: how long a call for a model that loads is held; 0 refuses it at once
    :param capacity: models that have a slot; None has all of them loaded
    :param throttled: share of calls that are throttled at random
    :param most_calls: calls above this number at the same time are throttled
    :param most_per_second: calls above this rate are throttled, with a bucket of a tenth of a second
    """

    latency: float = 0.02
    spread: float = 0.2
    load_spread: float = 0.0
    capacity: int | None = None
    load: float = 2.0
    hold: float = 60.0
    throttled: float = 0.0
    most_calls: int | None = None
    most_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class VirtualWork:
    """The work of a batch, and its bounds.

    :param payloads: of each model
    """

    models: int = 60
    payloads: int = 100
    in_flight: int = 64
    max_warm_models: int | None = None

    def lower_bound(self, endpoint: VirtualEndpoint) -> float:
        """Return the seconds below which no order comes, as in ``bench_multi_model_schedule``."""
        work = self.payloads * endpoint.latency / self.in_flight
        if endpoint.capacity is None:
            return self.models * work
        slots = self.models * (endpoint.load + work) / min(endpoint.capacity, self.models)
        return max(slots, endpoint.load + self.models * work)


@dataclass
class VirtualRun:
    """A batch over an endpoint, and its figures."""

    endpoint: VirtualEndpoint
    work: VirtualWork
    seed: int = 0

    def __post_init__(self) -> None:
        self.now = self.seconds = 0.0
        self.answered = self.throttled = self.loads = self.most_in_flight = 0
        self.most_attempts = 0
        self._chance = random.Random(self.seed)  # noqa: S311 - latencies and refusals
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()
        # The endpoint
        self._loaded: OrderedDict[str, None] = OrderedDict()
        self._loading: dict[str, list[Callable[[], None]]] = {}
        self._queue: deque[str] = deque()
        self._served = 0
        self._tokens, self._filled_at = 0.0, 0.0
        # The batch
        self.schedule: Schedule[Job] = Schedule(max_warm_models=self.work.max_warm_models)
        self.limit = InFlightLimit(self.work.in_flight, now=0.0)
        self._begun = 0
        self._left: dict[str, int] = {}
        self._pausing = self._due = 0
        self._probes: dict[str, int] = {}

    def run(self) -> VirtualRun:
        """Do all the work.

        :raises AssertionError: some of it is never done
        """
        self._admit()
        self._pump()
        while self._events:
            self.now, _, event = heapq.heappop(self._events)
            event()
            if self.now > _LONGEST_RUN:
                raise AssertionError(f"{self.answered} payloads answered after {self.now:g} s")
        assert self.answered == self.work.models * self.work.payloads
        return self

    @property
    def over_bound(self) -> float:
        """The share by which it took longer than the lower bound."""
        return self.seconds / self.work.lower_bound(self.endpoint) - 1

    def _later(self, seconds: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._count), event))

    def _spread(self, seconds: float, spread: float | None = None) -> float:
        spread = self.endpoint.spread if spread is None else spread
        return seconds * (1 + spread * (2 * self._chance.random() - 1))

    # The batch

    def _admit(self) -> None:
        while self._begun < self.work.models and self.schedule.has_room:
            queue = self.schedule.open(f"m{self._begun}")
            self._begun += 1
            self._left[queue.model] = self.work.payloads
            for _ in range(self.work.payloads):
                self.schedule.add(queue, [0])

    def _pump(self) -> None:
        while (sent := self._next()) is not None:
            self._invoke(*sent)

    def _next(self) -> tuple[ModelQueue[Job], Job] | None:
        if self._pausing > _PAUSING + _PAUSING_PER_SLOT * self.limit.limit and not self._due:
            return None
        sent = self.schedule.take(self.now, limit=self.limit.limit)
        if sent is not None:
            self._due = max(0, self._due - 1)
            self.limit.sent(self.schedule.in_flight)
        return sent

    def _succeeded(self, queue: ModelQueue[Job], began: float) -> None:
        self.limit.answered(self.now, slow_down=False)
        if self.schedule.answered(queue, now=self.now, seconds=self.now - began) is not None:
            self._probes[queue.model] = 0
            self._pump()
        self.answered, self.seconds = self.answered + 1, self.now
        self._left[queue.model] -= 1
        if not self._left[queue.model]:
            self.schedule.close(queue)
            self._admit()
        self._pump()

    def _refused(self, queue: ModelQueue[Job], job: Job) -> None:
        self.throttled += 1
        self.limit.answered(self.now, slow_down=True)
        self.schedule.inconclusive(queue)
        job[0] += 1
        self.most_attempts = max(self.most_attempts, job[0])
        self._pausing += 1
        pause = self.limit.pause(job[0], jitter=self._chance.random())
        self._later(pause, lambda: self._retry(queue, job))
        self._pump()

    def _retry(self, queue: ModelQueue[Job], job: Job) -> None:
        self._pausing -= 1
        self._due += 1
        self.schedule.put_back(queue, job)
        self._pump()

    def _not_ready(self, queue: ModelQueue[Job], job: Job) -> None:
        self.limit.answered(self.now, slow_down=False)
        probes = self._probes[queue.model] = self._probes.get(queue.model, 0) + 1
        jitter = 0.5 + self._chance.random() / 2
        pause = pause_after(probes, jitter=jitter, first=_FIRST_PROBE_PAUSE, longest=_LONGEST_PROBE_PAUSE)
        self.schedule.not_ready(queue, probe_at=self.now + pause)
        self._later(pause + 0.001, self._pump)
        self.schedule.add(queue, job)
        self._pump()

    # The endpoint

    def _invoke(self, queue: ModelQueue[Job], job: Job) -> None:
        self.most_in_flight = max(self.most_in_flight, self.schedule.in_flight)
        endpoint, began = self.endpoint, self.now
        if self._is_throttled():
            self._later(self._spread(_REFUSAL_SECONDS), lambda: self._refused(queue, job))
            return

        def serve() -> None:
            self._served += 1
            self._later(self._spread(endpoint.latency), answer)

        def answer() -> None:
            self._served -= 1
            self._succeeded(queue, began)

        if endpoint.capacity is None or queue.model in self._loaded:
            if endpoint.capacity is not None:
                self._loaded.move_to_end(queue.model)
            serve()
            return
        waiting = self._loading.get(queue.model)
        if waiting is None:
            waiting = self._loading[queue.model] = []
            self._queue.append(queue.model)
            self._load_next()
        if not endpoint.hold:
            self._later(self._spread(_REFUSAL_SECONDS), lambda: self._not_ready(queue, job))
            return
        waiting.append(serve)

        def give_up(held: list[Callable[[], None]] = waiting) -> None:
            if serve in held:
                held.remove(serve)
                self._not_ready(queue, job)

        self._later(endpoint.hold, give_up)

    def _is_throttled(self) -> bool:
        endpoint = self.endpoint
        if endpoint.throttled and self._chance.random() < endpoint.throttled:
            return True
        if endpoint.most_calls is not None and self._served >= endpoint.most_calls:
            return True
        if endpoint.most_per_second is not None:
            grown = (self.now - self._filled_at) * endpoint.most_per_second
            self._tokens = min(endpoint.most_per_second / 10, self._tokens + grown)
            self._filled_at = self.now
            if self._tokens < 1:
                return True
            self._tokens -= 1
        return False

    def _load_next(self) -> None:
        capacity = self.endpoint.capacity or 0
        while self._queue:
            under_way = len(self._loading) - len(self._queue)
            if under_way >= capacity:
                return
            if under_way + len(self._loaded) >= capacity:
                self._loaded.popitem(last=False)
            model = self._queue.popleft()
            self.loads += 1
            load = self._spread(self.endpoint.load, self.endpoint.load_spread)
            self._later(load, partial(self._now_loaded, model))

    def _now_loaded(self, model: str) -> None:
        self._loaded[model] = None
        waiting = self._loading.pop(model)
        for serve in [*waiting]:
            waiting.remove(serve)
            serve()
        self._load_next()
