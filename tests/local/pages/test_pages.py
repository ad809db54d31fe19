"""The pages for people: what they show, what they escape, and where their links lead."""

from __future__ import annotations

import gzip
import json
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest

from airflow_sm_plugin.local.pages import browser
from airflow_sm_plugin.local.pages.browser import SHOWN_BYTES, media_type, text_of
from airflow_sm_plugin.local.pages.site import address
from airflow_sm_plugin.local.pages.views import size
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import IMAGE, ROLE, Clients, changed_settings, unique

HOSTILE = "<script>alert(1)</script>"
PRINTING = """
def model_fn(model_dir):
    print("<b>loaded</b>")

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""


class _Reading(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@dataclass(frozen=True)
class Page:
    """An answer, and what a browser makes of it."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def read(self) -> _Reading:
        """Return the tags and texts of a page, none of which runs a script."""
        reading = _Reading()
        reading.feed(self.body.decode())
        assert "script" not in {tag for tag, _ in reading.tags}
        assert not [name for _, given in reading.tags for name in given if name.startswith(("on", "style"))]
        return reading

    @property
    def text(self) -> str:
        """Return the visible text in one line."""
        return " ".join(" ".join(self.read.texts).split())

    def links(self, containing: str) -> list[str]:
        """Return the addresses of the links that hold a text."""
        found = [given["href"] for tag, given in self.read.tags if tag == "a"]
        return [urljoin(self.url, href) for href in found if href and containing in href]


def get(url: str, method: str = "GET") -> Page:
    """Open an address as a browser does."""
    request = urllib.request.Request(url, method=method)
    try:
        with urllib.request.urlopen(request, timeout=600) as response:
            return Page(url, response.status, dict(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Page(url, error.code, dict(error.headers), error.read())


@dataclass(frozen=True)
class Opened:
    """The pages of a service."""

    url: str

    def __call__(self, page: str = "", **query: str) -> Page:
        """Open a page; every one has the headers that keep it harmless."""
        got = get(self.url + address(page, **query))
        assert got.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self';")
        assert "script" not in got.headers["Content-Security-Policy"]
        assert got.headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in got.headers if name.lower().startswith("access-control")]
        return got


@pytest.fixture
def opened(sagemaker_server: EmbeddedSageMaker) -> Opened:
    """Open a page by its name and query."""
    return Opened(sagemaker_server.url)


@pytest.fixture(scope="module")
def stores(sagemaker_server: EmbeddedSageMaker, session_clients: Clients) -> str:
    """A multi-model endpoint with one model in memory, of two."""
    clients, prefix = session_clients, unique("stores")
    for name in ("north", "south"):
        clients.upload_archive({"code/inference.py": PRINTING}, f"{prefix}/{name}.tar.gz")
    model = unique("model")
    clients.sagemaker.create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        PrimaryContainer={
            "Image": IMAGE,
            "ModelDataUrl": f"s3://{clients.bucket}/{prefix}/",
            "Mode": "MultiModel",
            "Environment": {"PASSWORD": "secret-environment"},
        },
    )
    endpoint = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=clients.create_config(model))
    clients.wait_for_endpoint(endpoint)
    with changed_settings(sagemaker_server, multi_model_ready_wait_seconds=3600):
        clients.runtime.invoke_endpoint(
            EndpointName=endpoint,
            TargetModel="north.tar.gz",
            Body=b"secret-payload",
            ContentType="text/csv",
            CustomAttributes="secret-attribute",
        )
    return endpoint


def test_the_first_page_has_endpoints_buckets_and_calls(
    opened: Opened, clients: Clients, stores: str
) -> None:
    page = opened()
    assert page.status == 200
    assert f"{stores} InService multi-model ml.m5.large × 1 us-east-1" in page.text  # noqa: RUF001 - as shown
    assert re.search(rf"InvokeEndpoint {stores} north.tar.gz 200", page.text)
    (bucket,) = page.links(clients.bucket)
    assert get(bucket).status == 200
    assert {get(link).status for link in page.links(f"name={stores}")} == {200}


def test_an_endpoint_shows_what_it_serves_and_no_secret(opened: Opened, stores: str) -> None:
    page = opened("endpoint", name=stores, region="us-east-1")
    assert "north.tar.gz loaded 1×" in page.text  # noqa: RUF001 - as shown
    assert "south.tar.gz" not in page.text
    assert "InvokeEndpoint north.tar.gz 200" in page.text
    (logs,) = page.links("/logs?")
    for shown in (page, get(logs), opened()):
        assert "secret" not in shown.body.decode()


def test_the_lines_of_a_container_are_escaped(opened: Opened, stores: str) -> None:
    query = {"group": f"/aws/sagemaker/Endpoints/{stores}", "region": "us-east-1"}
    until = time.monotonic() + 600
    while "loaded" not in (page := opened("logs", **query)).text and time.monotonic() < until:
        time.sleep(0.05)  # lines are written in the background
    assert "<b>loaded</b>" in page.text
    assert b"<b>loaded" not in page.body


