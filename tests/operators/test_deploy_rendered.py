"""DeployEndpoint's lists and mappings, given as the text that a template makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from tests.support import POLL, Account, Requests, context_for, run_task, unique

pytestmark = pytest.mark.airflow

SECRET = "hunter2-very-secret"
GUARDED: dict[str, Any] = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    }
}


def deploy(name: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {
        "poll_interval": POLL,
        "max_wait_seconds": 600,
        "deferrable": False,
        "aws_conn_id": None,
    }
    return SageMakerDeployEndpointOperator(task_id="deploy", endpoint_name=name, **usual | arguments)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    endpoint_name = unique("endpoint")
    yield endpoint_name
    if account.status(endpoint_name) is not None:
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.mark.parametrize("written", [json.dumps, repr], ids=["json", "python"])
def test_they_do_what_the_lists_and_mappings_themselves_do(
    account: Account, name: str, requests: Requests, written: Callable[[object], str]
) -> None:
    arguments: dict[str, Any] = {
        "production_variants": [
            {
                "ModelName": account.create_model(multi_model=True),
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 2,
            }
        ],
        "data_capture_config": {
            "EnableCapture": True,
            "InitialSamplingPercentage": 50,
            "DestinationS3Uri": f"s3://{account.bucket}/captured",
            "CaptureOptions": [{"CaptureMode": "Input"}],
        },
        "deployment_config": GUARDED,
        "tags": {"team": "churn"},
    }
    context = context_for()
    context["params"] = {argument: written(value) for argument, value in arguments.items()}
    texts = {argument: f"{{{{ params.{argument} }}}}" for argument in arguments}
    first = run_task(partial(deploy, name, **texts), context)
    assert first["action"] == "created"
    arn = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
    assert {"Key": "team", "Value": "churn"} in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]
    requests.forget()
    again = run_task(partial(deploy, name, **arguments))
    assert (again["action"], again["endpoint_config_name"]) == ("unchanged", first["endpoint_config_name"])
    assert "UpdateEndpoint" not in requests.changes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"production_variants": f"[{SECRET}]"}, "production_variants must be a list, or text of one"),
        (
            {"production_variants": {"ModelName": SECRET}},
            "production_variants must be a list, or text of one",
        ),
        ({"production_variants": [SECRET]}, "production_variants[0] must be a mapping, or text of one"),
        (
            {"production_variants": [{"ModelName": "m", "ServerlessConfig": SECRET}]},
            "ServerlessConfig must be a mapping, or text of one",
        ),
        ({"model_name": "m", "tags": f"team={SECRET}"}, "tags must be a mapping, or text of one"),
        (
            {"model_name": "m", "tags": [SECRET]},
            'tags must be a mapping, {"team": "risk"}, or a list as boto3 spells it',
        ),
        (
            {"model_name": "m", "data_capture_config": f"{{{SECRET}"},
            "data_capture_config must be a mapping, or text of one",
        ),
        (
            {"model_name": "m", "deployment_config": [GUARDED]},
            "deployment_config must be a mapping, or text of one",
        ),
        (
            {"model_name": "m", "deployment_config": {"BlueGreenUpdatePolicy": SECRET}},
            "BlueGreenUpdatePolicy must be a mapping, or text of one",
        ),
        (
            {
                "model_name": "m",
                "deployment_config": {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": "x"}},
            },
            "TrafficRoutingConfiguration must be a mapping, or text of one",
        ),
        ({"model_name": "m", "production_variants": "[]"}, "give either model_name (one variant) or"),
        ({"production_variants": "None"}, "give either model_name (one variant) or"),
    ],
)
def test_what_is_none_is_refused_for_good_before_any_call_and_without_its_value(
    requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(AirflowFailException) as caught:
        deploy("an-endpoint", **arguments).execute(context_for())
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not requests.count()
