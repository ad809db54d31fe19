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

_STEPS = 40
"""Intervals without throttling in which the rate goes from nothing to its maximum."""

_DEEPEST_CUT = 0.5
_FULL_USE = 0.5
_SLACK = 0.1


class Reply(enum.Enum):
    """What an answer says about the rate. Errors that have nothing to do with it are not reported at all."""

    ACCEPTED = "accepted"
    THROTTLED = "throttled"


@dataclass(frozen=True, kw_only=True, slots=True)
class PaceLimits:
    """Between what a rate moves, and how fast; rates are requests per second.

    :param max_rate: the rate is never above this
    :param floor: it is never below this, or it could not find out that throttling has ended
    :param step: what an interval without throttling adds, unless the sender left more than half of the rate unused
    :param interval: seconds
    """

    max_rate: float
    floor: float
    step: float
    interval: float


@dataclass(frozen=True, slots=True)
class Pace:
    """A submission rate, and when the next request may go. Made by :meth:`starting`; each method returns a new one.

    At most ``max_rate * seconds + max_rate / 10 + 1`` requests go in any stretch of time: a sender that comes late may
    catch up on a tenth of a second.

    :param rate: requests per second now
    """

    limits: PaceLimits
    rate: float
    _free_at: float
    _interval_ends: float
    _sent: int = 0
    _accepted: int = 0
    _throttled: int = 0

    @classmethod
    def starting(
        cls,
        *,
        now: float,
        max_rate: float,
        initial: float | None = None,
        floor: float | None = None,
        step: float | None = None,
        interval: float = 1.0,
    ) -> Pace:
        """Return the pace to begin with.

        :param initial: by default, and at most, ``max_rate``
        :param floor: by default one request per second, or ``max_rate`` where that is less
        :param step: by default a fortieth of ``max_rate``
        :raises InvalidRequest: one of them is no number above 0
        """
        for name, value in (
            ("max_rate", max_rate),
            ("initial", initial),
            ("floor", floor),
            ("step", step),
            ("interval", interval),
        ):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidRequest(f"{name} must be a number above 0, not {value!r}")
        least = min(1.0 if floor is None else floor, max_rate)
        limits = PaceLimits(
            max_rate=max_rate,
            floor=least,
            step=max_rate / _STEPS if step is None else step,
            interval=interval,
        )
        rate = max_rate if initial is None else initial
        return cls(limits, max(least, min(rate, max_rate)), now, now + interval)

    def next_send_at(self, now: float) -> float:
        """Return when the next request may go: ``now``, or a time to come."""
        return max(now, self._free_at - _SLACK)

    # The constructor is called by position: dataclasses.replace would take three times as long, twice per request.

    def sent(self, now: float) -> Pace:
        """Count a request that goes now; :meth:`next_send_at` then says when the next may."""
        return Pace(
            self.limits,
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
            return Pace(self.limits, rate, self._free_at, now + self.limits.interval)
        return Pace(
            self.limits, self.rate, self._free_at, self._interval_ends, self._sent, accepted, throttled
        )

    def _rate_after(self, share: float, now: float) -> float:
        """Return the rate that the share of throttled answers in an interval asks for."""
        seconds = now - self._interval_ends + self.limits.interval
        # A rate that nobody uses is not known to be borne: it would only make the next cut useless.
        used = self._sent >= _FULL_USE * self.rate * seconds
        rate = self.rate * (1 - _DEEPEST_CUT * share) + (self.limits.step * (1 - share) if used else 0)
        return max(self.limits.floor, min(rate, self.limits.max_rate))
