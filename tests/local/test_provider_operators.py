"""The Amazon provider's own model and endpoint operators and sensor, unchanged, against the embedded SageMaker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerEndpointConfigOperator,
    SageMakerEndpointOperator,
    SageMakerModelOperator,
)
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerEndpointSensor
from botocore.exceptions import WaiterError

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, IMAGE, REGION, ROLE, Clients, unique

if TYPE_CHECKING:
    from collections.abc import Callable

    Execute = Callable[[Mapping[str, object]], dict[str, dict[str, object]]]


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, sagemaker_server: EmbeddedSageMaker) -> None:
    """Point every AWS client at the embedded SageMaker, as a user does."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", sagemaker_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)


def _execute(operator: object) -> dict[str, dict[str, object]]:
    return cast("Execute", operator.execute)({})  # type: ignore[attr-defined] # every operator has it


def _model(clients: Clients, code: str) -> str:
    name = unique("model")
    url = clients.upload_archive({"code/inference.py": code})
    config = {
        "ModelName": name,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": url},
    }
    created = _execute(SageMakerModelOperator(task_id="model", config=config, aws_conn_id=None))
    assert created["Model"]["ModelName"] == name
    return name


def _config(model: str) -> str:
    name = unique("config")
    config = {
        "EndpointConfigName": name,
        "ProductionVariants": [
            {
                "VariantName": "AllTraffic",
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": "1",
            }
        ],
    }
    created = _execute(SageMakerEndpointConfigOperator(task_id="config", config=config, aws_conn_id=None))
    assert created["EndpointConfig"]["EndpointConfigName"] == name
    return name


def _endpoint(name: str, config: str, operation: str) -> dict[str, object]:
    operator = SageMakerEndpointOperator(
        task_id=operation,
        config={"EndpointName": name, "EndpointConfigName": config},
        operation=operation,
        check_interval=1,
        max_ingestion_time=60,
        aws_conn_id=None,
    )
    return _execute(operator)["Endpoint"]


def test_model_config_endpoint_and_sensor_create_then_update(clients: Clients) -> None:
    name = unique("endpoint")
    first, second = _config(_model(clients, ECHO)), _config(_model(clients, ECHO))
    created = _endpoint(name, first, "create")
    assert (created["EndpointStatus"], created["EndpointConfigName"]) == ("InService", first)
    assert clients.runtime.invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read() == b"x"
    updated = _endpoint(name, second, "update")
    assert (updated["EndpointStatus"], updated["EndpointConfigName"]) == ("InService", second)
    again = _endpoint(name, first, "create")  # it reads "Cannot create already existing endpoint" and updates
    assert again["EndpointConfigName"] == first
    sensor = SageMakerEndpointSensor(task_id="sensor", endpoint_name=name, aws_conn_id=None)
    assert sensor.poke({}) is True


def test_the_operator_sees_an_endpoint_fail_and_the_sensor_says_why(clients: Clients) -> None:
    name = unique("endpoint")
    with pytest.raises(WaiterError, match="Failed"):
        _endpoint(name, _config(_model(clients, "raise RuntimeError")), "create")
    sensor = SageMakerEndpointSensor(task_id="sensor", endpoint_name=name, aws_conn_id=None)
    with pytest.raises(Exception, match="did not pass the ping health check"):  # its class differs by version
        sensor.poke({})
