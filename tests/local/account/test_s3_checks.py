"""Odd requests of S3 are refused in S3's words, whatever moto makes of them; none is a failure without a reason."""

from __future__ import annotations

import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from tests.local.conftest import Clients, unique

if TYPE_CHECKING:
    from airflow_sm_plugin.local.server import EmbeddedSageMaker

SIGNED = (
    "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"
)
PART = b"<Part><PartNumber>%s</PartNumber><ETag>a</ETag></Part>"
COMPLETE = b"<CompleteMultipartUpload>%s</CompleteMultipartUpload>"
STATEMENT = '{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}'
ODD_XML = [
    *(b"nope", b"<unclosed", b"<a></b>", b"<a/>", b"\xff\xfe", b"{}"),
    b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
]


@dataclass(frozen=True)
class Bucket:
    """A bucket with an object, ``k``, to which requests go as they are written."""

    server: EmbeddedSageMaker
    name: str
    upload: str

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (lower case) and body."""
        connection = http.client.HTTPConnection(self.server.url.removeprefix("http://"), timeout=600)
        try:
            connection.request(method, path, body, {"Authorization": SIGNED, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def refused(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Return status, code and message of an error in S3's form, with a request id and a line in the call log.

        :param path: below the bucket
        """
        status, answered, content = self.ask(method, f"/{self.name}{path}", body, headers)
        error = ElementTree.fromstring(content)  # noqa: S314 - the service's own answer
        request_id = answered["x-amzn-requestid"]
        assert (error.tag, error.findtext("RequestId")) == ("Error", request_id)
        (call,) = [call for call in self.server.calls.calls(service="s3") if call.request_id == request_id]
        code = str(error.findtext("Code"))
        assert (call.status, call.error, call.effect) == (status, code, False)
        return status, code, str(error.findtext("Message"))


@pytest.fixture(scope="module")
def bucket(sagemaker_server: EmbeddedSageMaker, session_clients: Clients) -> Bucket:
    name = unique("odd")
    session_clients.s3.create_bucket(Bucket=name)
    session_clients.s3.put_object(Bucket=name, Key="k", Body=b"hello")
    upload = session_clients.s3.create_multipart_upload(Bucket=name, Key="k")["UploadId"]
    return Bucket(sagemaker_server, name, upload)


@pytest.mark.parametrize(
    ("method", "query", "body"),
    [
        ("PUT", "&partNumber=1", b"x"),
        ("PUT", "&partNumber=1", b""),
        ("POST", "", COMPLETE % (PART % b"1")),
        ("GET", "", b""),
        ("DELETE", "", b""),
    ],
)
@pytest.mark.parametrize("upload", ["none", "a%2Fb"])
def test_an_upload_that_is_not_there_is_no_such_upload(
    bucket: Bucket, method: str, query: str, body: bytes, upload: str
) -> None:
    headers = {} if body or method != "PUT" else {"x-amz-copy-source": f"{bucket.name}/k"}
    path = f"/{bucket.name}/k?uploadId={upload}{query}"
    status, answered, content = bucket.ask(method, path, body, headers)
    assert (status, b"<Code>NoSuchUpload</Code>" in content) == (404, True)
    assert answered["x-amzn-requestid"]


