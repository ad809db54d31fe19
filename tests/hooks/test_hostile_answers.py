"""Whatever answers instead of AWS, every call ends with an error of ours, and one that passes is worth a retry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin import exceptions
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.async_inference.queue import CompletionQueue
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import AnswerLost, SageMakerInferenceError, ServiceUnavailable, Throttled
from airflow_sm_plugin.hooks.autoscaling import ScalableVariantHook, ScalingAlarmHook
from airflow_sm_plugin.hooks.container_logs import ContainerLogsHook, TransformJobsHook
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.result_store import ResultStoreHook
from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
from airflow_sm_plugin.invoke.errors import failure_of
from airflow_sm_plugin.invoke.failure import Attempt, CallFailure
from airflow_sm_plugin.invoke.request import InvokeRequest
from airflow_sm_plugin.multi_model.engine.judgement import PayloadFate, judge
from airflow_sm_plugin.resources.model import ModelSpec
from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger
from tests.invoke.carriers import CARRIERS, carried_by
from tests.stubs.recorder import TRANSPORTS, Asked, Said, recording

pytestmark = pytest.mark.airflow

ONCE = {"retries": {"mode": "standard", "total_max_attempts": 1}, "connect_timeout": 600, "read_timeout": 600}
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/results"
JSON = {"Content-Type": "application/json"}
MODEL_ERROR = {**JSON, "x-amzn-ErrorType": "ModelError"}
PAGE = "<!DOCTYPE html><html><body>Größe über — Mauvaise passerelle é</body></html>".encode(
    "latin-1", "replace"
)
DEEP = b'{"Message": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"

PASSING: Mapping[str, Said] = {
    "latin-1 page 502": Said(502, PAGE, {"Content-Type": "text/html; charset=iso-8859-1"}),
    "page 404": Said(404, b"<html><body>no such page</body></html>", {"Content-Type": "text/html"}),
    "page 403": Said(403, PAGE, {"Content-Type": "text/html"}),
    "login 302": Said(302, PAGE, {"Content-Type": "text/html", "Location": "http://127.0.0.1:1/login"}),
    "login 511": Said(511, PAGE, {"Content-Type": "text/html"}),
    "429 without words": Said(429),
    "page 429": Said(429, PAGE, {"Content-Type": "text/html"}),
    "503 list": Said(503, b"[1, 2]", JSON),
    "503 text": Said(503, b'"x"', JSON),
    "503 null": Said(503, b"null", JSON),
    "503 number": Said(503, b"7", JSON),
    "500 deep": Said(500, DEEP, JSON),
    "500 utf-16": Said(500, '{"Message": "m"}'.encode("utf-16"), JSON),
    "500 bytes": Said(500, bytes(range(128, 256)), {"Content-Type": "application/xml"}),
    "503 cut xml": Said(503, b"<Error><Code>Slow", {"Content-Type": "application/xml"}),
    "503 members of other types": Said(503, b'{"__type": {"a": 1}, "message": [1], "Message": 5}', JSON),
    "599": Said(599),
    "throttled without words": Said(
        400, b'{"message": null}', {**JSON, "x-amzn-ErrorType": "ThrottlingException"}
    ),
}
"""Errors that may pass."""

ODD: Mapping[str, Said] = {
    "404 plain": Said(404, b"404 page not found", {"Content-Type": "text/plain"}),
    "404 list": Said(404, b"[]", JSON),
    "300": Said(300, b"choose"),
    "304": Said(304),
    "418": Said(418, b"teapot"),
    "400 lone surrogate": Said(400, b'{"__type": "ValidationException", "message": "\\ud800"}', JSON),
    "400 message of NUL": Said(400, b'{"__type": "ValidationException", "message": "a\\u0000\\nb"}', JSON),
    "400 big number": Said(400, b'{"message": ' + b"9" * 5_000 + b"}", JSON),
    "original abc": Said(424, b'{"Message": "m", "OriginalStatusCode": "abc"}', MODEL_ERROR),
    "original 1e99": Said(424, b'{"Message": "m", "OriginalStatusCode": 1e99}', MODEL_ERROR),
    "original list": Said(424, b'{"OriginalStatusCode": [1], "OriginalMessage": {"a": 1}}', MODEL_ERROR),
    "error type odd": Said(400, b"{}", {**JSON, "x-amzn-ErrorType": "a:b#c:d,http://x/"}),
    "query error odd": Said(400, b"{}", {**JSON, "x-amzn-query-error": ";;;"}),
}
"""Errors of which no more is known than that they are errors."""

UNREADABLE: Mapping[str, Said] = {
    "login page": Said(200, PAGE, {"Content-Type": "text/html"}),
    "xhtml page": Said(200, b"<html><body/></html>", {"Content-Type": "text/html"}),
    "list": Said(200, b"[1, 2]", JSON),
    "null": Said(200, b"null", JSON),
    "cut": Said(200, b'{"EndpointStatus": "InServ', JSON),
    "deep": Said(200, DEEP, JSON),
    "bytes": Said(200, bytes(range(128, 256))),
    "nothing": Said(200),
    "no members": Said(200, b"{}", JSON),
    "xml of something else": Said(200, b"<a><b>1</b></a>", {"Content-Type": "application/xml"}),
    "members of other types": Said(
        200,
        json.dumps(
            {
                "EndpointStatus": 5,
                "ModelArn": [],
                "CreationTime": "once",
                "PolicyARN": {},
                "ScalableTargets": "x",
                "Messages": "x",
                "Tags": 7,
                "AutoMLJobStatus": None,
            }
        ).encode(),
        JSON,
    ),
}
"""Successful answers that say nothing. Where an operation answers nothing anyway, some of them are fine."""

Call = Callable[[AwsConnection], AbstractContextManager[Callable[[], object]]]
"""Makes ready for the block what is made once (a client takes some tenths of a second), and lends the call."""


def hook(kind: Callable[..., Any], use: Callable[[Any], object]) -> Call:
    @contextmanager
    def ready(connection: AwsConnection) -> Iterator[Callable[[], object]]:
        made = kind(**connection.hook_arguments())
        yield lambda: use(made)

    return ready


def opened(
    opening: Callable[[AwsConnection], AbstractAsyncContextManager[Any]],
    use: Callable[[Any], Awaitable[object]],
) -> Call:
    @contextmanager
    def ready(connection: AwsConnection) -> Iterator[Callable[[], object]]:
        async def used(client: Any) -> object:  # noqa: ANN401 - of any kind
            return await use(client)

        with asyncio.Runner() as runner:
            stack = AsyncExitStack()
            client = runner.run(stack.enter_async_context(opening(connection)))
            try:
                yield lambda: runner.run(used(client))
            finally:
                runner.run(stack.aclose())

    return ready


s3 = partial(opened, S3Objects.open)


@contextmanager
def ready_to_wait_deferred(connection: AwsConnection) -> Iterator[Callable[[], object]]:
    yield partial(wait_deferred, connection)


def wait_deferred(connection: AwsConnection) -> object:
    """Let a trigger poll until its deadline; return its event, or raise the error in it."""

    async def call() -> list[Any]:
        trigger = EndpointServingTrigger(
            endpoint_name="e",
            wanted_config="c",
            note={},
            deadline=0,
            poll_interval=0.05,
            aws=connection.as_mapping(),
        )
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(call())
    if event["status"] == "error":
        raise getattr(exceptions, event["error"])(event["message"])
    return event


SPEC = ModelSpec(containers=[{"Image": "i"}], execution_role_arn="arn:aws:iam::1:role/r", name="m")

CALLS: Mapping[str, Call] = {
    "s3 read": s3(lambda opened: opened.read("s3://b/k")),
    "s3 write": s3(lambda opened: opened.write("s3://b/k", b"x")),
    "s3 stat": s3(lambda opened: opened.stat("s3://b/k")),
    "s3 names": s3(lambda opened: opened.list_names("b", "p")),
    "s3 objects": s3(lambda opened: opened.list_objects("b", "p")),
    "InvokeEndpointAsync": opened(
        AsyncInvoker.open, lambda i: i.invoke(AsyncRequest(endpoint_name="e", input_location="s3://b/k"))
    ),
    "ReceiveMessage": opened(
        lambda connection: CompletionQueue.open(connection, QUEUE),
        lambda queue: queue.receive(wait_seconds=0),
    ),
    "InvokeEndpoint blocking": hook(
        SageMakerRuntimeHook,
        lambda h: h.invoke_endpoint(InvokeRequest(endpoint_name="e", body=b"x"), attempts=1),
    ),
    "InvokeEndpointAsync blocking": hook(
        SageMakerRuntimeHook,
        lambda h: h.invoke_endpoint_async(
            AsyncRequest(endpoint_name="e", input_location="s3://b/k"), attempts=1
        ),
    ),
    "GetObject blocking": hook(ResultStoreHook, lambda h: h.read("s3://b/k", limit=10)),
    "DescribeEndpoint": hook(SageMakerControlPlaneHook, lambda h: h.describe_endpoint("e")["EndpointStatus"]),
    "DescribeEndpoint deferred": ready_to_wait_deferred,
    "CreateModel": hook(SageMakerControlPlaneHook, lambda h: h.models.create(SPEC)),
    "ListTags": hook(SageMakerControlPlaneHook, lambda h: h.tags_of("arn:aws:sagemaker:us-east-1:1:model/m")),
    "DescribeAutoMLJobV2": hook(
        SageMakerControlPlaneHook, lambda h: h.automl.describe("j")["AutoMLJobStatus"]
    ),
    "iam:GetRole": hook(SageMakerControlPlaneHook, lambda h: h.role_arn("role")),
    "DescribeTransformJob": hook(TransformJobsHook, lambda h: h.describe("j")["TransformJobStatus"]),
    "DescribeScalableTargets": hook(ScalableVariantHook, lambda h: h.registered("e")),
    "DescribeAlarms": hook(ScalingAlarmHook, lambda h: h.names("e")),
}
TAKES_ANYTHING = {
    "s3 read",
    "s3 write",
    "s3 stat",
    "ReceiveMessage",
    "InvokeEndpoint blocking",
    "GetObject blocking",
}
"""Calls that take any content, or none, for an answer; a proxy's page is none all the same."""

