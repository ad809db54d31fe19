"""Our signer gives the very bytes that botocore's gives."""

from __future__ import annotations

import time
from itertools import product
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.aws.signer import (
    UNSIGNED_PAYLOAD,
    Clock,
    Keys,
    RepeatedRequest,
    Signer,
    UnsignedRequest,
)

pytestmark = pytest.mark.airflow

TIMESTAMP = "20260131T235959Z"
REGION = "eu-central-1"

visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
values = st.lists(visible, min_size=1, max_size=3).map("  ".join)
names = st.from_regex(r"X-[A-Z][a-z]{1,8}(-[A-Z][a-z]{1,8})?", fullmatch=True)


def quoted(min_size: int = 0) -> st.SearchStrategy[str]:
    return st.text(min_size=min_size, max_size=12).map(lambda text: quote(text, safe="-._~"))


segments = st.text(st.characters(codec="utf-8", exclude_characters="/."), min_size=1, max_size=12)
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(quote(p, safe="~") for p in parts))
parameters = st.builds("{}{}".format, quoted(min_size=1), st.just("") | quoted().map("={}".format))
queries = st.lists(parameters, max_size=4).map("&".join)
hosts = ["runtime.sagemaker.eu-central-1.amazonaws.com", "bucket.s3.test", "127.0.0.1:5000"]
requests = st.builds(
    UnsignedRequest,
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    path=paths,
    query=queries,
    headers=st.dictionaries(names, values, max_size=4),
    body=st.binary(max_size=50),
    sign_body=st.booleans(),
)
keys = st.builds(Keys, st.just("AKIDEXAMPLE"), visible, st.none() | visible)


def by_botocore(request: UnsignedRequest, host: str, given_keys: Keys, service: str, *, is_s3: bool) -> str:
    url = f"https://{host}{request.path}" + (f"?{request.query}" if request.query else "")
    theirs: Any = AWSRequest(request.method, url, dict(request.headers), request.body)
    theirs.context["timestamp"] = TIMESTAMP
    theirs.context["payload_signing_enabled"] = request.sign_body
    theirs.context["client_config"] = Config(s3={"payload_signing_enabled": request.sign_body})
    credentials = Credentials(given_keys.access_key, given_keys.secret_key, given_keys.token)
    auth: Any = (S3SigV4Auth if is_s3 else SigV4Auth)(credentials, service, REGION)
    auth._modify_request_before_signing(theirs)
    text = auth.string_to_sign(theirs, auth.canonical_request(theirs))
    auth._inject_signature_to_request(theirs, auth.signature(text, theirs))
    return str(theirs.headers["Authorization"])


@pytest.mark.parametrize(("service", "is_s3"), [("s3", True), ("sagemaker", False), ("sqs", False)])
@given(request=requests, host=st.sampled_from(hosts), given_keys=keys)
@settings(max_examples=60, deadline=None)
def test_the_signature_is_that_of_botocore(
    service: str, is_s3: bool, request: UnsignedRequest, host: str, given_keys: Keys
) -> None:
    signer = Signer(given_keys, region=REGION, service=service, is_s3=is_s3)
    signed = signer.signed(request, host, request.path, TIMESTAMP)
    assert signed["Authorization"] == by_botocore(request, host, given_keys, service, is_s3=is_s3)
    assert signed.get("X-Amz-Security-Token") == given_keys.token
    assert (signed.get("X-Amz-Content-SHA256") != UNSIGNED_PAYLOAD) is request.sign_body


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines)


@given(
    request=requests.filter(lambda request: not request.query),
    host=st.sampled_from(hosts),
    given_keys=keys,
    given_values=st.lists(values, min_size=1, max_size=3),
    varying=st.just("") | names,
)
@settings(max_examples=60, deadline=None)
def test_a_repeated_request_is_signed_as_each_by_itself(
    request: UnsignedRequest,
    host: str,
    given_keys: Keys,
    given_values: list[str],
    varying: str,
) -> None:
    headers = {name: value for name, value in request.headers.items() if name != varying}
    request = request._replace(headers=headers, sign_body=True)
    signer, unsigned = Signer(given_keys, region=REGION, service="sagemaker"), {"User-Agent": "x y"}
    repeated = RepeatedRequest(signer, request, host, request.path, unsigned=unsigned, varying=varying)
    for second, value in product([TIMESTAMP, "20260201T000000Z", "20260201T000001Z"], given_values):
        body = request.body + value.encode()
        first, sent = parsed(repeated.head(body, second, value))
        single = request._replace(body=body, headers={**headers, **({varying: value} if varying else {})})
        signed = Signer(given_keys, region=REGION, service="sagemaker").signed(
            single, host, request.path, second
        )
        assert first == f"{request.method} {request.path} HTTP/1.1"
        assert sent == {"Host": host, "User-Agent": "x y", "Content-Length": str(len(body)), **signed}


def test_a_repeated_request_is_signed_as_botocore_does() -> None:
    attributes = "X-Amzn-SageMaker-Custom-Attributes"
    headers = {"Accept": "text/csv;  q=1", "X-Amzn-SageMaker-Target-Model": "größe/a  b.tar.gz"}
    request = UnsignedRequest("POST", "/endpoints/e/invocations", headers=headers, body=b"1,2")
    given_keys, host = Keys("AKIDEXAMPLE", "secret", "token"), hosts[0]
    signer = Signer(given_keys, region=REGION, service="sagemaker")
    repeated = RepeatedRequest(signer, request, host, request.path, unsigned={}, varying=attributes)
    single = request._replace(headers={**headers, attributes: "a  ü"})
    _, sent = parsed(repeated.head(b"1,2", TIMESTAMP, "a  ü"))
    assert sent["Authorization"] == by_botocore(single, host, given_keys, "sagemaker", is_s3=False)
    assert sent[attributes] == "a  ü"


def test_a_new_day_has_a_new_key() -> None:
    def sign(signer: Signer, timestamp: str) -> dict[str, str]:
        return signer.signed(UnsignedRequest("POST", body=b"{}"), "sqs.test", "/", timestamp)

    keys_ = Keys("AKID", "secret", None)
    signer = Signer(keys_, region=REGION, service="sqs")
    first, again = sign(signer, TIMESTAMP), sign(signer, TIMESTAMP)
    later = sign(signer, "20260201T000000Z")
    assert first == again
    assert later == sign(Signer(keys_, region=REGION, service="sqs"), "20260201T000000Z")
    assert "/20260201/eu-central-1/sqs/" in later["Authorization"]


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\ud800"])
def test_what_no_header_can_hold_is_not_signed(value: str) -> None:
    signer = Signer(Keys("AKID", "secret", None), region=REGION, service="sqs")
    request = UnsignedRequest("POST", headers={"X-Evil": f"hidden {value}"})
    with pytest.raises(ParamValidationError, match="X-Evil: a line break") as caught:
        signer.signed(request, "sqs.test", "/", TIMESTAMP)
    assert "hidden" not in str(caught.value)


def test_requests_show_no_secret() -> None:
    assert "hidden" not in str(UnsignedRequest("POST", "/path", headers={"X-A": "hidden"}, body=b"hidden"))


def test_the_clock_tells_utc_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for now, expected in ((0.9, "19700101T000000Z"), (1.0, "19700101T000001Z"), (1.5, "19700101T000001Z")):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        assert clock.timestamp() == expected


def test_keys_show_no_secret() -> None:
    assert "hidden" not in repr(Keys("AKID", "hidden-secret", "hidden-token"))
