"""Refused configurations, updates and deletions, over HTTP, in SageMaker's words where they are recorded."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.faults.recorded import GRADES, recorded_answers
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, Clients, unique

INSTANCES: dict[str, Any] = {"VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
SERVERLESS: dict[str, Any] = {
    "VariantName": "v",
    "ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5},
}
ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "INSTANCE_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 0,
    }
}
BLUE_GREEN = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    }
}


@cache
def autoscaling(url: str) -> Any:  # noqa: ANN401 - boto3's
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("application-autoscaling", endpoint_url=url)


def config(clients: Clients, *variants: dict[str, Any], **more: Any) -> str:  # noqa: ANN401 - of the request
    name = unique("config")
    filled: Any = [{"ModelName": clients.create_model(), **variant} for variant in variants]
    clients.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=filled, **more)
    return name


def deployed(clients: Clients, *variants: dict[str, Any]) -> str:
    name = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config(clients, *variants))
    clients.wait_for_endpoint(name)
    return name


def refused(clients: Clients, name: str, *variants: dict[str, Any], **more: Any) -> str:  # noqa: ANN401 - as above
    """Return what an update is refused with; nothing has changed then."""
    before = clients.sagemaker.describe_endpoint(EndpointName=name)
    with pytest.raises(ClientError) as error:
        clients.sagemaker.update_endpoint(
            EndpointName=name, EndpointConfigName=config(clients, *variants), **more
        )
    after = clients.sagemaker.describe_endpoint(EndpointName=name)
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == (
        "InService",
        before["EndpointConfigName"],
    )
    assert error.value.response["Error"]["Code"] == "ValidationException"
    return str(error.value.response["Error"]["Message"])


def target_of(name: str, variant: str = "v") -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{variant}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def left_of(client: Any, name: str) -> list[Any]:  # noqa: ANN401 - boto3's
    """Return what Application Auto Scaling knows of an endpoint's variant."""
    resource = {"ServiceNamespace": "sagemaker", "ResourceId": target_of(name)["ResourceId"]}
    return [
        *client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource["ResourceId"]])[
            "ScalableTargets"
        ],
        *client.describe_scaling_policies(**resource)["ScalingPolicies"],
        *client.describe_scheduled_actions(**resource)["ScheduledActions"],
    ]


@pytest.fixture
def scaled(sagemaker_server: EmbeddedSageMaker, clients: Clients) -> Iterator[str]:
    """An endpoint of two variants, of which ``v`` scales, with a policy and a scheduled action."""
    name = deployed(clients, INSTANCES, {**INSTANCES, "VariantName": "w"})
    client, target = autoscaling(sagemaker_server.url), target_of(name)
    client.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    client.put_scaling_policy(
        **target,
        PolicyName="steps",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={"AdjustmentType": "ExactCapacity", "StepAdjustments": []},
    )
    client.put_scheduled_action(
        **target, ScheduledActionName="n", Schedule="rate(1 day)", ScalableTargetAction={"MinCapacity": 1}
    )
    yield name
    if left_of(client, name):
        client.deregister_scalable_target(**target)


@pytest.mark.parametrize(
    "change", [{"InstanceType": "ml.c5.large"}, {"VariantName": "x"}], ids=["another type", "removed"]
)
def test_a_scalable_target_keeps_its_instance_type_and_its_variant(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, scaled: str, change: dict[str, Any]
) -> None:
    other = {**INSTANCES, "VariantName": "w"}
    assert refused(clients, scaled, {**INSTANCES, **change}, other) == (
        'The variant(s) "v" must be deregistered as scalable targets with AWS Auto Scaling before they can be removed '
        "or have their instance type updated."
    )
    autoscaling(sagemaker_server.url).deregister_scalable_target(**target_of(scaled))
    clients.sagemaker.update_endpoint(
        EndpointName=scaled, EndpointConfigName=config(clients, {**INSTANCES, **change}, other)
    )
    clients.wait_for_endpoint(scaled)


def test_what_is_no_scalable_target_may_change(clients: Clients, scaled: str) -> None:
    clients.sagemaker.update_endpoint(
        EndpointName=scaled,
        EndpointConfigName=config(clients, {**INSTANCES, "InitialInstanceCount": 2}),
    )
    clients.wait_for_endpoint(scaled)


def test_deleting_an_endpoint_deregisters_its_variants_and_nothing_else(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, scaled: str
) -> None:
    client, other = autoscaling(sagemaker_server.url), unique("other")
    client.register_scalable_target(**target_of(other), MinCapacity=1, MaxCapacity=2)
    clients.sagemaker.delete_endpoint(EndpointName=scaled)
    clients.wait_until_deleted(scaled)
    assert left_of(client, scaled) == []
    assert len(left_of(client, other)) == 1
    client.deregister_scalable_target(**target_of(other))


