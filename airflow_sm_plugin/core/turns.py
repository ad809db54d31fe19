"""Whose payload goes next: every warm model in turn, one probe for each cold one, and only so many models at once.

A model that is not known to be loaded gets one payload as a probe; the others wait for its answer, so that a cold model
is asked once and not by a stampede, while warm ones work. A model that was evicted is probed again, or parked when more
models are in use than the endpoint holds. No model has more than twice its fair share of what is on its way, so that a
slow one never starves the rest.

Mutable and single-threaded, for it is asked thousands of times a second; it reads no clock and does no I/O.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from airflow_sm_plugin.core.warm_limit import WarmLimit

_STALLED_PROBES = 20
"""Probes in vain that mean that models evict each other before they ever answer. SageMaker itself holds a probe for a
minute while the model loads, so that its deadline comes first there."""

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
    :param asked_at: when the probe that is or was waited for went out first; None before it
    """

    __slots__ = (
        "asked_at",
        "has_loaded",
        "in_flight",
        "is_turning",
        "model",
        "probe_at",
        "probes",
        "probing",
        "ready",
        "stage",
    )

    def __init__(self, model: str) -> None:
        self.model = model
        self.stage = Stage.COLD
        self.ready: deque[Job] = deque()
        self.in_flight = 0
        self.asked_at: float | None = None
        self.has_loaded = False
        self.probing = False
        self.probe_at = 0.0
        self.probes = 0
        self.is_turning = False


class Turns(Generic[Job]):
    """All lanes that are open.

    :param max_warm_models: how many models may be loading or warm at once; None lets it be found
    """

    def __init__(self, *, max_warm_models: int | None = None) -> None:
        self._limit = WarmLimit.starting(max_warm_models)
        self._lanes: dict[str, Lane[Job]] = {}
        self._turning: deque[Lane[Job]] = deque()
        self._parked: deque[Lane[Job]] = deque()
        self.in_flight = 0
        """Payloads on their way."""

    # Models

    @property
    def limit(self) -> int:
        """How many models may be loading or warm now."""
        return self._limit.limit

    @property
    def active(self) -> int:
        """How many models are loading or warm."""
        return len(self._lanes) - len(self._parked)

    @property
    def has_room(self) -> bool:
        """Whether another model may be opened: parked ones go first."""
        return not self._parked and self.active < self._limit.limit

    def count(self, stage: Stage) -> int:
        """Return how many open models are at a stage."""
        return sum(lane.stage is stage for lane in self._lanes.values())

    def open(self, model: str) -> Lane[Job]:
        """Begin with a model."""
        lane = self._lanes[model] = Lane[Job](model)
        return lane

    def close(self, lane: Lane[Job]) -> None:
        """End a model that has no work left; a parked one takes its place."""
        if self._lanes.pop(lane.model, None) is None:
            return
        if lane.stage is Stage.PARKED:
            self._parked.remove(lane)
        elif lane.has_loaded:
            self._limit = self._limit.finished()
        lane.stage = Stage.CLOSED
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self.active < self._limit.limit:
            lane = self._parked.popleft()
            lane.stage, lane.asked_at, lane.probe_at = Stage.COLD, None, 0.0
            self._turn(lane)

    # Payloads

    def add(self, lane: Lane[Job], job: Job) -> None:
        """Add a payload behind the model's others."""
        lane.ready.append(job)
        if not lane.is_turning:
            self._turn(lane)

    def put_back(self, lane: Lane[Job], job: Job) -> None:
        """Add a payload before the model's others: it was on its way already."""
        lane.ready.appendleft(job)
        if not lane.is_turning:
            self._turn(lane)

    def take(self, now: float, *, bound: int) -> tuple[Lane[Job], Job] | None:
        """Return the next payload to send, counted as on its way; None while none may go.

        :param bound: how many may be on their way at once
        """
        if self.in_flight >= bound:
            return None
        turning = self._turning
        share = -(-2 * bound // (self.active + 1))
        for _ in range(len(turning)):
            lane = turning.popleft()
            if not lane.ready or lane.stage in (Stage.PARKED, Stage.CLOSED):
                lane.is_turning = False
                continue
            if lane.stage is Stage.COLD:
                if lane.probing or now < lane.probe_at:
                    turning.append(lane)
                    continue
                lane.probing = True
                if lane.asked_at is None:
                    lane.asked_at = now
            elif lane.in_flight >= share:
                turning.append(lane)
                continue
            turning.append(lane)
            lane.in_flight += 1
            self.in_flight += 1
            return lane, lane.ready.popleft()
        return None

    def next_probe_at(self) -> float | None:
        """Return when a model that is loading is probed next; None when no probe is put off."""
        waiting = [
            lane.probe_at
            for lane in self._lanes.values()
            if lane.stage is Stage.COLD and not lane.probing and lane.ready and lane.probe_at
        ]
        return min(waiting, default=None)

    # Answers

    def answered(self, lane: Lane[Job]) -> float | None:
        """Take note of an answer that only a loaded model gives.

        :return: when a cold model was asked first, at its first answer; else None
        """
        lane.in_flight -= 1
        self.in_flight -= 1
        if lane.stage is not Stage.COLD:
            return None
        asked_at, lane.asked_at, lane.probes = lane.asked_at, None, 0
        lane.stage, lane.probing, lane.probe_at = Stage.WARM, False, 0.0
        if not lane.has_loaded:
            lane.has_loaded = True
            self._limit = self._limit.loaded()
        return asked_at

    def unsettled(self, lane: Lane[Job]) -> None:
        """Take note of an answer that tells nothing about the model: throttling, an outage, a lost connection."""
        lane.in_flight -= 1
        self.in_flight -= 1
        lane.probing = False

    def not_ready(self, lane: Lane[Job], *, probe_at: float) -> bool:
        """Take note that the model is not loaded; return whether it was evicted: it had answered before.

        :param probe_at: when it may be probed again
        """
        lane.in_flight -= 1
        self.in_flight -= 1
        lane.probing = False
        if lane.stage is Stage.PARKED:
            return False
        was_warm = lane.stage is Stage.WARM
        lane.probe_at = probe_at
        lane.probes += 1
        if was_warm or lane.probes >= _STALLED_PROBES:
            lane.probes = 0
            self._press(lane)
        return was_warm

    def pressed(self, lane: Lane[Job], *, probe_at: float) -> None:
        """Take note that the endpoint has no memory for the model."""
        lane.in_flight -= 1
        self.in_flight -= 1
        lane.probing = False
        if lane.stage in (Stage.PARKED, Stage.CLOSED):
            return
        lane.probe_at = probe_at
        self._press(lane)

    def _press(self, lane: Lane[Job]) -> None:
        self._limit = self._limit.evicted(self.active)
        if self.active > self._limit.limit:
            lane.stage = Stage.PARKED
            self._parked.append(lane)
        else:
            lane.stage = Stage.COLD

    def overdue(self, now: float, *, load_seconds: float) -> Iterator[Lane[Job]]:
        """Yield the models that were not loaded within their time."""
        for lane in list(self._lanes.values()):
            if lane.stage is Stage.COLD and lane.asked_at is not None and now - lane.asked_at >= load_seconds:
                yield lane

    def _turn(self, lane: Lane[Job]) -> None:
        if lane.ready and lane.stage in (Stage.COLD, Stage.WARM):
            lane.is_turning = True
            self._turning.append(lane)
