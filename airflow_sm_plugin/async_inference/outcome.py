"""What S3 shows of one asynchronous invocation, and what that means."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from airflow_sm_plugin.core.s3 import Presence


@dataclass(frozen=True)
class ResultPresence:
    """Whether an invocation's objects exist. ``failure`` is ABSENT where no failure path is configured."""

    output: Presence
    failure: Presence


class ResultOutcome(enum.Enum):
    """What became of an invocation."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WAITING = "waiting"
    TIMED_OUT = "timed out"


def outcome(presence: ResultPresence, *, now: float, deadline: float) -> ResultOutcome:
    """Judge one poll: a result beats the clock, an output beats a failure object.

    :param now: epoch seconds
    :param deadline: epoch seconds
    """
    if presence.output is Presence.PRESENT:
        return ResultOutcome.SUCCEEDED
    if presence.failure is Presence.PRESENT:
        return ResultOutcome.FAILED
    return ResultOutcome.TIMED_OUT if now >= deadline else ResultOutcome.WAITING
