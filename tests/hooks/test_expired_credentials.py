"""Expired credentials: fresh ones are fetched at once and the call is sent again; else it is an error worth a retry."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.exceptions import AccessDenied, CredentialsExpired, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger
from tests.hooks.test_hostile_answers import CALLS, CASES
from tests.stubs.recorder import Asked, Said, recording

pytestmark = pytest.mark.airflow

XML, JSON = {"Content-Type": "application/xml"}, {"Content-Type": "application/json"}
EXPIRED = (
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "InvalidClientTokenId",
)


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have credentials in a file, as a tool writes it that rotates them; return what writes it."""
    file = tmp_path / "credentials"

    def write(key: str) -> None:
        file.write_text(
            f"[default]\naws_access_key_id={key}\naws_secret_access_key=secret\naws_session_token=token-{key}\n"
        )

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    write("OLDKEY")
    return write


def refusal(asked: Asked, code: str) -> Said:
    """Return a refusal in the protocol that it was asked in."""
    if "/s3/" in asked.headers["authorization"] or "/iam/" in asked.headers["authorization"]:
        body = f"<Error><Code>{code}</Code><Message>m</Message></Error>"
        if "/iam/" in asked.headers["authorization"]:
            body = f"<ErrorResponse>{body}</ErrorResponse>"
        return Said(403 if code == "AccessDenied" else 400, body.encode(), XML)
    body = json.dumps({"__type": code, "message": "m"})
    return Said(403, body.encode(), {**JSON, "x-amzn-ErrorType": code})


@pytest.mark.parametrize(("call", "options"), CASES)
def test_a_call_is_sent_once_more_with_fresh_credentials(
    call: str,
    options: Mapping[str, object],
    rotated: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error in the end proves it: the new key is denied for a reason of its own."""
    if "deferred" in call:
        pytest.skip("a trigger polls again with another client: see below")
    monkeypatch.setattr("random.random", lambda: 0.0)

    def answer(asked: Asked) -> Said:
        if "OLDKEY" in asked.headers["authorization"]:
            rotated("NEWKEY")
            return refusal(asked, "ExpiredToken")
        return refusal(asked, "AccessDenied")

    error = failure(call, options, answer, monkeypatch)
    if "stat" not in call and call != "ListTags":  # these report a denied call in their own way
        assert isinstance(error, AccessDenied)


@pytest.mark.parametrize(("call", "options"), CASES)
def test_credentials_that_stay_expired_are_an_error_worth_a_retry(
    call: str, options: Mapping[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    for code in EXPIRED:
        error = failure(call, options, lambda asked, code=code: refusal(asked, code), monkeypatch)  # type: ignore[misc]
        assert isinstance(error, CredentialsExpired), code
        assert error.retryable


def test_a_poll_of_a_wait_that_meets_expired_credentials_is_a_failed_poll_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter([True, True, False])

    def answer(asked: Asked) -> Said:
        if next(answers):
            return refusal(asked, "ExpiredTokenException")
        return Said(200, b'{"EndpointStatus": "InService", "EndpointConfigName": "c"}', JSON)

    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        hook = SageMakerControlPlaneHook(aws_conn_id=None, region_name="us-east-1")
        give_up = time.monotonic() + 600
        description = hook.poll_until("e", lambda _: True, give_up=give_up, poll_interval=0.01)
    assert (description or {})["EndpointStatus"] == "InService"


def test_a_trigger_polls_again_with_fresh_credentials(
    rotated: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(asked: Asked) -> Said:
        if "OLDKEY" in asked.headers["authorization"]:
            rotated("NEWKEY")
            return refusal(asked, "ExpiredTokenException")
        return Said(200, b'{"EndpointStatus": "InService", "EndpointConfigName": "c"}', JSON)

    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        trigger = EndpointServingTrigger(
            endpoint_name="e",
            wanted_config="c",
            note={},
            deadline=time.time() + 600,
            poll_interval=0.01,
            aws=AwsConnection(aws_conn_id=None, region_name="us-east-1").as_mapping(),
        )

        async def events() -> list[Any]:
            return [event.payload async for event in trigger.run()]

        (event,) = asyncio.run(events())
        assert len(recorder.asked) == 2
    assert (event["status"], event["verdict"]["status"]) == ("over", "InService")


@pytest.mark.parametrize(
    ("code", "message", "meaning"),
    [
        (
            "InvalidSignatureException",
            "Signature expired: 20261128T1 is now earlier than",
            Meaning.CREDENTIALS_EXPIRED,
        ),
        ("SignatureDoesNotMatch", "Signature not yet current: 2026", Meaning.CREDENTIALS_EXPIRED),
        (
            "UnrecognizedClientException",
            "The security token included in the request is expired",
            Meaning.CREDENTIALS_EXPIRED,
        ),
        (
            "UnrecognizedClientException",
            "The security token included in the request is invalid.",
            Meaning.CREDENTIALS_EXPIRED,
        ),
        (
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
            Meaning.CREDENTIALS_EXPIRED,
        ),
        (
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match",
            Meaning.CREDENTIALS_EXPIRED,
        ),
    ],
)
def test_credentials_that_are_not_accepted_are_never_a_missing_permission(
    code: str, message: str, meaning: Meaning
) -> None:
    """Keys that were made, rotated or written down just now are invalid for a moment."""
    assert meaning_of(code, message, 403) is meaning


def failure(
    call: str,
    options: Mapping[str, object],
    answer: Callable[[Asked], Said],
    monkeypatch: pytest.MonkeyPatch,
) -> SageMakerInferenceError | None:
    with recording(answer) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL", recorder.url)
        try:
            connection = AwsConnection(aws_conn_id=None, region_name="us-east-1", botocore_config=options)
            with CALLS[call](connection) as ready:
                ready()
        except SageMakerInferenceError as error:
            found: SageMakerInferenceError | None = error
        else:
            found = None
        keys = [asked.headers["authorization"].partition("Credential=")[2][:6] for asked in recorder.asked]
    if "NEWKEY" in keys:
        assert (keys[0], keys[-1]) == ("OLDKEY", "NEWKEY")
    else:
        assert "OLDKEY" not in keys
    return found
