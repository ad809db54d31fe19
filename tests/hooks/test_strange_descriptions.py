"""Endpoints of inference components, instance pools, nothing but names: whatever is described legally is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.deletion import EndpointDeletion, EndpointUsage
from airflow_sm_plugin.endpoints.deployment import Deployment
from airflow_sm_plugin.endpoints.options import DeploymentOptions
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec, Variant
from tests.stubs.recorder import Asked, Said, recording
from tests.support import context_for

pytestmark = pytest.mark.airflow

ARN = "arn:aws:sagemaker:us-east-1:123456789012:endpoint"
POOLS = [{"InstanceType": "ml.m5.large", "Priority": 1}]
# Members that the service model requires are there, and no others but those of the kind.
ENDPOINTS: dict[str, dict[str, Any]] = {
    "without variants": {},
    "component": {
        "ProductionVariants": [{"VariantName": "v", "ManagedInstanceScaling": {"Status": "ENABLED"}}]
    },
    "pools": {
        "ProductionVariants": [{"VariantName": "v", "InstancePools": POOLS, "CurrentInstanceCount": 1}]
    },
    "only names": {"ProductionVariants": [{"VariantName": "v"}, {"VariantName": "w"}]},
    "without a configuration": {"EndpointConfigName": None},
    "variants without a configuration": {
        "EndpointConfigName": None,
        "ProductionVariants": [{"VariantName": "v"}],
    },
    "pending": {"PendingDeploymentSummary": {"EndpointConfigName": "c"}, "EndpointStatus": "InService"},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "component": {"ProductionVariants": [{"VariantName": "v", "InstanceType": "ml.g5.xlarge"}]},
    "pools": {"ProductionVariants": [{"VariantName": "v", "ModelName": "m", "InstancePools": POOLS}]},
    "only names": {"ProductionVariants": [{"VariantName": "v"}]},
    "nothing": {"ProductionVariants": []},
}
CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")


def answers(endpoint: Mapping[str, Any], config: Mapping[str, Any]) -> Callable[[Asked], Said]:
    """Answer as a service in which there is this endpoint; calls that change something succeed without a word."""
    known: dict[str, Mapping[str, Any]] = {
        "DescribeEndpoint": {
            "EndpointName": "e",
            "EndpointArn": f"{ARN}/e",
            "EndpointConfigName": "c",
            "EndpointStatus": "InService",
            "CreationTime": 1.0,
            "LastModifiedTime": 1.0,
            **endpoint,
        },
        "DescribeEndpointConfig": {
            "EndpointConfigName": "c",
            "EndpointConfigArn": f"{ARN}-config/c",
            "CreationTime": 1.0,
            **config,
        },
        "DescribeModel": {"ModelName": "m", "ModelArn": "arn", "CreationTime": 1.0},
        "ListEndpoints": {"Endpoints": []},
        "ListEndpointConfigs": {"EndpointConfigSummaries": [], "EndpointConfigs": []},
        "ListTags": {"Tags": []},
        "DescribeScalableTargets": {"ScalableTargets": []},
        "DescribeScalingPolicies": {"ScalingPolicies": []},
    }

    def answer(asked: Asked) -> Said:
        operation = asked.headers.get("x-amz-target", "").rpartition(".")[2]
        body = known.get(operation, {"EndpointArn": f"{ARN}/e", "EndpointConfigArn": f"{ARN}-config/c"})
        body = {name: value for name, value in body.items() if value is not None}
        return Said(200, json.dumps(body).encode(), {"Content-Type": "application/x-amz-json-1.1"})

    return answer


def hook() -> SageMakerControlPlaneHook:
    return SageMakerControlPlaneHook(**CONNECTION.hook_arguments())


def deploy() -> object:
    variant = Variant(model_name="m", instance_type="ml.c5.large")
    spec = EndpointConfigSpec(endpoint_name="e", variants=[variant])
    options = DeploymentOptions(max_wait=0, poll_interval=0.01, rescale=True)
    working = Deployment(hook(), spec, options, EndpointScaling(CONNECTION))
    working.scaling.put_back()
    return working.act()


def delete() -> object:
    deletion = EndpointDeletion(hook(), "e")
    return deletion.delete_models([], of_configs=True), deletion.delete_configs()


def scale() -> object:
    return SageMakerScaleEndpointOperator(
        task_id="scale",
        endpoint_name="e",
        variant_name="v",
        min_capacity=1,
        max_capacity=2,
        target_invocations_per_instance=5,
        aws_conn_id=None,
        region_name="us-east-1",
    ).execute(context_for())


READERS: Mapping[str, Callable[[], object]] = {
    "deploy": deploy,
    "delete": delete,
    "scale": scale,
    "usage": lambda: EndpointUsage(hook()).models_in(["c"]),
    "used models": lambda: EndpointUsage(hook()).of_models(["m"]),
    "multi-model": lambda: asyncio.run(EndpointFacts(CONNECTION, "e").models()),
    "gone": lambda: asyncio.run(EndpointFacts(CONNECTION, "e").is_gone()),
    "locations": lambda: asyncio.run(EndpointFacts(CONNECTION, "e").written_locations()),
    "output paths": lambda: asyncio.run(EndpointFacts(CONNECTION, "e").output_paths()),
    "wait": lambda: hook().poll_until("e", lambda _: True, give_up=0, poll_interval=0.01),
}


def test_the_configuration_stays_that_a_description_may_leave_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read of an endpoint's configuration, nor refused, where its description does not name one."""
    with recording(answers(ENDPOINTS["without a configuration"], CONFIGS["only names"])) as service:
        monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
        assert EndpointDeletion(hook(), "e").delete_configs() == {}
        models = asyncio.run(EndpointFacts(CONNECTION, "e").models())
        assert models is not None
        assert models.prefixes == ()


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_whatever_is_described_legally_is_read_or_refused_in_our_words(
    reader: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    for endpoint in ENDPOINTS.values():
        for config in CONFIGS.values():
            with recording(answers(endpoint, config)) as service:
                monkeypatch.setenv("AWS_ENDPOINT_URL", service.url)
                try:
                    reader()
                except SageMakerInferenceError:
                    continue
                except Exception as error:  # Airflow's own, made of ours
                    if type(error).__name__ != "AirflowFailException":
                        raise
