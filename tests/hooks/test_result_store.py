"""Whole objects in S3: what is read and written, and what is said of what could not be."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.exceptions import AccessDenied, InputNotFound, InvalidS3Uri, ServiceUnavailable
from airflow_sm_plugin.hooks.result_store import ResultStoreHook
from tests.stubs.recorder import Said, recording
from tests.support import Account, Answer, answering, closed_port, unique

ONCE = {"retries": {"total_max_attempts": 1}}


def store(**arguments: object) -> ResultStoreHook:
    return ResultStoreHook(**{"aws_conn_id": None} | arguments)


def missing(account: Account) -> str:
    return f"s3://{account.bucket}/no/such/object"


def test_reading_stops_at_the_limit(account: Account) -> None:
    assert store().read(account.upload("0123456789"), limit=4) == b"0123"
    assert store().read(account.upload(b"caf\xe9"), limit=100) == b"caf\xe9"
    assert store().read(account.upload(b""), limit=100) == b""


def test_an_object_that_comes_cut_short_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with recording(lambda _: Said(200, b"1,", cut=3)) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", recorder.url)
        with pytest.raises(ServiceUnavailable, match="s3:GetObject s3://bucket/key"):
            store(config=ONCE).read("s3://bucket/key", limit=100)


@pytest.mark.parametrize("content_type", ["text/\xe9", "text/csv\n", "\x00", "日/本"])
def test_a_content_type_that_no_header_carries_keeps_no_answer_back(
    account: Account, content_type: str
) -> None:
    location = f"s3://{account.bucket}/{unique('written')}"
    store().write(location, b"1,2", content_type=content_type)
    assert store().read(location, limit=100) == b"1,2"


@pytest.mark.parametrize("content_type", [None, "text/csv"])
def test_what_is_written_can_be_read(account: Account, content_type: str | None) -> None:
    key = unique("written")
    store().write(f"s3://{account.bucket}/{key}", b"1,2", content_type=content_type)
    found = account.s3.get_object(Bucket=account.bucket, Key=key)
    assert found["Body"].read() == b"1,2"
    assert (found["ContentType"] == "text/csv") is (content_type is not None)


def test_it_says_what_it_could_not_do(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputNotFound, match=f"the object {missing(account)} does not exist"):
        store().read(missing(account), limit=10)
    with pytest.raises(InvalidS3Uri):
        store().read("s3://bucket", limit=10)
    with answering(Answer(403, "AccessDenied")) as (strict, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", strict)
        with pytest.raises(AccessDenied, match=r"(?s)s3:GetObject .* allow this action to the task's role"):
            store().read(missing(account), limit=10)
        with pytest.raises(AccessDenied, match=r"(?s)s3:PutObject .* allow this action to the task's role"):
            store().write(missing(account), b"x")
    closed = closed_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", closed)
    with pytest.raises(ServiceUnavailable, match=closed):
        store(config=ONCE).read(missing(account), limit=10)
