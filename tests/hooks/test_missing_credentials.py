"""Credentials that are missing, or not whole, for a moment: the work waits, and nothing that works is deleted."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import (
    BotoCoreError,
    ConfigNotFound,
    ConfigParseError,
    CredentialRetrievalError,
    MetadataRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOTokenLoadError,
    TokenRetrievalError,
    UnauthorizedSSOTokenError,
)

from airflow_sm_plugin.async_inference.watch import group
from airflow_sm_plugin.aws import hook as aws_hook
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import is_about_credentials, translate
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from airflow_sm_plugin.invoke.errors import failure_of
from airflow_sm_plugin.invoke.failure import Attempt
from airflow_sm_plugin.invoke.request import InvokeRequest
from airflow_sm_plugin.multi_model.engine.judgement import PayloadFate, judge
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger
from tests.support import Account, TaskInstanceDouble, context_for, event_of, run_task, unique
from tests.task_runs import Deferral, execute, resume

pytestmark = pytest.mark.airflow

CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")
KEYS = "aws_access_key_id = testing\naws_secret_access_key = testing\n"
ERRORS: list[BotoCoreError] = [
    ConfigNotFound(path="p"),
    ConfigParseError(path="p"),
    CredentialRetrievalError(provider="p", error_msg="e"),
    MetadataRetrievalError(error_msg="e"),
    NoCredentialsError(),
    PartialCredentialsError(provider="p", cred_var="v"),
    ProfileNotFound(profile="p"),
    SSOTokenLoadError(error_msg="e"),
    TokenRetrievalError(provider="p", error_msg="e"),
    UnauthorizedSSOTokenError(),
]


class Sources:
    """Where boto searches for credentials; each way to break them, and one to mend them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._file, self._token = folder / "credentials", folder / "token"
        self._set = monkeypatch.setenv
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        self._set("AWS_SHARED_CREDENTIALS_FILE", str(self._file))
        self._set("AWS_CONFIG_FILE", str(folder / "config"))
        self.mend()

    def mend(self) -> None:
        self._token.write_text("a token")
        self._file.write_text(f"[default]\n{KEYS}[work]\n{KEYS}")

    def none(self) -> None:
        self._file.write_text("")

    def half_written(self) -> None:
        self._file.write_text("[default]\naws_access_key_id = testing\n")

    def not_to_be_parsed(self) -> None:
        self._file.write_text("[default\naws_access_key_id")

    def profile_missing(self) -> None:
        self._set("AWS_PROFILE", "work")
        self._file.write_text(f"[default]\n{KEYS}")

    def process_fails(self) -> None:
        self._file.write_text("[default]\ncredential_process = false\n")

    def token_file_missing(self) -> None:
        self._set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/worker")
        self._set("AWS_WEB_IDENTITY_TOKEN_FILE", str(self._token))
        self._token.unlink()


WAYS = ["none", "half_written", "not_to_be_parsed", "profile_missing", "process_fails", "token_file_missing"]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    monkeypatch.setattr(aws_hook, "_MISSING_SECONDS", 0.0)
    monkeypatch.setattr("random.random", lambda: 0.0)
    return Sources(tmp_path, monkeypatch)


