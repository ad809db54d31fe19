"""Calls of CloudWatch about the use of endpoints: when each was last invoked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.hooks.calls import ClientHook, pages_of

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

_QUERIES = 500
"""Of one GetMetricData (API reference)."""
_OF_ENDPOINTS = {
    "ApproximateBacklogSize": "Maximum",
    "InvocationsProcessed": "Sum",
    "InvocationFailures": "Sum",
    "ExpiredRequests": "Sum",
}
"""Metrics of an asynchronous endpoint (Developer Guide, "Monitor Asynchronous Inference Endpoints")."""
_MINUTE, _HOUR = 60, 3600


class EndpointUsageHook(ClientHook):
    """Read when endpoints were used. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "cloudwatch"

    @property
    def client(self) -> CloudWatchClient:
        return cast("CloudWatchClient", self.get_conn())

    def last_used(
        self, variants: Mapping[str, Sequence[str]], *, seconds: float, now: float
    ) -> dict[str, float | None]:
        """Find when each endpoint was last invoked, or had requests in its queue.

        The time is the end of the period that CloudWatch counted in, which can be yet to come: a minute for up to three
        hours, else an hour. None means not within the given time. An endpoint is left out whose data CloudWatch did not answer completely.

        :param variants: the production variants' names by endpoint
        :param seconds: how far back
        :param now: epoch seconds
        :raises AccessDenied: ``cloudwatch:GetMetricData`` is not permitted
        """
        period = _MINUTE if seconds <= 3 * _HOUR else _HOUR
        window = {
            "StartTime": datetime.fromtimestamp(math.floor((now - seconds) / period) * period, UTC),
            "EndTime": datetime.fromtimestamp(math.ceil(now / period) * period + period, UTC),
        }
        latest = dict.fromkeys(variants, -math.inf)
        incomplete: set[str] = set()
        queries = _queries(variants, period)
        while batch := list(itertools.islice(queries, _QUERIES)):
            names = {query["Id"]: name for name, query in batch}
            final: dict[str, str] = {}
            with translated("cloudwatch:GetMetricData"):
                asked = [query for _, query in batch]
                pages = pages_of(self.client, "get_metric_data", MetricDataQueries=asked, **window)
                for result in (each for page in pages for each in page["MetricDataResults"]):
                    name = names[result["Id"]]
                    final[result["Id"]] = str(
                        result.get("StatusCode")
                    )  # a later page completes an earlier one
                    data = zip(result["Timestamps"], result["Values"], strict=True)
                    used = [moment.timestamp() + period for moment, value in data if value > 0]
                    latest[name] = max([latest[name], *used])
            incomplete |= {name for query_id, name in names.items() if final.get(query_id) != "Complete"}
        return {
            name: None if moment == -math.inf else moment
            for name, moment in latest.items()
            if name not in incomplete
        }


def _queries(variants: Mapping[str, Sequence[str]], period: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (endpoint, query) for each metric of each endpoint."""
    numbers = itertools.count()
    for endpoint, names in variants.items():
        metrics = [("Invocations", "Sum", {"EndpointName": endpoint, "VariantName": name}) for name in names]
        metrics += [(name, stat, {"EndpointName": endpoint}) for name, stat in _OF_ENDPOINTS.items()]
        for metric, stat, dimensions in metrics:
            yield (
                endpoint,
                {
                    "Id": f"m{next(numbers)}",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": "AWS/SageMaker",
                            "MetricName": metric,
                            "Dimensions": [
                                {"Name": key, "Value": value} for key, value in dimensions.items()
                            ],
                        },
                        "Period": period,
                        "Stat": stat,
                    },
                },
            )
