"""Which variants an update would take back from the instance count that they were scaled to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.resources.production_variant import Variant


@dataclass(frozen=True)
class ScaledCount:
    """A variant that runs ``current`` instances, and that an update would set to ``initial``."""

    variant_name: str
    current: int
    initial: int


def differing_counts(description: Mapping[str, Any], variants: Sequence[Variant]) -> list[ScaledCount]:
    """Return the variants that run another number of instances than the wanted configuration begins with.

    :param description: DescribeEndpoint's; only variants that it describes with ``CurrentInstanceCount`` count, so
        neither new nor serverless ones
    """
    current = {
        variant.get("VariantName"): variant["CurrentInstanceCount"]
        for variant in description.get("ProductionVariants") or ()
        if variant.get("CurrentInstanceCount") is not None
    }
    return [
        ScaledCount(variant.variant_name, current[variant.variant_name], variant.initial_instance_count)
        for variant in variants
        if variant.serverless is None
        and variant.initial_instance_count is not None
        and current.get(variant.variant_name, variant.initial_instance_count)
        != variant.initial_instance_count
    ]


def scaled_counts(differing: Sequence[ScaledCount], served: Mapping[str, Any] | None) -> list[ScaledCount]:
    """Return those of :func:`differing_counts` that were scaled, and not only configured otherwise.

    :param served: DescribeEndpointConfig's of the configuration behind the endpoint; None where it is not known, and
        then nothing was scaled as far as one can tell
    """
    configured = {
        variant.get("VariantName"): variant.get("InitialInstanceCount")
        for variant in (served or {}).get("ProductionVariants") or ()
    }
    return [
        count
        for count in differing
        if count.variant_name in configured and configured[count.variant_name] != count.current
    ]
