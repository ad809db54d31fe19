"""Who may drive the embedded SageMaker: programs of its user, under its own names, and no web page."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.local.protocol.access import (
    ServedNames,
    Signature,
    host_of,
    needs_signature,
    refusal,
    signature_of,
)
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import Clients, clients_of

ROOT = Path(__file__).parents[3]
SIGNED = (
    "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=00"
)
ENTRY_POINTS = [
    ("GET", "/", {}),
    ("PUT", "/bucket/key", {}),
    ("POST", "/", {"X-Amz-Target": "SageMaker.ListModels", "Authorization": SIGNED.format("sagemaker")}),
    ("POST", "/endpoints/e/invocations", {"Authorization": SIGNED.format("sagemaker")}),
    ("POST", "/", {"X-Amz-Target": "AmazonSQS.ListQueues", "Authorization": SIGNED.format("sqs")}),
    ("GET", "/_embedded/settings", {}),
    ("DELETE", "/_embedded/calls", {}),
    ("GET", "/_embedded/ui/", {}),
    ("GET", "/_embedded/ui/file?bucket=b&key=k", {}),
    ("POST", "/moto-api/reset", {}),
    ("GET", "/moto-api/data.json", {}),
    ("OPTIONS", "/", {"Access-Control-Request-Method": "POST"}),
    ("OPTIONS", "/bucket/key", {"Access-Control-Request-Method": "PUT"}),
]
"""A method, a path and headers of everything that answers here."""
PAGES: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost"},
    {"Origin": "http://127.0.0.1:8080"},
    {"Origin": "http://evil.s3.amazonaws.com:{port}"},
    {"Origin": "http://evil.example:{port}"},
    {"Origin": "http://127.0.0.1:{port}.evil.example"},
    {"Origin": "http://127.0.0.1:{port}, https://evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]
"""Headers with which browsers say that a page asks."""
FOREIGN_HOSTS = [
    "evil.example",
    "evil.example:{port}",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evillocalhost",
    "amazonaws.com.evil.example",
    "evilamazonaws.com",
    "sagemaker",
    "192.168.1.2",
    "0.0.0.0",  # noqa: S104 - refused
    "[2001:db8::1]",
    "127.0.0.1, evil.example",
    "evil.example@127.0.0.1",
    "127.0.0.1/evil",
    "",
]
OWN_HOSTS = [
    "127.0.0.1:{port}",
    "127.0.0.1",
    "127.8.9.10",
    "[::1]:{port}",
    "localhost",
    "LOCALHOST:{port}",
    "localhost.",
    "s3.localhost",
    "s3.us-east-1.amazonaws.com",
    "runtime.sagemaker.cn-north-1.amazonaws.com.cn",
]


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedSageMaker]:
    with EmbeddedSageMaker(serve_as=["sagemaker.internal"]) as running:
        yield running


@pytest.fixture(scope="module")
def own(embedded: EmbeddedSageMaker) -> Clients:
    return clients_of(embedded.url)


def ask(
    embedded: EmbeddedSageMaker, method: str, path: str, headers: Mapping[str, str], body: bytes | None = None
) -> tuple[int, dict[str, str], bytes]:
    """Send one request with exactly these headers; return status, headers (lower case) and body."""
    port = embedded.url.rpartition(":")[2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=600)
    try:
        filled = {name: value.replace("{port}", port) for name, value in headers.items()}
        connection.request(method, path, body, filled)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def exchange(embedded: EmbeddedSageMaker, message: str) -> int:
    """Send a message as it stands; return the answer's status."""
    address = ("127.0.0.1", int(embedded.url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=600) as connection, connection.makefile("rb") as answer:
        connection.sendall(message.encode())
        return int(answer.readline().split()[1])


@pytest.mark.parametrize(("method", "path", "headers"), ENTRY_POINTS)
@pytest.mark.parametrize("page", PAGES)
def test_no_page_reaches_anything(
    embedded: EmbeddedSageMaker, method: str, path: str, headers: dict[str, str], page: dict[str, str]
) -> None:
    status, answered, _ = ask(embedded, method, path, {**headers, **page})
    assert status == 403
    assert not [name for name in answered if name.startswith("access-control-")]
    assert answered["x-amzn-requestid"]


@pytest.mark.parametrize(("method", "path", "headers"), ENTRY_POINTS)
@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_no_foreign_name_reaches_anything(
    embedded: EmbeddedSageMaker, method: str, path: str, headers: dict[str, str], host: str
) -> None:
    assert ask(embedded, method, path, {**headers, "Host": host})[0] == 403


@pytest.mark.parametrize("host", [*OWN_HOSTS, "sagemaker.internal:4566"])
def test_own_names_and_those_of_aws_are_answered(embedded: EmbeddedSageMaker, host: str) -> None:
    headers = {
        "Host": host,
        "X-Amz-Target": "SageMaker.ListModels",
        "Authorization": SIGNED.format("sagemaker"),
    }
    assert ask(embedded, "POST", "/", headers, b"{}")[0] == 200
    assert ask(embedded, "GET", "/_embedded/health", {"Host": host})[0] == 200


def test_a_proxys_word_on_the_host_counts_nothing(embedded: EmbeddedSageMaker) -> None:
    headers = {"Host": "evil.example", "X-Forwarded-Host": "127.0.0.1", "Forwarded": "host=127.0.0.1"}
    assert ask(embedded, "GET", "/_embedded/health", headers)[0] == 403
    trusted = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}
    assert ask(embedded, "GET", "/_embedded/health", trusted)[0] == 200


