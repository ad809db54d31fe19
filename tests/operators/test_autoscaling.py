"""ScaleEndpoint: policies and alarm read back as asked, put again, changed, and taken off without a trace."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import WaiterError

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.exceptions import EndpointNotInService, ServiceUnavailable
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from tests.support import Account, TaskInstanceDouble, closed_port, context_for, run_task, unique

if TYPE_CHECKING:
    from mypy_boto3_application_autoscaling import ApplicationAutoScalingClient
    from mypy_boto3_cloudwatch import CloudWatchClient

pytestmark = pytest.mark.airflow

BACKLOG, WAKE, INVOCATIONS = "airflow-sm-backlog", "airflow-sm-wake-from-zero", "airflow-sm-invocations"


def scale(name: str, **arguments: Any) -> SageMakerScaleEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"min_capacity": 0, "max_capacity": 3, "aws_conn_id": None}
    return SageMakerScaleEndpointOperator(task_id="scale", endpoint_name=name, **usual | arguments)


@dataclass(frozen=True)
class Seen:
    """The settings of an endpoint's variants in Application Auto Scaling and CloudWatch."""

    capacity: list[tuple[int, int]]
    policies: Mapping[str, Mapping[str, Any]]
    alarms: Mapping[str, Mapping[str, Any]]


NOTHING = Seen(capacity=[], policies={}, alarms={})


@functools.cache
def clients() -> tuple[ApplicationAutoScalingClient, CloudWatchClient]:
    """Clients of the embedded service, which stays the same for all tests: to make them takes longest."""
    return boto3.client("application-autoscaling"), boto3.client("cloudwatch")


@functools.cache
def cleaner() -> EndpointScaling:
    """The object that takes scaling off after a test."""
    return EndpointScaling(AwsConnection(aws_conn_id=None))


def seen(endpoint: str, variant: str = "AllTraffic") -> Seen:
    """Read the state with separate clients."""
    autoscaling, cloudwatch = clients()
    resource = f"endpoint/{endpoint}/variant/{variant}"
    targets = autoscaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
    policies = autoscaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=f"airflow-sm/endpoint/{endpoint}/")["MetricAlarms"]
    return Seen(
        capacity=[(one["MinCapacity"], one["MaxCapacity"]) for one in targets["ScalableTargets"]],
        policies={one["PolicyName"]: one for one in policies["ScalingPolicies"]},
        alarms={one["AlarmName"]: one for one in alarms},
    )


@pytest.fixture(scope="module")
def models(module_account: Account) -> str:
    return module_account.create_model()


def deployed(account: Account, config: str) -> str:
    name = unique("scaled")
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    account.wait_for_endpoint(name)
    return name


@pytest.fixture(scope="module")
def asynchronous_one(module_account: Account, models: str) -> str:
    return deployed(module_account, module_account.create_config(models, asynchronous=True))


@pytest.fixture(scope="module")
def real_time_one(module_account: Account, models: str) -> str:
    return deployed(module_account, module_account.create_config(models))


@pytest.fixture
def asynchronous(account: Account, asynchronous_one: str) -> Iterator[str]:
    """An asynchronous endpoint InService; nothing scales it before and after the test."""
    yield asynchronous_one
    cleaner().remove(asynchronous_one)


@pytest.fixture
def real_time(account: Account, real_time_one: str) -> Iterator[str]:
    """A real-time endpoint InService; nothing scales it before and after the test."""
    yield real_time_one
    cleaner().remove(real_time_one)


