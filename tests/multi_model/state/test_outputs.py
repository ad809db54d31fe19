"""Outputs from memory, and outputs put together from the journal's data objects."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import urllib.request
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.listing import Page
from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.aws.s3.upload import LEAST_PART_BYTES, MultipartUpload
from airflow_sm_plugin.batches.folder import MARK
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.multi_model.state.journal import Placed, PlacedFailure
from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
from airflow_sm_plugin.multi_model.state.records import Failure, Run
from airflow_sm_plugin.multi_model.state.upload_records import UploadRecords
from tests.support import Account, unique

Result = TypeVar("Result")


async def ours() -> None:
    """Say that nobody has taken the shard over."""


class Place:
    """A folder of outputs and one of data objects."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.root = unique("out")
        self.one = BatchInput(
            source=f"s3://{account.bucket}/in/x.csv", target_model="a.tar.gz", output="x.csv"
        )

    def do(
        self, work: Callable[[OutputWriter], Awaitable[Result]], options: ObjectOptions | None = None
    ) -> Result:
        async def run() -> Result:
            async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
                kept = options or ObjectOptions()
                writer = OutputWriter(
                    s3,
                    f"s3://{self.account.bucket}/{self.root}/out/",
                    content_type="text/csv",
                    data_prefix=f"s3://{self.account.bucket}/{self.root}/data/",
                    mark="plan/process",
                    records=UploadRecords(s3, f"s3://{self.account.bucket}/{self.root}/uploads/"),
                    options=kept,
                    check=ours,
                )
                writer.look_for_stale()
                try:
                    return await work(writer)
                finally:
                    await writer.close()

        return asyncio.run(run())

    def data(self, name: str, body: bytes) -> None:
        self.account.s3.put_object(Bucket=self.account.bucket, Key=f"{self.root}/data/{name}", Body=body)

    def output(self, suffix: str = ".out") -> bytes:
        return self.account.read(f"s3://{self.account.bucket}/{self.root}/out/x.csv{suffix}")

    def calls(self, operation: str, suffix: str = ".out") -> int:
        """Return how often a call was made for one of this folder's outputs."""
        url = f"{self.account.url}/_embedded/calls?service=s3&operation={operation}"
        with urllib.request.urlopen(url, timeout=600) as answer:
            found = json.load(answer)["calls"]
        output = f"{self.account.bucket}/{self.root}/out/x.csv{suffix}"
        return sum(call["resource"] == output for call in found)

    def give_up(self, upload: str) -> None:
        key = f"{self.root}/out/x.csv.out"
        self.account.s3.abort_multipart_upload(Bucket=self.account.bucket, Key=key, UploadId=upload)

    def names(self) -> list[str]:
        found = self.account.s3.list_objects_v2(Bucket=self.account.bucket, Prefix=f"{self.root}/out/")
        return [one["Key"].removeprefix(f"{self.root}/out/") for one in found.get("Contents", [])]


@pytest.fixture
def place(account: Account) -> Place:
    return Place(account)


def run(number: int, *, at: int = 0, size: int = 0, notes_at: int = 0, notes_size: int = 0) -> Run:
    return Run(0, number * 10, number * 10 + 10, number, 1, at, size, notes_at, notes_size)


def test_runs_become_one_output_in_the_inputs_order(place: Place) -> None:
    place.data("d1", b"two\nfour\n")
    place.data("d2", b"one\nthree\n")
    runs = [
        Placed(run(0, at=0, size=4), "d2"),
        Placed(run(1, at=0, size=4), "d1"),
        Placed(run(2, at=4, size=6), "d2"),
        Placed(run(3, at=4, size=5), "d1"),
    ]
    place.do(lambda writer: writer.assemble(place.one, runs, []))
    assert place.output() == b"one\ntwo\nthree\nfour\n"


def test_attributes_are_put_together_the_same_way(place: Place) -> None:
    place.data("d", b'one\n{"first_record":0}\n')
    runs = [Placed(run(0, at=0, size=4, notes_at=4, notes_size=19), "d")]
    place.do(lambda writer: writer.assemble(place.one, runs, []))
    assert place.output(".attributes.jsonl") == b'{"first_record":0}\n'


