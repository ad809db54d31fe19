"""DeploymentConfig: its parts must fit together before SageMaker is asked."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from airflow_sm_plugin.endpoints.options import checked_guardrails
from airflow_sm_plugin.exceptions import InvalidRequest

SIZE = {"Type": "CAPACITY_PERCENT", "Value": 10}
ROLLING = {"RollingUpdatePolicy": {"MaximumBatchSize": SIZE, "WaitIntervalInSeconds": 60}}


def blue_green(**routing: object) -> dict[str, Any]:
    wait = {"WaitIntervalInSeconds": 60}
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {**wait, **routing}}}


def alarms(count: int) -> dict[str, Any]:
    return {"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": f"alarm-{n}"} for n in range(count)]}}


@pytest.mark.parametrize(
    "config",
    [
        blue_green(Type="ALL_AT_ONCE"),
        blue_green(Type="CANARY", CanarySize=SIZE),
        blue_green(Type="LINEAR", LinearStepSize=SIZE),
        ROLLING,
        {**ROLLING, **alarms(0)},
        {**ROLLING, **alarms(10)},
    ],
)
def test_a_config_that_fits_together_is_copied_as_it_is(config: dict[str, Any]) -> None:
    before = copy.deepcopy(config)
    result = checked_guardrails(config)
    assert result == before == config
    assert result is not config


def test_a_part_that_a_template_rendered_to_none_is_left_out() -> None:
    parts = {"BlueGreenUpdatePolicy": None, "AutoRollbackConfiguration": None}
    assert checked_guardrails({**ROLLING, **parts}) == ROLLING


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "either BlueGreenUpdatePolicy or RollingUpdatePolicy; not none"),
        ({**ROLLING, **blue_green(Type="ALL_AT_ONCE")}, "not BlueGreenUpdatePolicy, RollingUpdatePolicy"),
        (alarms(1), "not AutoRollbackConfiguration"),
        (blue_green(), "Type is None; SageMaker takes ALL_AT_ONCE, CANARY, LINEAR"),
        ({"BlueGreenUpdatePolicy": {}}, "Type is None"),
        ({"BlueGreenUpdatePolicy": None, "RollingUpdatePolicy": None}, "not none"),
        ({"RollingUpdatePolicy": {}}, "needs a MaximumBatchSize"),
        (blue_green(Type="canary", CanarySize=SIZE), "Type is 'canary'"),
        (blue_green(Type="CANARY"), "CANARY needs CanarySize"),
        (blue_green(Type="CANARY", LinearStepSize=SIZE), "CANARY needs CanarySize"),
        (blue_green(Type="LINEAR"), "LINEAR needs LinearStepSize"),
        ({"RollingUpdatePolicy": {"WaitIntervalInSeconds": 60}}, "needs a MaximumBatchSize"),
        ({**ROLLING, **alarms(11)}, "has 11 alarms, SageMaker takes up to 10"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        checked_guardrails(config)