def test_an_asynchronous_endpoint_scales_to_zero_and_back_and_all_reads_back_equal(asynchronous: str) -> None:
    result = run_task(
        partial(
            scale,
            asynchronous,
            target_backlog_per_instance=2.5,
            scale_in_cooldown=600,
            scale_out_cooldown=60,
        )
    )
    there = seen(asynchronous)
    assert there.capacity == [(0, 3)]
    assert there.policies[BACKLOG]["TargetTrackingScalingPolicyConfiguration"] == {
        "TargetValue": 2.5,
        "CustomizedMetricSpecification": {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": asynchronous}],
            "Statistic": "Average",
        },
        "ScaleInCooldown": 600,
        "ScaleOutCooldown": 60,
    }
    assert there.policies[WAKE]["StepScalingPolicyConfiguration"] == {
        "AdjustmentType": "ChangeInCapacity",
        "MetricAggregationType": "Average",
        "Cooldown": 60,
        "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
    }
    ((alarm_name, alarm),) = there.alarms.items()
    expected = {
        "MetricName": "HasBacklogWithoutCapacity",
        "Namespace": "AWS/SageMaker",
        "Statistic": "Average",
        "Dimensions": [{"Name": "EndpointName", "Value": asynchronous}],
        "Period": 60,
        "EvaluationPeriods": 2,
        "DatapointsToAlarm": 2,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "ActionsEnabled": True,
        "AlarmActions": [there.policies[WAKE]["PolicyARN"]],
    }
    assert {key: alarm.get(key) for key in expected} == expected
    assert result == {
        "endpoint_name": asynchronous,
        "variant_name": "AllTraffic",
        "min_capacity": 0,
        "max_capacity": 3,
        "policies": {name: there.policies[name]["PolicyARN"] for name in (WAKE, BACKLOG)},
        "alarm_names": [alarm_name],
        "removed": [],
    }


def test_a_real_time_endpoint_tracks_invocations(real_time: str) -> None:
    result = run_task(
        partial(scale, real_time, min_capacity=1, target_invocations_per_instance=70, scale_in_cooldown=0)
    )
    there = seen(real_time)
    assert there.capacity == [(1, 3)]
    assert list(there.policies) == [INVOCATIONS]
    assert there.policies[INVOCATIONS]["TargetTrackingScalingPolicyConfiguration"] == {
        "TargetValue": 70.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        "ScaleInCooldown": 0,
        "ScaleOutCooldown": 300,
    }
    assert there.alarms == {}
    assert result["policies"] == {INVOCATIONS: there.policies[INVOCATIONS]["PolicyARN"]}
    assert (result["alarm_names"], result["removed"]) == ([], [])


def test_text_from_templates_becomes_numbers(asynchronous: str) -> None:
    result = run_task(
        partial(
            scale,
            "{{ '" + asynchronous + "' }}",
            min_capacity="{{ 0 + 1 }}",
            max_capacity="{{ 2 * 2 }}",
            target_backlog_per_instance="{{ 7 / 2 }}",
            target_invocations_per_instance="{{ '' }}",
            scale_in_cooldown="{{ 60 * 2 }}",
            action="{{ 'apply' }}",
        )
    )
    assert (result["min_capacity"], result["max_capacity"]) == (1, 4)
    there = seen(asynchronous)
    assert there.capacity == [(1, 4)]
    tracking = there.policies[BACKLOG]["TargetTrackingScalingPolicyConfiguration"]
    assert (tracking["TargetValue"], tracking["ScaleInCooldown"]) == (3.5, 120)


def test_applying_again_changes_nothing_and_leaves_one_of_each(asynchronous: str) -> None:
    first, again = (run_task(partial(scale, asynchronous)) for _ in range(2))
    there = seen(asynchronous)
    assert there.capacity == [(0, 3)]
    assert sorted(there.policies) == [BACKLOG, WAKE]
    assert len(there.alarms) == 1
    assert list(again) == list(first)
    assert (list(again["policies"]), again["alarm_names"], again["removed"]) == (
        list(first["policies"]),
        first["alarm_names"],
        [],
    )
    (alarm,) = there.alarms.values()
    assert alarm["AlarmActions"] == [again["policies"][WAKE]]