@pytest.mark.parametrize(
    ("start", "hosts", "status"),
    [
        ("GET http://evil.example/_embedded/health", ["127.0.0.1"], 403),
        ("GET http://127.0.0.1/_embedded/health", ["evil.example"], 403),
        ("GET http://127.0.0.1/_embedded/health", ["localhost"], 200),
        ("GET evil:/_embedded/health", ["127.0.0.1"], 403),
        ("GET /_embedded/health", ["127.0.0.1", "evil.example"], 403),
        ("GET /_embedded/health", ["evil.example", "127.0.0.1"], 403),
        ("GET /_embedded/health", [], 403),
        ("OPTIONS *", ["127.0.0.1"], 204),
        ("CONNECT evil.example:443", ["127.0.0.1"], 403),
        ("GET http://127.0.0.1@evil.example/_embedded/health", ["127.0.0.1"], 403),
        ("GET http:/_embedded/health", ["127.0.0.1"], 403),
        ("GET http://[evil/_embedded/health", ["127.0.0.1"], 400),
    ],
)
def test_the_request_target_and_every_host_header_must_be_ours(
    embedded: EmbeddedSageMaker, start: str, hosts: list[str], status: int
) -> None:
    lines = "".join(f"Host: {host}\r\n" for host in hosts)
    assert exchange(embedded, f"{start} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n") == status


def test_a_link_to_what_only_reads_is_followed_and_no_other(embedded: EmbeddedSageMaker) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(embedded, "GET", "/_embedded/settings", link)[0] == 200
    assert ask(embedded, "POST", "/_embedded/faults", link)[0] == 403
    assert ask(embedded, "GET", "/bucket/key", link)[0] == 403
    assert ask(embedded, "GET", "/moto-api/", link)[0] == 403
    assert ask(embedded, "GET", "/_embedded/settings", {**link, "Origin": "null"})[0] == 403


STYLE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "style"}


