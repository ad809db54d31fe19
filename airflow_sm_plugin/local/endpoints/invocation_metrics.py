"""Counts of invocations, for each minute and variant: CloudWatch's metric Invocations.

An invocation costs an addition; ``scaling.read_metrics`` publishes the counts when a client reads metrics.
"""

from __future__ import annotations

from airflow_sm_plugin.local.account.state import Record, Region, now

_KIND = "invocation-count"


def count_invocation(region: Region, endpoint: str, variant: str) -> None:
    minute = now().replace(second=0, microsecond=0)
    with region.table(_KIND) as counts:
        counted = counts.setdefault(
            f"{endpoint}/{variant}/{minute.isoformat()}",
            {"_endpoint": endpoint, "_variant": variant, "_minute": minute, "_count": 0},
        )
        counted["_count"] += 1


def take_counts(region: Region) -> list[Record]:
    """Return the counts since the last call, and begin again."""
    with region.table(_KIND) as counts:
        counted = list(counts.values())
        counts.clear()
    return counted
