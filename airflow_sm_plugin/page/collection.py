"""Ask AWS for the endpoints that our operators made: few calls, short time-outs, a limit of described endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.core.names import OWNER_TAG
from airflow_sm_plugin.core.text import shortened
from airflow_sm_plugin.exceptions import AccessDenied, SageMakerInferenceError
from airflow_sm_plugin.hooks.calls import pages_of
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.endpoint_usage import EndpointUsageHook
from airflow_sm_plugin.hooks.tagged_resources import TaggedResourcesHook
from airflow_sm_plugin.page.overview import LOOKBACK_SECONDS, RegionOverview, ShownEndpoint
from airflow_sm_plugin.page.settings import PageSettings
from airflow_sm_plugin.resources.made_in import deployer_in

log = get_log(__name__)

MOST_ENDPOINTS = 100
"""Described endpoints of a region: two calls each, the second only once for each configuration."""
_BOTOCORE = {
    "connect_timeout": 3,
    "read_timeout": 8,
    "retries": {"mode": "standard", "total_max_attempts": 2},
    "max_pool_connections": 4,
}
_PARALLEL = 4
_LONGEST_TEXT = 300

_Answer = TypeVar("_Answer")


def collect(settings: PageSettings) -> list[RegionOverview]:
    """Collect all connections and regions, in parallel."""
    asked = [(connection, region) for connection in settings.connections for region in settings.regions]
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(lambda each: collect_region(*each), asked))


def collect_region(connection: str, region: str | None) -> RegionOverview:
    """Collect one connection and region. Whatever goes wrong is a sentence in ``problems``."""
    aws = AwsConnection(aws_conn_id=connection, region_name=region, botocore_config=_BOTOCORE)
    found = _Collection(aws)
    name = region or ""
    try:
        hook = SageMakerControlPlaneHook(**aws.hook_arguments())
        name = str(hook.conn_region_name or "")
        endpoints = found.endpoints(hook)
    except Exception as error:  # noqa: BLE001 - a connection that does not exist, a region that is not given, ...
        log.warning("endpoints of connection %s cannot be shown: %s", connection, error)
        found.problems.append(shortened(f"{type(error).__name__}: {error}", _LONGEST_TEXT))
        endpoints = []
    return RegionOverview(
        connection=connection,
        region=name or "no region",
        endpoints=endpoints,
        problems=found.problems,
        not_described=found.not_described,
    )


@dataclass(eq=False)
class _Collection:
    aws: AwsConnection
    problems: list[str] = field(default_factory=list)
    not_described: int = 0
    failed: bool = False

    def endpoints(self, hook: SageMakerControlPlaneHook) -> list[ShownEndpoint]:
        tagged = self._tagged()
        listed = self._listed(hook) if tagged else []
        ours = [summary for summary in listed if summary["EndpointArn"] in tagged]
        self.not_described = max(0, len(ours) - MOST_ENDPOINTS)
        described = self._described(hook, ours[:MOST_ENDPOINTS])
        configs = self._configs(hook, described)
        shown = [
            shown_endpoint(
                each, configs.get(str(each.get("EndpointConfigName")), {}), tagged[each["EndpointArn"]]
            )
            for each in described
        ]
        return self._with_usage(shown, described)

    def _asked(self, action: str, call: Callable[[], _Answer], *, otherwise: _Answer) -> _Answer:
        """Make calls of AWS; report a refusal as a sentence that names the missing permission.

        After a call that failed otherwise, such as by a time-out, this region is not asked again for now.
        """
        if self.failed:
            return otherwise
        try:
            with translated(action):
                return call()
        except AccessDenied:
            problem = f"{action} is not permitted: allow it to the role of connection {self.aws.aws_conn_id}"
        except SageMakerInferenceError as error:
            self.failed = True
            problem = f"{action} failed: {shortened(error.as_sentence, _LONGEST_TEXT)}"
        if problem not in self.problems:
            self.problems.append(problem)
        return otherwise

    def _tagged(self) -> Mapping[str, Mapping[str, str]]:
        hook = TaggedResourcesHook(**self.aws.hook_arguments())
        return self._asked(
            "tag:GetResources", lambda: hook.with_tag(OWNER_TAG, ["sagemaker:endpoint"]), otherwise={}
        )

    def _listed(self, hook: SageMakerControlPlaneHook) -> list[Mapping[str, Any]]:
        def pages() -> list[Mapping[str, Any]]:
            found = pages_of(hook.client, "list_endpoints", PaginationConfig={"PageSize": 100})
            return [summary for page in found for summary in page["Endpoints"]]

        return self._asked("sagemaker:ListEndpoints", pages, otherwise=[])

    def _described(
        self, hook: SageMakerControlPlaneHook, summaries: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Describe endpoints; an endpoint that cannot be described is shown by its summary."""

        def describe(summary: Mapping[str, Any]) -> Mapping[str, Any] | None:
            name, known = summary["EndpointName"], cast("Mapping[str, Any] | None", summary)
            return self._asked(
                "sagemaker:DescribeEndpoint", lambda: hook.describe_endpoint(name), otherwise=known
            )

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return [each for each in pool.map(describe, summaries) if each is not None]

    def _configs(
        self, hook: SageMakerControlPlaneHook, described: Sequence[Mapping[str, Any]]
    ) -> dict[str, Mapping[str, Any]]:
        names = {str(each["EndpointConfigName"]) for each in described if each.get("EndpointConfigName")}

        def describe(name: str) -> Mapping[str, Any]:
            action = "sagemaker:DescribeEndpointConfig"
            return self._asked(action, lambda: hook.configs.describe(name), otherwise=None) or {}

        with ThreadPoolExecutor(_PARALLEL) as pool:
            return dict(zip(names, pool.map(describe, names), strict=True))

    def _with_usage(
        self, shown: Sequence[ShownEndpoint], described: Sequence[Mapping[str, Any]]
    ) -> list[ShownEndpoint]:
        variants = {
            str(each["EndpointName"]): [
                variant["VariantName"] for variant in each.get("ProductionVariants") or ()
            ]
            for each in described
        }
        if not variants:
            return list(shown)
        usage = EndpointUsageHook(**self.aws.hook_arguments())
        used: dict[str, float | None] = self._asked(
            "cloudwatch:GetMetricData",
            lambda: usage.last_used(variants, seconds=LOOKBACK_SECONDS, now=time.time()),
            otherwise={},
        )
        return [
            replace(each, last_used=used[each.name], usage_known=True) if each.name in used else each
            for each in shown
        ]


def shown_endpoint(
    description: Mapping[str, Any], config: Mapping[str, Any], tags: Mapping[str, str]
) -> ShownEndpoint:
    """Convert what AWS says about an endpoint."""
    types = {
        variant["VariantName"]: str(variant.get("InstanceType") or "")
        for variant in config.get("ProductionVariants") or ()
    }
    return ShownEndpoint(
        name=str(description["EndpointName"]),
        status=str(description["EndpointStatus"]),
        instances=[
            _instances(variant, types.get(variant["VariantName"], ""))
            for variant in description.get("ProductionVariants") or ()
        ],
        created_at=description["CreationTime"].timestamp(),
        changed_at=description["LastModifiedTime"].timestamp(),
        made_in=deployer_in(tags),
        failure=str(description.get("FailureReason") or ""),
    )


def _instances(variant: Mapping[str, Any], instance_type: str) -> str:
    if variant.get("CurrentServerlessConfig"):
        return "serverless"
    return f"{instance_type or 'instance'} \u00d7 {variant.get('CurrentInstanceCount', '?')}"
