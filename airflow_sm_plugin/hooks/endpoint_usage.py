"""Calls of CloudWatch about the use of endpoints: when each was last invoked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
        hours, else an hour. None means not within the given time. An endpoint is left out whose data CloudWatch did not
        answer completely.

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
        results: list[Mapping[str, Any]] = []
        asked: dict[str, str] = {}
        queries = _queries(variants, period)
        while batch := list(itertools.islice(queries, _QUERIES)):
            asked |= {query["Id"]: endpoint for endpoint, query in batch}
            with translated("cloudwatch:GetMetricData"):
                request = [query for _, query in batch]
                pages = pages_of(self.client, "get_metric_data", MetricDataQueries=request, **window)
                results += [result for page in pages for result in page["MetricDataResults"]]
        return latest_uses(asked, results, period=period)


def latest_uses(
    asked: Mapping[str, str], results: Iterable[Mapping[str, Any]], *, period: int
) -> dict[str, float | None]:
    """Read GetMetricData's results; leave out endpoints of which a result is missing or incomplete.

    :param asked: the endpoint of each query's id
    :param results: in the order of the pages: a later one of the same id completes an earlier one
    """
    latest = dict.fromkeys(asked.values(), -math.inf)
    status: dict[str, str] = {}
    for result in results:
        endpoint = asked[result["Id"]]
        status[result["Id"]] = str(result.get("StatusCode"))
        data = zip(result["Timestamps"], result["Values"], strict=True)
        latest[endpoint] = max(
            [latest[endpoint], *(moment.timestamp() + period for moment, value in data if value > 0)]
        )
    incomplete = {endpoint for query_id, endpoint in asked.items() if status.get(query_id) != "Complete"}
    return {
        endpoint: None if moment == -math.inf else moment
        for endpoint, moment in latest.items()
        if endpoint not in incomplete
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
