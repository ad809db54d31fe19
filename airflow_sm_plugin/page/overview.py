"""What the page shows: endpoints, batches, and which of them a user is permitted to see. All is pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from airflow_sm_plugin.resources.endpoint_status import SERVING_STATUSES
from airflow_sm_plugin.resources.made_in import MadeIn

IDLE_SECONDS = 24 * 3600.0
"""An endpoint that was not invoked for so long is marked."""
LOOKBACK_SECONDS = 14 * 24 * 3600.0
"""CloudWatch is asked for so long back."""


@dataclass(frozen=True, kw_only=True)
class ShownEndpoint:
    """An endpoint that our operators made.

    :param instances: one text for each variant, with instance type and number
    :param created_at: epoch seconds, as are the other times
    :param last_used: the end of the hour in which it was invoked last; None where it was not in that time
    :param usage_known: whether CloudWatch answered that
    :param made_in: the task instance that deployed it last; None where its tags do not name it
    """

    name: str
    status: str
    instances: Sequence[str]
    created_at: float
    changed_at: float
    last_used: float | None = None
    usage_known: bool = False
    made_in: MadeIn | None = None
    failure: str = ""

    def idle_since(self, now: float) -> float | None:
        """Return since when it was not invoked, where that is longer than a day; None otherwise, or if not known."""
        if not self.usage_known or self.status not in SERVING_STATUSES:
            return None
        since = max(self.changed_at, self.last_used or 0.0)
        return since if now - since >= IDLE_SECONDS else None


@dataclass(frozen=True, kw_only=True)
class RegionOverview:
    """The endpoints of one connection and region.

    :param problems: sentences on what could not be read, and the permission that is missing
    :param not_described: endpoints beyond the limit of what is described
    """

    connection: str
    region: str
    endpoints: Sequence[ShownEndpoint] = ()
    problems: Sequence[str] = ()
    not_described: int = 0


@dataclass(frozen=True, kw_only=True)
class ShownBatch:
    """A batch with its report.

    :param ended_at: epoch seconds
    :param link: the report's address, as the task's link has it
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    ended_at: float
    link: str
    summary: Mapping[str, Any]

    @property
    def endpoint(self) -> str:
        return str(self.summary.get("endpoint_name") or "")

    @property
    def group(self) -> tuple[str, str, str]:
        """Identify the run of a task group, or of the DAG, which has one batch."""
        return self.dag_id, self.run_id, self.task_id.rpartition(".")[0]

    @property
    def records(self) -> int | None:
        """Return the number of records, or of inputs for an asynchronous batch; None if unknown."""
        return _number(self.summary, "records", "inputs")

    @property
    def failed(self) -> int | None:
        return _number(self.summary, "failed")


def _number(summary: Mapping[str, Any], *names: str) -> int | None:
    found = (summary.get(name) for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def permitted(region: RegionOverview, dag_ids: Collection[str], *, site: str) -> tuple[RegionOverview, int]:
    """Leave out the endpoints of DAGs that a user is not permitted to read; return the rest and how many were left out.

    An endpoint of another Airflow, or of a task that its tags do not name, stays, without that task.
    """
    shown = []
    for endpoint in region.endpoints:
        made_in = endpoint.made_in
        if made_in is None or made_in.site != site:
            shown.append(replace(endpoint, made_in=None))
        elif made_in.dag_id in dag_ids:
            shown.append(endpoint)
    return replace(region, endpoints=shown), len(region.endpoints) - len(shown)


def dags_in(regions: Iterable[RegionOverview]) -> set[str]:
    """Collect the DAGs that made the endpoints."""
    return {
        each.made_in.dag_id for region in regions for each in region.endpoints if each.made_in is not None
    }


def latest_batches(batches: Iterable[ShownBatch], *, most: int) -> list[ShownBatch]:
    """Choose the latest batches: of a task group, the task that merged the report rather than those of its shards."""
    found = list(batches)
    merged = {batch.group for batch in found if batch.map_index < 0}
    chosen = [batch for batch in found if batch.map_index < 0 or batch.group not in merged]
    return sorted(chosen, key=lambda each: -each.ended_at)[:most]


def is_web_address(link: object) -> bool:
    return isinstance(link, str) and link.startswith(("https://", "http://"))
