"""A shard's inputs come one by one, in any order and many at once, and each chunk is read once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs, chunk_location
from airflow_sm_plugin.batches.inputs import CHUNK, BatchInput
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest
from airflow_sm_plugin.multi_model.plan.store import read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from tests.multi_model.plan.plans import in_s3
from tests.stubs.aws import StubClient, running
from tests.support import Account, unique

COUNT = 3 * CHUNK + 7
ENTRIES = [
    BatchInput(source=f"s3://b/{number}", size=number, etag="e", target_model="m", output=str(number))
    for number in range(COUNT)
]


@pytest.fixture(scope="module")
def quick() -> Iterator[StubClient]:
    with running() as stub:
        yield stub


@pytest.fixture
def folder(quick: StubClient, account: Account, monkeypatch: pytest.MonkeyPatch) -> ShardFolder:
    """A shard of three chunks and a part of a fourth."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", quick.url)
    folder = ShardFolder(f"s3://bench/{unique('shard')}")
    for chunk in range(4):
        lines = [f"{entry.as_line()}\n" for entry in ENTRIES[chunk * CHUNK : (chunk + 1) * CHUNK]]
        quick.put(chunk_location(folder.location, chunk), "".join(lines).encode())
    quick.take_calls()
    return folder


def test_any_order_gives_the_same_inputs_at_one_read_a_chunk(quick: StubClient, folder: ShardFolder) -> None:
    numbers = list(range(COUNT))
    random.Random(7).shuffle(numbers)  # noqa: S311 - an order

    async def read(s3: S3Objects) -> list[BatchInput]:
        inputs = ChunkedInputs(s3, folder.location, CHUNK)
        return [await inputs.input(number) for number in numbers]

    assert in_s3(read) == [ENTRIES[number] for number in numbers]
    assert quick.take_calls() == {"get": 4}


def test_concurrent_readers_of_a_chunk_share_one_read(quick: StubClient, folder: ShardFolder) -> None:
    async def read(s3: S3Objects) -> list[BatchInput]:
        inputs = ChunkedInputs(s3, folder.location, CHUNK)
        return await asyncio.gather(*map(inputs.input, range(COUNT)))

    assert in_s3(read) == ENTRIES
    assert quick.take_calls() == {"get": 4}


def test_a_cancelled_reader_leaves_the_others(folder: ShardFolder) -> None:
    async def read(s3: S3Objects) -> BatchInput:
        inputs = ChunkedInputs(s3, folder.location, CHUNK)
        first = asyncio.create_task(inputs.input(0))
        second = asyncio.create_task(inputs.input(1))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert in_s3(read) == ENTRIES[1]


def test_only_some_chunks_are_kept(quick: StubClient, folder: ShardFolder) -> None:
    async def read(s3: S3Objects) -> None:
        inputs = ChunkedInputs(s3, folder.location, CHUNK, keep=2)
        for chunk in (0, 1, 0, 2, 0, 1):
            assert await inputs.input(chunk * CHUNK) == ENTRIES[chunk * CHUNK]

    in_s3(read)
    assert quick.take_calls() == {"get": 4}


@pytest.mark.parametrize("number", [COUNT, -1])
def test_a_number_without_an_input_is_refused(folder: ShardFolder, number: int) -> None:
    with pytest.raises((InvalidRequest, InputNotFound)):
        in_s3(lambda s3: ChunkedInputs(s3, folder.location, CHUNK).input(number))


def test_a_missing_plan_or_shard_is_reported_with_the_remedy(quick: StubClient, folder: ShardFolder) -> None:
    with pytest.raises(
        InputNotFound, match=rf"(?s)no plan at {folder.location}/plan\.json.*run the plan task again"
    ):
        in_s3(lambda s3: read_plan(s3, folder.location))
    with pytest.raises(InputNotFound, match=r"shard\.json"):
        in_s3(lambda s3: read_shard_plan(s3, folder))
