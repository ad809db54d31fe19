"""Publish endpoints' metrics to moto's CloudWatch immediately before a client reads metrics.

SageMaker publishes every minute, whether anybody reads or not. Here a call that reads costs the work, so that
invocations stay cheap. The metrics of scaled variants are published by ``scaling``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Region, now
from airflow_sm_plugin.local.async_inference.requests import backlog
from airflow_sm_plugin.local.endpoints.endpoints import KIND, LiveEndpoint
from airflow_sm_plugin.local.endpoints.invocation_metrics import take_counts

CLOUDWATCH = "monitoring"
"""The name for which calls of CloudWatch are signed."""

_NAMESPACE = "AWS/SageMaker"
_READING = ("GetMetricData", "GetMetricStatistics", "ListMetrics")


def publish_before(region: Region, operation: str) -> None:
    """Publish what happened since the last such call, if the operation reads metrics."""
    if operation not in _READING:
        return
    data = [*_invocations(region), *_backlogs(region)]
    if data:
        from moto.cloudwatch.models import cloudwatch_backends

        backend: Any = cloudwatch_backends[ACCOUNT_ID][region.name]
        backend.put_metric_data(_NAMESPACE, data)


def _invocations(region: Region) -> Iterator[Mapping[str, Any]]:
    for counted in take_counts(region):
        count = counted["_count"]
        yield {
            "MetricName": "Invocations",
            "Dimensions": [
                {"Name": "EndpointName", "Value": counted["_endpoint"]},
                {"Name": "VariantName", "Value": counted["_variant"]},
            ],
            "Timestamp": counted["_minute"].replace(tzinfo=None),  # as moto compares it
            "StatisticValues": {"Sum": count, "Minimum": 1, "Maximum": 1, "SampleCount": count},
        }


def _backlogs(region: Region) -> Iterator[Mapping[str, Any]]:
    with region.table(KIND) as endpoints:
        live = [record.get("_live") for record in endpoints.values()]
    for endpoint in live:
        if isinstance(endpoint, LiveEndpoint) and endpoint.is_async:
            yield {
                "MetricName": "ApproximateBacklogSize",
                "Dimensions": [{"Name": "EndpointName", "Value": endpoint.name}],
                "Timestamp": now().replace(tzinfo=None),
                "Value": float(backlog(region, endpoint.name).size),
            }
