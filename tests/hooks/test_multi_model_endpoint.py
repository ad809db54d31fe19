"""An endpoint's target models: their presence and their prefixes are known before the first call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import (
    EndpointNotFound,
    EndpointNotInService,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    ServiceUnavailable,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts, EndpointModels
from tests.support import BROKEN, Account, Answer, answering, unique

CONNECTION = AwsConnection(
    aws_conn_id=None,
    region_name="us-east-1",
    botocore_config={"retries": {"mode": "standard", "total_max_attempts": 1}},
)


def described(name: str) -> EndpointModels | None:
    return asyncio.run(EndpointFacts(CONNECTION, name).models())


@pytest.fixture(scope="module")
def deployed(module_account: Account) -> Callable[[str], str]:
    """Deploy an endpoint of many models below a prefix."""

    def deploy(prefix: str) -> str:
        account, name = module_account, unique("endpoint")
        model = account.create_model(model_data_url=prefix, multi_model=True, name=f"model-{name}")
        config = account.create_config(model, name=f"config-{name}")
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        account.wait_for_endpoint(name)
        return name

    return deploy


@pytest.fixture(scope="module")
def endpoint(module_account: Account, deployed: Callable[[str], str]) -> str:
    return deployed(f"s3://{module_account.bucket}/models/")


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_prefix_of_its_models_ends_in_one_slash(
    account: Account, deployed: Callable[[str], str], slash: str
) -> None:
    name = deployed(f"s3://{account.bucket}/models{slash}")
    prefix = f"s3://{account.bucket}/models/"
    assert described(name) == EndpointModels(
        endpoint_name=name, prefixes=(prefix,), ends_in_slash=bool(slash)
    )


def test_an_endpoint_that_does_not_exist_is_named() -> None:
    with pytest.raises(EndpointNotFound, match="no endpoint nowhere in us-east-1"):
        described("nowhere")


def test_an_endpoint_of_one_model_is_refused(account: Account) -> None:
    with pytest.raises(EndpointNotMultiModel, match="serves no target models"):
        described(account.deploy())


def test_an_asynchronous_endpoint_is_refused(account: Account) -> None:
    with pytest.raises(EndpointNotRealTime, match="SageMakerAsyncBatchOperator"):
        described(account.deploy(asynchronous=True))


def test_an_endpoint_that_does_not_serve_yet_is_worth_a_retry(account: Account) -> None:
    with (
        account.settings(endpoint_creating_seconds=3600),
        pytest.raises(EndpointNotInService, match="is Creating") as error,
    ):
        described(account.start_endpoint())
    assert error.value.retryable


def test_an_endpoint_that_failed_does_not_serve(account: Account) -> None:
    name = account.start_endpoint(BROKEN)
    with pytest.raises(Exception, match="terminal failure"):
        account.wait_for_endpoint(name)
    with pytest.raises(EndpointNotInService, match="is Failed"):
        described(name)


def test_an_endpoint_that_is_being_updated_serves(account: Account, deployed: Callable[[str], str]) -> None:
    endpoint = deployed(f"s3://{account.bucket}/models/")
    model = account.create_model(model_data_url=f"s3://{account.bucket}/other/", multi_model=True)
    with account.settings(endpoint_updating_seconds=3600):
        account.sagemaker.update_endpoint(
            EndpointName=endpoint, EndpointConfigName=account.create_config(model)
        )
        assert account.status(endpoint) == "Updating"
        found = described(endpoint)
    assert found is not None
    assert found.prefixes


@pytest.mark.parametrize(
    "kept", [0, 1, 2], ids=["DescribeEndpoint", "DescribeEndpointConfig", "DescribeModel"]
)
def test_without_permission_to_describe_the_batch_goes_on_and_the_log_says_so(
    account: Account,
    endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kept: int,
) -> None:
    answers = [*[None] * kept, Answer(400, "AccessDeniedException")]
    with answering(*answers, otherwise=account.url) as (url, asked), caplog.at_level(logging.INFO):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        found = described(endpoint)
    assert found == (EndpointModels(endpoint_name=endpoint) if kept else None)
    assert len(asked) == kept + 1
    assert any(
        endpoint in record.getMessage() and "AccessDenied" in record.getMessage() for record in caplog.records
    )


def test_a_model_deleted_behind_an_endpoint_is_no_verdict(
    account: Account, deployed: Callable[[str], str]
) -> None:
    """An endpoint that serves goes on serving."""
    name = deployed(f"s3://{account.bucket}/models/")
    account.sagemaker.delete_model(ModelName=f"model-{name}")
    assert described(name) == EndpointModels(endpoint_name=name)
    account.sagemaker.delete_endpoint_config(EndpointConfigName=f"config-{name}")
    assert described(name) == EndpointModels(endpoint_name=name)


def test_a_service_that_does_not_answer_is_reported(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Answer(503, "ServiceUnavailable")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", url)
        with pytest.raises(ServiceUnavailable):
            described("any")