@pytest.mark.parametrize(
    ("path", "changes", "status"),
    [
        ("/_embedded/ui/style.css", {}, 200),
        ("/_embedded/ui/style.css", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("/_embedded/ui/style.css", {"Sec-Fetch-Site": "same-site"}, 403),
        ("/_embedded/ui/style.css", {"Sec-Fetch-Dest": "script"}, 403),
        ("/_embedded/ui/style.css", {"Sec-Fetch-Dest": "empty"}, 403),
        ("/_embedded/ui/style.css", {"Origin": "null"}, 403),
        ("/_embedded/ui/", {}, 403),
        ("/_embedded/ui/file?bucket=b&key=style.css", {}, 403),
        ("/_embedded/settings", {}, 403),
    ],
)
def test_a_page_of_ours_fetches_its_stylesheet_and_nothing_else(
    embedded: EmbeddedSageMaker, path: str, changes: dict[str, str], status: int
) -> None:
    assert ask(embedded, "GET", path, {**STYLE, **changes})[0] == status


LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_a_link_from_airflow_to_a_page_is_followed(embedded: EmbeddedSageMaker) -> None:
    status, headers, _ = ask(embedded, "GET", "/_embedded/ui/", LINK)
    assert status == 200
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_no_form_changes_anything_at_a_page(embedded: EmbeddedSageMaker, kind: str) -> None:
    for headers in (LINK, {**LINK, "Origin": "https://evil.example"}, {}):
        status, _, _ = ask(embedded, "POST", "/_embedded/ui/", {**headers, "Content-Type": kind}, b"a=b")
        assert status in (403, 405)


@pytest.mark.parametrize("path", ["/_embedded/ui/../settings", "/_embedded/ui/%2e%2e/settings"])
def test_no_way_leads_from_the_pages_to_the_interface_beside_them(
    embedded: EmbeddedSageMaker, path: str
) -> None:
    assert ask(embedded, "GET", path, {})[0] == 404


def test_the_bare_address_leads_a_browser_to_the_pages_and_no_program(
    embedded: EmbeddedSageMaker, own: Clients
) -> None:
    page = {"Accept": "text/html,application/xhtml+xml;q=0.9", "Sec-Fetch-Site": "none"}
    status, headers, _ = ask(embedded, "GET", "/", page)
    assert (status, headers["location"]) == (302, "/_embedded/ui/")
    assert ask(embedded, "GET", "/_embedded/ui", {})[:1] == (302,)
    assert own.bucket.encode() in ask(embedded, "GET", "/", {"Accept": "*/*"})[2]
    signed = {**page, "Authorization": SIGNED.format("s3")}
    assert own.bucket.encode() in ask(embedded, "GET", "/", signed)[2]
    assert ask(embedded, "GET", "/", {**page, "Host": "bucket.localhost"})[0] == 404
    assert ask(embedded, "GET", "/", {**page, **LINK})[0] == 403


def test_a_link_to_an_object_is_not_followed(embedded: EmbeddedSageMaker) -> None:
    """Though its key begins like a page of ours."""
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for host in ("bucket.localhost", "bucket.s3.amazonaws.com"):
        assert ask(embedded, "GET", "/_embedded/x.html", {**link, "Host": host})[0] == 403


@pytest.mark.parametrize("host", ["localhost:{port}", "bucket.localhost:{port}", "127.0.0.1:{port}"])
@pytest.mark.parametrize("path", ["/_embedded/calls", "/moto-api/reset", "/"])
def test_not_even_a_page_below_an_address_of_the_service_drives_it(
    embedded: EmbeddedSageMaker, host: str, path: str
) -> None:
    """It can only be the key of an object."""
    own_page = {"Host": host, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    for method in ("GET", "POST"):
        assert ask(embedded, method, path, own_page)[0] == 403
        assert ask(embedded, method, path, {**own_page, "Origin": f"http://{host}"})[0] == 403


def test_an_address_that_a_person_typed_is_answered(embedded: EmbeddedSageMaker) -> None:
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(embedded, "GET", "/_embedded/calls", typed)[0] == 200


def test_an_object_that_a_browser_shows_cannot_drive_the_service(
    embedded: EmbeddedSageMaker, own: Clients
) -> None:
    own.s3.put_object(
        Bucket=own.bucket, Key="page.html", Body=b"<script>", ContentType="text/html", ACL="public-read"
    )
    shown = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    status, headers, _ = ask(embedded, "GET", f"/{own.bucket}/page.html", shown)
    assert (status, headers["content-security-policy"]) == (200, "sandbox allow-scripts")


def test_a_buckets_cors_configuration_opens_nothing(embedded: EmbeddedSageMaker, own: Clients) -> None:
    rule = {"AllowedOrigins": ["*"], "AllowedMethods": ["GET", "PUT"], "AllowedHeaders": ["*"]}
    own.s3.put_bucket_cors(Bucket=own.bucket, CORSConfiguration={"CORSRules": [rule]})  # type: ignore[list-item] # a plain dict
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    assert ask(embedded, "OPTIONS", f"/{own.bucket}/k", asked)[0] == 403
    assert ask(embedded, "OPTIONS", f"/{own.bucket}/k", {})[:1] == (204,)
    status, headers, _ = ask(embedded, "GET", "/", {"Authorization": SIGNED.format("s3")})
    assert status == 200
    assert not [name for name in headers if name.startswith("access-control-")]


FORMS = [
    (
        "multipart/form-data; boundary=b",
        b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\nk\r\n--b--\r\n',
    ),
    ("application/x-www-form-urlencoded", b"Action=CreateQueue&QueueName=evil"),
    ("application/x-www-form-urlencoded", b"key=evil&file=evil"),
    ("text/plain", b"Action=CreateQueue&QueueName=evil"),
    ("", b"anything"),
]


@pytest.mark.parametrize(("kind", "body"), FORMS)
def test_a_form_that_is_not_signed_changes_nothing(
    embedded: EmbeddedSageMaker, own: Clients, kind: str, body: bytes
) -> None:
    for path in ("/", f"/{own.bucket}"):
        status, _, content = ask(embedded, "POST", path, {"Content-Type": kind} if kind else {}, body)
        assert status == 403
        assert b"MissingAuthenticationToken" in content
    assert "Contents" not in own.s3.list_objects_v2(Bucket=own.bucket, Prefix="evil")
    assert "QueueUrls" not in own.sqs.list_queues(QueueNamePrefix="evil")


@pytest.mark.parametrize("path", ["/_embedded/faults", "/moto-api/reset"])
@pytest.mark.parametrize(
    "kind", ["multipart/form-data; boundary=b", "text/plain", "TEXT/PLAIN; charset=utf-8"]
)
def test_a_form_does_not_reach_the_control_interface(
    embedded: EmbeddedSageMaker, path: str, kind: str
) -> None:
    assert ask(embedded, "POST", path, {"Content-Type": kind}, b"[]")[0] == 403


def test_curl_reaches_the_control_interface(embedded: EmbeddedSageMaker) -> None:
    as_curl = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask(embedded, "PUT", "/_embedded/faults", as_curl, b"[]")[0] == 200
    assert ask(embedded, "POST", "/_embedded/faults", as_curl, b"[]")[0] == 200
    assert ask(embedded, "DELETE", "/_embedded/faults", {})[0] == 200


def test_a_link_that_is_not_signed_changes_nothing(embedded: EmbeddedSageMaker, own: Clients) -> None:
    url = own.sqs.create_queue(QueueName="stays")["QueueUrl"]
    scope = "X-Amz-Credential=a%2F20260101%2Fus-east-1%2Fsqs%2Faws4_request&X-Amz-Signature=0"
    for more in ("", f"&{scope}"):
        assert ask(embedded, "GET", f"/?Action=DeleteQueue&QueueUrl={url}{more}", {})[0] == 403
    assert own.sqs.list_queues(QueueNamePrefix="stays")["QueueUrls"] == [url]


def test_an_upload_form_with_a_policy_is_s3s_own_way(embedded: EmbeddedSageMaker, own: Clients) -> None:
    import requests

    form = own.s3.generate_presigned_post(own.bucket, "uploaded")
    url = f"{embedded.url}/{own.bucket}"
    page = {"Origin": "https://evil.example"}
    files = {"file": b"content"}
    assert requests.post(url, data=form["fields"], files=files, headers=page, timeout=600).status_code == 403
    assert requests.post(url, data=form["fields"], files=files, timeout=600).ok
    assert own.s3.get_object(Bucket=own.bucket, Key="uploaded")["Body"].read() == b"content"


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("POST", "/", {"X-Amz-Target": "SageMaker.ListModels"}),
        ("POST", "/", {"X-Amz-Target": "SageMaker.ListModels", "Authorization": "Bearer x"}),
        ("POST", "/", {"X-Amz-Target": "SageMaker.ListModels", "Authorization": "AWS4-HMAC-SHA256"}),
        ("POST", "/", {"X-Amz-Target": "SageMaker.ListModels", "Authorization": ""}),
        ("POST", "/endpoints/e/invocations", {}),
        ("POST", "/endpoints/e/invocations", {"Authorization": "x"}),
        ("POST", "/endpoints/e/async-invocations", {"Content-Type": "application/json"}),
        ("POST", "/", {"X-Amz-Target": "AmazonSQS.ListQueues"}),
        ("POST", "/", {"X-Amz-Target": "DynamoDB_20120810.ListTables"}),
        ("POST", "/service/X/operation/Y", {"smithy-protocol": "rpc-v2-cbor"}),
        ("GET", "/", {"Authorization": "Bearer"}),
        ("GET", "/", {"Authorization": "Basic dGVzdDp0ZXN0"}),
    ],
)
def test_what_is_not_signed_is_refused_in_the_services_form(
    embedded: EmbeddedSageMaker, method: str, path: str, headers: dict[str, str]
) -> None:
    embedded.calls.clear()
    status, answered, body = ask(embedded, method, path, headers, b"{}")
    assert status == 403
    assert "MissingAuthenticationToken" in (
        answered.get("x-amzn-errortype", "") + body.decode(errors="replace")
    )
    (call,) = embedded.calls.calls(service="*")
    assert (call.status, call.error, call.effect) == (403, "MissingAuthenticationToken", False)
    assert call.request_id == answered["x-amzn-requestid"]