TELLS_BY_STATUS = {"ListTags"}
"""Calls that have an answer of their own for a refusal."""

CASES = [
    pytest.param(call, {**ONCE, **transport}, id=f"{call}, {name}")
    for call in CALLS
    for name, transport in TRANSPORTS.items()
    if name == "fast" or call.startswith("s3") or call in ("InvokeEndpointAsync", "ReceiveMessage")
]
"""A hook of boto3's has but one transport."""


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {**ONCE, **TRANSPORTS[request.param]}


def outcomes(
    monkeypatch: pytest.MonkeyPatch, options: Mapping[str, Any], answers: Mapping[str, Said], call: Call
) -> Iterator[tuple[str, object]]:
    """Yield what becomes of the call for each answer: its result or our error."""
    monkeypatch.setattr("random.random", lambda: 0.0)  # the pauses between repeats
    with recording(lambda _: Said()) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        connection = AwsConnection(aws_conn_id=None, region_name="us-east-1", botocore_config=options)
        with call(connection) as ready:
            for name, said in answers.items():
                recorder.answer = partial(_same, said)
                yield name, outcome(ready)


def outcome(ready: Callable[[], object]) -> object:
    try:
        return ready()
    except SageMakerInferenceError as error:
        if not all(map(str.isprintable, str(error).splitlines())):
            raise
        return error


