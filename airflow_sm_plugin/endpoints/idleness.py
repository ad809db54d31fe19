"""Decide whether an endpoint that our DAGs made is idle and can be deleted, from what AWS and Airflow say about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from airflow_sm_plugin.resources.made_in import MadeIn

_HOUR = 3600.0
_AT_REST = ("InService", "Failed", "OutOfService", "UpdateRollbackFailed")
"""Statuses that an endpoint keeps by itself. SageMaker deletes none in another one."""


class RunState(enum.Enum):
    """The state of a DAG run, as far as a deletion asks for it; the value is the reason to keep what it made."""

    ENDED = ""
    ACTIVE = "has not ended"
    UNKNOWN_DAG = (
        "belongs to a DAG without any run in this Airflow, perhaps in another one (delete_of_unknown_dags=True deletes "
        "it)"
    )
    UNKNOWN_AIRFLOW = (
        "may be another Airflow's: base_url is not set, or local, so that nothing tells two Airflows apart (set it, or "
        "delete_of_unknown_dags=True)"
    )
    ELSEWHERE = "belongs to another Airflow (another base_url)"


@dataclass(frozen=True, kw_only=True)
class MadeResource:
    """A resource with our tags.

    :param made_in: the task instances that rely on it: its creator, and the latest one that deployed it; None for one
        whose tag cannot be read
    :param changed_at: its latest creation or modification, epoch seconds
    """

    name: str
    made_in: Sequence[MadeIn | None]
    changed_at: float


@dataclass(frozen=True, kw_only=True)
class SeenEndpoint:
    """What is there under the name of an endpoint.

    :param status: None where there is no endpoint (any more)
    :param resources: the endpoint, if our tags are on it, and otherwise the configurations that were made for it
    :param objection: why the endpoint is not one that our operators made and still serve
    :param last_used: epoch seconds; None where it was not used in the time asked for
    :param usage_unknown: why CloudWatch does not tell that
    """

    name: str
    status: str | None
    resources: Sequence[MadeResource]
    objection: str = ""
    last_used: float | None = None
    usage_unknown: str = ""
    runs: Mapping[MadeIn, RunState] = field(default_factory=dict)

    @property
    def made_in(self) -> MadeIn | None:
        return next((made for resource in self.resources for made in resource.made_in if made), None)

    @property
    def idle_since(self) -> float | None:
        """Return since when nothing has happened, as far as that is known."""
        times = [resource.changed_at for resource in self.resources]
        return max([*times, *([] if self.last_used is None else [self.last_used])], default=None)


@dataclass(frozen=True)
class IdleDecision:
    """Whether to delete, and why."""

    delete: bool
    reason: str


def decide(seen: SeenEndpoint, *, now: float, idle_seconds: float) -> IdleDecision:
    """Decide about the endpoint, or the leftovers, of one name. Whatever is not known keeps it."""
    reason = _objection(seen, now=now, idle_seconds=idle_seconds)
    if reason:
        return IdleDecision(delete=False, reason=reason)
    hours = _hours(idle_seconds)
    if seen.status is None:
        return IdleDecision(delete=True, reason="configurations without an endpoint, and their run has ended")
    if seen.status == "Failed":
        return IdleDecision(delete=True, reason="it is Failed, and its run has ended")
    return IdleDecision(delete=True, reason=f"not invoked for {hours}, and its run has ended")


def _objection(seen: SeenEndpoint, *, now: float, idle_seconds: float) -> str:
    if not seen.resources:
        return seen.objection or "no tag of our operators"
    if seen.objection:
        return seen.objection
    if seen.status not in (None, *_AT_REST):
        return f"it is {seen.status}"
    youngest = max(resource.changed_at for resource in seen.resources)
    if now - youngest < idle_seconds:
        return f"created or changed {_hours(now - youngest)} ago, less than {_hours(idle_seconds)}"
    return _active_run(seen) or _use(seen, now=now, idle_seconds=idle_seconds)


def _active_run(seen: SeenEndpoint) -> str:
    for made in (made for resource in seen.resources for made in resource.made_in):
        if made is None:
            return (
                "its tags do not name the task that made it, so that nothing tells whether the run has ended"
            )
        state = seen.runs.get(made, RunState.ACTIVE)
        if state is not RunState.ENDED:
            return f"run {made.run_id} of DAG {made.dag_id} {state.value}"
    return ""


def _use(seen: SeenEndpoint, *, now: float, idle_seconds: float) -> str:
    if seen.status in (None, "Failed"):
        return ""
    if seen.usage_unknown:
        return f"not known when it was invoked: {seen.usage_unknown}"
    if seen.last_used is not None and now - seen.last_used < idle_seconds:
        return f"invoked, or with requests in its queue, within the last {_hours(idle_seconds)}"
    return ""


def _hours(seconds: float) -> str:
    hours = max(seconds, 0.0) / _HOUR
    return f"{hours:.0f} h" if hours >= 1 else f"{hours * 60:.0f} min"
