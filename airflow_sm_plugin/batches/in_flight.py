"""How many invocations may be on their way: more while that is borne, fewer while the endpoint asks to slow down.

The law is that of :mod:`airflow_sm_plugin.batches.adaptive`, for a bound instead of a rate: decided once per interval
from the share of answers that asked to slow down, so that a burst of them is one piece of news. One throttled call in
twenty at any bound costs next to nothing, an endpoint that is overloaded halves the bound each interval.

Times are seconds of a clock that never goes back; the caller reads it. Nothing here is copied per answer: it is asked
thousands of times a second.
"""

from __future__ import annotations

from airflow_sm_plugin.exceptions import InvalidRequest

_INTERVAL = 0.5
"""Seconds between two decisions."""

_DEEPEST_CUT = 0.5
_STEPS = 40
"""Intervals without slowing answers in which the bound goes from nothing to its maximum."""

_FULL_USE = 0.5


class InFlightBound:
    """A bound that adapts between 1 and ``most``; it begins at ``most``.

    :param most: invocations on their way at the same time at most
    :raises InvalidRequest: ``most`` is below 1
    """

    __slots__ = ("_accepted", "_ends", "_exact", "_most", "_peak", "_slowed", "bound")

    def __init__(self, most: int, *, now: float) -> None:
        if most < 1:
            raise InvalidRequest(f"max_concurrent_transforms must be 1 or more, not {most}")
        self._most = most
        self._exact = float(most)
        self._ends = now + _INTERVAL
        self._accepted = self._slowed = self._peak = 0
        self.bound = most
        """How many may be on their way now."""

    def sent(self, in_flight: int) -> None:
        """Take note of how many are on their way: a bound that nobody uses does not grow."""
        self._peak = max(self._peak, in_flight)

    def answered(self, now: float, *, slow_down: bool) -> None:
        """Count an answer.

        :param slow_down: throttled, 503, 507, a time-out: what an overloaded endpoint answers
        """
        if slow_down:
            self._slowed += 1
        else:
            self._accepted += 1
        if now >= self._ends:
            self._decide(now)

    def _decide(self, now: float) -> None:
        share = self._slowed / (self._accepted + self._slowed)
        grown = self._most / _STEPS * (1 - share) if self._peak >= _FULL_USE * self.bound else 0.0
        self._exact = max(1.0, min(self._exact * (1 - _DEEPEST_CUT * share) + grown, float(self._most)))
        self.bound = round(self._exact)
        self._accepted = self._slowed = self._peak = 0
        self._ends = now + _INTERVAL