@pytest.mark.parametrize(("call", "options"), CASES)
def test_an_error_that_may_pass_is_ours_and_retryable_whatever_its_body_is(
    call: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, result in outcomes(monkeypatch, options, PASSING, CALLS[call]):
        assert isinstance(result, SageMakerInferenceError), (name, result)
        assert result.retryable, (name, result)
        assert "None" not in str(result), name


@pytest.mark.parametrize(("call", "options"), CASES)
def test_any_other_error_is_ours_and_no_proof_that_something_is_missing(
    call: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, result in outcomes(monkeypatch, options, ODD, CALLS[call]):
        if call == "s3 stat" and ODD[name].status == 404:
            continue  # a HEAD has no body: there the status is all that S3 says
        assert isinstance(result, SageMakerInferenceError) or call in TELLS_BY_STATUS, (name, result)
        assert "NotFound" not in type(result).__name__, name


@pytest.mark.parametrize(("call", "options"), CASES)
def test_a_successful_answer_that_says_nothing_is_an_error_of_ours_and_retryable(
    call: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, result in outcomes(monkeypatch, options, UNREADABLE, CALLS[call]):
        if call in TAKES_ANYTHING and "page" not in name:
            continue
        assert isinstance(result, ServiceUnavailable), (name, result)
        if "Async" in call:
            assert isinstance(result, AnswerLost), name


def test_an_html_page_of_a_model_is_its_answer(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS's request id tells it from a proxy's."""
    said = {"": Said(200, PAGE, {"Content-Type": "text/html", "x-amzn-RequestId": "r", "ETag": '"e"'})}
    ((_, result),) = outcomes(monkeypatch, options, said, CALLS["InvokeEndpoint blocking"])
    assert getattr(result, "body", None) == PAGE
    ((_, result),) = outcomes(monkeypatch, options, said, CALLS["s3 read"])
    assert result == PAGE


def test_a_head_of_an_object_takes_no_page_for_it(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = {
        str(status): Said(status, b"", {"Content-Type": "text/html"}) for status in (200, 302, 404, 403, 511)
    }
    for status, result in outcomes(
        monkeypatch, options, pages, s3(lambda opened: opened.presence("s3://b/k"))
    ):
        assert result is Presence.UNKNOWN, status


def test_the_container_logs_hook_explains_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    call = hook(ContainerLogsHook, lambda h: h.show_tail("group", lines=3))
    for name, result in outcomes(monkeypatch, ONCE, {**PASSING, **ODD, **UNREADABLE}, call):
        assert result is None, name


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_error_of_a_models_invocation_has_a_verdict(
    carrier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch it is about the payload, or it goes again: nothing here says that the endpoint cannot be used."""

    async def invoke(invoker: EndpointInvoker) -> object:
        try:
            return await invoker.invoke(b"x", target_model="m.tar.gz")
        except (ClientError, BotoCoreError) as error:
            return failure_of(error)

    call = opened(lambda connection: EndpointInvoker.open(connection, "e", max_connections=2), invoke)
    with carried_by(carrier) as configuration:
        failures = list(outcomes(monkeypatch, {**ONCE, **configuration}, {**PASSING, **ODD}, call))
    for name, failure in failures:
        assert isinstance(failure, CallFailure), name
        assert isinstance(failure.message, str), name
        assert failure.original_status is None or 0 <= failure.original_status <= 999, name
        wanted = judge(failure)
        if name in PASSING:
            assert (wanted.fate, failure.attempt) == (PayloadFate.RETRY, Attempt.AGAIN), name
            assert wanted.error in (ServiceUnavailable, Throttled), name
        else:
            assert wanted.fate is PayloadFate.FAILED, name


def test_a_role_whose_credentials_are_answered_with_garbage_is_worth_a_retry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The provider asks STS by itself, before any client of ours is made."""
    extra = {
        "role_arn": "arn:aws:iam::123456789012:role/r",
        "region_name": "us-east-1",
        "config_kwargs": ONCE,
    }
    for said in (Said(200, PAGE), Said(200, b"<a/>"), Said(502, PAGE), Said(200)):
        with recording(partial(_same, said)) as recorder:
            monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
            monkeypatch.setenv(
                "AIRFLOW_CONN_AWS_ROLE",
                json.dumps({"conn_type": "aws", "login": "AKID", "password": "secret", "extra": extra}),
            )
            with pytest.raises(SageMakerInferenceError) as caught:
                SageMakerControlPlaneHook(aws_conn_id="aws_role").describe_endpoint("e")
            assert recorder.asked
        assert caught.value.retryable, said


def _same(said: Said, _: Asked) -> Said:
    return said