@pytest.mark.parametrize(
    "target", ["SageMaker.CreateModel", "SageMaker.Nonsense", "AmazonSQS.CreateQueue", "No.Such"]
)
@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff", b'{"ModelName": "\\ud800"}', b"null"]
)
def test_no_body_brings_an_answer_out_of_form(embedded: EmbeddedSageMaker, target: str, body: bytes) -> None:
    embedded.calls.clear()
    service = "sagemaker" if target.startswith("SageMaker") else "sqs"
    headers = {"X-Amz-Target": target, "Authorization": SIGNED.format(service)}
    status, answered, content = ask(embedded, "POST", "/", headers, body)
    assert json.loads(content)["__type"]
    (call,) = embedded.calls.calls(service="*")
    assert (call.status, call.request_id) == (status, answered["x-amzn-requestid"])
    assert call.error


def test_a_refusal_is_logged_in_one_line_that_says_what_to_do(
    embedded: EmbeddedSageMaker, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.calls.clear()
    headers = {
        "X-Amz-Target": "SageMaker.CreateModel",
        "Authorization": SIGNED.format("sagemaker"),
        "Origin": "https://evil.example",
    }
    _, _, body = ask(embedded, "POST", "/", headers, b'{"ModelName": "evil"}')
    assert json.loads(body)["__type"] == "AccessDenied"
    assert "Origin 'https://evil.example' means that a web page sent this" in json.loads(body)["message"]
    (call,) = embedded.calls.calls()
    assert (call.operation, call.status, call.error, call.effect) == (
        "CreateModel",
        403,
        "AccessDenied",
        False,
    )
    ask(embedded, "GET", "/key%0Aforged", {"Host": "evil.example"})
    lines = [record.getMessage() for record in caplog.records if "refused" in record.getMessage()]
    assert len(lines) == 2
    assert "--serve-as <name>" in lines[1]
    assert all("\n" not in line for line in lines)


@given(host=st.text(max_size=30), bucket=st.sampled_from(["a", "a.b", "my-bucket"]))
def test_a_name_is_served_only_if_it_is_known(host: str, bucket: str) -> None:
    served = ServedNames.of(["sagemaker", "sagemaker.internal"])
    read = host_of(host)
    assert served.bucket_of(f"{bucket}.sagemaker") == bucket
    assert served.bucket_of(f"{bucket}.sagemaker.internal") == bucket
    assert served.bucket_of(f"{bucket}.s3.localhost") == bucket
    assert served.bucket_of(f"{bucket}.s3.eu-west-1.amazonaws.com") == bucket
    for plain in (
        "localhost",
        "sagemaker.internal",
        "s3.localhost",
        "127.0.0.1",
        "s3.eu-west-1.amazonaws.com",
    ):
        assert served.bucket_of(plain) is None
    if read is not None and served.serves(read):
        assert refusal(served, method="GET", target="/", path="/", headers={"host": host}) is None
        assert read.endswith(
            ("localhost", "sagemaker", "sagemaker.internal", ".amazonaws.com", ".cn", "1")
        ) or (read.startswith("127."))
    else:
        assert refusal(served, method="GET", target="/", path="/", headers={"host": host}) is not None


@pytest.mark.parametrize("name", ["http://sagemaker", "sagemaker:4566", "*", "", "a b"])
def test_a_name_to_serve_as_is_a_host_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not a host name"):
        EmbeddedSageMaker(serve_as=[name])


def test_signatures_of_every_version_are_read() -> None:
    region_free = "AWS4-ECDSA-P256-SHA256 Credential=key/20260101/s3/aws4_request, SignedHeaders=host"
    assert signature_of(region_free, "") == Signature("key", "us-east-1", "s3")
    old = {"authorization": "AWS key:signature="}
    unsigned = Signature("", "us-east-1", "")
    assert not needs_signature(unsigned, method="GET", path="/", query="", headers=old, body=bytes)
    web = {"content-type": "application/x-www-form-urlencoded"}
    for action, needed in (
        ("AssumeRoleWithWebIdentity", False),
        ("GetCallerIdentity", False),
        ("CreateRole", True),
    ):
        query = f"Action={action}"
        assert (
            needs_signature(unsigned, method="POST", path="/", query=query, headers=web, body=bytes) is needed
        )


def test_a_host_beyond_loopback_needs_to_be_permitted() -> None:
    with pytest.raises(ValueError, match=r"runs code on this machine as you, without login.*--allow-remote"):
        EmbeddedSageMaker(host="0.0.0.0")  # noqa: S104 - refused
    with pytest.raises(ValueError, match="has no address"):
        EmbeddedSageMaker(host="no such host")
    assert EmbeddedSageMaker(host="::1").url == "http://[::1]:0"


def test_the_program_says_what_a_host_beyond_loopback_means() -> None:
    command = [sys.executable, "-m", "airflow_sm_plugin.local", "--host", "0.0.0.0"]  # noqa: S104 - refused
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert refused.returncode == 2
    assert "--allow-remote" in refused.stderr
    with subprocess.Popen(
        [*command, "--allow-remote", "--quiet"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline().startswith("ready http://0.0.0.0:")
        program.terminate()
        _, errors = program.communicate(timeout=600)
    assert "WARNING: 0.0.0.0 is not loopback: everyone who reaches the port runs code" in errors
