"""One endpoint's creation, update or deletion for tests that disturb it: its beginning, its end, what had an effect.

Like ``tests/support.py`` it runs under Airflow 2.11 as well.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast
from urllib.parse import urlencode

import boto3

from airflow_sm_plugin.core.names import ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.operators.endpoint import (
    SageMakerDeleteEndpointOperator,
    SageMakerDeployEndpointOperator,
)
from airflow_sm_plugin.resources.scaling import SERVICE_NAMESPACE, WAKE_POLICY, ScaledVariant
from tests.support import Account, unique

__all__ = [
    "MADE_ONCE",
    "REGIONS",
    "VERBS",
    "End",
    "Trial",
    "Verb",
    "begun",
    "call_log",
    "control",
    "effects",
    "end_of",
    "in_region",
    "key_of",
    "may_execute",
    "operator_of",
    "without_marks",
]

Verb = Literal["create", "update", "delete"]
VERBS: tuple[Verb, ...] = ("create", "update", "delete")
MADE_ONCE = frozenset({"CreateEndpoint", "UpdateEndpoint", "CreateEndpointConfig", "DeleteEndpoint"})
"""Calls that cost money, or that a second time would hit something else."""

REGIONS = ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1")
"""For trials side by side, each in a region to itself: a trial waits most of the time."""

_OLDEST, _OLDER, _NEW = "ml.m5.large", "ml.m5.xlarge", "ml.c5.large"
_DERIVED = re.compile(r"-[0-9a-f]{12}$")


@dataclass(frozen=True)
class Trial:
    """An endpoint to create, update or delete, of the lightest kind: it starts no process.

    :param name: the endpoint's, and the beginning of its models' and configurations' names
    :param arguments: of our Deploy or Delete operator, JSON values
    :param since: the newest call in the log before it began
    """

    verb: Verb
    name: str
    arguments: Mapping[str, Any]
    since: int


@dataclass(frozen=True)
class End:
    """The state in the end, alike for every endpoint's name; instance types tell configurations apart."""

    status: str | None
    serves: str | None
    configs: list[str]
    models: list[str]
    scaling: list[str]


def begun(account: Account, verb: Verb) -> Trial:
    """Make what is there before: nothing, or an endpoint that has been updated once (and scales itself)."""
    name = unique(verb)
    models = [f"{name}-m{number}" for number in range(3 if verb == "update" else 2)]
    if verb == "create":
        models = models[:1]
    for model in models:
        account.sagemaker.create_model(
            ModelName=model,
            ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
            PrimaryContainer={
                "Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1",
                "ModelDataUrl": f"s3://{account.bucket}/models/",
                "Mode": "MultiModel",
            },
            Tags=[{"Key": OWNER_TAG, "Value": "an-earlier-run"}],
        )
    if verb != "create":
        older = [
            _config(account, f"{name}-{number:012x}", models[number], instance_type)
            for number, instance_type in enumerate((_OLDEST, _OLDER))
        ]
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=older[-1])
        account.wait_for_endpoint(name)
    if verb == "delete":
        _scale(account, name)
        arguments: dict[str, Any] = {"delete_models": True}
    else:
        arguments = {"model_name": models[-1], "instance_type": _NEW, "delete_old_models": True}
    region = {"region_name": account.sagemaker.meta.region_name}
    newest = int(cast("int", call_log(account, operation="-")["sequence"]))
    return Trial(verb, name, {"endpoint_name": name, **region, **arguments}, newest)


def operator_of(
    trial: Trial,
    **arguments: Any,  # noqa: ANN401 - the operator's own
) -> SageMakerDeployEndpointOperator | SageMakerDeleteEndpointOperator:
    """Return the trial's operator, made again; ``arguments`` are its own."""
    usual: dict[str, Any] = {
        "task_id": trial.verb,
        "max_wait_seconds": 600,
        "aws_conn_id": None,
        **trial.arguments,
        **arguments,
    }
    if trial.verb == "delete":
        return SageMakerDeleteEndpointOperator(**usual)
    return SageMakerDeployEndpointOperator(**{"deferrable": False, **usual})


def end_of(account: Account, trial: Trial) -> End:
    """Describe the present state."""
    status = account.status(trial.name)
    serves = None
    if status is not None:
        described = account.sagemaker.describe_endpoint(EndpointName=trial.name)
        serves = _instance_type(account, described["EndpointConfigName"])
    return End(
        status=status,
        serves=serves,
        configs=sorted(_instance_type(account, config) for config in account.configs(trial.name)),
        models=[model.removeprefix(trial.name) for model in account.models(trial.name)],
        scaling=[what.replace(trial.name, "*") for what in _scaling(account, trial.name)],
    )