def test_a_failed_endpoint_says_why(opened: Opened, clients: Clients) -> None:
    endpoint = unique("endpoint")
    config = clients.create_config(clients.create_model("raise RuntimeError"))
    clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    waiter = clients.sagemaker.get_waiter("endpoint_in_service")
    with pytest.raises(Exception, match="terminal failure"):
        waiter.wait(EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    assert "did not pass the ping health check" in opened("endpoint", name=endpoint).text


def test_a_deleted_endpoint_keeps_its_calls_and_logs(opened: Opened, clients: Clients) -> None:
    """The links of a run whose teardown deleted the endpoint lead here."""
    endpoint = clients.deploy(PRINTING)
    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)
    page = opened("endpoint", name=endpoint, region="us-east-1")
    assert page.status == 404
    assert f"There is no endpoint {endpoint} in us-east-1: it was deleted." in page.text
    assert "DeleteEndpoint" in page.text
    (logs,) = page.links("/logs?")
    assert "<b>loaded</b>" in get(logs).text


@pytest.mark.parametrize(
    ("page", "query", "says"),
    [
        ("nothing", {}, "There is no page /_embedded/ui/nothing."),
        ("endpoint", {"name": HOSTILE}, f"There is no endpoint {HOSTILE}."),
        ("logs", {"group": "/no/such/group"}, "There is no log group /no/such/group in us-east-1"),
        ("s3", {"bucket": "no-such-bucket"}, "There is no bucket for s3://no-such-bucket/."),
        ("object", {"bucket": "no-such-bucket", "key": "a"}, "There is no object s3://no-such-bucket/a."),
        ("object", {"bucket": "b"}, "The address names no object"),
        ("s3", {"bucket": "arn:aws:s3:us-east-1:123456789012:accesspoint/a"}, "is not the name of a bucket"),
        ("file?bucket=no-such-bucket&key=a", {}, "There is no bucket for s3://no-such-bucket/a."),
    ],
)
def test_what_is_not_there_is_said(opened: Opened, page: str, query: dict[str, str], says: str) -> None:
    got = opened(page, **query)
    assert got.status == 404
    assert says in got.text


@pytest.mark.parametrize(
    "key",
    [
        "plain.csv",
        "a//b/../c",
        "/leading",
        f"{HOSTILE}.csv",
        "a\"'&?#%2F+ ü\u202e",
        "line\nbreak",
        "ends/",
    ],
)
def test_any_key_is_listed_and_opened(opened: Opened, clients: Clients, key: str) -> None:
    prefix = f"{unique('keys')}/"
    body = f"1,2\n{HOSTILE}\n{key}".encode()
    clients.s3.put_object(Bucket=clients.bucket, Key=prefix + key, Body=body)
    page, found = opened("s3", bucket=clients.bucket, prefix=prefix), list[str]()
    for _ in range(6):  # as deep as these keys are
        found = page.links("/object?")
        if found:
            break
        (below, *_) = [link for link in page.links("/s3?") if len(link) > len(page.url)]
        page = get(below)
    shown = get(found[0])
    assert HOSTILE in shown.text
    (file,) = shown.links("/file?")
    assert get(file).body == body


def test_a_long_folder_is_listed_page_by_page(
    opened: Opened, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "_LISTED", 2)
    prefix, names = f"{unique('long')}/", [f"{number}.csv" for number in range(5)]
    for name in names:
        clients.s3.put_object(Bucket=clients.bucket, Key=prefix + name, Body=b"1")
    page = opened("s3", bucket=clients.bucket, prefix=prefix)
    seen = list(page.links("/object?"))
    while more := page.links("token="):
        page = get(more[0])
        seen += page.links("/object?")
    assert [link.rpartition("/")[2] for link in seen] == names


def test_objects_are_found_by_their_ending(
    opened: Opened, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"{unique('batch')}/"
    for name in ("a.out", "a.errors.jsonl", "deep/b.errors.jsonl", "b.out"):
        clients.s3.put_object(Bucket=clients.bucket, Key=prefix + name, Body=b"1")
    query = {"bucket": clients.bucket, "prefix": prefix, "ending": ".errors.jsonl"}
    page = opened("s3", **query)
    assert [link.rpartition("key=")[2].removeprefix(prefix) for link in page.links("/object?")] == [
        "a.errors.jsonl",
        "deep/b.errors.jsonl",
    ]
    assert "too many" not in page.text
    monkeypatch.setattr(browser, "_LISTED", 1)
    assert "There are too many objects to search them all." in opened("s3", **query).text


def test_a_long_text_is_cut_and_says_so(opened: Opened, clients: Clients) -> None:
    """In the middle of a character, which is left out."""
    body = ("é" * SHOWN_BYTES).encode()
    clients.s3.put_object(Bucket=clients.bucket, Key="long.txt", Body=b"x" + body)
    page = opened("object", bucket=clients.bucket, key="long.txt")
    assert "Only the first 256 KiB of 512 KiB are shown." in page.text
    assert len(page.body) < SHOWN_BYTES + 10_000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "The object is empty."),
        (b"\x00\x01", "not UTF-8 text"),
        (gzip.compress(b"text", mtime=0), "not UTF-8"),
    ],
)
def test_what_is_no_text_is_not_shown(opened: Opened, clients: Clients, body: bytes, says: str) -> None:
    clients.s3.put_object(Bucket=clients.bucket, Key="object", Body=body)
    assert says in opened("object", bucket=clients.bucket, key="object").text


