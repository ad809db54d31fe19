"""S3 from an event loop, over both transports: against the embedded service, and on a bad day."""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

import pytest

from airflow_sm_plugin.aws.retry import ATTEMPTS
from airflow_sm_plugin.aws.s3.listing import ListedObject, ObjectPage
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InputNotFound,
    InvalidS3Uri,
    PreconditionFailed,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from tests.aws.s3.against import against, run
from tests.stubs.recorder import TRANSPORTS, Asked, Said
from tests.support import Account, closed_port, unique

pytestmark = pytest.mark.airflow

Result = TypeVar("Result")
ODD_KEY = "odd/ a+b//ü 'x' (1)~*!.csv"


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {"connect_timeout": 600, "read_timeout": 600, **TRANSPORTS[request.param]}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are full-jitter: dice that always show nothing make them nothing."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


def one_after_the_other(*answers: Said) -> Callable[[Asked], Said]:
    left = iter(answers)
    return lambda _: next(left)


def xml(status: int, code: str) -> Said:
    return Said(status, f"<Error><Code>{code}</Code><Message>said the test</Message></Error>".encode())


def test_what_is_written_is_read_listed_seen_and_deleted(
    account: Account, options: Mapping[str, Any]
) -> None:
    location = f"s3://{account.bucket}/{unique('x')}/{ODD_KEY}"
    prefix = location.removeprefix(f"s3://{account.bucket}/").partition("/")[0] + "/odd/ a+"

    async def use(s3: S3Objects) -> None:
        assert await s3.presence(location) is Presence.ABSENT
        assert await s3.read_if_any(location) is None
        await s3.write(location, b"one\ntwo", content_type="text/csv")
        assert await s3.presence(location) is Presence.PRESENT
        assert await s3.read(location) == await s3.read_if_any(location) == b"one\ntwo"
        assert await s3.read(location, first_bytes=2) == b"on"
        assert await s3.read(location, first_bytes=200) == b"one\ntwo"
        assert [line async for line in s3.read_lines(location)] == ["one", "two"]
        page = await s3.list_names(account.bucket, prefix)
        assert page.names == [location.removeprefix(f"s3://{account.bucket}/")]
        assert page.next_start_after is None
        await s3.delete(location)
        await s3.delete(location)
        assert not (await s3.list_names(account.bucket, prefix)).names
        with pytest.raises(InputNotFound, match="does not exist"):
            await s3.read(location)
        with pytest.raises(InputNotFound, match="does not exist"):
            _ = [line async for line in s3.read_lines(location)]

    run(options, use)


def test_the_content_type_is_kept(account: Account, options: Mapping[str, Any]) -> None:
    location = f"s3://{account.bucket}/{unique('typed')}"
    run(options, lambda s3: s3.write(location, b"{}"))
    found = account.s3.head_object(Bucket=account.bucket, Key=location.rpartition("/")[2])
    assert found["ContentType"] == "application/json"


def test_an_empty_object_is_empty_however_much_is_asked_for(
    account: Account, options: Mapping[str, Any]
) -> None:
    location = f"s3://{account.bucket}/{unique('empty')}"

    async def use(s3: S3Objects) -> list[object]:
        await s3.write(location, b"")
        lines = [line async for line in s3.read_lines(location)]
        return [await s3.read(location), await s3.read(location, first_bytes=5), lines]

    assert run(options, use) == [b"", b"", []]


def test_listings_go_on_page_by_page(account: Account, options: Mapping[str, Any]) -> None:
    prefix = unique("pages")
    keys = [f"{prefix}/{number:04d}" for number in range(1_001)]

    async def use(s3: S3Objects) -> tuple[list[str], list[ListedObject]]:
        for key in keys[:1]:
            await s3.write(f"s3://{account.bucket}/{key}", b"12345")
        await asyncio.gather(*(s3.write(f"s3://{account.bucket}/{key}", b"12345") for key in keys[1:]))
        first = await s3.list_names(account.bucket, f"{prefix}/")
        assert first.next_start_after == keys[999]
        last = await s3.list_objects(account.bucket, f"{prefix}/", start_after=keys[999])
        assert last.next_start_after is None
        return first.names, last.objects

    if "proxies_config" in options:
        pytest.skip("a thousand writes through botocore take long, and one transport fills the other's pages")
    names, objects = run(options, use)
    assert names == keys[:1000]
    assert objects == [ListedObject(keys[1000], 5, "827ccb0eea8a706c4c34a16891f84e7b")]
    through_botocore = {**options, **TRANSPORTS["botocore"]}
    theirs = run(through_botocore, lambda s3: s3.list_objects(account.bucket, f"{prefix}/"))
    ours = run(options, lambda s3: s3.list_objects(account.bucket, f"{prefix}/"))
    assert isinstance(theirs, ObjectPage)
    assert theirs == ours
    assert theirs.next_start_after == keys[999]


