"""The objects of a manifest are checked before anything is sent: existence, size and ETag."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.input_chunks import PlanSummary, plan_inputs, read_chunk
from airflow_sm_plugin.batches.inputs import SHARD, BatchInput, InputLimits, InputSource
from airflow_sm_plugin.batches.manifest_reading import HEADS_AT_ONCE
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest, ServiceUnavailable
from tests.async_inference.batch.async_batches import faults
from tests.stubs.aws import StubClient, running
from tests.support import Account, unique


def planned(source: InputSource, into: str) -> tuple[PlanSummary, list[BatchInput]]:
    """Plan, and read the plan."""

    async def work() -> tuple[PlanSummary, list[BatchInput]]:
        connection = AwsConnection(aws_conn_id=None)
        async with S3Objects.open(connection, max_connections=HEADS_AT_ONCE) as s3:
            plan = await plan_inputs(s3, source, into=into)
            return plan, [item for n in range(plan.shards) for item in await read_chunk(s3, into, n)]

    return asyncio.run(work())


def source_of(account: Account, *sources: str) -> InputSource:
    """Upload a manifest with an empty line before each input."""
    text = "".join(f"\n{json.dumps({'source-ref': item})}\n" for item in sources)
    return InputSource(location=account.upload(text), inputs_type="ManifestFile")


@pytest.fixture
def into(account: Account) -> str:
    return f"s3://{account.bucket}/{unique('plan')}"


def test_sizes_and_etags_are_known_and_the_order_is_the_manifests(account: Account, into: str) -> None:
    sources = [account.upload("x" * size) for size in (3, 1, 2)]
    _, inputs = planned(source_of(account, *sources), into)
    assert [(item.source, item.size) for item in inputs] == list(zip(sources, (3, 1, 2), strict=True))
    keys = [item.removeprefix(f"s3://{account.bucket}/") for item in sources]
    etags = [account.s3.head_object(Bucket=account.bucket, Key=key)["ETag"] for key in keys]
    assert [f'"{item.etag}"' for item in inputs] == etags


def test_a_missing_object_is_named_with_its_line(account: Account, into: str) -> None:
    missing = f"s3://{account.bucket}/not/there.csv"
    source = source_of(account, account.upload("a"), missing, account.upload("b"))
    with pytest.raises(InputNotFound) as caught:
        planned(source, into)
    text = str(caught.value)
    assert (
        f"an input of the manifest {source.location} does not exist: line 4: {missing}. Nothing was" in text
    )


def test_of_many_missing_objects_the_first_are_named_and_all_are_counted(account: Account, into: str) -> None:
    lines = [f"s3://{account.bucket}/not/{number}" for number in range(2 * HEADS_AT_ONCE)]
    lines[10] = account.upload("there")
    with pytest.raises(InputNotFound) as caught:
        planned(source_of(account, *lines), into)
    text = str(caught.value)
    assert f"{2 * HEADS_AT_ONCE - 1} inputs of the manifest" in text
    assert f"line 2: {lines[0]}; line 4: {lines[1]}; " in text
    assert f"line 10: {lines[4]}; and {2 * HEADS_AT_ONCE - 6} more" in text
    assert lines[5] not in text


def test_a_bucket_that_does_not_exist_has_no_objects(account: Account, into: str) -> None:
    with pytest.raises(InputNotFound, match="line 2: s3://no-such-bucket/a"):
        planned(source_of(account, "s3://no-such-bucket/a"), into)


def test_an_object_over_the_limit_is_named(account: Account, into: str) -> None:
    source = source_of(account, account.upload("xx"), large := account.upload("xxx"))
    source = replace(source, limits=InputLimits(most_bytes=2, remedy="cut it"))
    with pytest.raises(InvalidRequest, match=f"the input {large} has 3 bytes, .* up to 2: cut it"):
        planned(source, into)


def test_inputs_that_cannot_be_checked_are_taken_unchanged(
    account: Account, into: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without ``s3:ListBucket`` S3 answers 403 for a missing object, and SageMaker reads with another role."""
    hidden = account.upload("hidden", f"{unique('hidden')}/a.csv")
    source = source_of(account, hidden, seen := account.upload("seen"))
    rule = {"fault": "error", "operation": "s3:HeadObject", "status": 403, "path": "*/hidden-*"}
    with caplog.at_level(logging.WARNING), faults(account, {**rule, "resource": "*"}):
        _, inputs = planned(source, into)
    assert [(item.source, item.size, item.etag is None) for item in inputs] == [
        (hidden, None, True),
        (seen, 4, False),
    ]
    assert f"1 inputs of {source.location} cannot be checked" in caplog.text


def test_a_short_outage_is_retried_and_a_long_one_is_no_missing_object(
    account: Account, into: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.0)  # full jitter: no pauses
    source = source_of(account, account.upload("a"))
    rule = {"fault": "error", "operation": "s3:HeadObject", "status": 503, "resource": "*"}
    with faults(account, {**rule, "times": 4}):
        assert planned(source, into)[1][0].size == 1
    with faults(account, rule), pytest.raises(ServiceUnavailable, match="s3:HeadObject"):
        planned(source, f"{into}-again")


def test_checks_can_be_switched_off(account: Account, into: str) -> None:
    source = replace(source_of(account, f"s3://{account.bucket}/not/there.csv"), check_inputs=False)
    plan, (item,) = planned(source, into)
    assert (plan.count, item.size, item.etag) == (1, None, None)


@pytest.fixture(scope="module")
def quick() -> Iterator[StubClient]:
    with running() as stub:
        yield stub


def test_many_inputs_are_checked_in_order_with_one_request_each(
    quick: StubClient, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", quick.url)
    count, prefix = SHARD + 500, unique("in")
    sources = [f"{prefix}/{number:05d}" for number in range(count)]
    quick.fill(sources)
    lines = "".join(f"{json.dumps({'source-ref': f's3://bench/{item}'})}\n" for item in reversed(sources))
    quick.put(f"s3://bench/{prefix}/manifest", lines.encode())
    quick.take_calls()
    source = InputSource(location=f"s3://bench/{prefix}/manifest", inputs_type="ManifestFile")
    plan, inputs = planned(source, f"s3://bench/{prefix}/plan")
    assert [item.source for item in inputs] == [f"s3://bench/{item}" for item in reversed(sources)]
    assert (plan.count, plan.shards) == (count, 2)
    assert quick.take_calls()["head"] == count
