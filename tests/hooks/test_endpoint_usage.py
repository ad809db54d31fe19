"""When endpoints were used, from CloudWatch's answers, and resources found by a tag."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_sm_plugin.exceptions import Throttled
from airflow_sm_plugin.hooks.endpoint_usage import EndpointUsageHook, latest_uses
from airflow_sm_plugin.hooks.tagged_resources import TaggedResourcesHook
from tests.endpoint_trials import control
from tests.support import Account, unique

pytestmark = pytest.mark.airflow

MINUTE = 60
ASKED = {"m0": "a", "m1": "a", "m2": "b"}


def result(query_id: str, *values: tuple[float, float], status: str = "Complete") -> dict[str, Any]:
    return {
        "Id": query_id,
        "Timestamps": [datetime.fromtimestamp(moment, UTC) for moment, _ in values],
        "Values": [value for _, value in values],
        "StatusCode": status,
    }


QUIET = [result("m0"), result("m1"), result("m2")]


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (QUIET, {"a": None, "b": None}),
        ([result("m0", (600.0, 2.0)), *QUIET[1:]], {"a": 660.0, "b": None}),
        ([result("m0", (600.0, 0.0)), *QUIET[1:]], {"a": None, "b": None}),
        (
            [result("m0", (600.0, 1.0), (60.0, 3.0)), result("m1", (1200.0, 1.0)), QUIET[2]],
            {"a": 1260.0, "b": None},
        ),
        (QUIET[:2], {"a": None}),
        ([], {}),
        ([QUIET[0], result("m1", status="InternalError"), QUIET[2]], {"b": None}),
        ([result("m0", (600.0, 2.0), status="Forbidden"), *QUIET[1:]], {"b": None}),
        ([QUIET[0], QUIET[1], result("m2", (60.0, 1.0), status="PartialData")], {"a": None}),
        ([*QUIET[:2], result("m2", (60.0, 1.0), status="PartialData"), QUIET[2]], {"a": None, "b": 120.0}),
    ],
)
def test_an_incomplete_answer_is_no_answer(
    results: list[dict[str, Any]], expected: dict[str, float | None]
) -> None:
    assert latest_uses(ASKED, results, period=MINUTE) == expected


def test_invocations_are_found_and_endpoints_kept_apart(account: Account) -> None:
    used, unused = account.deploy(), unique("endpoint")
    before = time.time()
    account.runtime.invoke_endpoint(EndpointName=used, Body=b"1", ContentType="text/csv")
    hook = EndpointUsageHook(aws_conn_id=None)
    variants = {name: ["AllTraffic", "other"] for name in (used, unused)}
    found = hook.last_used(variants, seconds=3600, now=time.time())
    assert found[unused] is None
    assert before < float(found[used] or 0) <= time.time() + MINUTE
    days = hook.last_used(variants, seconds=14 * 86_400, now=time.time())
    assert before < float(days[used] or 0) <= time.time() + 60 * MINUTE
    assert hook.last_used({}, seconds=1, now=time.time()) == {}
    account.sagemaker.delete_endpoint(EndpointName=used)


def test_more_resources_than_a_page_has_are_found(account: Account) -> None:
    key = unique("key")
    tags = [{"Key": key, "Value": "x"}, {"Key": "team", "Value": "risk"}]
    model = account.create_model(multi_model=True)
    for _ in range(101):
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("config"),
            ProductionVariants=[
                {
                    "VariantName": "v",
                    "ModelName": model,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            Tags=tags,  # type: ignore[arg-type] # plain dicts
        )
    hook = TaggedResourcesHook(aws_conn_id=None)
    found = hook.with_tag(key, ["sagemaker:endpoint-config"])
    assert len(found) == 101
    assert all(each == {key: "x", "team": "risk"} for each in found.values())
    assert hook.with_tag(key, ["sagemaker:endpoint"]) == {}
    assert hook.with_tag(key[:-1], ["sagemaker:endpoint-config"]) == {}


def test_throttling_is_not_an_empty_account(account: Account) -> None:
    rule = {"fault": "throttle", "operation": "tagging:GetResources"}
    control(account, "POST", "faults", [rule])
    try:
        hook = TaggedResourcesHook(aws_conn_id=None, config={"retries": {"total_max_attempts": 1}})
        with pytest.raises(Throttled, match="tag:GetResources"):
            hook.with_tag("key", ["sagemaker:endpoint"])
    finally:
        control(account, "DELETE", "faults")