@pytest.fixture
def mended_when_logged(sources: Sources, caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Have the credentials mended as soon as a failure is logged; yield the logged failures."""
    failures: list[str] = []

    class Mender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage()
            if "does not answer" in text or "failed poll" in text or "again in" in text:
                failures.append(text)
                sources.mend()

    mender = Mender()
    caplog.set_level(logging.INFO)
    logging.getLogger().addHandler(mender)
    yield failures
    logging.getLogger().removeHandler(mender)


@pytest.fixture(scope="module")
def endpoint(session_account: Account) -> str:
    return session_account.deploy()


def wait_blocking(account: Account, endpoint: str) -> None:
    hook = SageMakerControlPlaneHook(**AwsConnection(**CONNECTION.as_mapping()).hook_arguments())
    give_up = time.monotonic() + 600
    assert hook.poll_until(endpoint, lambda _: True, give_up=give_up, poll_interval=0.01)


def wait_deferred(account: Account, endpoint: str) -> None:
    assert event_of(serving(account, endpoint))["verdict"]["status"] == "InService"


def serving(account: Account, endpoint: str) -> EndpointServingTrigger:
    return EndpointServingTrigger(
        endpoint_name=endpoint,
        wanted_config=account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"],
        note={},
        deadline=time.time() + 600,
        poll_interval=0.01,
        aws=CONNECTION.as_mapping(),
    )


def wait_for_a_result_deferred(account: Account, endpoint: str) -> None:
    location = account.upload(b"1")
    watch, _ = group([AsyncInvocation(output_location=location)], [time.time() + 600])
    trigger = AsyncInferenceTrigger(
        watch=watch.as_mapping(), deadline=time.time() + 600, poll_interval=0.01, aws=CONNECTION.as_mapping()
    )
    assert event_of(trigger)["why"] == "complete"


def wait_for_a_listed_result_deferred(account: Account, endpoint: str) -> None:
    location = account.upload(b"1")
    watch, _ = group([AsyncInvocation(output_location=location)], [time.time() + 600])
    written = account.upload(json.dumps(watch.as_mapping()).encode())
    trigger = AsyncInferenceTrigger(
        watch_location=written, deadline=time.time() + 600, poll_interval=0.01, aws=CONNECTION.as_mapping()
    )
    assert event_of(trigger)["why"] == "complete"


def poke(account: Account, endpoint: str) -> None:
    location = account.upload(b"1")
    sensor = partial(
        SageMakerAsyncInferenceSensor,
        task_id="wait",
        output_location=location,
        poke_interval=0.01,
        deferrable=False,
        **CONNECTION_ARGUMENTS,
    )
    assert sensor().execute(context_for()) == location


CONNECTION_ARGUMENTS: dict[str, Any] = {"aws_conn_id": None, "region_name": "us-east-1"}


@pytest.mark.parametrize(
    "work",
    [
        wait_blocking,
        wait_deferred,
        wait_for_a_result_deferred,
        wait_for_a_listed_result_deferred,
        poke,
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_wait_goes_on_once_they_are_there_again(
    account: Account,
    endpoint: str,
    sources: Sources,
    mended_when_logged: list[str],
    *,
    way: str,
    work: Callable[[Account, str], None],
) -> None:
    getattr(sources, way)()
    work(account, endpoint)
    assert mended_when_logged


@pytest.mark.parametrize("way", WAYS)
def test_an_invocation_is_sent_once_they_are_there_again_or_is_worth_a_retry(
    account: Account, endpoint: str, sources: Sources, way: str
) -> None:
    hook = SageMakerRuntimeHook(**AwsConnection(**CONNECTION.as_mapping()).hook_arguments())
    getattr(sources, way)()
    request = InvokeRequest(endpoint_name=endpoint, body=b"1,2", content_type="text/csv")
    try:
        reply = hook.invoke_endpoint(request, sleep=lambda _: sources.mend())
    except ServiceUnavailable:
        sources.mend()
        reply = hook.invoke_endpoint(request)
    assert reply.body == b"1,2"


@pytest.mark.parametrize("way", WAYS)
def test_an_endpoint_that_works_outlives_credentials_that_stay_away(
    account: Account, sources: Sources, way: str
) -> None:
    """The deferred wait ends with an error worth a retry, whose cleanup leaves the endpoint alone."""
    name, model = unique("endpoint"), account.create_model()
    make = partial(
        SageMakerDeployEndpointOperator,
        task_id="deploy",
        endpoint_name=name,
        model_name=model,
        poll_interval=0.01,
        deferrable=True,
        **CONNECTION_ARGUMENTS,
    )
    context = context_for(TaskInstanceDouble(run_id=name))
    step = execute(make, context)
    assert isinstance(step, Deferral)
    account.wait_for_endpoint(name)
    getattr(sources, way)()
    event = event_of(step.trigger)
    assert (event["status"], event["error"]) == ("error", "ServiceUnavailable")
    for mended in (False, True):
        if mended:
            sources.mend()
        with pytest.raises(ServiceUnavailable):
            resume(make, context, step, event)
    assert account.status(name) == "InService"
    retry = context_for(TaskInstanceDouble(run_id=name, try_number=2))
    assert run_task(make, retry)["status"] == "InService"
    account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_of_credentials_passes(error: BotoCoreError) -> None:
    assert is_about_credentials(error)
    ours = translate(error, "doing")
    assert isinstance(ours, ServiceUnavailable)
    assert ours.retryable
    failure = failure_of(error)
    assert failure.attempt is Attempt.AGAIN
    assert (judge(failure).fate, judge(failure).error) == (PayloadFate.RETRY, ServiceUnavailable)
