"""The models that the instances of multi-model endpoints hold."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.endpoints.endpoints import KIND, LiveEndpoint


def hosted_models(region: Region, endpoint: str | None) -> list[Record] | None:
    """List the models on each instance of an endpoint, or of all; None when ``endpoint`` does not exist."""
    with region.table(KIND) as endpoints:
        if endpoint is not None and endpoint not in endpoints:
            return None
        records = [record for name, record in endpoints.items() if endpoint in (None, name)]
        serving = [live for record in records for live in _serving(record)]
    return [row for live in serving for row in _instances(live)]


def _serving(record: Record) -> Iterator[LiveEndpoint]:
    pending = record.get("_pending") or {}
    endpoints = [record.get("_live"), pending.get("live")]
    yield from {id(live): live for live in endpoints if isinstance(live, LiveEndpoint)}.values()


def _instances(live: LiveEndpoint) -> Iterator[Record]:
    for variant in live.variants.values():
        for pipeline in variant.pipelines:
            for host in pipeline.hosts:
                yield {
                    "endpoint": live.name,
                    "variant": variant.name,
                    "instance": pipeline.logs.stream.rpartition("/")[2],
                    "container": host.container.spec.name,
                    "pid": host.container.pid,
                    **host.as_json(),
                }


def newest_live(record: Record) -> LiveEndpoint | None:
    """Choose the instances that serve; those of a deployment where none serve yet. The caller holds the lock."""
    return next(iter(_serving(record)), None)
