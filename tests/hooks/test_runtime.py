"""The runtime hook, used without any operator."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator

import pytest

from airflow_sm_plugin.exceptions import (
    EndpointNotAsynchronous,
    EndpointNotFound,
    InvalidRequest,
    RequestRefused,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.runtime import ATTEMPTS, SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from tests.support import Account, Answer, Requests, answering, closed_port

pytestmark = pytest.mark.airflow

BUSY = Answer(429, "ThrottlingException")


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(asynchronous=True)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are full-jitter: dice that always show nothing make them nothing."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


def request(account: Account, endpoint: str) -> AsyncRequest:
    return AsyncRequest(endpoint_name=endpoint, input_location=account.upload("1,2"), content_type="text/csv")


def hook(**arguments: object) -> SageMakerRuntimeHook:
    return SageMakerRuntimeHook(**{"aws_conn_id": None} | arguments)


def test_an_invocation_says_where_its_result_will_be_and_when_it_was_sent(
    account: Account, endpoint: str
) -> None:
    sent = request(account, endpoint)
    before = time.time()
    invocation = hook().invoke_endpoint_async(sent)
    assert invocation.submitted_at is not None
    assert before <= invocation.submitted_at <= time.time()
    assert invocation.input_location == sent.input_location
    assert invocation.output_location.startswith(f"s3://{account.bucket}/")
    assert invocation.failure_location is not None
    assert invocation.inference_id


def test_what_was_not_accepted_is_sent_again_so_many_times_in_all(
    account: Account, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(*[BUSY] * (ATTEMPTS - 1), otherwise=account.url) as (busy, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", busy)
        assert hook().invoke_endpoint_async(request(account, endpoint)).output_location
    assert len(asked) == ATTEMPTS

    with answering(BUSY) as (busy, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", busy)
        with pytest.raises(Throttled, match=f"sagemaker:InvokeEndpointAsync {endpoint}"):
            hook().invoke_endpoint_async(request(account, endpoint))
    assert len(asked) == ATTEMPTS


def test_botocore_repeats_nothing_whatever_its_configuration_says(
    account: Account, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(BUSY) as (busy, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", busy)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
        with pytest.raises(Throttled):
            hook(config={"retries": {"max_attempts": 9, "mode": "legacy"}}).invoke_endpoint_async(
                request(account, endpoint), attempts=2
            )
    assert len(asked) == 2


def test_a_request_without_an_answer_is_not_sent_again(
    account: Account, endpoint: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sent = request(account, endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_port())
    caplog.set_level(logging.DEBUG, "botocore.endpoint")
    with pytest.raises(ServiceUnavailable, match="the service did not answer"):
        hook().invoke_endpoint_async(sent)
    assert sum(record.msg.startswith("Sending http request") for record in caplog.records) == 1


def test_a_refusal_is_not_sent_again(
    account: Account, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Answer(400, "ValidationError", "no")) as (strict, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", strict)
        with pytest.raises(RequestRefused, match="ValidationError: no"):
            hook().invoke_endpoint_async(request(account, endpoint))
    assert len(asked) == 1


def test_no_endpoint_and_the_wrong_kind_have_errors_of_their_own(account: Account) -> None:
    with pytest.raises(EndpointNotFound, match="no endpoint no-such-endpoint serves"):
        hook().invoke_endpoint_async(request(account, "no-such-endpoint"))
    real_time = account.deploy()
    with pytest.raises(EndpointNotAsynchronous, match=f"endpoint {real_time} is not asynchronous"):
        hook().invoke_endpoint_async(request(account, real_time))
    account.sagemaker.delete_endpoint(EndpointName=real_time)


def test_a_broken_limit_costs_no_call(requests: Requests) -> None:
    with pytest.raises(InvalidRequest):
        hook().invoke_endpoint_async(AsyncRequest(endpoint_name="e", body=b"x", request_ttl=1))
    with pytest.raises(InvalidRequest, match="attempts must be 1 or more, not 0"):
        hook().invoke_endpoint_async(AsyncRequest(endpoint_name="e", input_location="s3://b/k"), attempts=0)
    assert not requests.count()


def test_a_request_shows_nothing_of_itself() -> None:
    secret = AsyncRequest(endpoint_name="e", body=b"payload-secret", custom_attributes="attribute-secret")
    assert "secret" not in f"{secret!r} {secret}"
