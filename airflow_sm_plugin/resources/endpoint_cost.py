"""What an endpoint runs on, and the sentence that it costs money: for logs and errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_TIMES = "\u00d7"
_CREATING = (
    "costs money once its containers run, and cannot be deleted before it is InService or Failed, which takes up to an "
    "hour for one that never serves"
)
_COSTS = {
    "Creating": _CREATING,
    "Failed": "serves nothing, and stays until it is deleted",
}
_UNTIL_DELETED = "costs money until it is deleted"
_SERVERLESS = "costs money for requests only, unless it has provisioned concurrency"


def counts_of(description: Mapping[str, Any]) -> dict[str, int]:
    """Read the instances that each production variant has now, from DescribeEndpoint's answer."""
    return {
        str(variant.get("VariantName")): int(variant["CurrentInstanceCount"])
        for variant in description.get("ProductionVariants") or ()
        if variant.get("CurrentInstanceCount") is not None
    }


def instances_of(variants: Iterable[Mapping[str, Any]], counts: Mapping[str, int] | None = None) -> str:
    """Describe the instances of an endpoint: type and number; each variant by its name where there are several.

    :param variants: ProductionVariants, as an endpoint configuration has them
    :param counts: of :func:`counts_of`; a variant that is missing there has its initial count
    """
    described = {str(variant.get("VariantName")): _capacity(variant, counts or {}) for variant in variants}
    if len(described) == 1:
        return next(iter(described.values()))
    return ", ".join(f"{name}: {capacity}" for name, capacity in described.items())


def _capacity(variant: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    if serverless := variant.get("ServerlessConfig"):
        return f"serverless, {serverless.get('MemorySizeInMB')} MB"
    pools = [str(pool.get("InstanceType")) for pool in variant.get("InstancePools") or ()]
    count = counts.get(str(variant.get("VariantName")), variant.get("InitialInstanceCount"))
    kind = variant.get("InstanceType") or " or ".join(pools) or "instances"
    return f"{kind} {_TIMES} {count}" if count is not None else str(kind)


def cost_of(status: str, instances: str) -> str:
    """Describe whether an endpoint of this status costs money: the rest of a sentence that begins with its name."""
    if status not in _COSTS and instances.startswith("serverless"):
        return _SERVERLESS
    return _COSTS.get(status, _UNTIL_DELETED)


def left_behind(endpoint_name: str, status: str, instances: str) -> str:
    """Describe an endpoint that exists after its task has failed; empty for one that is being deleted."""
    if status == "Deleting":
        return ""
    state = ", ".join(filter(None, (status, instances)))
    return f"endpoint {endpoint_name} ({state}) {cost_of(status, instances)}"
