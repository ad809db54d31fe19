"""Limits that adapt to a service: additive increase, multiplicative decrease.

A limit changes once per interval, by the answers of that interval, so that a burst of a hundred throttled answers
counts once. The cut depends on the share of throttled answers and reaches one half if all are: a service that throttles
one call in twenty at any rate hardly lowers the limit, an overloaded one halves it each interval. Where the service has
a hard limit, ours settles a little above it, and the excess is throttled and sent again.

Times are seconds of a clock that never goes back (``time.monotonic``), read by the caller. Limits are mutable and copy
nothing, since they are used thousands of times a second.
"""

from __future__ import annotations

import math

from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.exceptions import InvalidRequest

_STEPS = 40
"""Intervals without throttling in which a limit rises from zero to its maximum. Fewer overshoot a hard limit of the
service by more, and are throttled more often; more take longer to use what a scaled-out endpoint can bear."""

_DEEPEST_CUT = 0.5
"""Share of a limit that is taken away when all answers of an interval were throttled: TCP's multiplicative decrease. A
deeper cut leaves the service idle after a short burst; a lighter one goes on overloading it."""
_FULL_USE = 0.5
"""Share of a limit from which on it counts as used."""

_FLOOR = 1.0
"""The least limit: with fewer requests, the end of the throttling would be noticed late."""

_FIRST_PAUSE = 0.5
"""Seconds: half of the longest pause after a first attempt where all answers are throttled, as after other failures."""

_LEAST_SHARE = 0.1
"""Share of throttled answers below which pauses are not shortened further. At 5 % the last payloads of a batch wait for
0.3 s instead of 3 s, a tenth of a batch of 20 s. Smaller, a payload spends its attempts in one short burst."""

_FEW = 20
"""Answers of an interval from which on their share of throttled ones counts before the interval has ended. Fewer prove
nothing; with more, payloads spend attempts before the pauses have become longer."""

_SLACK = 0.1
"""Seconds that a late sender may catch up."""


class AdaptiveLimit:
    """A limit between 1 and its maximum, or the maximum alone where that is less than 1."""

    __slots__ = ("_accepted", "_ends", "_interval", "_maximum", "_share", "_throttled", "_value")

    def __init__(self, maximum: float, *, initial: float, interval: float, now: float) -> None:
        self._maximum = float(maximum)
        self._interval = interval
        self._accepted = self._throttled = 0
        self._share = 0.0
        self._ends = now + interval
        self._value = self._bounded(initial)

    def answered(self, now: float, *, slow_down: bool) -> None:
        """Count an answer, and adapt the limit at the end of an interval.

        :param slow_down: whether the answer is one of an overloaded service: throttled, 503, 507, a time-out. Do not
            call it for errors that have nothing to do with the load
        """
        if slow_down:
            self._throttled += 1
        else:
            self._accepted += 1
        if now >= self._ends:
            self._decide(now)

    def _decide(self, now: float) -> None:
        share = self._share = self._throttled / (self._accepted + self._throttled)
        # The service never saw an unused limit: raised further, it would need many cuts before one has an effect.
        is_used = self._use(now - self._ends + self._interval) >= _FULL_USE
        step = self._maximum / _STEPS * (1 - share) if is_used else 0.0
        self._value = self._bounded(self._value * (1 - _DEEPEST_CUT * share) + step)
        self._accepted = self._throttled = 0
        self._ends = now + self._interval

    def _use(self, seconds: float) -> float:
        """Return the share of the limit that was used in the last seconds, and start counting again."""
        raise NotImplementedError

    def _bounded(self, value: float) -> float:
        return max(min(_FLOOR, self._maximum), min(value, self._maximum))


class SendRate(AdaptiveLimit):
    """A rate limiter: at most ``max_rate * seconds + max_rate / 10 + 1`` requests in any span of time.

    :param max_rate: requests per second
    :param initial: requests per second at first; by default, and at most, ``max_rate``
    :raises InvalidRequest: one of them is no number above 0
    """

    __slots__ = ("_free_at", "_sent")

    def __init__(self, *, now: float, max_rate: float, initial: float | None = None) -> None:
        for name, value in (("max_rate", max_rate), ("initial", initial)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidRequest(f"{name} must be a number above 0, not {value!r}")
        super().__init__(max_rate, initial=max_rate if initial is None else initial, interval=1.0, now=now)
        self._free_at = now
        self._sent = 0

    @property
    def rate(self) -> float:
        """Requests per second now."""
        return self._value

    def next_send_at(self, now: float) -> float:
        """Return the earliest time for the next request: ``now`` or later."""
        return max(now, self._free_at - _SLACK)

    def sent(self, now: float) -> None:
        self._free_at = max(self._free_at, now) + 1 / self._value
        self._sent += 1

    def _use(self, seconds: float) -> float:
        sent, self._sent = self._sent, 0
        return sent / (self._value * seconds)


class InFlightLimit(AdaptiveLimit):
    """A limit on the invocations in flight; it begins at its maximum.

    :raises InvalidRequest: the maximum is below 1
    """

    __slots__ = ("_peak", "limit")

    def __init__(self, maximum: int, *, now: float) -> None:
        if maximum < 1:
            raise InvalidRequest(f"max_concurrent_transforms must be 1 or more, not {maximum}")
        super().__init__(maximum, initial=maximum, interval=0.5, now=now)
        self._peak = 0
        self.limit = maximum

    def sent(self, in_flight: int) -> None:
        """Record the invocations in flight: an unused limit does not grow."""
        self._peak = max(self._peak, in_flight)

    def pause(self, attempt: int, *, jitter: float) -> float:
        """Return the seconds until a throttled payload is sent again.

        The limit itself relieves the endpoint. So pauses are as long as after other failures only where all answers are
        throttled, and the shorter the smaller the share of throttled ones is.

        :param attempt: the attempt that was throttled, from 1
        :param jitter: a random number in [0, 1)
        """
        answers = self._accepted + self._throttled
        share = self._throttled / answers if answers >= _FEW else 0.0
        share = max(share, self._share, _LEAST_SHARE)
        return pause_after(attempt, jitter=jitter, first=_FIRST_PAUSE * share)

    def _decide(self, now: float) -> None:
        super()._decide(now)
        self.limit = round(self._value)

    def _use(self, seconds: float) -> float:
        del seconds
        peak, self._peak = self._peak, 0
        return peak / self.limit