def test_a_change_puts_what_is_new_and_removes_what_is_no_longer_wanted(asynchronous: str) -> None:
    first = run_task(partial(scale, asynchronous))
    changed = run_task(
        partial(scale, asynchronous, min_capacity=1, max_capacity=5, target_backlog_per_instance=9)
    )
    there = seen(asynchronous)
    assert there.capacity == [(1, 5)]
    assert list(there.policies) == [BACKLOG]
    assert there.policies[BACKLOG]["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 9.0
    assert there.alarms == {}
    resource = f"endpoint/{asynchronous}/variant/AllTraffic"
    assert changed["removed"] == [f"alarm {first['alarm_names'][0]}", f"policy {WAKE} of {resource}"]
    assert changed["alarm_names"] == []


def test_an_endpoint_that_became_real_time_keeps_nothing_of_its_backlog(
    account: Account, models: str
) -> None:
    """The name stayed; SageMaker deregistered what it deleted, and leaves the alarm behind."""
    name = deployed(account, account.create_config(models, asynchronous=True))
    run_task(partial(scale, name))
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=account.create_config(models))
    account.wait_for_endpoint(name)

    result = run_task(partial(scale, name, min_capacity=1, target_invocations_per_instance=100))

    there = seen(name)
    assert (list(there.policies), there.alarms) == ([INVOCATIONS], {})
    assert [what.split()[0] for what in result["removed"]] == ["alarm"]
    run_task(partial(scale, name, action="remove"))
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_policies_of_others_are_left_alone_until_the_variant_is_removed(real_time: str) -> None:
    operator = partial(scale, real_time, min_capacity=1, target_invocations_per_instance=70)
    run_task(operator)
    clients()[0].put_scaling_policy(
        PolicyName="by-hand",
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/{real_time}/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={"AdjustmentType": "ExactCapacity", "StepAdjustments": []},
    )
    assert run_task(operator)["removed"] == []
    assert sorted(seen(real_time).policies) == [INVOCATIONS, "by-hand"]
    run_task(partial(scale, real_time, action="remove"))
    assert seen(real_time) == NOTHING


def test_remove_takes_everything_off_and_may_be_repeated(asynchronous: str) -> None:
    applied = run_task(partial(scale, asynchronous))
    remove = partial(scale, asynchronous, action="remove", min_capacity=None, max_capacity=None)
    removed, again = run_task(remove), run_task(remove)
    assert seen(asynchronous) == NOTHING
    resource = f"endpoint/{asynchronous}/variant/AllTraffic"
    assert removed == {
        "endpoint_name": asynchronous,
        "variant_name": "AllTraffic",
        "min_capacity": None,
        "max_capacity": None,
        "policies": {},
        "alarm_names": [],
        "removed": [
            f"alarm {applied['alarm_names'][0]}",
            *sorted(f"policy {name} of {resource}" for name in (BACKLOG, WAKE)),
            f"scalable target {resource}",
        ],
    }
    assert again == removed | {"removed": []}


def test_removing_from_an_endpoint_that_is_gone_is_fine(account: Account) -> None:
    assert run_task(partial(scale, unique("gone"), action="remove"))["removed"] == []