def test_the_first_of_several_writers_wins(account: Account, options: Mapping[str, Any]) -> None:
    location = f"s3://{account.bucket}/{unique('fenced')}"

    async def use(s3: S3Objects) -> None:
        await s3.write(location, b"first", only_if_new=True)
        with pytest.raises(PreconditionFailed, match="another process has written it before"):
            await s3.write(location, b"second", only_if_new=True)
        with pytest.raises(PreconditionFailed):  # equal bytes prove nothing when nothing was lost
            await s3.write(location, b"first", only_if_new=True)

    run(options, use)
    assert account.read(location) == b"first"


@pytest.mark.parametrize("lost", [Said(0), xml(500, "InternalError"), xml(503, "SlowDown")])
def test_ones_own_write_whose_answer_was_lost_is_no_conflict(
    lost: Said, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = xml(412, "PreconditionFailed")
    for stored, ours in ((b"mine", True), (b"theirs", False)):
        answer = one_after_the_other(lost, taken, Said(200, stored, {"ETag": '"e"'}))
        result, asked = against(
            answer, monkeypatch, options, lambda s3: s3.write("s3://b/k", b"mine", only_if_new=True)
        )
        assert [each.method for each in asked] == ["PUT", "PUT", "GET"]
        assert all(each.headers["if-none-match"] == "*" for each in asked[:2])
        assert isinstance(result, PreconditionFailed) is not ours


@pytest.mark.parametrize("quote", ["", '"'])
def test_an_object_is_replaced_only_while_it_is_the_one_that_is_meant(
    quote: str, account: Account, options: Mapping[str, Any]
) -> None:
    location = f"s3://{account.bucket}/{unique('replaced')}"

    async def use(s3: S3Objects) -> None:
        await s3.write(location, b"first")
        found = await s3.stat(location)
        assert isinstance(found, ListedObject)
        etag = f"{quote}{found.etag}{quote}"
        await s3.write(location, b"second", if_match=etag)
        for stale in (b"third", b"second"):
            with pytest.raises(PreconditionFailed, match="another process has replaced or deleted it"):
                await s3.write(location, stale, if_match=etag)
        await s3.delete(location)
        with pytest.raises(PreconditionFailed):
            await s3.write(location, b"third", if_match=etag)

    run(options, use)


def test_a_replacement_whose_answer_was_lost_is_no_conflict(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the object is another, or reading it is not permitted."""
    answers = [(Said(200, b"mine"), True), (Said(200, b"theirs"), False), (xml(404, "NoSuchKey"), False)]
    for second, ours in [*answers, (xml(403, "AccessDenied"), False)]:
        answer = one_after_the_other(Said(0), xml(412, "PreconditionFailed"), second)
        result, asked = against(
            answer, monkeypatch, options, lambda s3: s3.write("s3://b/k", b"mine", if_match="e")
        )
        assert [each.headers.get("if-match") for each in asked] == ['"e"', '"e"', None]
        assert isinstance(result, PreconditionFailed) is not ours


def test_a_bucket_that_is_missing_is_no_lost_race(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, _ = against(
        lambda _: xml(404, "NoSuchBucket"),
        monkeypatch,
        options,
        lambda s3: s3.write("s3://b/k", b"x", if_match="e"),
    )
    assert isinstance(result, RequestRefused)


def test_two_conditional_writes_at_the_same_time_are_tried_again(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    conflict = xml(409, "ConditionalRequestConflict")

    def write(s3: S3Objects) -> Awaitable[None]:
        return s3.write("s3://b/k", b"x", only_if_new=True)

    result, asked = against(one_after_the_other(conflict, Said(200)), monkeypatch, options, write)
    assert result is None
    assert len(asked) == 2
    answers = [conflict] * ATTEMPTS + [xml(404, "NoSuchKey")]
    result, asked = against(one_after_the_other(*answers), monkeypatch, options, write)
    assert isinstance(result, PreconditionFailed)
    assert len(asked) == ATTEMPTS + 1


@pytest.mark.parametrize("trouble", [Said(0), xml(503, "SlowDown"), xml(500, "InternalError"), Said(502)])
def test_reads_and_writes_endure_trouble_five_times_in_all(
    trouble: Said, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Callable[[S3Objects], Awaitable[Any]], Said]] = [
        (lambda s3: s3.read("s3://b/k"), Said(200, b"body")),
        (lambda s3: s3.write("s3://b/k", b"body"), Said(200)),
        (lambda s3: s3.delete("s3://b/k"), Said(204)),
    ]
    for use, good in calls:
        mended = one_after_the_other(*[trouble] * (ATTEMPTS - 1), good)
        result, asked = against(mended, monkeypatch, options, use)
        assert result in (b"body", None)
        assert len(asked) == ATTEMPTS
        result, asked = against(lambda _: trouble, monkeypatch, options, use)
        assert isinstance(result, ServiceUnavailable)
        assert len(asked) == ATTEMPTS


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (Said(0), ServiceUnavailable),
        (xml(503, "SlowDown"), ServiceUnavailable),
        (xml(429, "TooManyRequests"), Throttled),
        (xml(403, "AccessDenied"), AccessDenied),
        (xml(404, "NoSuchBucket"), RequestRefused),
        (Said(200, b"<html>a page of a proxy</html>"), ServiceUnavailable),
    ],
)
def test_a_listing_fails_at_once_with_an_error_of_ours(
    said: Said,
    error: type[SageMakerInferenceError],
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A wait counts failed polls; even the transport below sends none of them twice."""
    if said.status == 200 and "proxies_config" in options:
        pytest.skip("botocore takes any XML for a listing")
    for use in (lambda s3: s3.list_names("b", "p"), lambda s3: s3.list_objects("b", "p")):
        result, asked = against(lambda _: said, monkeypatch, options, use)
        assert type(result) is error
        assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "seen"),
    [
        (200, Presence.PRESENT),
        (404, Presence.ABSENT),
        (403, Presence.FORBIDDEN),
        (503, Presence.UNKNOWN),
        (0, Presence.UNKNOWN),
    ],
)
def test_a_head_is_one_request_and_an_error_no_verdict(
    status: int, seen: Presence, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked = against(lambda _: Said(status), monkeypatch, options, lambda s3: s3.presence("s3://b/k"))
    assert result is seen
    assert [each.method for each in asked] == ["HEAD"]


def test_an_objects_size_and_etag_are_reported_as_in_a_listing(
    account: Account, options: Mapping[str, Any]
) -> None:
    key = f"{unique('x')}/{ODD_KEY}"
    account.s3.put_object(Bucket=account.bucket, Key=key, Body=b"one")
    page = run(options, lambda s3: s3.list_objects(account.bucket, key))
    assert [run(options, lambda s3: s3.stat(f"s3://{account.bucket}/{key}"))] == page.objects
    assert page.objects[0].size == 3
    assert run(options, lambda s3: s3.stat(f"s3://{account.bucket}/{key}-not")) is Presence.ABSENT


@pytest.mark.parametrize(
    ("status", "expected", "times"),
    [
        (404, Presence.ABSENT, 1),
        (403, Presence.FORBIDDEN, 1),
        (503, ServiceUnavailable, ATTEMPTS),
        (0, ServiceUnavailable, ATTEMPTS),
    ],
)
def test_what_stands_in_the_way_of_a_size_is_raised_or_endured(
    status: int, expected: object, times: int, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, asked = against(lambda _: Said(status), monkeypatch, options, lambda s3: s3.stat("s3://b/k"))
    assert result is expected or type(result) is expected
    assert [each.method for each in asked] == ["HEAD"] * times


def test_neither_an_unreachable_s3_nor_missing_credentials_are_a_verdict(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", closed_port())
    assert run(options, lambda s3: s3.presence("s3://b/k")) is Presence.UNKNOWN
    with pytest.raises(InvalidS3Uri):
        run(options, lambda s3: s3.presence("s3://b"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert run(options, lambda s3: s3.presence("s3://b/k")) is Presence.UNKNOWN
    with pytest.raises(ServiceUnavailable, match="credentials could not be fetched"):
        run(options, lambda s3: s3.list_names("b", "p"))


BIG = b"".join(b"line %06d of an object that takes several chunks\n" % number for number in range(20_000))


class BreakingS3:
    """Serves an object, but every connection breaks after a while, or the object changes."""

    def __init__(self, body: bytes, *, breaks_after: int, changes: bool = False) -> None:
        self.body = body
        self.breaks_after = breaks_after
        self.changes = changes

    def __call__(self, asked: Asked) -> Said:
        start = int(asked.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start and (self.changes or asked.headers.get("if-match") != '"e"'):
            return xml(412, "PreconditionFailed")
        left = self.body[start:]
        return Said(
            206 if start else 200, left[: self.breaks_after], {"ETag": '"e"'}, len(left[self.breaks_after :])
        )


def test_lines_are_read_on_where_a_connection_broke(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def read(s3: S3Objects) -> list[str]:
        return [line async for line in s3.read_lines("s3://b/k")]

    lines, asked = against(BreakingS3(BIG, breaks_after=300_000), monkeypatch, options, read)
    assert lines == BIG.decode().splitlines()
    assert len(asked) == 4
    error, asked = against(BreakingS3(BIG, breaks_after=300_000, changes=True), monkeypatch, options, read)
    assert isinstance(error, PreconditionFailed)
    assert len(asked) == 2
    error, asked = against(lambda _: Said(200, b"", {"ETag": '"e"'}, 5), monkeypatch, options, read)
    assert isinstance(error, ServiceUnavailable)
    assert len(asked) == ATTEMPTS


def test_lines_are_handed_over_before_the_object_ends(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first(s3: S3Objects) -> str:
        async with aclosing(s3.read_lines("s3://b/k")) as lines:
            return await anext(lines)

    line, asked = against(lambda _: Said(200, BIG, {"ETag": '"e"'}), monkeypatch, options, first)
    assert line == BIG.decode().partition("\n")[0]
    assert len(asked) == 1


def test_an_object_that_is_not_what_was_stored_is_read_again(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "proxies_config" in options:
        pytest.skip("what botocore checks is its own matter")
    expected = {"x-amz-checksum-crc32": base64.b64encode(zlib.crc32(b"right").to_bytes(4, "big")).decode()}
    answer = one_after_the_other(Said(200, b"wrong", expected), Said(200, b"right", expected))
    result, asked = against(answer, monkeypatch, options, lambda s3: s3.read("s3://b/k"))
    assert result == b"right"
    assert len(asked) == 2


def in_ireland(asked: Asked) -> Said:
    """An S3 whose bucket is in eu-west-1, whatever region it is asked for in."""
    if "/eu-west-1/s3/" in asked.headers["authorization"]:
        return Said(200, b"there", {"ETag": '"e"'})
    body = b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>"
    return Said(400, body, {"x-amz-bucket-region": "eu-west-1"})


def test_a_bucket_in_another_region_is_found_there(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def use(s3: S3Objects) -> list[object]:
        answers = [await s3.presence("s3://b/k"), await s3.read("s3://b/k")]
        return [*answers, [line async for line in s3.read_lines("s3://b/k")]]

    result, asked = against(in_ireland, monkeypatch, options, use)
    assert result == [Presence.PRESENT, b"there", ["there"]]
    wrong = [each for each in asked if "/eu-west-1/s3/" not in each.headers["authorization"]]
    assert len(wrong) <= 2


def test_a_bucket_that_is_nowhere_is_not_asked_for_in_circles(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if "proxies_config" in options:
        pytest.skip("botocore does, until Python stops it")
    moved = xml(301, "PermanentRedirect")
    result, asked = against(lambda _: moved, monkeypatch, options, lambda s3: s3.list_names("b", "p"))
    assert isinstance(result, RequestRefused)
    assert len(asked) == 1


def test_nothing_secret_is_logged(
    account: Account, options: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    location = f"s3://{account.bucket}/{unique('quiet')}"
    caplog.set_level(logging.INFO)

    async def use(s3: S3Objects) -> None:
        await s3.write(location, b"payload-secret")
        await s3.read(location)

    run(options, use)
    assert "payload-secret" not in caplog.text
    assert "AWS4-HMAC" not in caplog.text
