"""Outputs from memory, and outputs assembled from the journal's data objects."""

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
from airflow_sm_plugin.multi_model.state.fenced_objects import UploadRecords
from airflow_sm_plugin.multi_model.state.journal import StoredFailure
from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
from airflow_sm_plugin.multi_model.state.records import Failure, Run
from tests.support import Account, unique

Result = TypeVar("Result")


async def ours() -> None:
    """Report that no other process has taken the shard over."""


class Shard:
    """An input of a shard, with a folder of outputs and a folder of data objects."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.root = unique("out")
        self.input = BatchInput(
            source=f"s3://{account.bucket}/in/x.csv", target_model="a.tar.gz", output="x.csv"
        )

    def do(
        self, work: Callable[[OutputWriter], Awaitable[Result]], options: ObjectOptions | None = None
    ) -> Result:
        async def run() -> Result:
            async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
                writer = OutputWriter(
                    s3,
                    f"s3://{self.account.bucket}/{self.root}/out/",
                    content_type="text/csv",
                    data_prefix=f"s3://{self.account.bucket}/{self.root}/data/",
                    mark="plan/process",
                    records=UploadRecords(s3, f"s3://{self.account.bucket}/{self.root}/uploads/"),
                    options=options or ObjectOptions(),
                    check=ours,
                    check_lately=ours,
                )
                writer.start_listing()
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
        """Count the calls of an operation for an output."""
        url = f"{self.account.url}/_embedded/calls?service=s3&operation={operation}"
        with urllib.request.urlopen(url, timeout=600) as response:
            calls = json.load(response)["calls"]
        output = f"{self.account.bucket}/{self.root}/out/x.csv{suffix}"
        return sum(call["resource"] == output for call in calls)

    def give_up(self, upload: str) -> None:
        key = f"{self.root}/out/x.csv.out"
        self.account.s3.abort_multipart_upload(Bucket=self.account.bucket, Key=key, UploadId=upload)

    def names(self) -> list[str]:
        listing = self.account.s3.list_objects_v2(Bucket=self.account.bucket, Prefix=f"{self.root}/out/")
        return [item["Key"].removeprefix(f"{self.root}/out/") for item in listing.get("Contents", [])]


@pytest.fixture
def shard(account: Account) -> Shard:
    return Shard(account)


def run(record: int, *, offset: int = 0, size: int = 0, notes_offset: int = 0, notes_size: int = 0) -> Run:
    return Run(0, record * 10, record * 10 + 10, record, 1, offset, size, notes_offset, notes_size)


def test_runs_become_one_output_in_the_inputs_order(shard: Shard) -> None:
    shard.data("d1", b"two\nfour\n")
    shard.data("d2", b"one\nthree\n")
    runs = [
        (run(0, offset=0, size=4), "d2"),
        (run(1, offset=0, size=4), "d1"),
        (run(2, offset=4, size=6), "d2"),
        (run(3, offset=4, size=5), "d1"),
    ]
    shard.do(lambda writer: writer.assemble(shard.input, runs, []))
    assert shard.output() == b"one\ntwo\nthree\nfour\n"


def test_attributes_are_assembled_the_same_way(shard: Shard) -> None:
    shard.data("d", b'one\n{"first_record":0}\n')
    runs = [(run(0, offset=0, size=4, notes_offset=4, notes_size=19), "d")]
    shard.do(lambda writer: writer.assemble(shard.input, runs, []))
    assert shard.output(".attributes.jsonl") == b'{"first_record":0}\n'


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
def test_long_ranges_are_copied_by_s3(shard: Shard, sizes: list[int], copied: int) -> None:
    """The output is the same as if it had been joined in memory, whatever the lengths."""
    letters = itertools.cycle(b"abcdefghij")
    bodies = [bytes([next(letters)]) * size for size in sizes]
    runs = []
    for record, body in enumerate(bodies):
        shard.data(f"d{record}", b"--" + body + b"--")
        runs.append((run(record, offset=2, size=len(body)), f"d{record}"))
    shard.do(lambda writer: writer.assemble(shard.input, runs, []))
    assert shard.output() == b"".join(bodies)
    left = shard.account.s3.list_multipart_uploads(Bucket=shard.account.bucket, Prefix=shard.root)
    assert not left.get("Uploads")
    assert shard.calls("UploadPartCopy") == copied


def test_another_programs_upload_of_the_same_key_is_left_alone(
    shard: Shard, request: pytest.FixtureRequest
) -> None:
    key = f"{shard.root}/out/x.csv.out"
    theirs = shard.account.s3.create_multipart_upload(Bucket=shard.account.bucket, Key=key)["UploadId"]
    request.addfinalizer(lambda: shard.give_up(theirs))
    shard.data("d", b"x" * (LEAST_PART_BYTES + 1))
    shard.do(lambda writer: writer.assemble(shard.input, [(run(0, size=LEAST_PART_BYTES + 1), "d")], []))
    left = shard.account.s3.list_multipart_uploads(Bucket=shard.account.bucket, Prefix=shard.root)
    assert [upload["UploadId"] for upload in left["Uploads"]] == [theirs]
    assert shard.output() == b"x" * (LEAST_PART_BYTES + 1)


def test_a_stale_upload_of_a_killed_process_is_given_up_and_no_other(
    shard: Shard, request: pytest.FixtureRequest
) -> None:
    location = f"s3://{shard.account.bucket}/{shard.root}/out/x.csv.out"

    async def killed_and_next() -> str:
        async with S3Objects.open(AwsConnection(aws_conn_id=None)) as s3:
            uploads = [await MultipartUpload.begin(s3, location) for _ in range(3)]
            records = UploadRecords(s3, f"s3://{shard.account.bucket}/{shard.root}/uploads/")
            kept = [await records.begun(upload) for upload in uploads[1:]]
            await uploads[2].abort()  # and it was killed before that was written down
            await records.give_up_all(ours)
            assert [await s3.read_if_any(record) for record in kept] == [None, None]
            return uploads[0].id

    theirs = asyncio.run(killed_and_next())
    request.addfinalizer(lambda: shard.give_up(theirs))
    left = shard.account.s3.list_multipart_uploads(Bucket=shard.account.bucket, Prefix=shard.root)
    assert [upload["UploadId"] for upload in left["Uploads"]] == [theirs]


@pytest.mark.parametrize("suffix", [".out", ".errors.jsonl", ".attributes.jsonl"])
def test_an_object_that_no_batch_has_written_stays_and_a_warning_is_logged(
    shard: Shard, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    shard.account.upload(b"another's", f"{shard.root}/out/x.csv{suffix}")
    if suffix == ".out":
        shard.data("d", b"row\n")
        failures = [failure(0, offset=0, size=4, records=None)]
        shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    else:
        shard.do(lambda writer: writer.write(shard.input, b"good\n", b""))
    assert shard.output(suffix) == b"another's"
    assert f"x.csv{suffix} is out of date, but stays" in caplog.text


@pytest.mark.parametrize("size", [5, LEAST_PART_BYTES + 5])
def test_outputs_are_marked_with_the_batch_and_process_that_wrote_them(shard: Shard, size: int) -> None:
    shard.data("d", b"x" * size)
    shard.do(lambda writer: writer.assemble(shard.input, iter([(run(0, size=size), "d")]), []))
    head = shard.account.s3.head_object(Bucket=shard.account.bucket, Key=f"{shard.root}/out/x.csv.out")
    assert {name.lower(): value for name, value in head["Metadata"].items()} == {MARK: "plan/process"}


def failure(
    record: int, *, offset: int, size: int, records: int | None = 1, data: str = "d"
) -> StoredFailure:
    end = record * 10 + 10
    return StoredFailure(
        Failure(0, record * 10, end, record, records, "ModelError", False, offset, size), data
    )


def test_rows_of_failures_are_assembled_in_the_inputs_order(shard: Shard) -> None:
    """In any order and in any data object."""
    shard.data("d1", b"four\nunread\n")
    shard.data("d2", b"--one\ntwo\n")
    failures = [
        failure(4, offset=0, size=5, data="d1"),
        failure(5, offset=5, size=7, records=None, data="d1"),
        failure(1, offset=2, size=4, data="d2"),
        failure(2, offset=6, size=4, data="d2"),
    ]
    shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    assert shard.output(".errors.jsonl") == b"one\ntwo\nfour\nunread\n"
    assert shard.names() == ["x.csv.errors.jsonl"]


def test_many_rows_of_failures_are_a_multipart_upload(shard: Shard) -> None:
    rows = b"r" * (LEAST_PART_BYTES + 1)
    shard.data("d", rows)
    failures = [failure(0, offset=0, size=len(rows))]
    shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    assert shard.output(".errors.jsonl") == rows
    assert shard.calls("UploadPartCopy", ".errors.jsonl") == 1


def test_an_input_all_of_whose_records_failed_has_an_empty_output(shard: Shard) -> None:
    """The empty output distinguishes it from an input that has not ended."""
    shard.data("d", b"row\n")
    failures = [failure(0, offset=0, size=4)]
    shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    assert shard.output() == b""


def test_the_output_of_an_input_that_cannot_be_read_any_more_is_deleted(shard: Shard) -> None:
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b"{}\n"))
    shard.data("d", b"row\n")
    failures = [failure(0, offset=0, size=4, records=None)]
    shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    assert shard.names() == ["x.csv.errors.jsonl"]


def test_side_files_of_an_earlier_batch_are_deleted(shard: Shard) -> None:
    shard.data("d", b"row\n")
    failures = [failure(0, offset=0, size=4)]
    shard.do(lambda writer: writer.assemble(shard.input, [], failures))
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b"{}\n"))
    assert shard.names() == ["x.csv.attributes.jsonl", "x.csv.out"]
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b""))
    assert shard.names() == ["x.csv.out"]


@pytest.mark.parametrize("size", [5, LEAST_PART_BYTES + 5])
def test_an_output_of_an_earlier_batch_is_replaced(shard: Shard, size: int) -> None:
    for letter in (b"a", b"b"):
        shard.data("d", letter * size)
        shard.do(lambda writer: writer.assemble(shard.input, iter([(run(0, size=size), "d")]), []))
        assert shard.output() == letter * size


def test_new_outputs_cost_one_write_each(shard: Shard) -> None:
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b""))
    assert [shard.calls(operation) for operation in ("PutObject", "HeadObject")] == [1, 0]


def test_a_throttled_listing_is_repeated(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)
    shard.account.s3.put_object(
        Bucket=shard.account.bucket,
        Key=f"{shard.root}/out/x.csv.errors.jsonl",
        Body=b"stale",
        Metadata={MARK: "another/process"},
    )
    real, failures = S3Objects.list_names, 2

    async def list_names(self: S3Objects, bucket: str, prefix: str, *, start_after: str = "") -> Page:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise ServiceUnavailable("slow down")
        return await real(self, bucket, prefix, start_after=start_after)

    monkeypatch.setattr(S3Objects, "list_names", list_names)
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b""))
    assert shard.names() == ["x.csv.out"]


def test_outputs_are_encrypted_with_the_given_key(shard: Shard) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    options = ObjectOptions(kms_key_id=key, acl="bucket-owner-full-control")
    shard.do(lambda writer: writer.write(shard.input, b"good\n", b""), options)
    head = shard.account.s3.head_object(Bucket=shard.account.bucket, Key=f"{shard.root}/out/x.csv.out")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    assert head["ContentType"] == "text/csv"