@pytest.mark.parametrize(
    ("sizes", "copied"),
    [
        ([3 * LEAST_PART_BYTES], 1),
        ([100, 3 * LEAST_PART_BYTES, 100], 1),
        ([LEAST_PART_BYTES - 1, LEAST_PART_BYTES - 1, 7], 0),
        ([LEAST_PART_BYTES, LEAST_PART_BYTES + 3, 5], 2),
        ([1_000_000] * 12, 0),
    ],
    ids=["one long", "long between short", "short", "long and a rest", "many"],
)
def test_long_stretches_are_copied_by_s3_itself(place: Place, sizes: list[int], copied: int) -> None:
    """Whatever the lengths, the output is the same as if it had been joined in memory."""
    letters = itertools.cycle(b"abcdefghij")
    bodies = [bytes([next(letters)]) * size for size in sizes]
    runs = []
    for number, body in enumerate(bodies):
        place.data(f"d{number}", b"--" + body + b"--")
        runs.append(Placed(run(number, at=2, size=len(body)), f"d{number}"))
    place.do(lambda writer: writer.assemble(place.one, runs, []))
    assert place.output() == b"".join(bodies)
    left = place.account.s3.list_multipart_uploads(Bucket=place.account.bucket, Prefix=place.root)
    assert not left.get("Uploads")
    assert place.calls("UploadPartCopy") == copied


def test_somebody_elses_upload_of_the_same_key_is_left_alone(
    place: Place, request: pytest.FixtureRequest
) -> None:
    key = f"{place.root}/out/x.csv.out"
    theirs = place.account.s3.create_multipart_upload(Bucket=place.account.bucket, Key=key)["UploadId"]
    request.addfinalizer(lambda: place.give_up(theirs))
    place.data("d", b"x" * (LEAST_PART_BYTES + 1))
    place.do(lambda writer: writer.assemble(place.one, [Placed(run(0, size=LEAST_PART_BYTES + 1), "d")], []))
    left = place.account.s3.list_multipart_uploads(Bucket=place.account.bucket, Prefix=place.root)
    assert [each["UploadId"] for each in left["Uploads"]] == [theirs]
    assert place.output() == b"x" * (LEAST_PART_BYTES + 1)


def test_a_stale_upload_of_a_killed_process_is_given_up_and_no_other(
    place: Place, request: pytest.FixtureRequest
) -> None:
    location = f"s3://{place.account.bucket}/{place.root}/out/x.csv.out"

    async def killed_and_next() -> str:
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            uploads = [await MultipartUpload.begin(s3, location) for _ in range(3)]
            records = UploadRecords(s3, f"s3://{place.account.bucket}/{place.root}/uploads/")
            kept = [await records.begun(upload) for upload in uploads[1:]]
            await uploads[2].abort()  # and it was killed before that was written down
            await records.give_up_all(ours)
            assert [await s3.read_if_any(record) for record in kept] == [None, None]
            return uploads[0].id

    theirs = asyncio.run(killed_and_next())
    request.addfinalizer(lambda: place.give_up(theirs))
    left = place.account.s3.list_multipart_uploads(Bucket=place.account.bucket, Prefix=place.root)
    assert [each["UploadId"] for each in left["Uploads"]] == [theirs]