def call_log(account: Account, **query: object) -> dict[str, object]:
    """Return what ``GET /_embedded/calls`` answers."""
    with urllib.request.urlopen(f"{account.url}/_embedded/calls?{urlencode(query)}", timeout=600) as answer:
        return cast("dict[str, object]", json.load(answer))


def control(account: Account, method: str, path: str, value: object = None) -> dict[str, Any]:
    """Call the embedded service's own ``/_embedded/<path>``: endpoints' outcomes and statuses, the fault plan."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"{account.url}/_embedded/{path}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        return cast("dict[str, Any]", json.loads(answer.read() or b"{}"))


def effects(account: Account, trial: Trial) -> Counter[tuple[str, str]]:
    """Count the calls about this endpoint, its configurations and models that changed something, since it began."""
    calls = cast("list[dict[str, Any]]", call_log(account, since=trial.since, service="*")["calls"])
    return Counter(
        (call["operation"], call["resource"])
        for call in calls
        if call["effect"] and trial.name in (call["resource"] or "")
    )


def without_marks(found: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Leave out that a later try marks the endpoint of an earlier one as deployed by itself."""
    return Counter({what: times for what, times in found.items() if what[0] != "AddTags"})


def key_of(found: Mapping[tuple[str, str], int]) -> Counter[str]:
    """Count effects by operation alone, to compare those of different endpoints."""
    counted: Counter[str] = Counter()
    for (operation, _), times in found.items():
        counted[operation] += times
    return counted


@functools.cache
def in_region(account: Account, region: str) -> Account:
    """Return the account in another region: operators list all endpoints of their own, so tests keep apart."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)
    return dataclasses.replace(account, sagemaker=session.client("sagemaker", endpoint_url=account.url))


def may_execute() -> None:
    """Airflow 2.11 keeps who executes an operator in a thread-local that it prepares for the main thread only."""
    safeguard = getattr(sys.modules.get("airflow.models.baseoperator"), "ExecutorSafeguard", None)
    sentinel = getattr(safeguard, "_sentinel", None)
    if isinstance(sentinel, threading.local):
        setattr(sentinel, "callers", {})  # noqa: B010 - an attribute that types do not know


def _config(account: Account, name: str, model: str, instance_type: str) -> str:
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InstanceType": cast("Any", instance_type),
                "InitialInstanceCount": 1,
            }
        ],
        Tags=[{"Key": ENDPOINT_TAG, "Value": name.rpartition("-")[0]}],
    )
    return name


def _instance_type(account: Account, config: str) -> str:
    (variant,) = account.sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    derived = "" if _DERIVED.search(config) else " not derived"
    return f"{variant['InstanceType']}{derived}"


@functools.cache
def _clients(url: str, region: str) -> tuple[Any, Any]:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=region)
    return (
        session.client("application-autoscaling", endpoint_url=url),
        session.client("cloudwatch", endpoint_url=url),
    )


def _scale(account: Account, name: str) -> None:
    """Leave a scalable target with a policy and an alarm of ours."""
    autoscaling, cloudwatch = _clients(account.url, account.sagemaker.meta.region_name)
    variant = ScaledVariant(name, "AllTraffic")
    target = {
        "ServiceNamespace": SERVICE_NAMESPACE,
        "ResourceId": variant.resource_id,
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    autoscaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    policy = autoscaling.put_scaling_policy(
        **target,
        PolicyName=WAKE_POLICY,
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    cloudwatch.put_metric_alarm(
        AlarmName=variant.alarm_name,
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[policy["PolicyARN"]],
    )


def _scaling(account: Account, name: str) -> list[str]:
    autoscaling, cloudwatch = _clients(account.url, account.sagemaker.meta.region_name)
    variant = ScaledVariant(name, "AllTraffic")
    targets = autoscaling.describe_scalable_targets(
        ServiceNamespace=SERVICE_NAMESPACE, ResourceIds=[variant.resource_id]
    )["ScalableTargets"]
    policies = autoscaling.describe_scaling_policies(
        ServiceNamespace=SERVICE_NAMESPACE, ResourceId=variant.resource_id
    )["ScalingPolicies"]
    alarms = cloudwatch.describe_alarms(AlarmNames=[variant.alarm_name])["MetricAlarms"]
    return [
        *(one["ResourceId"] for one in targets),
        *(one["PolicyName"] for one in policies),
        *(one["AlarmName"] for one in alarms),
    ]
