"""An update sets instance counts to the configuration's: where the endpoint has scaled, the log says so before."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from tests.endpoint_trials import control
from tests.support import POLL, Account, run_task, unique

pytestmark = pytest.mark.airflow


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"poll_interval": POLL, "max_wait_seconds": 600, "aws_conn_id": None}
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | {"deferrable": False} | arguments
    )


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    return module_account.create_model(multi_model=True)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    endpoint_name = unique("endpoint")
    yield endpoint_name
    account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.fixture
def scaled(account: Account, name: str, model: str) -> str:
    """Our endpoint, scaled from one instance to three."""
    run_task(partial(deploy, name, model))
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    account.wait_for_endpoint(name)
    return name


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "CurrentInstanceCount" in text]


def test_it_warns_naming_variant_counts_and_argument(
    account: Account, scaled: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    run_task(partial(deploy, scaled, model, instance_type="ml.c5.large"))
    (line,) = warnings(caplog)
    assert f"endpoint {scaled} sets variant AllTraffic" in line
    assert "CurrentInstanceCount 3, to InitialInstanceCount 1" in line
    assert "retain_variant_properties=True" in line
    (variant,) = account.sagemaker.describe_endpoint(EndpointName=scaled)["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 1


def test_with_the_argument_the_count_stays_and_nothing_is_said(
    account: Account, scaled: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_task(partial(deploy, scaled, model, instance_type="ml.c5.large", retain_variant_properties="true"))
    assert warnings(caplog) == []
    (variant,) = account.sagemaker.describe_endpoint(EndpointName=scaled)["ProductionVariants"]
    assert variant["CurrentInstanceCount"] == 3


def test_a_count_that_is_changed_on_purpose_is_no_surprise(
    name: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_task(partial(deploy, name, model))
    result = run_task(partial(deploy, name, model, initial_instance_count=2))
    assert result["action"] == "updated"
    assert warnings(caplog) == []


def test_where_the_configuration_may_not_be_read_the_update_goes_on(
    account: Account, scaled: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"operation": "sagemaker:DescribeEndpointConfig", "resource": f"*{scaled}*", "fault": "error"}
    control(account, "POST", "faults", [rule | {"code": "AccessDeniedException", "status": 400, "times": 1}])
    try:
        result = run_task(partial(deploy, scaled, model, instance_type="ml.c5.large", keep_configs=None))
    finally:
        control(account, "DELETE", "faults")
    assert result["action"] == "updated"
    assert warnings(caplog) == []