def test_the_console_link_knows_the_endpoint(asynchronous: str) -> None:
    ti = TaskInstanceDouble()
    run_task(partial(scale, asynchronous), context_for(ti))
    stored = ti.xcom["sagemaker_endpoint_link"]
    assert (stored["region_name"], stored["endpoint_name"]) == ("us-east-1", asynchronous)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min_capacity": None}, "min_capacity must be a whole number, 0 or more, not None"),
        ({"min_capacity": -1}, "min_capacity must be a whole number, 0 or more, not -1"),
        ({"min_capacity": 4}, "max_capacity is 3, less than min_capacity, which is 4"),
        ({"max_capacity": "lots"}, "max_capacity must be a whole number, 1 or more, not 'lots'"),
        ({"scale_in_cooldown": -1}, "scale_in_cooldown must be a whole number, 0 or more, not -1"),
        ({"scale_out_cooldown": -1}, "scale_out_cooldown must be a whole number, 0 or more, not -1"),
        ({"target_backlog_per_instance": 0}, "target_backlog_per_instance must be a number greater than 0"),
        ({"variant_name": "blue"}, "has no variant 'blue'; variant_name is one of AllTraffic"),
        ({"variant_name": "b/l"}, "the variant name 'b/l' holds '/'"),
        ({"target_invocations_per_instance": 70}, "is asynchronous and scales by its backlog"),
        ({"action": "stop"}, "action must be apply or remove, not 'stop'"),
        ({"endpoint_name": "no_name"}, "the endpoint name 'no_name' holds '_'"),
        (
            {"endpoint_name": "no-such-endpoint"},
            "EndpointNotFound: there is no endpoint no-such-endpoint in us-",
        ),
    ],
)
def test_bad_input_is_reported_and_registers_nothing(
    asynchronous: str, arguments: dict[str, Any], says: str
) -> None:
    given: dict[str, Any] = {"endpoint_name": asynchronous, "min_capacity": 0, "max_capacity": 3} | arguments
    with pytest.raises(AirflowFailException) as caught:
        SageMakerScaleEndpointOperator(task_id="scale", aws_conn_id=None, **given).execute(context_for())
    assert says in str(caught.value)
    assert seen(asynchronous) == NOTHING


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            {"min_capacity": 0, "target_invocations_per_instance": 70},
            "only an asynchronous endpoint scales to",
        ),
        ({"target_backlog_per_instance": 5}, "is real-time and has no backlog"),
        ({}, "is real-time: give target_invocations_per_instance"),
    ],
)
def test_what_does_not_fit_a_real_time_endpoint_is_reported(
    real_time: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException, match=says):
        run_task(partial(scale, real_time, **{"min_capacity": 1} | arguments))
    assert seen(real_time) == NOTHING


def test_a_serverless_variant_is_refused(account: Account, models: str) -> None:
    config = unique("config")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": models,
                "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
            }
        ],
    )
    name = deployed(account, config)
    with pytest.raises(AirflowFailException, match=f"variant AllTraffic of endpoint {name} is serverless"):
        run_task(partial(scale, name, min_capacity=1, target_invocations_per_instance=70))
    assert seen(name) == NOTHING
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_an_endpoint_that_is_still_created_may_be_retried(account: Account, models: str) -> None:
    name = unique("scaled")
    with account.settings(endpoint_creating_seconds=3600):
        account.sagemaker.create_endpoint(
            EndpointName=name, EndpointConfigName=account.create_config(models, asynchronous=True)
        )
        with pytest.raises(EndpointNotInService, match=f"endpoint {name} is Creating"):
            run_task(partial(scale, name))
    assert seen(name) == NOTHING


def test_a_failed_endpoint_is_reported_with_its_reason(account: Account) -> None:
    model = account.create_model_without_artefact()
    name, config = unique("scaled"), account.create_config(model, asynchronous=True)
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    with pytest.raises(WaiterError):
        account.wait_for_endpoint(name)
    with pytest.raises(
        AirflowFailException, match=rf"(?s)EndpointUnchangeable: endpoint {name} is Failed.*Reason: \S+"
    ):
        run_task(partial(scale, name))
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_a_service_that_is_not_there_may_be_retried(
    asynchronous: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING", closed_port())
    operator = partial(scale, asynchronous, botocore_config={"retries": {"total_max_attempts": 1}})
    doing = "application-autoscaling:RegisterScalableTarget endpoint/"
    with pytest.raises(ServiceUnavailable, match=doing):
        run_task(operator)
    monkeypatch.delenv("AWS_ENDPOINT_URL_APPLICATION_AUTO_SCALING")
    assert seen(asynchronous) == NOTHING
