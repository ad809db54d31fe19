"""Arguments of a deployment that SageMaker would refuse: they are refused before anything is created."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.operators.autoscaling import SageMakerScaleEndpointOperator
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from tests.support import IMAGE, POLL, ROLE, Account, botocore_knows_pools, run_task, unique

pytestmark = pytest.mark.airflow

SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}
INSTANCES = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
BLUE_GREEN = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    }
}
ROLLING = {
    "RollingUpdatePolicy": {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 0,
    }
}


def deploy(name: str, *variants: dict[str, Any], **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"poll_interval": POLL, "max_wait_seconds": 600, "aws_conn_id": None}
    return SageMakerDeployEndpointOperator(
        task_id="deploy",
        endpoint_name=name,
        production_variants=list(variants),
        **usual | {"deferrable": False} | arguments,
    )


def refusal(name: str, *variants: dict[str, Any], **arguments: Any) -> str:  # noqa: ANN401 - as above
    with pytest.raises(AirflowFailException, match="InvalidRequest") as refused:
        run_task(partial(deploy, name, *variants, **arguments))
    return str(refused.value)


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model()


@pytest.fixture(scope="module")
def many(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    endpoint_name = unique("endpoint")
    yield endpoint_name
    if account.status(endpoint_name) is not None:
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


def test_a_pipeline_is_not_deployed_serverless(account: Account, name: str) -> None:
    pipeline = unique("pipeline")
    container: Any = {"Image": IMAGE, "ModelDataUrl": account.upload_model()}
    account.sagemaker.create_model(
        ModelName=pipeline, ExecutionRoleArn=ROLE, Containers=[container, container]
    )
    message = refusal(name, {"VariantName": "v", "ModelName": pipeline, **SERVERLESS})
    assert f"cannot serve model {pipeline}: it is an inference pipeline of 2 containers" in message
    assert "Give instances" in message
    assert (account.configs(name), account.status(name)) == ([], None)


def test_a_multi_model_one_is_not_deployed_serverless(account: Account, name: str, many: str) -> None:
    assert "Mode MultiModel" in refusal(name, {"VariantName": "v", "ModelName": many, **SERVERLESS})
    assert account.configs(name) == []


@pytest.mark.parametrize("back", [False, True])
def test_instances_do_not_become_serverless_nor_back(
    account: Account, name: str, model: str, *, back: bool
) -> None:
    first, second = (SERVERLESS, INSTANCES) if back else (INSTANCES, SERVERLESS)
    run_task(partial(deploy, name, {"VariantName": "v", "ModelName": model, **first}))
    before = account.configs(name)
    message = refusal(name, {"VariantName": "v", "ModelName": model, **second})
    assert f"endpoint {name} is {'serverless' if back else 'with instances'}, and an update cannot" in message
    assert account.configs(name) == before


def test_guardrails_that_do_not_fit_are_reported_before_and_only_for_an_update(
    account: Account, name: str, many: str
) -> None:
    variant = {"ModelName": many, **INSTANCES}
    two = [{"VariantName": "v", **variant}, {"VariantName": "w", **variant}]
    run_task(partial(deploy, name, *two, deployment_config=ROLLING))  # a creation ignores it
    before = account.configs(name)
    assert f"endpoint {name} has v, w, the update v" in refusal(name, two[0], deployment_config=BLUE_GREEN)
    other = [{**one, "InitialVariantWeight": 2} for one in two]
    assert "RollingUpdatePolicy, but endpoint" in refusal(name, *other, deployment_config=ROLLING)
    assert account.configs(name) == before
    assert run_task(partial(deploy, name, *other, deployment_config=BLUE_GREEN))["action"] == "updated"


@pytest.mark.skipif(not botocore_knows_pools(), reason="the installed botocore knows no InstancePools")
def test_instance_pools_are_deployed_and_updated(account: Account, name: str, many: str) -> None:
    pools = [{"InstanceType": "ml.m5.large", "Priority": 1}, {"InstanceType": "ml.c5.large", "Priority": 2}]
    variant = {"VariantName": "v", "ModelName": many, "InstancePools": pools}
    assert run_task(partial(deploy, name, variant))["action"] == "created"
    assert run_task(partial(deploy, name, variant))["action"] == "unchanged"
    assert run_task(partial(deploy, name, {**variant, "InstancePools": pools[:1]}))["action"] == "updated"


def test_t2_instances_are_not_scaled(name: str, many: str) -> None:
    variant = {"VariantName": "v", "ModelName": many, **INSTANCES, "InstanceType": "ml.t2.medium"}
    run_task(partial(deploy, name, variant))
    scale = partial(
        SageMakerScaleEndpointOperator,
        task_id="scale",
        endpoint_name=name,
        variant_name="v",
        min_capacity=1,
        max_capacity=2,
        target_invocations_per_instance=5,
        aws_conn_id=None,
    )
    with pytest.raises(AirflowFailException, match="Application Auto Scaling does not scale t2 instances"):
        run_task(scale)