@pytest.mark.parametrize(
    ("model", "more", "variants", "says"),
    [
        ({}, {"EnableCapture": 1}, [SERVERLESS], "data capture"),
        ({}, {}, [SERVERLESS, {**SERVERLESS, "VariantName": "w"}], "several production variants"),
        ({"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, {}, [SERVERLESS], "a VPC"),
        ({"EnableNetworkIsolation": True}, {}, [SERVERLESS], "network isolation"),
    ],
)
def test_serverless_excludes(
    clients: Clients, model: dict[str, Any], more: dict[str, Any], variants: list[dict[str, Any]], says: str
) -> None:
    name = unique("model")
    described = clients.sagemaker.describe_model(ModelName=clients.create_model())
    clients.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=described["ExecutionRoleArn"],
        PrimaryContainer=described["PrimaryContainer"],
        **model,
    )
    capture: dict[str, Any] = {
        "DataCaptureConfig": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 100,
            "DestinationS3Uri": f"s3://{clients.bucket}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        }
    }
    with pytest.raises(ClientError, match=f"Serverless endpoints do not support {says}"):
        config(
            clients, *({**variant, "ModelName": name} for variant in variants), **(capture if more else {})
        )


@pytest.mark.parametrize("provisioned", [1, 2, 3])
def test_serverless_provisions_no_more_than_it_permits(clients: Clients, provisioned: int) -> None:
    serverless = {"MemorySizeInMB": 2048, "MaxConcurrency": 2, "ProvisionedConcurrency": provisioned}
    variant = {**SERVERLESS, "ModelName": clients.create_model(), "ServerlessConfig": serverless}
    if provisioned <= 2:
        assert config(clients, variant)
    else:
        with pytest.raises(ClientError, match="must be at most its MaxConcurrency, 2, not 3"):
            config(clients, variant)


@pytest.mark.parametrize(("before", "after"), [(INSTANCES, SERVERLESS), (SERVERLESS, INSTANCES)])
def test_an_endpoint_stays_serverless_or_with_instances(
    clients: Clients, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert "cannot be updated from" in refused(clients, deployed(clients, before), after)


def test_guardrails_need_the_same_variants(clients: Clients) -> None:
    name, other = deployed(clients, INSTANCES), {**INSTANCES, "VariantName": "w"}
    assert "the same production variants" in refused(clients, name, other, DeploymentConfig=BLUE_GREEN)
    clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config(clients, other))
    clients.wait_for_endpoint(name)


@pytest.mark.parametrize(
    ("variants", "says"),
    [
        ([INSTANCES, {**INSTANCES, "VariantName": "w"}], "several variants"),
        ([SERVERLESS], "serverless variants"),
    ],
)
def test_only_one_variant_with_instances_is_rolled(
    clients: Clients, variants: list[dict[str, Any]], says: str
) -> None:
    name = deployed(clients, *variants)
    text = refused(clients, name, *variants, DeploymentConfig=ROLLING)
    assert text == f"RollingUpdatePolicy does not support {says}."


def test_managed_instance_scaling_is_for_inference_components(clients: Clients) -> None:
    scaling = {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2}
    with pytest.raises(
        ClientError, match="ManagedInstanceScaling is only supported for inference component endpoints"
    ):
        config(clients, {**INSTANCES, "ManagedInstanceScaling": scaling})


def test_instance_pools_stand_for_an_instance_type(clients: Clients) -> None:
    pools = [{"InstanceType": "ml.m5.large", "Priority": 1}, {"InstanceType": "ml.c5.large", "Priority": 2}]
    name = deployed(clients, {"VariantName": "v", "InstancePools": pools})
    described = clients.sagemaker.describe_endpoint(EndpointName=name)
    (variant,) = described["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 1
    clients.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config(clients, INSTANCES))
    clients.wait_for_endpoint(name)


def test_a_variant_without_a_model_is_refused_and_no_failure_of_the_service(clients: Clients) -> None:
    with pytest.raises(ClientError, match="Production variant v names no model"):
        clients.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("config"),
            ProductionVariants=[
                {"VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
            ],
        )


def test_every_row_of_the_table_has_a_grade_and_a_source() -> None:
    for answer in recorded_answers().values():
        assert answer.grade in GRADES
        assert answer.source
        assert answer.status >= 400
