"""Wait for many asynchronous invocations: which are still pending, which failed, what to tell at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_sm_plugin.core.async_inference import AsyncInvocation, Look, Outcome, Sight, deadline_of, outcome
from airflow_sm_plugin.exceptions import InvalidRequest

TOLERATED_BLIND_LOOKS = 20
"""Looks in a row at which S3 answered nothing useful for anything before a wait gives up."""


@dataclass(frozen=True)
class AsyncWait:
    """What is known after some looks. Numbers are positions in the sequence of invocations.

    ``forbidden``: S3 answered 403 for the output or the failure object at the last look; of what is pending or timed
    out.
    ``blind_looks``: how many looks in a row told nothing about any output.
    """

    pending: tuple[int, ...]
    failed: tuple[int, ...] = ()
    timed_out: tuple[int, ...] = ()
    forbidden: tuple[int, ...] = ()
    blind_looks: int = 0

    @classmethod
    def begin(cls, count: int) -> AsyncWait:
        """Return the state before the first look."""
        return cls(pending=tuple(range(count)))

    @property
    def over(self) -> bool:
        """Whether nothing is pending any more, or nothing can be seen any more."""
        return not self.pending or self.unreachable

    @property
    def unreachable(self) -> bool:
        """Whether S3 gave no useful answer for too long."""
        return self.blind_looks > TOLERATED_BLIND_LOOKS

    def after(self, looks: Mapping[int, Look], *, now: float, deadlines: Sequence[float]) -> AsyncWait:
        """Return the state after one look at what was pending.

        :param looks: a look for each pending position; others are ignored
        :param now: epoch seconds
        :param deadlines: epoch seconds, one for each invocation
        """
        looks = {number: looks[number] for number in self.pending if number in looks}
        outcomes = {
            number: outcome(look, now=now, deadline=deadlines[number]) for number, look in looks.items()
        }
        failed = tuple(n for n, o in outcomes.items() if o is Outcome.FAILED)
        blind = bool(looks) and all(_blind(look) for look in looks.values())
        forbidden = [n for n in self.forbidden if n not in looks] + [
            n for n, look in looks.items() if _forbidden(look) and outcomes[n] in _UNDECIDED
        ]
        return replace(
            self,
            pending=tuple(n for n in self.pending if outcomes.get(n, Outcome.WAITING) is Outcome.WAITING),
            failed=self.failed + failed,
            timed_out=self.timed_out + tuple(n for n, o in outcomes.items() if o is Outcome.TIMED_OUT),
            forbidden=tuple(forbidden),
            blind_looks=self.blind_looks + 1 if blind else 0,
        )

    def event(self) -> dict[str, Any]:
        """Return the end of the wait as a small JSON value; :meth:`from_event` reads it back."""
        return {
            "pending": list(self.pending),
            "failed": list(self.failed),
            "timed_out": list(self.timed_out),
            "forbidden": list(self.forbidden),
            "blind_looks": self.blind_looks,
        }

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> AsyncWait:
        """Read what :meth:`event` wrote."""
        return cls(
            pending=tuple(event["pending"]),
            failed=tuple(event["failed"]),
            timed_out=tuple(event["timed_out"]),
            forbidden=tuple(event["forbidden"]),
            blind_looks=int(event["blind_looks"]),
        )


_UNDECIDED = (Outcome.WAITING, Outcome.TIMED_OUT)


def _forbidden(look: Look) -> bool:
    return Sight.FORBIDDEN in (look.output, look.failure)


def _blind(look: Look) -> bool:
    return look.output is Sight.UNKNOWN and look.failure is not Sight.PRESENT


def deadlines_of(
    invocations: Sequence[AsyncInvocation], *, first_look: float, seconds: float
) -> tuple[float, ...]:
    """Return each invocation's deadline, in epoch seconds."""
    return tuple(
        deadline_of(invocation, first_look=first_look, seconds=seconds) for invocation in invocations
    )


def read_invocations(value: object) -> tuple[AsyncInvocation, ...]:
    """Read one invocation or many, as an invoke task (mapped or not) leaves them on XCom.

    :raises InvalidRequest: something else, or nothing at all
    """
    found: list[object] = [value] if isinstance(value, Mapping) else list(_iterable(value))
    if not found:
        raise InvalidRequest("there is no invocation to wait for: the list is empty")
    for item in found:
        if not isinstance(item, Mapping):
            raise InvalidRequest(
                f"an invocation is a mapping with output_location, not {type(item).__name__}"
            )
    return tuple(AsyncInvocation.from_mapping(item) for item in found if isinstance(item, Mapping))


def _iterable(value: object) -> Sequence[object]:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        raise InvalidRequest(
            f"invocations must be what an invoke task returned, or a list of it, not {value!r:.80}"
        )
    return list(value)