@pytest.mark.parametrize("suffix", [".out", ".errors.jsonl", ".attributes.jsonl"])
def test_what_no_batch_has_written_is_never_deleted_and_that_is_told(
    place: Place, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    place.account.upload(b"somebody's", f"{place.root}/out/x.csv{suffix}")
    if suffix == ".out":
        place.data("d", b"row\n")
        failures = [PlacedFailure(failure(0, at=0, size=4, records=None), "d")]
        place.do(lambda writer: writer.assemble(place.one, [], failures))
    else:
        place.do(lambda writer: writer.write(place.one, b"good\n", b""))
    assert place.output(suffix) == b"somebody's"
    assert f"x.csv{suffix} is out of date, but stays" in caplog.text


@pytest.mark.parametrize("size", [5, LEAST_PART_BYTES + 5])
def test_outputs_say_which_batch_and_process_wrote_them(place: Place, size: int) -> None:
    place.data("d", b"x" * size)
    place.do(lambda writer: writer.assemble(place.one, iter([Placed(run(0, size=size), "d")]), []))
    found = place.account.s3.head_object(Bucket=place.account.bucket, Key=f"{place.root}/out/x.csv.out")
    assert {name.lower(): value for name, value in found["Metadata"].items()} == {MARK: "plan/process"}


def failure(number: int, *, at: int, size: int, records: int | None = 1) -> Failure:
    return Failure(0, number * 10, number * 10 + 10, number, records, "ModelError", False, at, size)


def test_rows_of_failures_are_put_together_in_the_inputs_order(place: Place) -> None:
    """Wherever they lie, and whenever they came."""
    place.data("d1", b"four\nunread\n")
    place.data("d2", b"--one\ntwo\n")
    failures = [
        PlacedFailure(failure(4, at=0, size=5), "d1"),
        PlacedFailure(failure(5, at=5, size=7, records=None), "d1"),
        PlacedFailure(failure(1, at=2, size=4), "d2"),
        PlacedFailure(failure(2, at=6, size=4), "d2"),
    ]
    place.do(lambda writer: writer.assemble(place.one, [], failures))
    assert place.output(".errors.jsonl") == b"one\ntwo\nfour\nunread\n"
    assert place.names() == ["x.csv.errors.jsonl"]


def test_more_rows_of_failures_than_fit_into_memory_are_an_upload_in_parts(place: Place) -> None:
    rows = b"r" * (LEAST_PART_BYTES + 1)
    place.data("d", rows)
    failures = [PlacedFailure(failure(0, at=0, size=len(rows)), "d")]
    place.do(lambda writer: writer.assemble(place.one, [], failures))
    assert place.output(".errors.jsonl") == rows
    assert place.calls("UploadPartCopy", ".errors.jsonl") == 1


def test_an_input_all_of_whose_records_failed_has_an_empty_output(place: Place) -> None:
    """Else nobody could tell it from one that is not done."""
    place.data("d", b"row\n")
    failures = [PlacedFailure(failure(0, at=0, size=4), "d")]
    place.do(lambda writer: writer.assemble(place.one, [], failures))
    assert place.output() == b""


def test_an_input_that_cannot_be_read_at_all_has_no_output_any_more(place: Place) -> None:
    place.do(lambda writer: writer.write(place.one, b"good\n", b"{}\n"))
    place.data("d", b"row\n")
    failures = [PlacedFailure(failure(0, at=0, size=4, records=None), "d")]
    place.do(lambda writer: writer.assemble(place.one, [], failures))
    assert place.names() == ["x.csv.errors.jsonl"]


def test_side_files_of_before_go_when_there_are_none_now(place: Place) -> None:
    place.data("d", b"row\n")
    failures = [PlacedFailure(failure(0, at=0, size=4), "d")]
    place.do(lambda writer: writer.assemble(place.one, [], failures))
    place.do(lambda writer: writer.write(place.one, b"good\n", b"{}\n"))
    assert place.names() == ["x.csv.attributes.jsonl", "x.csv.out"]
    place.do(lambda writer: writer.write(place.one, b"good\n", b""))
    assert place.names() == ["x.csv.out"]


@pytest.mark.parametrize("size", [5, LEAST_PART_BYTES + 5])
def test_an_output_of_before_is_replaced(place: Place, size: int) -> None:
    for letter in (b"a", b"b"):
        place.data("d", letter * size)
        place.do(lambda writer: writer.assemble(place.one, iter([Placed(run(0, size=size), "d")]), []))
        assert place.output() == letter * size


def test_new_outputs_cost_one_write_each(place: Place) -> None:
    place.do(lambda writer: writer.write(place.one, b"good\n", b""))
    assert [place.calls(operation) for operation in ("PutObject", "HeadObject")] == [1, 0]


def test_a_listing_that_is_asked_to_slow_down_is_asked_for_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    place.account.s3.put_object(
        Bucket=place.account.bucket,
        Key=f"{place.root}/out/x.csv.errors.jsonl",
        Body=b"stale",
        Metadata={MARK: "another/process"},
    )
    real, left = S3Objects.list_names, 2

    async def list_names(self: S3Objects, bucket: str, prefix: str, *, start_after: str = "") -> Page:
        nonlocal left
        left -= 1
        if left >= 0:
            raise ServiceUnavailable("said the test")
        return await real(self, bucket, prefix, start_after=start_after)

    monkeypatch.setattr(S3Objects, "list_names", list_names)
    place.do(lambda writer: writer.write(place.one, b"good\n", b""))
    assert place.names() == ["x.csv.out"]


def test_outputs_are_encrypted_with_the_key_that_was_asked_for(place: Place) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    options = ObjectOptions(kms_key_id=key, acl="bucket-owner-full-control")
    place.do(lambda writer: writer.write(place.one, b"good\n", b""), options)
    found = place.account.s3.head_object(Bucket=place.account.bucket, Key=f"{place.root}/out/x.csv.out")
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", key)
    assert found["ContentType"] == "text/csv"
