"""The fast transport asks what botocore asks, and raises what botocore raises, for the same call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.calls import open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import status_of
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions, conditions
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
from airflow_sm_plugin.invoke.errors import failure_of
from tests.invoke.carriers import carried_by
from tests.stubs.recorder import TRANSPORTS, Asked, Said, recording
from tests.support import botocore_knows, closed_port

pytestmark = pytest.mark.airflow

FAST: Mapping[str, Any] = {"connect_timeout": 600, "read_timeout": 600}
THROUGH_BOTOCORE: Mapping[str, Any] = {**FAST, **TRANSPORTS["botocore"]}

OBJECT = {"Bucket": "bucket", "Key": "a b//../ü+%~*'()/./..x.csv"}
PLAIN = {"Bucket": "bucket", "Key": "a b/ü+.csv"}
"""Without what urllib3 tidies up on the way to an HTTP proxy."""

LISTING = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
UPLOADING = {
    "GET": b"<ListMultipartUploadsResult/>",
    "POST": b"<R><UploadId>u</UploadId><ETag>e</ETag></R>",
    "PUT": b"<CopyPartResult><ETag>e</ETag></CopyPartResult>",
}
ACCEPTED = Said(202, b'{"InferenceId": "i"}', {"X-Amzn-SageMaker-OutputLocation": "s3://b/o.out"})
FIRST_ONLY = {
    "user-agent",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "x-amz-date",
    "expect",
}
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/results"
INVOCATION = {
    "EndpointName": "an-endpoint",
    "InputLocation": "s3://bucket/in put/x.csv",
    "ContentType": "text/csv; charset=utf-8",
    "Accept": "application/json",
    "CustomAttributes": "Trace ID:  c000b4f9",
    "InferenceId": "an id",
    "RequestTTLSeconds": 60,
    "InvocationTimeoutSeconds": 900,
}
INLINE = {"EndpointName": "an-endpoint", "Body": b"\x00\xff1,2", "ContentType": "text/csv"}
NAMED = {**INVOCATION, "Filename": "1.out", "S3OutputPathExtension": "a/(b)'s!/0"}

MODEL_CALL: Mapping[str, Any] = {
    "body": b"\x00\xff1,2",
    "target_model": "shop=1/model v2.tar.gz",
    "content_type": "text/csv; charset=utf-8",
    "accept": "application/json;  q=1",
    "custom_attributes": 'Trace ID:  c000b4f9, x="y"',
    "target_variant": "blue",
}
MARKED = ObjectOptions(metadata={"a-name": "a value/1"})
KEPT = ObjectOptions(kms_key_id="arn:aws:kms:us-east-1:1:key/k", acl="bucket-owner-full-control")
BODY = {"Body": b"body", "ContentType": "text/csv"}
BEGUN = {"ContentType": "text/csv", "ChecksumAlgorithm": "CRC32"}
UPLOAD = {"UploadId": "u/+= id"}
PARTS = [
    {"PartNumber": 1, "ETag": '"e<1>"', "ChecksumCRC32": "AAAAAA=="},
    {"PartNumber": 2, "ETag": '"e2"'},
]

Call = Callable[[AwsConnection], Any]


def calling(
    service: str, operation: str, probe: Mapping[str, Any] | None = None, **parameters: object
) -> Call:
    async def call(connection: AwsConnection) -> object:
        opening = open_calls(connection, service, probe=(operation, probe) if probe else None)
        async with opening as calls:
            return await calls.call(operation, **parameters)

    return call


def s3(operation: str, *options: Mapping[str, Any], **parameters: Any) -> Call:  # noqa: ANN401 - botocore's
    for each in options:
        parameters.update(each)
    return calling("s3", operation, **parameters)


async def read_on(connection: AwsConnection) -> object:
    rest = {**OBJECT, "Range": "bytes=7-", "IfMatch": '"e"'}
    async with open_calls(connection, "s3") as calls, calls.opened("GetObject", **rest) as response:
        return [chunk async for chunk in response["Body"]]


def model(carrier: str = "httptools", **request: Any) -> Call:  # noqa: ANN401 - invoke's own parameters
    async def call(connection: AwsConnection) -> object:
        with carried_by(carrier):
            async with EndpointInvoker.open(connection, "an-endpoint", max_connections=4) as invoker:
                assert invoker.carrier in (carrier, "botocore")
                return await invoker.invoke(**request)

    return call


def invoking(parameters: Mapping[str, Any]) -> Call:
    probe = {"EndpointName": "x", "InputLocation": "s3://x/x"}
    return calling("sagemaker-runtime", "InvokeEndpointAsync", probe, **parameters)


def queue(operation: str, parameters: Mapping[str, Any]) -> Call:
    return calling("sqs", operation, {"QueueUrl": QUEUE, **parameters}, QueueUrl=QUEUE, **parameters)


CALLS: dict[str, Call] = {
    "list all": s3("ListObjectsV2", Bucket="bucket", Prefix=""),
    "list on": s3(
        "ListObjectsV2",
        Bucket="bucket",
        Prefix="a b/",
        StartAfter="a b/c",
        ContinuationToken="1ueGcx+LPRx1Tr/XYExHnhbYLg=",
    ),
    "list behind": s3("ListObjectsV2", Bucket="bucket", Prefix="a b/+%~ü", StartAfter="a b/z="),
    "head": s3("HeadObject", OBJECT),
    "get": s3("GetObject", OBJECT),
    "get first": s3("GetObject", OBJECT, Range="bytes=0-9"),
    "read on": read_on,
    "put": s3("PutObject", OBJECT, BODY),
    "put if new": s3("PutObject", OBJECT, BODY, conditions(only_if_new=True)),
    "put nothing": s3("PutObject", OBJECT, Body=b"", ContentType="application/json"),
    "delete": s3("DeleteObject", OBJECT),
    "delete this one": s3("DeleteObject", OBJECT, conditions(if_match="e")),
    "put with metadata": s3("PutObject", OBJECT, BODY, MARKED.parameters(), conditions(only_if_new=True)),
    "begin upload with metadata": s3("CreateMultipartUpload", OBJECT, BEGUN, MARKED.parameters()),
    "put plain": s3("PutObject", PLAIN, BODY, conditions(only_if_new=True)),
    "get plain": s3("GetObject", PLAIN),
    "put for others": s3("PutObject", OBJECT, BODY, KEPT.parameters()),
    "begin upload": s3("CreateMultipartUpload", OBJECT, BEGUN, KEPT.parameters()),
    "add part": s3("UploadPart", OBJECT, UPLOAD, PartNumber=7, Body=b"body"),
    "copy part": s3(
        "UploadPartCopy", OBJECT, UPLOAD, PartNumber=7, CopySource=PLAIN, CopySourceRange="bytes=5-9"
    ),
    "complete upload": s3("CompleteMultipartUpload", OBJECT, UPLOAD, MultipartUpload={"Parts": PARTS}),
    "abort upload": s3("AbortMultipartUpload", OBJECT, UPLOAD),
    "invoke": invoking(INVOCATION),
    "invoke model": model(**MODEL_CALL),
    "invoke plainly": model(body=b"{}", target_model=None),
    "invoke with nothing": model(body=b"", target_model="m.tar.gz"),
    "invoke model through aiohttp": model("aiohttp", **MODEL_CALL),
    "invoke plainly through aiohttp": model("aiohttp", body=b"{}", target_model=None),
    "invoke with nothing through aiohttp": model("aiohttp", body=b"", target_model="m.tar.gz"),
    "invoke abroad through aiohttp": model("aiohttp", body=b"x", target_model="größe/模型.tar.gz"),
    "invoke abroad, in words": model(body=b"x", target_model="größe", custom_attributes="ü  ß\u00a0ß"),
    "invoke abroad": model(body=b"x", target_model="größe/模型.tar.gz"),
    "receive": queue("ReceiveMessage", {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20}),
    "delete messages": queue("DeleteMessageBatch", {"Entries": [{"Id": "0", "ReceiptHandle": "ü/+="}]}),
}
if botocore_knows("Body"):
    CALLS["invoke inline"] = invoking(INLINE)
if botocore_knows("Filename"):
    CALLS["invoke named"] = invoking(NAMED)


def fine(asked: Asked) -> Said:
    if "/s3/" not in asked.headers["authorization"]:
        return ACCEPTED if "async" in asked.target else Said(200, b"{}")
    if "list-type" in asked.target:
        return Said(200, LISTING)
    if "upload" in asked.target and "x-amz-checksum-crc32" not in asked.headers:
        return Said(200, UPLOADING.get(asked.method, b""))
    return Said(204) if asked.method == "DELETE" else Said(200, b"", {"ETag": '"e"'})


def connection(monkeypatch: pytest.MonkeyPatch, url: str, options: Mapping[str, Any]) -> AwsConnection:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return AwsConnection(aws_conn_id=None, botocore_config=options)


def asked_by_both(
    monkeypatch: pytest.MonkeyPatch, call: Call, options: Mapping[str, Any] | None = None, url: str = ""
) -> tuple[Asked, Asked]:
    """Return the one request of each transport."""
    with recording(fine) as recorder:
        for either in (FAST, THROUGH_BOTOCORE):
            proxied = {"proxies": {"http": recorder.url}} if url else {}
            asyncio.run(
                call(connection(monkeypatch, url or recorder.url, {**either, **(options or {}), **proxied}))
            )
        fast, theirs = recorder.asked
        return fast, theirs


def comparable(asked: Asked) -> tuple[str, str, bytes, dict[str, str]]:
    headers = {name: value for name, value in asked.headers.items() if name not in FIRST_ONLY}
    return asked.method, asked.target, asked.body, headers


def signature_by_botocore(asked: Asked) -> str:
    """Compute the signature again from the signed request."""
    shown, _, rest = asked.headers["authorization"].partition(", SignedHeaders=")
    _, _, region, service, _ = shown.split("/")
    headers = {
        name: asked.headers[name].encode("latin-1").decode() for name in rest.partition(",")[0].split(";")
    }
    url = f"http://{asked.headers['host']}{asked.target.removeprefix('http://' + asked.headers['host'])}"
    request: Any = AWSRequest(asked.method, url, headers, asked.body)
    request.context["timestamp"] = asked.headers["x-amz-date"]
    auth: Any = (S3SigV4Auth if service == "s3" else SigV4Auth)(
        Credentials("AKID", "secret"), service, region
    )
    return str(auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request))


@pytest.mark.parametrize("name", CALLS)
def test_the_request_is_that_of_botocore(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method, path, query, body and headers, save what tells who sent it when, and ``Expect`` before a body."""
    fast, theirs = asked_by_both(monkeypatch, CALLS[name])
    assert comparable(fast) == comparable(theirs)
    assert fast.headers["user-agent"].startswith(theirs.headers["user-agent"].partition(" ")[0])
    scope, signed = fast.headers["authorization"].split(", ")[:2]
    assert [scope, signed] == theirs.headers["authorization"].split(", ")[:2]
    assert fast.headers["authorization"].endswith(f"Signature={signature_by_botocore(fast)}")


