"""InvokeEndpoint from an event loop, over each carrier: one call for each request, whose content is never shown."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from ssl import SSLContext
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    SSLError,
)

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import InvalidName, InvalidRequest
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker, ModelAnswer
from airflow_sm_plugin.invoke.errors import failure_of
from airflow_sm_plugin.invoke.failure import Attempt, CallFailure
from tests.invoke.carriers import CARRIERS, carried_by
from tests.stubs.recorder import Asked, Said, recording
from tests.support import Account, closed_port

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]

SECRET: Mapping[str, str] = {"custom_attributes": "attribute-secret"}
ANSWER = Said(
    200, b"answer-secret", {"Content-Type": "text/csv", "X-Amzn-SageMaker-Custom-Attributes": "a  b"}
)


@pytest.fixture(params=CARRIERS)
def options(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """A botocore configuration for each carrier."""
    with carried_by(request.param) as configuration:
        yield {"connect_timeout": 600, "read_timeout": 600, **configuration}


def invoke(
    options: Mapping[str, Any],
    *bodies: bytes,
    endpoint: str = "an-endpoint",
    verify: bool | str | None = None,
    max_connections: int = 4,
    **request: Any,  # noqa: ANN401 - invoke's own
) -> list[ModelAnswer]:
    async def opened() -> list[ModelAnswer]:
        connection = AwsConnection(aws_conn_id=None, botocore_config=options, verify=verify)
        async with EndpointInvoker.open(connection, endpoint, max_connections=max_connections) as invoker:
            return await asyncio.gather(
                *(invoker.invoke(body, **{"target_model": None, **request}) for body in bodies)
            )

    return asyncio.run(opened())


def against(
    answer: Callable[[Asked], Said] | Said,
    monkeypatch: pytest.MonkeyPatch,
    options: Mapping[str, Any],
    **request: Any,  # noqa: ANN401 - invoke's own
) -> tuple[ModelAnswer | CallFailure, list[Asked]]:
    """Invoke once against an endpoint whose answers a test decides."""
    with recording(answer if callable(answer) else lambda _: answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        try:
            return invoke(options, b"payload-secret", **request)[0], recorder.asked
        except (ClientError, BotoCoreError) as error:
            return failure_of(error), recorder.asked


def test_an_endpoint_returns_the_answer_of_its_model(account: Account, options: Mapping[str, Any]) -> None:
    endpoint = account.deploy()
    answers = invoke(options, b"1,2", b"3,4", endpoint=endpoint, content_type="text/csv", accept="text/csv")
    assert len({answer.body for answer in answers}) == 2
    assert {answer.custom_attributes for answer in answers} == {None}
    with pytest.raises(ClientError) as caught:
        invoke(options, b"1,2", endpoint=endpoint, target_model="m.tar.gz")
    assert failure_of(caught.value).status == 400
    with pytest.raises(ClientError) as caught:
        invoke(options, b"1,2", endpoint="no-such-endpoint")
    assert "not found" in failure_of(caught.value).message
    account.sagemaker.delete_endpoint(EndpointName=endpoint)


def test_an_answer_has_the_containers_headers_and_a_repr_without_them(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answer, asked = against(ANSWER, monkeypatch, options, **SECRET)
    assert isinstance(answer, ModelAnswer)
    assert (answer.body, answer.content_type, answer.custom_attributes) == (
        b"answer-secret",
        "text/csv",
        "a  b",
    )
    assert len(asked) == 1
    ours = " ".join(each.getMessage() for each in caplog.records if each.name.startswith("airflow_sm_plugin"))
    assert "secret" not in f"{answer!r} {answer} {ours}"


def test_headers_that_the_container_did_not_set_are_none(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = against(Said(200), monkeypatch, options)
    assert answer == ModelAnswer(b"", None, None)


def test_an_answer_has_six_mebibytes_and_bytes_beyond_ascii_in_its_headers(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = bytes(range(256)) * 24_576
    response = Said(200, body, {"X-Amzn-SageMaker-Custom-Attributes": "gr\xfc\xdfe"})
    answer, _ = against(response, monkeypatch, options)
    assert isinstance(answer, ModelAnswer)
    assert (answer.body == body, answer.custom_attributes) == (True, "gr\xfc\xdfe")


def error(status: int, code: str, **members: object) -> Said:
    return Said(status, json.dumps(members).encode(), {"x-amzn-ErrorType": code})


@pytest.mark.parametrize(
    ("response", "failure", "attempt"),
    [
        (
            error(429, "ModelNotReadyException", Message="m"),
            CallFailure("ModelNotReadyException", "m", 429),
            Attempt.MODEL_LOADS,
        ),
        (
            error(400, "ThrottlingException", message="m"),
            CallFailure("ThrottlingException", "m", 400),
            Attempt.AGAIN,
        ),
        (
            error(424, "ModelError", Message="m", OriginalStatusCode=500, OriginalMessage="o"),
            CallFailure("ModelError", "m", 424, 500, "o"),
            Attempt.FINAL,
        ),
        (
            error(424, "ModelError", Message="m", OriginalStatusCode=0),
            CallFailure("ModelError", "m", 424, 0),
            Attempt.AGAIN,
        ),
        (
            error(530, "InternalDependencyException", Message="m"),
            CallFailure("InternalDependencyException", "m", 530),
            Attempt.AGAIN,
        ),
        (Said(507), CallFailure("507", "Insufficient Storage", 507), Attempt.AGAIN),
        (Said(504, b"<html>x</html>"), CallFailure("504", "Gateway Timeout", 504), Attempt.AGAIN),
    ],
)
def test_an_error_answer_is_read_completely_and_not_retried(
    response: Said,
    failure: CallFailure,
    attempt: Attempt,
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The user's configuration of botocore's retries has no effect."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    failed, asked = against(
        response, monkeypatch, {**options, "retries": {"mode": "legacy", "max_attempts": 5}}
    )
    assert failed == failure
    assert isinstance(failed, CallFailure)
    assert failed.attempt is attempt
    assert len(asked) == 1


def test_a_failure_says_whether_the_request_was_sent(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, asked = against(Said(0), monkeypatch, options)
    assert isinstance(lost, CallFailure)
    assert (lost.kind, lost.code, lost.status, len(asked)) == ("unanswered", "ConnectionClosedError", 0, 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_port())
    with pytest.raises(BotoCoreError) as caught:
        invoke(options, b"x")
    assert failure_of(caught.value).kind == "unreachable"
    assert failure_of(NoCredentialsError()).kind == "unreachable"
    assert failure_of(NoRegionError()).kind == "local"


def test_an_answer_that_is_cut_short_counts_as_unanswered(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, _ = against(Said(200, b"1,", cut=3), monkeypatch, options)
    assert isinstance(read, CallFailure)
    assert read.kind == "unanswered"


@pytest.mark.parametrize("value", ["", "a\nb", "a\r\nX-Evil: 1", "a\0", "\ud800"])
def test_a_value_that_no_header_can_hold_is_not_sent(
    value: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("target_model", "custom_attributes"):
        failure, asked = against(ANSWER, monkeypatch, options, **{name: value})
        assert isinstance(failure, CallFailure)
        assert (failure.kind, failure.code) == ("local", ParamValidationError.__name__)
        assert not asked
        assert "Evil" not in failure.message


def test_a_read_timeout_below_sagemakers_own_is_raised(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_sm_plugin.invoke.endpoint_invoker.READ_TIMEOUT", 0.5)
    go_on = threading.Event()

    def slow(_: Asked) -> Said:
        go_on.wait(600)
        return Said(0)

    began = time.monotonic()
    try:
        failure, _ = against(slow, monkeypatch, {**options, "read_timeout": 0.01})
    finally:
        go_on.set()
    assert isinstance(failure, CallFailure)
    assert (failure.code, failure.kind) == ("ReadTimeoutError", "unanswered")
    assert time.monotonic() - began >= 0.5


def test_as_many_calls_are_in_flight_as_there_are_connections(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than botocore's ten by default; the server answers no request before all have come."""
    all_there = threading.Barrier(16)

    def answer(_: Asked) -> Said:
        all_there.wait(600)
        return ANSWER

    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        assert len(invoke(options, *[b"x"] * 16, max_connections=16)) == 16


