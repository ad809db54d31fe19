"""The variants that an update sets back from the count they were scaled to."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_plugin.resources.endpoint_config import Variant
from airflow_sm_plugin.resources.endpoint_status import ScaledCount, scaled_counts


def endpoint(**counts: int | None) -> dict[str, Any]:
    """DescribeEndpoint's answer; None is a serverless variant."""
    variants = [
        {"VariantName": name} | ({} if count is None else {"CurrentInstanceCount": count})
        for name, count in counts.items()
    ]
    return {"EndpointName": "churn", "ProductionVariants": variants}


def config(**counts: int) -> dict[str, Any]:
    return {
        "ProductionVariants": [
            {"VariantName": name, "InitialInstanceCount": count} for name, count in counts.items()
        ]
    }


def variant(name: str, count: int) -> Variant:
    return Variant(
        model_name="m", instance_type="ml.m5.large", variant_name=name, initial_instance_count=count
    )


@pytest.mark.parametrize(
    ("current", "configured", "wanted", "is_listed"),
    [
        (1, 1, 1, False),  # as configured
        (3, 1, 1, True),  # scaled out: the update would set it to one
        (0, 1, 1, True),  # scaled to zero
        (1, 1, 2, False),  # the update is there to change the count
        (3, 1, 2, True),  # scaled, and changed otherwise
        (3, 1, 3, False),  # the update keeps what runs
    ],
)
def test_only_a_scaled_count_that_the_update_changes_is_listed(
    current: int, configured: int, wanted: int, is_listed: bool
) -> None:
    counts = scaled_counts(endpoint(blue=current), config(blue=configured), [variant("blue", wanted)])
    assert counts == ([ScaledCount("blue", current, wanted)] if is_listed else [])


def test_each_variant_is_judged_by_itself() -> None:
    wanted = [variant("blue", 2), variant("green", 1)]
    counts = scaled_counts(endpoint(blue=2, green=5), config(blue=1, green=1), wanted)
    assert counts == [ScaledCount("green", 5, 1)]


def test_new_and_serverless_variants_have_no_count_to_lose() -> None:
    serverless = Variant(
        model_name="m", variant_name="lambda", serverless={"MemorySizeInMB": 1024, "MaxConcurrency": 1}
    )
    served = config(**{"lambda": 0, "new": 1})
    assert scaled_counts(endpoint(**{"lambda": None}), served, [serverless, variant("new", 4)]) == []


def test_an_endpoint_described_without_variants_has_none() -> None:
    assert scaled_counts({"EndpointName": "churn"}, config(blue=2), [variant("blue", 1)]) == []


def test_without_the_served_configuration_no_count_is_listed() -> None:
    assert scaled_counts(endpoint(blue=3), config(blue=2), [variant("blue", 1)])
    assert scaled_counts(endpoint(blue=3), None, [variant("blue", 1)]) == []