def test_a_session_token_is_sent_and_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/token=")
    fast, theirs = asked_by_both(monkeypatch, CALLS["head"])
    assert fast.headers["x-amz-security-token"] == "a/token="
    assert comparable(fast) == comparable(theirs)


@pytest.mark.parametrize(
    "options",
    [
        {"s3": {"addressing_style": "virtual"}},
        {"s3": {"addressing_style": "path"}},
        {"s3": {"payload_signing_enabled": False}},
        {"s3": {"payload_signing_enabled": True}},
        {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"},
        {"region_name": "eu-west-1", "user_agent_extra": "ours", "tcp_keepalive": True},
    ],
)
@pytest.mark.parametrize("name", ["put plain", "get plain", "list behind"])
def test_what_the_botocore_configuration_says_holds(
    name: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over an HTTP proxy, so that a bucket can be part of the host's name; the proxy itself is one such option."""
    fast, theirs = asked_by_both(monkeypatch, CALLS[name], options, url="http://s3.test:81/base")
    assert fast.target.startswith("http://")
    assert comparable(fast) == comparable(theirs)
    assert ("ours" in fast.headers["user-agent"]) is ("user_agent_extra" in options)


S3_ERROR = b"<Error><Code>%s</Code><Message>said &amp; done</Message><Region>us-east-1</Region></Error>"


def runtime_error(status: int, code: str, **members: object) -> Said:
    return Said(status, json.dumps(members).encode(), {"x-amzn-ErrorType": code, "x-amzn-RequestId": "r"})


NO_ENDPOINT = '{"ErrorCode":"NO_SUCH_ENDPOINT","Message":"Endpoint e of account 1 not found."}'
NOT_MULTI_MODEL = (
    '{"ErrorCode":"TARGET_MODEL_HEADER_NOT_SUPPORTED",'
    '"Message":"Endpoint e is not a multi-model endpoint and does not support target model header."}'
)
MODEL_ERROR = {
    "Message": 'Received server error (500) from primary with message "KeyError: x"',
    "OriginalStatusCode": 500,
    "OriginalMessage": "KeyError: ü",
    "LogStreamArn": "arn:aws:logs:us-east-1:1:log-group:/aws/sagemaker/Endpoints/e",
}
MODEL_ERRORS: dict[str, Said] = {
    "model not ready": runtime_error(429, "ModelNotReadyException", Message="loading"),
    "throttled with 400": runtime_error(400, "ThrottlingException", message="Rate exceeded"),
    "throttled with 429": runtime_error(429, "ThrottlingException:http://x/", message="Rate exceeded"),
    "service unavailable": runtime_error(503, "ServiceUnavailable", Message="try again"),
    "internal failure": runtime_error(500, "InternalFailure", Message="oops"),
    "no words": Said(503),
    "bad gateway": Said(502, b"<html><body>bad gateway</body></html>", {"Content-Type": "text/html"}),
    "gateway timeout": Said(504),
    "insufficient storage": Said(507, b"<HTML>no memory</HTML>"),
    "insufficient storage, in words": Said(507, b"no memory"),
    "model error": runtime_error(424, "ModelError", **MODEL_ERROR),
    "container timed out": runtime_error(424, "ModelError", Message="m", OriginalStatusCode=0),
    "model error of a few words": runtime_error(424, "ModelError"),
    "internal dependency": runtime_error(530, "InternalDependencyException", Message="dependency"),
    "no endpoint": runtime_error(400, "ValidationError", Message=NO_ENDPOINT),
    "not multi-model": runtime_error(400, "ValidationError", Message=NOT_MULTI_MODEL),
    "code in the body": Said(400, json.dumps({"code": "ValidationError", "message": "m"}).encode()),
    "code as a type": Said(429, json.dumps({"__type": "x#ModelNotReadyException"}).encode()),
    "no permission": runtime_error(403, "AccessDeniedException", Message="not authorized"),
    "expired": runtime_error(403, "ExpiredTokenException", message="expired"),
    "a proxy's words": Said(403, b"<html>no</html>"),
    "too large": Said(413, b"Request Entity Too Large"),
    "elsewhere": Said(307, b"", {"Location": "http://127.0.0.1:9/"}),
    "something new": runtime_error(418, "TeapotException", Message="short and stout"),
}
ERRORS: dict[str, tuple[str, Said]] = {
    **{f"model: {name}": ("invoke model", said) for name, said in MODEL_ERRORS.items()},
    **{f"aiohttp: {name}": ("invoke model through aiohttp", said) for name, said in MODEL_ERRORS.items()},
    "upload is gone": ("add part", Said(404, S3_ERROR % b"NoSuchUpload")),
    "copy fails late": ("copy part", Said(200, S3_ERROR % b"InternalError")),
    "complete fails late": (
        "complete upload",
        Said(200, b"<?xml version='1.0'?>\n" + S3_ERROR % b"SlowDown"),
    ),
    "no such key": ("get", Said(404, S3_ERROR % b"NoSuchKey", {"x-amz-request-id": "r"})),
    "no such bucket": ("list all", Said(404, S3_ERROR % b"NoSuchBucket")),
    "missing at head": ("head", Said(404)),
    "forbidden at head": ("head", Said(403)),
    "slow down": ("put", Said(503, S3_ERROR % b"SlowDown")),
    "another writer": ("put if new", Said(412, S3_ERROR % b"PreconditionFailed")),
    "a page of a load balancer": ("list all", Said(502, b"<html>bad gateway</html>")),
    "no words": ("put", Said(500)),
    "throttled": (
        "invoke",
        Said(429, b'{"message": "slow"}', {"x-amzn-ErrorType": "ThrottlingException:http://x/"}),
    ),
    "refused": ("invoke", Said(400, b'{"Message": "no"}', {"x-amzn-ErrorType": "ValidationError"})),
    "unavailable": ("invoke", Said(503, b"", {"x-amzn-ErrorType": "ServiceUnavailable"})),
    "proxy's words": ("invoke", Said(403, b"<html>no</html>")),
    "no such queue": (
        "receive",
        Said(
            400,
            json.dumps({"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "none"}).encode(),
            {"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"},
        ),
    ),
}


def raised_by_both(monkeypatch: pytest.MonkeyPatch, call: Call, said: Said | str) -> list[Exception]:
    errors: list[Exception] = []
    for options in (FAST, THROUGH_BOTOCORE):
        with recording(lambda _: said if isinstance(said, Said) else Said()) as recorder:
            url = said if isinstance(said, str) else recorder.url
            with pytest.raises((ClientError, BotoCoreError)) as caught:
                asyncio.run(call(connection(monkeypatch, url, options)))
            errors.append(caught.value)
    return errors


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_answer_raises_what_botocore_raises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    call, said = ERRORS[name]
    ours, theirs = raised_by_both(monkeypatch, CALLS[call], said)
    assert isinstance(ours, ClientError)
    assert isinstance(theirs, ClientError)
    assert type(ours).__name__ == type(theirs).__name__
    assert type(ours).__mro__[1].__name__ == type(theirs).__mro__[1].__name__
    assert ours.operation_name == theirs.operation_name
    assert without_metadata(ours) == without_metadata(theirs)
    assert failure_of(ours) == failure_of(theirs)
    assert status_of(ours) == status_of(theirs)


def without_metadata(error: ClientError) -> Mapping[str, Any]:
    return {name: value for name, value in error.response.items() if name != "ResponseMetadata"}


@pytest.mark.parametrize(
    "call", ["head", "put", "invoke", "invoke model", "invoke model through aiohttp", "receive"]
)
@pytest.mark.parametrize("trouble", ["closed port", "closed without an answer"])
def test_a_broken_connection_raises_what_botocore_raises(
    call: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = closed_port() if trouble == "closed port" else Said(0)
    ours, theirs = raised_by_both(monkeypatch, CALLS[call], said)
    assert type(ours) is type(theirs)
    assert isinstance(ours, BotoCoreError)
    assert isinstance(theirs, BotoCoreError)
    assert failure_of(ours).kind == failure_of(theirs).kind
