"""One asynchronous invocation: its request with SageMaker's limits, and what a look at its result means.

botocore checks only minimums (measured with 1.43.117), so every limit is checked here before the call.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.invoke.async_request import AsyncInvocation


@dataclass(frozen=True)
class Look:
    """One look at both objects of an invocation. ``failure`` is ABSENT where no failure path is configured."""

    output: Presence
    failure: Presence


class Outcome(enum.Enum):
    """What a look means."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WAITING = "waiting"
    TIMED_OUT = "timed out"


def outcome(look: Look, *, now: float, deadline: float) -> Outcome:
    """Say what one look means: a result beats the clock, an output beats a failure object.

    :param now: epoch seconds
    :param deadline: epoch seconds
    """
    if look.output is Presence.PRESENT:
        return Outcome.SUCCEEDED
    if look.failure is Presence.PRESENT:
        return Outcome.FAILED
    return Outcome.TIMED_OUT if now >= deadline else Outcome.WAITING


def deadline_of(invocation: AsyncInvocation, *, first_look: float, seconds: float) -> float:
    """Return the epoch second after which no result is expected: counted from submission where that is known."""
    start = first_look if invocation.submitted_at is None else invocation.submitted_at
    return start + seconds