def test_an_object_is_served_in_a_sandbox(sagemaker_server: EmbeddedSageMaker, clients: Clients) -> None:
    page = b"<!doctype html><script>fetch('/_embedded/calls')</script>"
    clients.s3.put_object(Bucket=clients.bucket, Key="x/report.html", Body=page, ContentType="text/html")
    got = get(sagemaker_server.url + address("file", bucket=clients.bucket, key="x/report.html"))
    assert (got.status, got.body) == (200, page)
    assert got.headers["Content-Security-Policy"] == "sandbox allow-scripts"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Content-Type"] == "text/html; charset=utf-8"
    assert got.headers["Content-Disposition"] == "inline; filename*=UTF-8''report.html"


def test_a_compressed_object_is_declared_as_such(
    sagemaker_server: EmbeddedSageMaker, clients: Clients
) -> None:
    body = gzip.compress(b"a,b")
    clients.s3.put_object(Bucket=clients.bucket, Key="z.csv", Body=body, ContentEncoding="gzip")
    got = get(sagemaker_server.url + address("file", bucket=clients.bucket, key="z.csv"))
    assert (got.headers["Content-Encoding"], got.body) == ("gzip", body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_pages_only_read(sagemaker_server: EmbeddedSageMaker, method: str) -> None:
    got = get(f"{sagemaker_server.url}{address('s3')}", method)
    assert (got.status, got.headers["Allow"]) == (405, "GET")


def test_a_page_costs_no_call_in_the_log(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, opened: Opened
) -> None:
    """Nor do planted faults of S3 strike the pages."""
    clients.s3.put_object(Bucket=clients.bucket, Key="seen", Body=b"1")
    sagemaker_server.faults.replace([{"operation": "s3:*", "fault": "drop"}])
    try:
        before = len(sagemaker_server.calls.calls(service="*"))
        assert opened("object", bucket=clients.bucket, key="seen").status == 200
        assert len(sagemaker_server.calls.calls(service="*")) == before
    finally:
        sagemaker_server.faults.clear()


def test_health_names_the_pages_where_a_browser_finds_them() -> None:
    with EmbeddedSageMaker(public_url="http://localhost:4566/") as running:
        assert json.loads(get(f"{running.url}/_embedded/health").body) == {
            "status": "ok",
            "ui": "http://localhost:4566/_embedded/ui/",
        }


@pytest.mark.parametrize("url", ["localhost:4566", "ftp://a", "http://u:p@a", "http://a/b", "http://a\n"])
def test_a_public_url_is_a_servers_address(url: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a server"):
        EmbeddedSageMaker(public_url=url)


@pytest.mark.parametrize(
    ("given", "key", "served"),
    [
        ("text/html", "a", "text/html; charset=utf-8"),
        ("text/html; charset=latin-1", "a", "text/html; charset=latin-1"),
        ("binary/octet-stream", "report.html", "text/html; charset=utf-8"),
        ("", "a/b.json", "application/json"),
        ("binary/octet-stream", "part-0.csv.out", "application/octet-stream"),
        ("binary/octet-stream", "x.csv/no-ending", "application/octet-stream"),
        ("application/json", "a.html", "application/json"),
        ("text/html\r\nSet-Cookie: a=b", "a", "application/octet-stream"),
        ("nonsense", "a", "application/octet-stream"),
    ],
)
def test_a_content_type_is_the_objects_or_its_names(given: str, key: str, served: str) -> None:
    assert media_type(given, key) == served


@pytest.mark.parametrize(
    ("beginning", "is_whole", "text"),
    [
        (b"a", True, "a"),
        ("aé".encode()[:-1], False, "a"),
        ("a€".encode()[:-1], False, "a"),
        ("aé".encode()[:-1], True, None),
        (b"\xe9a", False, None),
        (b"a\x00", True, None),
    ],
)
def test_only_a_cut_character_at_the_end_is_left_out(
    beginning: bytes, is_whole: bool, text: str | None
) -> None:
    assert text_of(beginning, is_whole=is_whole) == text


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3_300, "3.2 KiB"), (5 * 1024**4, "5120 GiB")],
)
def test_sizes_are_short(number: int, shown: str) -> None:
    assert size(number) == shown