@pytest.mark.parametrize("body", ODD_XML)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(
            ("PUT", f"?{name}")
            for name in ("acl", "cors", "encryption", "lifecycle", "logging", "notification")
        ),
        *(
            ("PUT", f"?{name}")
            for name in ("ownershipControls", "publicAccessBlock", "replication", "tagging")
        ),
        *(
            ("PUT", f"?{name}")
            for name in ("versioning", "website", "accelerate", "object-lock", "inventory&id=x")
        ),
        *(("PUT", f"/k?{name}") for name in ("acl", "tagging", "legal-hold", "retention")),
        *(("POST", path) for path in ("?delete", "/k?uploadId=u", "/k?restore", "/k?select&select-type=2")),
    ],
)
def test_a_body_that_is_not_the_operations_xml_is_malformed(
    bucket: Bucket, method: str, path: str, body: bytes
) -> None:
    status, code, _ = bucket.refused(method, path, body)
    assert (status, code) == (400, "MalformedXML")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/k?uploadId={upload}", b"", "ExpatError"),
        ("/k?uploadId={upload}", COMPLETE % (PART % b"x"), "ValueError: invalid literal"),
        ("/k?uploadId={upload}", COMPLETE % b"<Part><ETag>a</ETag></Part>", "IndexError"),
        ("?delete", b"", "no element found"),
        ("?delete", b"<Delete/>", "AttributeError"),
        ("?delete", b"<Delete><Object/></Delete>", "TypeError"),
    ],
)
def test_xml_in_which_moto_misses_something_is_malformed(
    bucket: Bucket,
    path: str,
    body: bytes,
    says: str,
) -> None:
    status, code, message = bucket.refused("POST", path.replace("{upload}", bucket.upload), body)
    assert (status, code) == (400, "MalformedXML")
    assert says in message


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", f"?max-keys={value}") for value in ("abc", "", "-1", "1.5", "2147483648", "%D9%A1")),
        *(
            ("GET", f"?{query}=abc")
            for query in ("list-type=2&max-keys", "versions&max-keys", "uploads&max-uploads")
        ),
        *(
            ("GET", f"?{query}")
            for query in ("encoding-type=xml", "list-type=3", "list-type=2&continuation-token=b")
        ),
        *(("GET", f"/k?uploadId=u&{query}=abc") for query in ("max-parts", "part-number-marker")),
        *(
            ("PUT", f"/k?uploadId=u&partNumber={value}")
            for value in ("abc", "", "1.5", "99999999999999999999")
        ),
        ("GET", "/k?partNumber=abc"),
    ],
)
def test_a_bad_query_parameter_is_an_invalid_argument(bucket: Bucket, method: str, path: str) -> None:
    assert bucket.refused(method, path)[:2] == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("method", "headers", "code"),
    [
        ("PUT", {"x-amz-acl": "bad"}, "InvalidArgument"),
        ("PUT", {"x-amz-grant-read": "bad"}, "InvalidArgument"),
        ("PUT", {"x-amz-copy-source": "no-key"}, "InvalidArgument"),
        ("PUT", {"x-amz-decoded-content-length": "x"}, "InvalidArgument"),
        ("PUT", {"Content-MD5": "bad"}, "InvalidDigest"),
        ("PUT", {"Content-MD5": "1B2M2Y8AsgTpgAmY7PhCfg=="}, "BadDigest"),
        ("PUT", {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, "MissingContentLength"),
        ("GET", {"Range": "bytes"}, "InvalidArgument"),
        ("GET", {"If-Modified-Since": "yesterday"}, "InvalidArgument"),
        ("GET", {"If-Unmodified-Since": "yesterday"}, "InvalidArgument"),
    ],
)
def test_a_bad_header_is_refused_by_name(
    bucket: Bucket, method: str, headers: dict[str, str], code: str
) -> None:
    body = b"x" if method == "PUT" else b""
    status, answered, message = bucket.refused(method, "/k", body, headers)
    assert (status // 100, answered) == (4, code)
    if code == "InvalidArgument":
        assert message.startswith(f"{next(iter(headers)).lower()} must be ")


@pytest.mark.parametrize(
    "policy",
    [
        *(
            "nope",
            "",
            "[]",
            "null",
            "1",
            "{}",
            '{"Statement": []}',
            '{"Statement": "x"}',
            '{"Statement": [1]}',
        ),
        f'{{"Statement": [{STATEMENT.replace("Allow", "Maybe")}]}}',
        f'{{"Statement": [{STATEMENT.replace("Action", "Do")}]}}',
        f'{{"Statement": [{STATEMENT.replace(chr(34) + "s3:*" + chr(34), "7")}]}}',
        "[" * 100_000,
    ],
)
def test_a_policy_that_is_none_is_refused_and_breaks_nothing(bucket: Bucket, policy: str) -> None:
    status, code, _ = bucket.refused("PUT", "?policy", policy.encode())
    assert (status, code) == (400, "MalformedPolicy")
    assert bucket.ask("GET", f"/{bucket.name}/k")[0] == 200


def test_a_good_policy_document_and_digest_are_taken(clients: Clients) -> None:
    name = clients.bucket
    clients.s3.put_bucket_policy(
        Bucket=name, Policy=f'{{"Version": "2012-10-17", "Statement": [{STATEMENT}]}}'
    )
    clients.s3.put_object(Bucket=name, Key="k", Body=b"", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")
    clients.s3.put_object_acl(
        Bucket=name, Key="k", GrantRead='id="a", uri="http://acs.amazonaws.com/groups/g"'
    )
    clients.s3.copy_object(Bucket=name, Key="c", CopySource={"Bucket": name, "Key": "k"}, ACL="private")
    clients.s3.delete_bucket_policy(Bucket=name)


@pytest.mark.parametrize(
    ("method", "path", "answered"),
    [
        ("POST", "?accelerate", (405, "MethodNotAllowed")),
        ("POST", "/k?tagging", (405, "MethodNotAllowed")),
        ("TRACE", "/k", (405, "MethodNotAllowed")),
        ("GET", "/k?partNumber=7", (416, "InvalidPartNumber")),
    ],
)
def test_what_moto_answers_without_an_error_code_has_one(
    bucket: Bucket, method: str, path: str, answered: tuple[int, str]
) -> None:
    assert bucket.refused(method, path)[:2] == answered


def test_a_crash_of_moto_is_an_internal_error_that_names_the_exception(bucket: Bucket) -> None:
    status, code, message = bucket.refused("DELETE", "/missing?tagging")
    assert (status, code) == (500, "InternalError")
    assert "failed at DeleteObjectTagging: AttributeError: " in message


def test_a_header_that_http_cannot_hold_is_an_error_with_a_reason(bucket: Bucket) -> None:
    headers = {"x-amz-sdk-checksum-algorithm": "\xff"}
    status, code, message = bucket.refused("PUT", "/k", b"x", headers)
    assert (status, code) == (500, "InternalError")
    assert "UnicodeEncodeError" in message


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "123456789012.s3-control.us-east-1.amazonaws.com", "x-amz-account-id": "123456789012"},
        {"Host": "123456789012.localhost", "x-amz-account-id": "123456789012"},
    ],
)
def test_s3_controls_own_requests_reach_it(bucket: Bucket, headers: dict[str, str]) -> None:
    path = "/v20180820/configuration/publicAccessBlock"
    status, _, body = bucket.ask("GET", path, headers=headers)
    assert status == 404
    assert b"NoSuchPublicAccessBlockConfiguration" in body
