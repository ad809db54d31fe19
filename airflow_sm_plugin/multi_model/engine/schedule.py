"""Whose payload goes next: one probe for each cold model, then the oldest models, and only so many models at once.

A model that is not known to be loaded gets one payload as a probe; the others wait for its answer, so that a cold model
is asked once and not by a stampede, while warm ones work. A model that was evicted is probed again, or parked when more
models are in use than the endpoint holds. The order is in :mod:`airflow_sm_plugin.multi_model.engine.model_queue`.

Mutable and single-threaded, for it is asked thousands of times a second; it reads no clock and does no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.eviction_signs import ReloadSigns
from airflow_sm_plugin.multi_model.engine.model_queue import Job, Lane, LaneOrder, Stage

_FIRST = 4
_CUT = 0.75


@dataclass(frozen=True, slots=True)
class WarmLimit:
    """A limit on models that are loading or warm. Made by :meth:`starting`; each method returns a new one.

    :param limit: how many there may be now
    :param fixed: whether the user said so
    """

    limit: int
    fixed: bool
    _settled: bool = False
    _undisturbed: int = 0

    @classmethod
    def starting(cls, max_warm_models: int | None) -> WarmLimit:
        """Return the limit to begin with.

        :param max_warm_models: None lets the limit be found
        :raises InvalidRequest: it is below 1
        """
        if max_warm_models is not None and max_warm_models < 1:
            raise InvalidRequest(f"max_warm_models must be 1 or more, not {max_warm_models}")
        return cls(max_warm_models or _FIRST, max_warm_models is not None)

    def loaded(self) -> WarmLimit:
        """Return the limit after a model was loaded for the first time."""
        if self.fixed or self._settled:
            return self
        return replace(self, limit=self.limit + 1)

    def finished(self) -> WarmLimit:
        """Return the limit after a model has done all its work."""
        if self.fixed or not self._settled:
            return self
        if self._undisturbed + 1 < self.limit:
            return replace(self, _undisturbed=self._undisturbed + 1)
        return replace(self, limit=self.limit + 1, _undisturbed=0)

    def evicted(self, active: int) -> WarmLimit:
        """Return the limit after a warm model was found evicted, or the endpoint had no memory left for one.

        :param active: how many models were loading or warm
        """
        if self.fixed:
            return self
        return replace(self, limit=max(1, min(self.limit, int(active * _CUT))), _settled=True, _undisturbed=0)


_STALLED_PROBES = 20
"""Probes in vain that mean that models evict each other before they ever answer. SageMaker itself holds a probe for a
minute while the model loads, so that its deadline comes first there."""


class Turns(Generic[Job]):
    """All lanes that are open.

    :param max_warm_models: how many models may be loading or warm at once; None lets it be found
    """

    def __init__(self, *, max_warm_models: int | None = None) -> None:
        self._limit = WarmLimit.starting(max_warm_models)
        self._signs = ReloadSigns()
        self._lanes: dict[str, Lane[Job]] = {}
        self._parked: list[Lane[Job]] = []
        self._order: LaneOrder[Job] = LaneOrder()
        self._opened = 0
        self.in_flight = 0
        """Payloads on their way."""

    # Models

    @property
    def active(self) -> int:
        """How many models are loading or warm."""
        return len(self._lanes) - len(self._parked)

    @property
    def has_room(self) -> bool:
        """Whether another model may be opened: parked ones go first."""
        return not self._parked and self.active < self._limit.limit

    def busy(self) -> set[str]:
        """Return the models that have payloads ready or on their way."""
        return {lane.model for lane in self._lanes.values() if lane.ready or lane.in_flight}

    def lanes(self) -> tuple[Lane[Job], ...]:
        """Return the models that are open."""
        return tuple(self._lanes.values())

    def count(self, stage: Stage) -> int:
        """Return how many open models are at a stage."""
        return sum(lane.stage is stage for lane in self._lanes.values())

    def open(self, model: str) -> Lane[Job]:
        """Begin with a model."""
        lane = self._lanes[model] = Lane[Job](model, self._opened)
        self._opened += 1
        return lane

    def close(self, lane: Lane[Job]) -> None:
        """End a model that has no work left; a parked one takes its place."""
        if self._lanes.pop(lane.model, None) is None:
            return
        if lane.stage is Stage.PARKED:
            self._parked.remove(lane)
        elif lane.has_loaded:
            self._limit = self._limit.finished()
        if lane.probing:
            self._probed(lane)
        lane.stage = Stage.CLOSED
        self._order.place(lane)
        self._unpark()

    def _unpark(self) -> None:
        while self._parked and self.active < self._limit.limit:
            lane = min(self._parked, key=lambda lane: lane.number)
            self._parked.remove(lane)
            lane.stage, lane.asked_at, lane.probe_at = Stage.COLD, None, 0.0
            self._order.place(lane)

    # Payloads

    def add(self, lane: Lane[Job], job: Job) -> None:
        """Add a payload behind the model's others."""
        lane.ready.append(job)
        if lane.rank is None:
            self._order.place(lane)

    def put_back(self, lane: Lane[Job], job: Job) -> None:
        """Add a payload before the model's others: it was on its way already."""
        lane.ready.appendleft(job)
        if lane.rank is None:
            self._order.place(lane)

    def take(self, now: float, *, bound: int) -> tuple[Lane[Job], Job] | None:
        """Return the next payload to send, counted as on its way; None while none may go.

        :param bound: how many may be on their way at once
        """
        if self.in_flight >= bound:
            return None
        self._order.bound, self._order.active = bound, max(1, self.active)
        lane = self._order.first(now)
        if lane is None:
            return None
        if lane.stage is Stage.COLD:
            lane.probing = True
            self._order.probes += 1
            if lane.asked_at is None:
                lane.asked_at = now
        lane.in_flight += 1
        self.in_flight += 1
        job = lane.ready.popleft()
        self._order.place(lane)
        return lane, job

    # Answers

    def answered(self, lane: Lane[Job], *, now: float = 0.0, seconds: float | None = None) -> float | None:
        """Take note of an answer that only a loaded model gives.

        :param seconds: how long it took; None when it failed
        :return: when a cold model was asked first, at its first answer; else None
        """
        self._landed(lane)
        asked_at = None
        if lane.stage is Stage.COLD:
            asked_at, lane.asked_at, lane.probes = lane.asked_at, None, 0
            lane.stage, lane.probe_at = Stage.WARM, 0.0
            if asked_at is not None:
                self._signs.loaded(now - asked_at)
            if not lane.has_loaded:
                lane.has_loaded = True
                self._limit = self._limit.loaded()
        elif seconds is not None:
            self._signs.answered(lane.number, lane.pace, seconds=seconds, now=now)
            if self._signs.are_many(self.active) and lane.stage is Stage.WARM:
                self._cut(now)
        self._order.place(lane)
        return asked_at

    def _cut(self, now: float) -> None:
        """Keep fewer models warm: those begun last wait."""
        self._signs.cut(now)
        self._limit = self._limit.evicted(self.active)
        warm = sorted(
            (lane for lane in self._lanes.values() if lane.stage is Stage.WARM), key=lambda lane: -lane.number
        )
        for lane in warm[: max(0, self.active - self._limit.limit)]:
            self._park(lane)

    def _park(self, lane: Lane[Job]) -> None:
        lane.stage = Stage.PARKED
        self._parked.append(lane)
        self._order.place(lane)

    def _landed(self, lane: Lane[Job]) -> None:
        lane.in_flight -= 1
        self.in_flight -= 1
        if lane.probing:
            self._probed(lane)

    def _probed(self, lane: Lane[Job]) -> None:
        lane.probing = False
        self._order.probes -= 1

    def unsettled(self, lane: Lane[Job]) -> None:
        """Take note of an answer that tells nothing about the model: throttling, an outage, a lost connection."""
        self._landed(lane)
        self._order.place(lane)

    def not_ready(self, lane: Lane[Job], *, probe_at: float) -> bool:
        """Take note that the model is not loaded; return whether it was evicted: it had answered before.

        :param probe_at: when it may be probed again
        """
        self._landed(lane)
        if lane.stage in (Stage.PARKED, Stage.CLOSED):
            return False
        was_warm = lane.stage is Stage.WARM
        lane.probes += 1
        if was_warm or lane.probes >= _STALLED_PROBES:
            lane.probes = 0
            self._press(lane)
        self._order.rest(lane, probe_at)
        return was_warm

    def pressed(self, lane: Lane[Job], *, probe_at: float) -> bool:
        """Take note that the endpoint has no memory for the model; return whether it had answered before.

        :param probe_at: when it may be probed again
        """
        self._landed(lane)
        if lane.stage in (Stage.PARKED, Stage.CLOSED):
            return False
        was_warm = lane.stage is Stage.WARM
        self._press(lane)
        self._order.rest(lane, probe_at)
        return was_warm

    def _press(self, lane: Lane[Job]) -> None:
        self._limit = self._limit.evicted(self.active)
        if self.active > self._limit.limit:
            self._park(lane)
        else:
            lane.stage = Stage.COLD
