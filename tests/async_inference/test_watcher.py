"""Polls of many results over real HTTP: listings, denials, and texts of failure objects."""

from __future__ import annotations

import time

import pytest

from airflow_sm_plugin.async_inference.watch import AwaitedResults, NumberedNames, ResultFolder, group
from airflow_sm_plugin.async_inference.watch_state import WatchState
from airflow_sm_plugin.async_inference.watcher import BlockingWatcher
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from tests.stubs.s3 import QUICK, fixed, stub_s3, use
from tests.support import REGION, Account, closed_port, unique

pytestmark = pytest.mark.usefixtures("account")


CONNECTION = AwsConnection(aws_conn_id=None, region_name=REGION, botocore_config=QUICK)


def _watch(bucket: str, *, seconds: float = 3_600) -> tuple[AwaitedResults, str]:
    root = unique("root")
    folders = tuple(
        ResultFolder(
            f"s3://{bucket}/{root}/out/{number:05}/",
            f"s3://{bucket}/{root}/bad/{number:05}/",
            NumberedNames(number * 1_000, 30, "{:07}.out", "{:07}-error.out"),
            (time.time() + seconds,),
        )
        for number in range(3)
    )
    return AwaitedResults(folders), root


def settle(watch: AwaitedResults) -> WatchState:
    """Poll for everything, once."""
    return BlockingWatcher(CONNECTION).poll(watch, WatchState.begin(watch), now=time.time(), thorough=True)


def _fill(account: Account, watch: AwaitedResults) -> None:
    for folder in watch.folders:
        for position in range(30):
            location = folder.failure(position) if position % 10 == 0 else folder.output(position)
            bucket, _, key = str(location).removeprefix("s3://").partition("/")
            account.s3.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_everything_is_settled_in_one_poll(account: Account) -> None:
    watch, _ = _watch(account.bucket)
    _fill(account, watch)
    counts = settle(watch).counts(watch)
    assert (counts.succeeded, counts.failed, counts.pending) == (81, 9, 0)


def test_connections_stay_open_from_poll_to_poll(account: Account) -> None:
    watch, _ = _watch(account.bucket, seconds=-1)
    watcher = BlockingWatcher(CONNECTION)
    with watcher.opened(), watcher.opened():
        state = watcher.poll(watch, WatchState.begin(watch), now=time.time())
        first = watcher._s3
        watcher.poll(watch, state, now=time.time())
        assert state.counts(watch).timed_out == 90
        assert watcher._s3 is first
    assert watcher._s3 is None
    assert watcher.poll(watch, WatchState.begin(watch), now=0).counts(watch).pending == 90


def test_where_listing_is_denied_each_is_asked_for_and_the_remedy_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"{number:03}" for number in range(20)]
    watch, _ = group([AsyncInvocation(f"s3://results/{name}") for name in names], [time.time() + 3_600] * 20)
    there = {f"/results/{name}": b"" for name in names[:-1]}
    with stub_s3(fixed(there, otherwise=403)) as s3:
        use(monkeypatch, s3.url)
        state = settle(watch)
        assert state.counts(watch).succeeded == 19
        assert state.forbidden(watch) is not None
        assert sorted(path for path in s3.asked if path.count("/") == 2 and len(path) > 9) == [
            f"/results/{name}" for name in names
        ]
    reported = [record.getMessage() for record in caplog.records if "s3:ListBucket" in record.getMessage()]
    assert len(reported) == 1


def test_missing_credentials_are_failed_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, closed_port())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    watch, _ = _watch("bucket")
    state = BlockingWatcher(CONNECTION).poll(watch, WatchState.begin(watch), now=0)
    assert state.failed.in_a_row == 1


@pytest.mark.parametrize(
    ("limit", "shown"),
    [(10, "größer"), (8, "größer"), (7, "größe…"), (3, "gr…"), (4, "grö…"), (0, "see its failure object")],
)
def test_a_failure_text_is_cut_between_characters(account: Account, limit: int, shown: str) -> None:
    location = account.upload("größer".encode())
    assert BlockingWatcher(CONNECTION).failure_texts([location], limit=limit) == [shown]


def test_a_failure_text_that_cannot_be_read_says_so(account: Account) -> None:
    (text,) = BlockingWatcher(CONNECTION).failure_texts([f"s3://{account.bucket}/none"], limit=9)
    assert text.startswith("its failure object could not be read")


def test_the_error_about_a_location_is_reported(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    assert BlockingWatcher(CONNECTION).trouble_at(f"s3://{account.bucket}/none") == ""
    assert "NoSuchBucket" in BlockingWatcher(CONNECTION).trouble_at("s3://missing-bucket/none")
    no_server = closed_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", no_server)
    assert no_server in BlockingWatcher(CONNECTION).trouble_at(f"s3://{account.bucket}/none")
