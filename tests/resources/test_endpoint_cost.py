"""What an endpoint runs on and costs, as logs and errors have it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_sm_plugin.resources.endpoint_cost import cost_of, counts_of, instances_of, left_behind

X = "\u00d7"
ONE = {"VariantName": "AllTraffic", "InstanceType": "ml.m5.xlarge", "InitialInstanceCount": 1}
SERVERLESS = {"VariantName": "AllTraffic", "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}
POOLS = {
    "VariantName": "AllTraffic",
    "InstancePools": [{"InstanceType": "ml.g5.xlarge"}, {"InstanceType": "ml.g4dn.xlarge"}],
    "InitialInstanceCount": 2,
}


@pytest.mark.parametrize(
    ("variants", "counts", "text"),
    [
        ([ONE], {}, f"ml.m5.xlarge {X} 1"),
        ([ONE], {"AllTraffic": 0}, f"ml.m5.xlarge {X} 0"),
        ([ONE], {"another": 7}, f"ml.m5.xlarge {X} 1"),
        ([SERVERLESS], {}, "serverless, 2048 MB"),
        ([POOLS], {}, f"ml.g5.xlarge or ml.g4dn.xlarge {X} 2"),
        (
            [ONE | {"VariantName": "a"}, ONE | {"VariantName": "b"}],
            {"b": 3},
            f"a: ml.m5.xlarge {X} 1, b: ml.m5.xlarge {X} 3",
        ),
        ([], {}, ""),
    ],
)
def test_instances_are_type_and_present_count(variants: Any, counts: Any, text: str) -> None:  # noqa: ANN401 - rows of the table
    assert instances_of(variants, counts) == text


def test_counts_are_those_of_the_description() -> None:
    described = {
        "ProductionVariants": [{"VariantName": "a", "CurrentInstanceCount": 0}, {"VariantName": "b"}]
    }
    assert counts_of(described) == {"a": 0}
    assert counts_of({}) == {}


@pytest.mark.parametrize(
    ("status", "instances", "text"),
    [
        ("InService", "ml.m5.xlarge", "costs money until it is deleted"),
        ("Updating", "ml.m5.xlarge", "costs money until it is deleted"),
        ("InService", "serverless, 2048 MB", "costs money for requests only"),
        ("Creating", "ml.m5.xlarge", "costs money once its containers run, and cannot be deleted"),
        ("Failed", "ml.m5.xlarge", "stays until it is deleted"),
    ],
)
def test_the_cost_depends_on_status_and_kind(status: str, instances: str, text: str) -> None:
    assert text in cost_of(status, instances)
    assert left_behind("churn", status, instances).startswith(f"endpoint churn ({status}, {instances}) ")
    assert text in left_behind("churn", status, instances)


def test_an_endpoint_that_is_being_deleted_is_not_left_behind() -> None:
    assert left_behind("churn", "Deleting", "ml.m5.xlarge") == ""


def test_unknown_instances_leave_the_status_alone() -> None:
    assert left_behind("churn", "InService", "").startswith("endpoint churn (InService) costs")
