"""InvokeEndpointAsync from an event loop, over both transports."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    AnswerLost,
    EndpointNotAsynchronous,
    EndpointNotFound,
    InvalidRequest,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from tests.stubs.recorder import TRANSPORTS, Asked, Said, recording
from tests.support import Account, Requests, botocore_knows, closed_port

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]

REQUEST = AsyncRequest(
    endpoint_name="an-endpoint",
    input_location="s3://bucket/input.csv",
    custom_attributes="attribute-secret",
)


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {"connect_timeout": 600, "read_timeout": 600, **TRANSPORTS[request.param]}


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(asynchronous=True)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


def invoke(options: Mapping[str, Any], *requests: AsyncRequest) -> list[AsyncInvocation]:
    async def opened() -> list[AsyncInvocation]:
        connection = AwsConnection(aws_conn_id=None, botocore_config=options)
        async with AsyncInvoker.open(connection, max_connections=4) as invoker:
            return await asyncio.gather(*map(invoker.invoke, requests))

    return asyncio.run(opened())


def test_an_invocation_says_where_its_result_will_be_and_when_it_was_sent(
    account: Account, endpoint: str, options: Mapping[str, Any]
) -> None:
    location = account.upload("1,2")
    before = time.time()
    sent = [
        AsyncRequest(
            endpoint_name=endpoint, input_location=location, inference_id=f"id {n}", content_type="text/csv"
        )
        for n in range(10)
    ]
    accepted = invoke(options, *sent)
    assert [each.inference_id for each in accepted] == [each.inference_id for each in sent]
    assert {each.input_location for each in accepted} == {location}
    assert len({each.output_location for each in accepted}) == 10
    for each in accepted:
        assert each.output_location.startswith(f"s3://{account.bucket}/")
        assert each.failure_location is not None
        assert each.submitted_at is not None
        assert before <= each.submitted_at <= time.time()


def test_outputs_can_be_named_whatever_botocore_is_installed(
    account: Account, endpoint: str, options: Mapping[str, Any]
) -> None:
    """Only the way through botocore needs botocore to know the names."""

    async def knows() -> bool:
        connection = AwsConnection(aws_conn_id=None, botocore_config=options)
        async with AsyncInvoker.open(connection) as invoker:
            return invoker.names_outputs

    named = AsyncRequest(
        endpoint_name=endpoint,
        input_location=account.upload("1,2"),
        filename="0000001.out",
        s3_output_path_extension="batch/r1/00000",
    )
    possible = "proxies_config" not in options or botocore_knows("Filename")
    assert asyncio.run(knows()) is possible
    if possible:
        assert invoke(options, named)[0].output_location.endswith("/batch/r1/00000/0000001.out")
    else:
        with pytest.raises(InvalidRequest, match="botocore does not know Filename, S3OutputPathExtension"):
            invoke(options, named)


def test_an_inline_body_goes_without_an_object(account: Account, endpoint: str) -> None:
    accepted = invoke({}, AsyncRequest(endpoint_name=endpoint, body=b"1,2", content_type="text/csv"))[0]
    assert accepted.input_location is None
    assert accepted.output_location.startswith(f"s3://{account.bucket}/")


def test_no_endpoint_and_the_wrong_kind_have_errors_of_their_own(
    account: Account, options: Mapping[str, Any]
) -> None:
    location = account.upload("1,2")
    with pytest.raises(EndpointNotFound, match="no endpoint no-such-endpoint serves"):
        invoke(options, AsyncRequest(endpoint_name="no-such-endpoint", input_location=location))
    real_time = account.deploy()
    with pytest.raises(EndpointNotAsynchronous, match=f"endpoint {real_time} is not asynchronous"):
        invoke(options, AsyncRequest(endpoint_name=real_time, input_location=location))
    account.sagemaker.delete_endpoint(EndpointName=real_time)


def error(code: str, status: int, message: str = "from the test") -> Said:
    body = f'{{"message": "{message}"}}'.encode()
    return Said(status, body, {"x-amzn-ErrorType": code, "Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error("ThrottlingException", 429), Throttled),
        (error("ServiceUnavailable", 503), ServiceUnavailable),
        (error("InternalFailure", 500), ServiceUnavailable),
        (Said(502, b"<html>bad gateway</html>"), ServiceUnavailable),
        (error("ValidationError", 400), RequestRefused),
        (error("AccessDeniedException", 403), AccessDenied),
        (Said(0), AnswerLost),
        (Said(202, b"{}"), AnswerLost),
    ],
)
def test_each_failure_has_its_class_and_is_sent_once(
    answer: Said,
    kind: type[SageMakerInferenceError],
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Error answers mean not accepted; a request without an answer can have been accepted."""
    caplog.set_level(logging.INFO)
    with recording(lambda _: answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
        with pytest.raises(SageMakerInferenceError) as caught:
            invoke(options, REQUEST)
    assert type(caught.value) is kind
    assert "sagemaker:InvokeEndpointAsync an-endpoint" in str(caught.value)
    assert len(recorder.asked) == 1
    assert "secret" not in f"{caught.value} {caplog.text}"


@pytest.mark.parametrize(
    "body",
    [b"<html>fine</html>", b"[1]", b'{"InferenceId": "i', b'{"InferenceId": 7}', b'{"InferenceId": ["i"]}'],
)
def test_a_yes_that_cannot_be_read_may_have_been_one(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(lambda _: Said(202, body, {"X-Amzn-SageMaker-OutputLocation": "s3://b/k"})) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        with pytest.raises(AnswerLost, match="it may have been accepted"):
            invoke({}, REQUEST)


@pytest.mark.parametrize("odd", ["http://x/y", "s3://b", "s3://b/folder/", "s3:///k", "x"])
@pytest.mark.parametrize("which", ["Output", "Failure"])
def test_a_yes_that_names_no_object_in_s3_may_have_been_one(
    options: Mapping[str, Any], which: str, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = {"Output": "s3://b/k", which: odd}
    headers = {f"X-Amzn-SageMaker-{name}Location": location for name, location in locations.items()}
    with recording(lambda _: Said(202, b"{}", headers)) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        with pytest.raises(AnswerLost, match="no object in S3"):
            invoke(options, REQUEST)
        with pytest.raises(AnswerLost, match="no object in S3"):
            SageMakerRuntimeHook(aws_conn_id=None).invoke_endpoint_async(REQUEST)


def test_what_never_left_was_not_accepted(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_port())
    with pytest.raises(ServiceUnavailable, match="the service did not answer") as caught:
        invoke(options, REQUEST)
    assert not isinstance(caught.value, AnswerLost)


def test_an_answer_that_comes_too_late_is_lost(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go_on = threading.Event()

    def slow(_: Asked) -> Said:
        go_on.wait(600)
        return Said(0)

    with recording(slow) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        try:
            with pytest.raises(AnswerLost, match="Read timeout"):
                invoke({**options, "read_timeout": 0.2}, REQUEST)
        finally:
            go_on.set()


def test_a_failure_location_may_be_missing(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = Said(202, b'{"InferenceId": "i"}', {"X-Amzn-SageMaker-OutputLocation": "s3://b/k"})
    with recording(lambda _: accepted) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        invocation = invoke(options, REQUEST)[0]
    assert (invocation.output_location, invocation.failure_location, invocation.inference_id) == (
        "s3://b/k",
        None,
        "i",
    )


def test_a_broken_limit_costs_no_call(options: Mapping[str, Any], requests: Requests) -> None:
    with pytest.raises(InvalidRequest, match="request_ttl is 1 s"):
        invoke(options, AsyncRequest(endpoint_name="e", body=b"x", request_ttl=1))
    assert not requests.count()


def test_neither_region_nor_credentials_are_guessed(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ServiceUnavailable, match="credentials could not be fetched"):
        invoke(options, REQUEST)
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidRequest, match="no AWS region"):
        invoke(options, REQUEST)
