"""Lay out the page: texts and links for the template, which escapes everything."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined, Template

from airflow_sm_plugin.core.text import clock, count, day, duration, legible, plural, shortened
from airflow_sm_plugin.page.overview import LOOKBACK_SECONDS, RegionOverview, ShownBatch, ShownEndpoint
from airflow_sm_plugin.resources.made_in import MadeIn

_LONGEST_FAILURE = 300
_LEVELS = {"InService": "good", "Failed": "bad", "OutOfService": "bad", "UpdateRollbackFailed": "bad"}


@functools.cache
def _template() -> Template:
    source = resources.files(__package__) / "endpoints.html.jinja"
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["legible"] = legible
    return environment.from_string(source.read_text())


@functools.cache
def asset(name: str) -> str:
    """Read a file that the page loads."""
    return (resources.files(__package__) / name).read_text()


def page_of(
    regions: Sequence[RegionOverview] | None,
    batches: Sequence[ShownBatch],
    *,
    now: float,
    root: str,
    age: float | None,
    refreshing: bool,
    hidden: int,
) -> str:
    """Lay out the page.

    :param regions: None while AWS has not answered for the first time
    :param root: path of Airflow's web interface, without a slash at its end
    :param age: seconds since AWS was asked
    :param hidden: endpoints of DAGs that the user is not permitted to read
    """
    several = len({region.connection for region in regions or ()}) > 1
    endpoints = sum(len(region.endpoints) for region in regions or ())
    idle = sum(each.idle_since(now) is not None for region in regions or () for each in region.endpoints)
    return _template().render(
        regions=None
        if regions is None
        else [_region(region, now, root, with_name=several) for region in regions],
        batches=[_batch(batch, root) for batch in batches],
        headline=plural(endpoints, "endpoint"),
        idle=f"{plural(idle, 'endpoint')} not invoked for a day or longer" if idle else "",
        age="" if age is None else duration(max(1.0, age)),
        refreshing=refreshing,
        hidden=plural(hidden, "endpoint") if hidden else "",
    )


def _region(region: RegionOverview, now: float, root: str, *, with_name: bool) -> Mapping[str, Any]:
    rows = sorted(region.endpoints, key=lambda each: (each.idle_since(now) is None, each.name))
    return {
        "title": f"{region.region} · {region.connection}" if with_name else region.region,
        "problems": region.problems,
        "endpoints": [_endpoint(each, now, root) for each in rows],
        "not_described": plural(region.not_described, "endpoint") if region.not_described else "",
    }


def _endpoint(endpoint: ShownEndpoint, now: float, root: str) -> Mapping[str, Any]:
    idle_since = endpoint.idle_since(now)
    return {
        "name": endpoint.name,
        "status": endpoint.status,
        "level": _LEVELS.get(endpoint.status, "idle"),
        "failure": shortened(endpoint.failure, _LONGEST_FAILURE),
        "instances": endpoint.instances,
        "since": f"{day(endpoint.created_at)}, {clock(endpoint.created_at, seconds=False)}",
        "for": duration(max(0.0, now - endpoint.created_at)),
        "used": _used(endpoint, now),
        "idle": "" if idle_since is None else f"not invoked for {duration(now - idle_since)}",
        "maker": None if endpoint.made_in is None else _maker(endpoint.made_in, root),
    }


def _used(endpoint: ShownEndpoint, now: float) -> str:
    if not endpoint.usage_known:
        return "not known"
    if endpoint.last_used is None:
        is_young = now - endpoint.created_at < LOOKBACK_SECONDS
        return "not yet" if is_young else f"not in the last {round(LOOKBACK_SECONDS / 86_400)} days"
    hours = max(0.0, now - endpoint.last_used) / 3600
    return "within the last hour" if hours < 1 else f"{duration(hours * 3600)} ago"


def _maker(made_in: MadeIn, root: str) -> Mapping[str, str]:
    return {
        "dag": made_in.dag_id,
        "dag_link": f"{root}/dags/{_quoted(made_in.dag_id)}",
        "run": made_in.run_id,
        "run_link": run_link(root, made_in.dag_id, made_in.run_id),
    }


def run_link(root: str, dag_id: str, run_id: str) -> str:
    return f"{root}/dags/{_quoted(dag_id)}/runs/{_quoted(run_id)}"


def _batch(batch: ShownBatch, root: str) -> Mapping[str, Any]:
    run = run_link(root, batch.dag_id, batch.run_id)
    index = f"/mapped/{batch.map_index}" if batch.map_index >= 0 else ""
    moment = datetime.fromtimestamp(batch.ended_at, UTC).timestamp()
    return {
        "when": f"{day(moment)}, {clock(moment, seconds=False)}",
        "dag": batch.dag_id,
        "run": batch.run_id,
        "run_link": run,
        "task": batch.task_id,
        "task_link": f"{run}/tasks/{_quoted(batch.task_id)}{index}",
        "endpoint": batch.endpoint,
        "records": "" if batch.records is None else count(batch.records),
        "failed": "" if batch.failed is None else count(batch.failed),
        "has_failed": bool(batch.failed),
        "report": batch.link,
    }


def _quoted(text: str) -> str:
    return quote(text, safe="")
