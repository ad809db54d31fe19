"""Which models multi-model endpoints hold, as ``GET /_embedded/models`` tells it."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.endpoints.endpoints import KIND, LiveEndpoint


def hosted_models(region: Region, endpoint: str | None) -> list[Record] | None:
    """Return what each instance of multi-model variants holds; None when there is no ``endpoint`` of that name.

    :param endpoint: its name; None: of all of them
    """
    with region.table(KIND) as endpoints:
        if endpoint is not None and endpoint not in endpoints:
            return None
        records = [record for name, record in endpoints.items() if endpoint in (None, name)]
        serving = [live for record in records for live in _serving(record)]
    return [row for live in serving for row in _instances(live)]


def _serving(record: Record) -> Iterator[LiveEndpoint]:
    """Yield what serves behind an endpoint, and what is about to."""
    pending = record.get("_pending") or {}
    found = [record.get("_live"), pending.get("live")]
    yield from {id(live): live for live in found if isinstance(live, LiveEndpoint)}.values()


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