def test_a_name_that_no_endpoint_has_and_a_missing_region_cost_no_call(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidName):
        invoke(options, b"x", endpoint="an endpoint/../x")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidRequest, match="no AWS region"):
        invoke(options, b"x")


def test_over_tls_a_server_must_be_trusted(
    certificate: tuple[Path, SSLContext], options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, context = certificate
    with recording(lambda _: ANSWER, tls=context) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        assert invoke(options, b"x", b"y", verify=str(bundle))[1].body == b"answer-secret"
        with pytest.raises(SSLError) as caught:
            invoke(options, b"x")
        assert failure_of(caught.value).kind == "unreachable"
        assert len(recorder.asked) == 2


async def carrier_of(options: Mapping[str, Any]) -> str:
    connection = AwsConnection(aws_conn_id=None, botocore_config=options)
    async with EndpointInvoker.open(connection, "an-endpoint", max_connections=1) as invoker:
        return invoker.carrier


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_invoker_names_its_carrier(carrier: str) -> None:
    with carried_by(carrier) as options:
        assert asyncio.run(carrier_of(options)) == carrier


def test_through_a_proxy_aiohttp_carries_the_calls() -> None:
    proxies = {"http": "http://proxy.test:3128", "https": "http://proxy.test:3128"}
    assert asyncio.run(carrier_of({"proxies": proxies})) == "aiohttp"


@pytest.mark.skipif(importlib.util.find_spec("httptools") is None, reason="needs httptools")
def test_an_old_httptools_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 0.6.3 it could not be made to read answers as aiohttp does."""
    for module in ("http_pool", "http_connection"):
        monkeypatch.delitem(sys.modules, f"airflow_sm_plugin.invoke.{module}", raising=False)
    monkeypatch.setattr("httptools.HttpResponseParser", object)
    assert asyncio.run(carrier_of({})) == "aiohttp"


def test_expired_credentials_are_renewed_once(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The carriers' own doing; botocore's client does it in the hook."""
    expired = error(403, "ExpiredTokenException", message="expired")
    answers = [expired, ANSWER, expired, expired]
    answer, asked = against(lambda _: answers.pop(0), monkeypatch, options)
    assert isinstance(answer, ModelAnswer)
    assert len(asked) == 2
    failure, asked = against(lambda _: answers.pop(0), monkeypatch, options)
    assert isinstance(failure, CallFailure)
    assert (failure.code, len(asked)) == ("ExpiredTokenException", 2)


def test_custom_attributes_differ_from_request_to_request(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with recording(lambda _: ANSWER) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        for given in ("a", None, "b"):
            invoke(options, b"x", target_model="m", custom_attributes=given)
    header = "x-amzn-sagemaker-custom-attributes"
    assert [each.headers.get(header) for each in recorder.asked] == ["a", None, "b"]


def test_a_proxy_carries_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(lambda _: ANSWER) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "http://runtime.test/base")
        invoke({"proxies": {"http": recorder.url}}, b"x", target_model="m")
    assert [each.target for each in recorder.asked] == [
        "http://runtime.test/base/endpoints/an-endpoint/invocations"
    ]
