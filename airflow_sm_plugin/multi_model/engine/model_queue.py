"""A model of a batch: its payloads that are ready to go, and what is known of it; and which model's turn it is.

The oldest models first: then they end one after the other, their places in the endpoint's memory become free one after
the other, and the next models load while others work, instead of all at the same time. Before that, every cold model is
probed, and every warm one gets three quarters of its fair share. A model that is slow, or slower than it can be because
it has more to do than it can, has no more than twice its share: it never starves the rest.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from math import ceil
from typing import Generic, TypeVar

from airflow_sm_plugin.multi_model.engine.eviction_signs import Pace

_PROBE, _LEAST, _MORE = range(3)
"""In this order lanes are asked, each time the oldest first."""

Job = TypeVar("Job")


class Stage(enum.Enum):
    """What is known of a model."""

    COLD = "cold"
    """Nothing, or that it is loading: it is probed."""

    WARM = "warm"
    """It has answered."""

    PARKED = "parked"
    """It was evicted, and waits until fewer models are in use."""

    CLOSED = "closed"
    """It has no work left."""


class Lane(Generic[Job]):
    """One model's payloads that are ready to go, and what is known of the model.

    :param model: the target model
    :param number: how many were opened before
    :param asked_at: when the probe that is or was waited for went out first; None before it
    """

    __slots__ = (
        "asked_at",
        "entered",
        "has_loaded",
        "in_flight",
        "model",
        "number",
        "pace",
        "probe_at",
        "probes",
        "probing",
        "rank",
        "ready",
        "stage",
    )

    def __init__(self, model: str, number: int = 0) -> None:
        self.model = model
        self.number = number
        self.stage = Stage.COLD
        self.ready: deque[Job] = deque()
        self.in_flight = 0
        self.asked_at: float | None = None
        self.has_loaded = False
        self.probing = False
        self.probe_at = 0.0
        self.probes = 0
        self.pace = Pace()
        self.rank: int | None = None
        self.entered = 0


class LaneOrder(Generic[Job]):
    """Lanes that have something to send, in the order of their turns.

    :param bound: how many may be on their way at once
    :param active: how many models are loading or warm
    """

    def __init__(self) -> None:
        self.bound = 1
        self.active = 1
        self.probes = 0
        """Probes on their way."""
        self._waiting: tuple[list[tuple[int, Lane[Job]]], ...] = ([], [], [])
        self._resting: list[tuple[float, int, Lane[Job]]] = []

    def first(self, now: float) -> Lane[Job] | None:
        """Return the lane whose turn it is; probes hold at most half of the places while others have work."""
        while self._resting and self._resting[0][0] <= now:
            self._rouse(heapq.heappop(self._resting)[2], now)
        late = 2 * self.probes >= self.bound > 1
        for rank in (_LEAST, _MORE, _PROBE) if late else (_PROBE, _LEAST, _MORE):
            waiting = self._waiting[rank]
            while waiting:
                lane = waiting[0][1]
                if lane.rank == rank:
                    return lane
                heapq.heappop(waiting)
                lane.entered &= ~(1 << rank)
        return None

    def _rouse(self, lane: Lane[Job], now: float) -> None:
        if lane.stage is Stage.COLD and lane.probe_at <= now:
            lane.probe_at = 0.0
            self.place(lane)

    def rest(self, lane: Lane[Job], until: float) -> None:
        """Have a cold lane wait until it may be probed again."""
        lane.probe_at = until
        heapq.heappush(self._resting, (until, lane.number, lane))
        self.place(lane)

    def place(self, lane: Lane[Job]) -> None:
        """Have a lane wait for its turn where it belongs now: after everything that happens to it."""
        rank = lane.rank = self._rank(lane)
        if rank is not None and not lane.entered >> rank & 1:
            lane.entered |= 1 << rank
            heapq.heappush(self._waiting[rank], (lane.number, lane))

    def _rank(self, lane: Lane[Job]) -> int | None:
        if not lane.ready:
            return None
        if lane.stage is Stage.WARM:
            if lane.in_flight < max(1, 3 * self.bound // (4 * self.active)):
                return _LEAST
            return _MORE if lane.in_flight < self._most(lane) else None
        return _PROBE if lane.stage is Stage.COLD and not lane.probing and not lane.probe_at else None

    def _most(self, lane: Lane[Job]) -> int:
        """Return how many of a lane may be on their way."""
        pace = lane.pace
        if pace.is_slow:
            return ceil(2 * self.bound / (self.active + 1))
        return max(ceil(self.bound / self.active), min(pace.window, self.bound))
