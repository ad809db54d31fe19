"""An outage of S3 is sat out for as long as one of the endpoint; a task that is cancelled does not wait for its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from airflow_sm_plugin.aws import retry as s3_repeats
from airflow_sm_plugin.aws.retry import ATTEMPTS, Patience
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.aws.s3.upload import MultipartUpload
from airflow_sm_plugin.batches.listing import listed_names, listed_page
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import ServiceUnavailable
from tests.aws.s3.against import against
from tests.stubs.recorder import Asked, Said

LISTING = (
    b"<ListBucketResult><IsTruncated>false</IsTruncated><EncodingType>url</EncodingType></ListBucketResult>"
)
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
SLOW_DOWN = Said(503, b"<Error><Code>SlowDown</Code><Message>m</Message></Error>")
PAGE = Said(502, b"<!DOCTYPE html><p>\xe9</p>", {"Content-Type": "text/html"})
OPTIONS = {"connect_timeout": 600, "read_timeout": 600}
MANY = 3 * ATTEMPTS

Use = Callable[[S3Objects], Awaitable[object]]


async def _chunks(s3: S3Objects) -> bytes:
    return b"".join([chunk async for chunk in s3.chunks("s3://b/k", etag=None)])


USES: dict[str, Use] = {
    "write": lambda s3: s3.write("s3://b/k", b"x"),
    "write if new": lambda s3: s3.write("s3://b/k", b"x", only_if_new=True),
    "read": lambda s3: s3.read("s3://b/k"),
    "read on": _chunks,
    "stat": lambda s3: s3.stat("s3://b/k"),
    "delete": lambda s3: s3.delete("s3://b/k"),
    "begin an upload": lambda s3: MultipartUpload.begin(s3, "s3://b/k"),
    "list state": lambda s3: listed_names(s3, "b", "p"),
    "list inputs": lambda s3: listed_page(s3, S3Uri("b", "p"), ""),
}


@pytest.mark.parametrize("trouble", [SLOW_DOWN, PAGE, Said(0)], ids=["SlowDown", "page", "dropped"])
@pytest.mark.parametrize("use", USES)
def test_an_outage_is_endured_beyond_five_attempts(
    use: str, trouble: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_repeats, "OUTAGE_SECONDS", 600.0)
    monkeypatch.setattr("random.random", lambda: 0.0)
    asked_before = iter(range(MANY))

    def answer(asked: Asked) -> Said:
        if next(asked_before, None) is not None:
            return trouble
        if "list-type" in asked.target:
            return Said(200, LISTING)
        return Said(200, BEGUN if asked.target.endswith("?uploads") else b"x", {"ETag": '"e"'})

    result, asked = against(answer, monkeypatch, OPTIONS, USES[use])
    assert not isinstance(result, Exception)
    assert len(asked) == MANY + 1


def test_a_write_that_is_cancelled_in_an_outage_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the pause before its next attempt is."""
    monkeypatch.setattr(s3_repeats, "OUTAGE_SECONDS", 600.0)
    pausing = asyncio.Event()

    async def pause(*_: object) -> None:
        pausing.set()
        await asyncio.sleep(3_600)

    monkeypatch.setattr(s3_repeats, "pause", pause)

    async def use(s3: S3Objects) -> bool:
        write = asyncio.ensure_future(s3.write("s3://b/k", b"x"))
        await pausing.wait()
        write.cancel()
        await asyncio.wait([write])
        return write.cancelled()

    result, asked = against(lambda _: SLOW_DOWN, monkeypatch, OPTIONS, use)
    assert result is True
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("failures", "spent"),
    [
        ([0.0] * (ATTEMPTS - 1), False),
        ([0.0, 1.0, 2.0, 3.0, 59.0], False),
        ([0.0, 1.0, 2.0, 3.0, 60.0], True),
        ([0.0, 100.0, 200.0, 300.0], False),
        ([0.0, 100.0, 200.0, 300.0, 400.0], True),
    ],
)
def test_patience_ends_when_attempts_and_time_are_spent(
    failures: list[float], spent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_repeats, "OUTAGE_SECONDS", 60.0)
    clock = iter([1_000.0 + at for at in failures])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    patience = Patience()
    found = [patience.is_spent() for _ in failures]
    monkeypatch.undo()
    assert found == [False] * (len(failures) - 1) + [spent]


def test_an_outage_that_does_not_end_is_an_error_worth_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.random", lambda: 0.0)
    result, asked = against(lambda _: SLOW_DOWN, monkeypatch, OPTIONS, lambda s3: s3.write("s3://b/k", b"x"))
    assert isinstance(result, ServiceUnavailable)
    assert len(asked) == ATTEMPTS
