"""The ends that a user has set for the next creations, updates or scalings of an endpoint.

Without an outcome, the containers decide: if they do not start, a creation fails and an update is rolled back.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

CAPACITY_REASON = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using "
    "a different ML instance type or after some time."
)
ENDS = ("InService", "RolledBack", "UpdateRollbackFailed", "Failed", "OutOfService")
CREATE, UPDATE, SCALE = "create", "update", "scale"
_WHEN = ("any", CREATE, UPDATE, SCALE)


@dataclass(frozen=True)
class DeploymentOutcome:
    """The course and the end of a deployment.

    :param end: one of :data:`ENDS`. ``RolledBack`` ends InService with the old configuration, for updates and scalings
    :param on: ``create``, ``update``, ``scale`` or ``any`` (create or update): the matching deployments
    :param reason: FailureReason; None for none, as the service sometimes does after a rollback
    :param seconds: how long Creating or Updating lasts; None takes the setting
    :param rolling_back_seconds: how long RollingBack lasts; None takes the setting
    :param times: for how many deployments; None for all
    """

    end: str = "InService"
    on: str = "any"
    reason: str | None = CAPACITY_REASON
    seconds: float | None = None
    rolling_back_seconds: float | None = None
    times: int | None = 1

    @property
    def fails(self) -> bool:
        return self.end in ("RolledBack", "UpdateRollbackFailed", "Failed")

    def is_for(self, deployment: str) -> bool:
        if self.end in ("RolledBack", "UpdateRollbackFailed") and deployment == CREATE:
            return False
        return self.on == deployment or (self.on == "any" and deployment != SCALE)


NO_OUTCOME = DeploymentOutcome()


class BadOutcome(ValueError):
    """An outcome or a status is wrong; the message names the reason."""


def outcome_from(value: object) -> DeploymentOutcome:
    """Read an outcome from JSON. Raises BadOutcome."""
    if not isinstance(value, Mapping):
        raise BadOutcome(f"an outcome is an object, not {value!r}")
    unknown = sorted(set(value) - set(_CHECKS))
    if unknown:
        raise BadOutcome(f"unknown {', '.join(unknown)}; known are {', '.join(sorted(_CHECKS))}")
    for name, item in value.items():
        check, expected = _CHECKS[name]
        if not check(item):
            raise BadOutcome(f"{name} must be {expected}, not {item!r}")
    outcome = DeploymentOutcome(**value)
    if outcome.on == CREATE and not outcome.is_for(CREATE):
        raise BadOutcome(f"a creation cannot end {outcome.end}: there is nothing to go back to")
    if outcome.on == SCALE and outcome.end == "UpdateRollbackFailed":
        raise BadOutcome("a scaling cannot end UpdateRollbackFailed")
    return outcome


def is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _is_times(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)


_SECONDS = (lambda value: value is None or is_seconds(value), "a number of seconds >= 0, or null")
_CHECKS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "end": (lambda value: value in ENDS, f"one of {', '.join(ENDS)}"),
    "on": (lambda value: value in _WHEN, f"one of {', '.join(_WHEN)}"),
    "reason": (lambda value: value is None or isinstance(value, str), "a text, or null"),
    "seconds": _SECONDS,
    "rolling_back_seconds": _SECONDS,
    "times": (_is_times, "a whole number from 1, or null for ever"),
}


class Outcomes:
    """Outcomes by glob on the endpoint's name, used in the order in which they were set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: list[tuple[str, DeploymentOutcome]] = []

    def replace(self, endpoints: str, outcomes: Iterable[DeploymentOutcome]) -> None:
        """Set the outcomes of these endpoints' next deployments, instead of those set for the same glob."""
        with self._lock:
            self._set = [(glob, outcome) for glob, outcome in self._set if glob != endpoints]
            self._set += [(endpoints, outcome) for outcome in outcomes]

    def clear(self) -> None:
        with self._lock:
            self._set = []

    def take(self, endpoint: str, deployment: str) -> DeploymentOutcome:
        """Use the first outcome for a ``create``, ``update`` or ``scale``; :data:`NO_OUTCOME` when none is set."""
        with self._lock:
            for position, (glob, outcome) in enumerate(self._set):
                if not fnmatchcase(endpoint, glob) or not outcome.is_for(deployment):
                    continue
                if outcome.times == 1:
                    del self._set[position]
                elif outcome.times is not None:
                    self._set[position] = (glob, dataclasses.replace(outcome, times=outcome.times - 1))
                return outcome
        return NO_OUTCOME

    def as_json(self) -> list[dict[str, object]]:
        with self._lock:
            return [{"endpoints": glob, **dataclasses.asdict(outcome)} for glob, outcome in self._set]
