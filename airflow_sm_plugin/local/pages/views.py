"""The texts of the pages about endpoints: their status, variants, models, calls and container logs.

No payload, custom attribute, or environment of a container is in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.local.account.calls import Call
from airflow_sm_plugin.local.account.state import Account, Record, Region
from airflow_sm_plugin.local.endpoints.endpoint_operations import describe
from airflow_sm_plugin.local.endpoints.endpoints import KIND
from airflow_sm_plugin.local.endpoints.hosted_models import hosted_models, newest_live
from airflow_sm_plugin.local.pages.browser import PageMissing, buckets

_CALLS = 50
_STREAMS = 10
"""Log streams on a page, the latest ones: each instance has one."""
_LINES = 500
"""Lines of each of them, the last ones."""

_LEVELS = {"InService": "good", "Failed": "bad", "OutOfService": "bad", "UpdateRollbackFailed": "bad"}
"""The colour of a status; all others are changes in progress."""

_INVOCATIONS = ("InvokeEndpoint", "InvokeEndpointAsync")


def overview(account: Account, query: Mapping[str, str]) -> Mapping[str, Any]:  # noqa: ARG001 - a page like the others
    """Describe each endpoint in a row, the buckets, and the last calls."""
    calls = account.calls.calls()
    invoked = {(call.region, call.resource): call.time for call in calls if call.operation in _INVOCATIONS}
    rows = [
        {**seen, "invoked": invoked.get((region.name, seen["name"]))}
        for region in account.regions()
        for seen in _endpoints(region)
    ]
    return {
        "endpoints": sorted(rows, key=lambda row: (row["region"], row["name"])),
        "buckets": buckets(account),
        "calls": _latest(calls),
        "dropped": max(0, len(calls) - _CALLS),
    }


def endpoint(account: Account, query: Mapping[str, str]) -> Mapping[str, Any]:
    """Describe one endpoint by its ``name`` and ``region``. Raises PageMissing."""
    name, region_name = query.get("name", ""), query.get("region", "")
    calls = [
        call for call in account.calls.calls() if call.resource == name and region_name in ("", call.region)
    ]
    for region in account.regions():
        found = list(_endpoints(region, name)) if region_name in ("", region.name) else []
        if found:
            invocations = [call.time for call in calls if call.operation in _INVOCATIONS]
            return {
                **found[0],
                "models": hosted_models(region, name) or [],
                "invoked": invocations[-1] if invocations else None,
                "calls": _latest(calls),
                "dropped": max(0, len(calls) - _CALLS),
                "log_group": endpoint_log_group(name),
            }
    where = f" in {region_name}" if region_name else ""
    deleted = any(call.operation == "DeleteEndpoint" and call.effect for call in calls)
    raise PageMissing(
        f"There is no endpoint {name}{where}{': it was deleted' if deleted else ''}.",
        calls=_latest(calls),
        region=calls[-1].region if calls else "",
        log_group=endpoint_log_group(name),
    )


def logs(account: Account, query: Mapping[str, str]) -> Mapping[str, Any]:
    """Read the last lines of a log group, named by ``group`` and ``region``. Raises PageMissing."""
    group, region = query.get("group", ""), query.get("region", "") or "us-east-1"
    try:
        client = account.aws.logs(region)
        streams = client.describe_log_streams(
            logGroupName=group, orderBy="LastEventTime", descending=True, limit=_STREAMS
        )["logStreams"]
        shown = [
            {
                "name": stream["logStreamName"],
                "lines": client.get_log_events(
                    logGroupName=group, logStreamName=stream["logStreamName"], limit=_LINES
                )["events"],
            }
            for stream in streams
        ]
    except (ClientError, BotoCoreError) as error:
        response = getattr(error, "response", None)
        code = response["Error"]["Code"] if response else type(error).__name__
        raise PageMissing(
            f"There is no log group {group} in {region} ({code}). An endpoint's container makes it with its first line."
        ) from None
    name = group.removeprefix(endpoint_log_group(""))
    return {"group": group, "region": region, "name": name if name != group else "", "streams": shown}


def _endpoints(region: Region, name: str | None = None) -> Sequence[Record]:
    """Describe the endpoints of a region, or the one of that name."""
    with region.table(KIND) as records:
        chosen = [record for key, record in records.items() if name in (None, key)]
        return [_endpoint(region, record) for record in chosen]


def _endpoint(region: Region, record: Record) -> Record:
    description, live = describe(record), newest_live(record)
    config: Record = live.config if live else record["_config"]
    output = config.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
    serving = {variant["VariantName"]: variant for variant in description.get("ProductionVariants", ())}
    variants = [
        _variant(variant, serving.get(variant["VariantName"], {})) for variant in config["ProductionVariants"]
    ]
    status = description["EndpointStatus"]
    is_multi_model = live is not None and any(variant.is_multi_model for variant in live.variants.values())
    kind = "asynchronous" if output else "multi-model" if is_multi_model else "real-time"
    return {
        "name": description["EndpointName"],
        "region": region.name,
        "status": status,
        "level": _LEVELS.get(status, "busy"),
        "reason": description.get("FailureReason", ""),
        "kind": kind,
        "capacity": ", ".join(dict.fromkeys(variant["capacity"] for variant in variants)),
        "config": description["EndpointConfigName"],
        "created": description["CreationTime"],
        "modified": description["LastModifiedTime"],
        "variants": variants,
        "outputs": [location for key in ("S3OutputPath", "S3FailurePath") if (location := output.get(key))],
    }


def _variant(config: Record, serving: Record) -> Record:
    """Describe a production variant; *serving* is its part of DescribeEndpoint, empty until it serves."""
    serverless = config.get("ServerlessConfig")
    count = serving.get("CurrentInstanceCount", config.get("InitialInstanceCount", 0))
    capacity = (
        f"serverless, {serverless['MemorySizeInMB']} MB"
        if serverless
        else f"{config.get('InstanceType')} \u00d7 {count}"
    )
    return {
        "name": config["VariantName"],
        "model": config.get("ModelName", ""),
        "capacity": capacity,
        "weight": f"{serving.get('CurrentWeight', config.get('InitialVariantWeight', 1.0)):g}",
        "images": [image["SpecifiedImage"] for image in serving.get("DeployedImages", ())],
    }


def _latest(calls: Sequence[Call]) -> list[Call]:
    return list(reversed(calls[-_CALLS:]))


def moment(value: datetime | int | None) -> str:
    """Format a time, or epoch milliseconds, in UTC: 2026-11-30 20:26:05."""
    if value is None:
        return ""
    time = datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int) else value.astimezone(UTC)
    return time.strftime("%Y-%m-%d %H:%M:%S")


def size(number: int) -> str:
    """Format a number of bytes: 512 B, 3.2 KiB, 1 GiB."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"
