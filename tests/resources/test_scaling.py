"""Scaling a variant: the permitted numbers, and the requests built from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import (
    EndpointNotInService,
    EndpointUnchangeable,
    InvalidName,
    InvalidRequest,
)
from airflow_sm_plugin.resources.scaling import (
    BACKLOG_POLICY,
    INVOCATIONS_POLICY,
    OUR_POLICIES,
    WAKE_POLICY,
    ScaledVariant,
    Scaling,
    ScalingPlan,
    alarm_name_prefix,
    means_missing,
    plan_scaling,
    stale_policies,
)

CHURN = ScaledVariant("churn", "AllTraffic")
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/churn/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
SCALING = Scaling(
    min_capacity=1,
    max_capacity=4,
    target_backlog=None,
    target_invocations=None,
    scale_in_cooldown=600,
    scale_out_cooldown=60,
)
NAMES = st.from_regex(r"\A[a-zA-Z0-9](-?[a-zA-Z0-9]){0,20}\Z")


def scaling_of(**changed: object) -> Scaling:
    return Scaling.read(**{"min_capacity": 0, "max_capacity": 2} | changed)


def description(*, asynchronous: bool = True, **other: object) -> dict[str, Any]:
    section = {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/out"}}}
    return {
        "EndpointName": "churn",
        "EndpointStatus": "InService",
        "ProductionVariants": [{"VariantName": "AllTraffic", "CurrentInstanceCount": 1}],
        **(section if asynchronous else {}),
        **other,
    }


def plan(*, asynchronous: bool, **changes: Any) -> ScalingPlan:  # noqa: ANN401 - fields of Scaling
    targets = {"target_backlog": 5.0} if asynchronous else {"target_invocations": 70.0}
    scaling = replace(SCALING, **targets | changes)
    return ScalingPlan(variant=CHURN, scaling=scaling, asynchronous=asynchronous)


# Arguments


def test_numbers_may_be_text_as_a_template_renders_them() -> None:
    text = scaling_of(
        min_capacity="1",
        max_capacity=" 3 ",
        target_backlog_per_instance="2.5",
        target_invocations_per_instance="",
        scale_in_cooldown="0",
        scale_out_cooldown="90.0",
    )
    assert text == Scaling(
        min_capacity=1,
        max_capacity=3,
        target_backlog=2.5,
        target_invocations=None,
        scale_in_cooldown=0,
        scale_out_cooldown=90,
    )


@given(st.integers(0, 1000), st.integers(1, 1000), st.floats(0.001, 1e6), st.integers(0, 100_000))
def test_text_and_number_mean_the_same(low: int, span: int, target: float, cooldown: int) -> None:
    numbers = {
        "min_capacity": low,
        "max_capacity": low + span,
        "target_invocations_per_instance": target,
        "scale_in_cooldown": cooldown,
    }
    text = {name: repr(value) for name, value in numbers.items()}
    assert scaling_of(**numbers) == scaling_of(**text)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"min_capacity": None}, "min_capacity must be a whole number, 0 or more, not None"),
        ({"min_capacity": -1}, "min_capacity must be a whole number, 0 or more, not -1"),
        ({"min_capacity": "one"}, "min_capacity must be a whole number, 0 or more, not 'one'"),
        ({"min_capacity": ""}, "min_capacity must be a whole number, 0 or more, not ''"),
        ({"min_capacity": True}, "min_capacity must be a whole number, 0 or more, not True"),
        ({"min_capacity": [1]}, "min_capacity must be a whole number, 0 or more, not [1]"),
        ({"max_capacity": 0}, "max_capacity must be a whole number, 1 or more, not 0"),
        ({"max_capacity": 1.5}, "max_capacity must be a whole number, 1 or more, not 1.5"),
        ({"max_capacity": "inf"}, "max_capacity must be a whole number, 1 or more, not 'inf'"),
        (
            {"min_capacity": 3},
            "max_capacity is 2, less than min_capacity, which is 3: raise the first or lower the second",
        ),
        ({"scale_in_cooldown": -1}, "scale_in_cooldown must be a whole number, 0 or more, not -1"),
        ({"scale_out_cooldown": "-0.5"}, "scale_out_cooldown must be a whole number, 0 or more, not '-0.5'"),
        (
            {"target_backlog_per_instance": 0},
            "target_backlog_per_instance must be a number greater than 0, not 0",
        ),
        (
            {"target_invocations_per_instance": "-3"},
            "target_invocations_per_instance must be a number greater than 0, not '-3'",
        ),
        (
            {"target_invocations_per_instance": float("nan")},
            "target_invocations_per_instance must be a number greater than 0, not nan",
        ),
        (
            {"target_backlog_per_instance": "many"},
            "target_backlog_per_instance must be a number greater than 0, not 'many'",
        ),
    ],
)
def test_a_bad_number_is_refused_with_its_limit(changed: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        scaling_of(**changed)
    assert str(caught.value) == message


# The variant


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (ScaledVariant("", "AllTraffic"), "the endpoint name is empty"),
        (ScaledVariant("churn", "all_traffic"), "the variant name 'all_traffic' holds '_'"),
    ],
)
def test_names_are_checked(variant: ScaledVariant, message: str) -> None:
    with pytest.raises(InvalidName, match=message):
        variant.checked()


@given(NAMES, NAMES)
def test_a_resource_id_reads_back(endpoint: str, variant: str) -> None:
    made = ScaledVariant(endpoint, variant)
    assert made.checked() is made
    assert ScaledVariant.from_target(made.target()) == made


@pytest.mark.parametrize(
    "resource_id",
    ["inference-component/churn", "endpoint/churn", "endpoint/churn/variant/a/b", "table/a/index/b"],
)
def test_a_target_that_is_no_variant_is_recognised(resource_id: str) -> None:
    assert ScaledVariant.from_target({"ResourceId": resource_id}) is None


@given(NAMES, NAMES, NAMES, NAMES)
def test_alarm_names_are_valid_and_unique(one: str, its: str, other: str, others: str) -> None:
    first, second = ScaledVariant(one, its), ScaledVariant(other, others)
    assert (first.alarm_name == second.alarm_name) == (first == second)
    assert first.alarm_name.startswith(alarm_name_prefix(other)) == (one == other)


def test_the_longest_alarm_name_fits_cloudwatch() -> None:
    assert len(ScaledVariant("e" * 63, "v" * 63).alarm_name) <= 255


# What the endpoint allows


def test_an_asynchronous_endpoint_scales_by_the_guides_backlog_by_default() -> None:
    planned = plan_scaling(CHURN, SCALING, description())
    assert (planned.asynchronous, planned.scaling.target_backlog) == (True, 5.0)
    planned = plan_scaling(CHURN, replace(SCALING, target_backlog=0.5), description())
    assert planned.scaling.target_backlog == 0.5


def test_a_real_time_endpoint_scales_by_invocations() -> None:
    scaling = replace(SCALING, target_invocations=70.0)
    planned = plan_scaling(CHURN, scaling, description(asynchronous=False, AsyncInferenceConfig=None))
    assert planned == ScalingPlan(variant=CHURN, scaling=scaling, asynchronous=False)


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"])
def test_an_endpoint_that_is_changed_can_be_scaled(status: str) -> None:
    """Scaling is an update too: an endpoint that scales may not be beyond reach."""
    assert plan_scaling(CHURN, SCALING, description(EndpointStatus=status)).asynchronous


@pytest.mark.parametrize(
    ("changes", "asynchronous", "message"),
    [
        (
            {"target_invocations": 70.0},
            True,
            "churn is asynchronous and scales by its backlog: leave target_inv",
        ),
        (
            {"target_backlog": 5.0},
            False,
            "churn is real-time and has no backlog: leave target_backlog_per_inst",
        ),
        (
            {"min_capacity": 0, "target_invocations": 70.0},
            False,
            "min_capacity is 0, but endpoint churn is real",
        ),
        ({}, False, "churn is real-time: give target_invocations_per_instance"),
    ],
)
def test_numbers_must_fit_the_kind_of_endpoint(
    changes: dict[str, Any], asynchronous: bool, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message):
        plan_scaling(CHURN, replace(SCALING, **changes), description(asynchronous=asynchronous))


@pytest.mark.parametrize("key", ["CurrentServerlessConfig", "DesiredServerlessConfig"])
def test_a_serverless_variant_scales_by_itself(key: str) -> None:
    variants = [{"VariantName": "AllTraffic", key: {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}]
    with pytest.raises(InvalidRequest, match="variant AllTraffic of endpoint churn is serverless"):
        plan_scaling(CHURN, SCALING, description(ProductionVariants=variants))


def test_an_unknown_variant_is_refused_with_the_existing_ones() -> None:
    variants = [{"VariantName": "blue"}, {"VariantName": "green"}]
    with pytest.raises(InvalidRequest, match=r"no variant 'AllTraffic'; variant_name is one of blue, green"):
        plan_scaling(CHURN, SCALING, description(ProductionVariants=variants))


@pytest.mark.parametrize(
    "answer", [{"EndpointStatus": "Creating", "ProductionVariants": None}, {"EndpointStatus": "Deleting"}]
)
def test_an_endpoint_without_variants_may_be_tried_again(answer: dict[str, Any]) -> None:
    with pytest.raises(EndpointNotInService, match=f"endpoint churn is {answer['EndpointStatus']}") as caught:
        plan_scaling(CHURN, SCALING, description(**answer))
    assert caught.value.retryable


@pytest.mark.parametrize("status", ["InService", "Updating", "SystemUpdating", "RollingBack"])
@pytest.mark.parametrize("variants", [None, []])
def test_a_serving_endpoint_described_without_variants_is_not_waited_for(
    status: str, variants: list[Any] | None
) -> None:
    answer = description(EndpointStatus=status, ProductionVariants=variants)
    with pytest.raises(
        EndpointNotInService, match=f"is {status}, but DescribeEndpoint names no production variants"
    ) as caught:
        plan_scaling(CHURN, SCALING, answer)
    assert "once it is InService" not in str(caught.value)


def test_a_failed_endpoint_is_refused_with_its_reason() -> None:
    failed = description(EndpointStatus="Failed", FailureReason="no capacity", ProductionVariants=None)
    with pytest.raises(EndpointUnchangeable, match=r"churn is Failed.*\nReason: no capacity\nDo: delete it"):
        plan_scaling(CHURN, SCALING, failed)


# The requests


def test_the_variant_is_registered_with_its_capacity() -> None:
    assert plan(asynchronous=True).registration() == TARGET | {"MinCapacity": 1, "MaxCapacity": 4}


def test_the_backlog_is_tracked_as_in_the_guide() -> None:
    assert plan(asynchronous=True).tracking_policy() == TARGET | {
        "PolicyName": "airflow-sm-backlog",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Namespace": "AWS/SageMaker",
                "Dimensions": [{"Name": "EndpointName", "Value": "churn"}],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 60,
        },
    }


def test_invocations_are_tracked_by_the_predefined_metric() -> None:
    assert plan(asynchronous=False).tracking_policy() == TARGET | {
        "PolicyName": "airflow-sm-invocations",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 70.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
            "ScaleInCooldown": 600,
            "ScaleOutCooldown": 60,
        },
    }


def test_waking_takes_a_step_policy_and_the_guides_alarm() -> None:
    sleeper = plan(asynchronous=True, min_capacity=0)
    assert sleeper.wake_policy() == TARGET | {
        "PolicyName": "airflow-sm-wake-from-zero",
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }
    assert sleeper.alarm("arn:the-policy") == {
        "AlarmName": "airflow-sm/endpoint/churn/variant/AllTraffic/HasBacklogWithoutCapacity",
        "AlarmDescription": (
            "Made by airflow-sm-plugin: wakes endpoint/churn/variant/AllTraffic from zero instances"
        ),
        "MetricName": "HasBacklogWithoutCapacity",
        "Namespace": "AWS/SageMaker",
        "Statistic": "Average",
        "Dimensions": [{"Name": "EndpointName", "Value": "churn"}],
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": ["arn:the-policy"],
    }


@pytest.mark.parametrize(
    ("asynchronous", "min_capacity", "names"),
    [
        (True, 0, {BACKLOG_POLICY, WAKE_POLICY}),
        (True, 1, {BACKLOG_POLICY}),
        (False, 1, {INVOCATIONS_POLICY}),
    ],
)
def test_each_plan_has_its_policies_and_only_ours_go_stale(
    asynchronous: bool, min_capacity: int, names: set[str]
) -> None:
    planned = plan(asynchronous=asynchronous, min_capacity=min_capacity)
    assert planned.wakes == (WAKE_POLICY in names)
    assert stale_policies(planned, ["others", *OUR_POLICIES]) == sorted(OUR_POLICIES - names)
    assert stale_policies(planned, ["others", *names]) == []


@pytest.mark.parametrize(
    ("message", "missing"),
    [
        ("No scaling policy found for service namespace: sagemaker, resource ID: endpoint/a/variant/b", True),
        (
            "No scalable target found for service namespace: sagemaker, resource ID: endpoint/a/variant/b",
            True,
        ),
        ("No scalable target registered for service namespace: sagemaker, resource ID: endpoint/a", True),
        ("Unsupported service namespace, resource type or scalable dimension", False),
        ("", False),
    ],
)
def test_texts_that_mean_missing(message: str, missing: bool) -> None:
    assert means_missing(message) is missing
