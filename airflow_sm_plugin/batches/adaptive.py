"""How fast to send: a rate that goes up while it is borne and down when the service throttles.

Additive up, multiplicative down, decided once per interval from the answers of that interval, not once per answer: a
burst of a hundred throttled answers is one piece of news. How far down depends on the share of throttled answers, to
half when all are: a service that throttles one call in twenty at any rate costs next to nothing, one that is
overloaded halves the rate each second. Where the service has a hard limit the rate settles a little above it, and the
excess is throttled and sent again.

Times are seconds of a clock that never goes back (``time.monotonic``); the caller reads it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from airflow_sm_plugin.exceptions import InvalidRequest

_INTERVAL = 1.0
"""Seconds."""

_STEPS = 40
"""Intervals without throttling in which the rate goes from nothing to its maximum."""

_FLOOR = 1.0
"""Requests per second: below that it would take long to find out that throttling has ended."""

_DEEPEST_CUT = 0.5
_FULL_USE = 0.5
_SLACK = 0.1


class Reply(enum.Enum):
    """What an answer says about the rate. Errors that have nothing to do with it are not reported at all."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"


@dataclass(frozen=True, slots=True)
class Pace:
    """A submission rate, and when the next request may go. Made by :meth:`starting`; each method returns a new one.

    At most ``max_rate * seconds + max_rate / 10 + 1`` requests go in any stretch of time: a sender that comes late may
    catch up on a tenth of a second.

    :param max_rate: requests per second, which the rate is never above
    :param rate: requests per second now
    """

    max_rate: float
    rate: float
    _free_at: float
    _interval_ends: float
    _sent: int = 0
    _accepted: int = 0
    _throttled: int = 0

    @classmethod
    def starting(cls, *, now: float, max_rate: float, initial: float | None = None) -> Pace:
        """Return the pace to begin with.

        The rate is never below one request per second, or ``max_rate`` where that is less.

        :param initial: by default, and at most, ``max_rate``
        :raises InvalidRequest: one of them is no number above 0
        """
        for name, value in (("max_rate", max_rate), ("initial", initial)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidRequest(f"{name} must be a number above 0, not {value!r}")
        rate = max_rate if initial is None else initial
        return cls(max_rate, _between(rate, max_rate), now, now + _INTERVAL)

    def next_send_at(self, now: float) -> float:
        """Return when the next request may go: ``now``, or a time to come."""
        return max(now, self._free_at - _SLACK)

    # The constructor is called by position: dataclasses.replace would take three times as long, twice per request.

    def sent(self, now: float) -> Pace:
        """Count a request that goes now; :meth:`next_send_at` then says when the next may."""
        return Pace(
            self.max_rate,
            self.rate,
            max(self._free_at, now) + 1 / self.rate,
            self._interval_ends,
            self._sent + 1,
            self._accepted,
            self._throttled,
        )

    def after(self, reply: Reply, now: float) -> Pace:
        """Count an answer, and adapt the rate where an interval is over."""
        is_throttled = reply is Reply.THROTTLED
        accepted, throttled = self._accepted + (not is_throttled), self._throttled + is_throttled
        if now >= self._interval_ends:
            rate = self._rate_after(throttled / (accepted + throttled), now)
            return Pace(self.max_rate, rate, self._free_at, now + _INTERVAL)
        return Pace(
            self.max_rate, self.rate, self._free_at, self._interval_ends, self._sent, accepted, throttled
        )

    def _rate_after(self, share: float, now: float) -> float:
        """Return the rate that the share of throttled answers in an interval asks for."""
        seconds = now - self._interval_ends + _INTERVAL
        # A rate that nobody uses is not known to be borne: it would only make the next cut useless.
        used = self._sent >= _FULL_USE * self.rate * seconds
        step = self.max_rate / _STEPS * (1 - share) if used else 0
        return _between(self.rate * (1 - _DEEPEST_CUT * share) + step, self.max_rate)


def _between(rate: float, max_rate: float) -> float:
    return max(min(_FLOOR, max_rate), min(rate, max_rate))
