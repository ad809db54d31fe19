"""The fast transport over TLS and through proxies: nothing is sent to a server that cannot be trusted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.exceptions import AnswerLost, ServiceUnavailable
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from tests.stubs.recorder import Said, recording

pytestmark = pytest.mark.airflow

ACCEPTED = Said(202, b'{"InferenceId": "i"}', {"X-Amzn-SageMaker-OutputLocation": "s3://b/k"})
REQUEST = AsyncRequest(endpoint_name="an-endpoint", input_location="s3://bucket/input.csv")


def invoke(verify: bool | str | None = None, options: Mapping[str, Any] | None = None) -> AsyncInvocation:
    async def opened() -> AsyncInvocation:
        connection = AwsConnection(aws_conn_id=None, verify=verify, botocore_config=options)
        async with AsyncInvoker.open(connection) as invoker:
            return await invoker.invoke(REQUEST)

    return asyncio.run(opened())


def write(location: str, verify: str, options: Mapping[str, Any] | None = None) -> None:
    async def opened() -> None:
        connection = AwsConnection(aws_conn_id=None, verify=verify, botocore_config=options)
        async with S3Objects.open(connection) as s3:
            await s3.write(location, b"body")

    asyncio.run(opened())


def test_a_server_is_trusted_by_the_bundle_that_the_connection_names(
    certificate: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, context = certificate
    with recording(lambda _: ACCEPTED, tls=context) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", recorder.url)
        assert invoke(str(bundle)).inference_id == "i"
        assert invoke(verify=False).inference_id == "i"
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
        assert invoke().inference_id == "i"
        monkeypatch.delenv("AWS_CA_BUNDLE")
        before = len(recorder.asked)
        with pytest.raises(ServiceUnavailable, match="SSL validation failed") as caught:
            invoke()
        assert not isinstance(caught.value, AnswerLost)
        assert len(recorder.asked) == before == 3


@pytest.mark.parametrize(
    ("options", "signed"),
    [
        (None, False),
        ({"s3": {"payload_signing_enabled": True}}, True),
        ({"request_checksum_calculation": "when_required"}, True),
    ],
)
def test_over_tls_a_checksum_stands_for_the_bodys_signature(
    certificate: tuple[Path, ssl.SSLContext],
    options: Mapping[str, Any] | None,
    signed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, context = certificate
    with recording(lambda _: Said(200), tls=context) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", recorder.url)
        write("s3://bucket/key", str(bundle), options)
    (asked,) = recorder.asked
    assert asked.body == b"body"
    assert (asked.headers["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD") is signed
    checksummed = "request_checksum_calculation" not in (options or {})
    assert asked.headers.get("x-amz-checksum-crc32") == ("26gLsg==" if checksummed else None)


def test_what_a_proxy_did_not_let_through_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here only CONNECT reaches the proxy: with its password, which no message shows."""
    with recording(lambda _: Said(407)) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", "https://runtime.test")
        proxy = recorder.url.replace("http://", "http://me:pass-secret@")
        with pytest.raises(ServiceUnavailable) as caught:
            invoke(options={"proxies": {"https": proxy}})
    assert not isinstance(caught.value, AnswerLost)
    assert "secret" not in str(caught.value)
    assert [(each.method, each.target) for each in recorder.asked] == [("CONNECT", "runtime.test:443")]
    assert recorder.asked[0].headers["proxy-authorization"] == "Basic bWU6cGFzcy1zZWNyZXQ="
