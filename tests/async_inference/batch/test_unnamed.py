"""A batch through a botocore that has neither file names nor extensions: only answers contain the locations of results.

So is botocore before February 2026. The tests use botocore's own means: an older description of the service in a folder
of its own overrides the installed one. An option that only botocore has makes it carry the calls.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from pathlib import Path
from typing import Any

import botocore
import pytest

from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Finished, Waiting
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.aws.connection import AwsConnection
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    calls,
    faults,
    invocations_of,
    rows_at,
    run_batch,
    settings_for,
    upload_inputs,
)
from tests.async_inference.batch.batch_tasks import BatchTry, outputs_of
from tests.async_inference.batch.killed_batch import process_of
from tests.stubs.recorder import TRANSPORTS
from tests.support import Account

THROUGH_BOTOCORE = AwsConnection(
    aws_conn_id=None, region_name="us-east-1", botocore_config=TRANSPORTS["botocore"]
)

_NEW = ("Filename", "S3OutputPathExtension")


@pytest.fixture
def older_botocore(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make botocore read a description of SageMaker's runtime without the names."""
    folder = next((Path(botocore.__file__).parent / "data/sagemaker-runtime").iterdir())
    (packed,) = folder.glob("service-2.json*")
    text = gzip.decompress(packed.read_bytes()) if packed.suffix == ".gz" else packed.read_bytes()
    model: dict[str, Any] = json.loads(text)
    members = model["shapes"]["InvokeEndpointAsyncInput"]["members"]
    for name in _NEW:
        del members[name]
    folder_of_model = tmp_path / "sagemaker-runtime" / folder.name
    folder_of_model.mkdir(parents=True)
    (folder_of_model / "service-2.json").write_text(json.dumps(model))
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))


@pytest.fixture
def endpoint(account: Account, older_botocore: None) -> str:
    return account.deploy(OBEDIENT, asynchronous=True)


def run_unnamed(settings: BatchSettings) -> Finished:
    return run_batch(settings, connection=THROUGH_BOTOCORE)


def test_the_names_cannot_be_sent(account: Account, older_botocore: None) -> None:
    """Else the tests below would show nothing."""

    async def names_outputs(connection: AwsConnection) -> bool:
        async with AsyncInvoker.open(connection) as invoker:
            return invoker.names_outputs

    assert not asyncio.run(names_outputs(THROUGH_BOTOCORE))
    assert asyncio.run(names_outputs(AwsConnection(aws_conn_id=None))), "headers need no botocore"


def test_every_input_ends_as_one_row(account: Account, endpoint: str) -> None:
    """Enough of them that their folder is listed, instead of asking for each."""
    bodies = [f"fail {n}" if n % 10 == 3 else f"n{n}" for n in range(40)]
    settings = settings_for(account, endpoint, upload_inputs(account, bodies))
    done = run_unnamed(settings)
    rows = rows_at(account, done.report.rows_location)
    assert (done.report.counts.succeeded, done.report.counts.failed) == (36, 4)
    for number, row in enumerate(rows):
        if number % 10 == 3:
            assert (row.status, row.attempts) == ("failed", 2)
            assert f"ordered to fail: {number}" in (row.error or "")
        else:
            assert account.read(row.output_location or "") == f"N{number}".encode()
    assert len({row.output_location for row in rows}) == 40
    assert invocations_of(account, endpoint) == 44


@pytest.mark.slow
@pytest.mark.parametrize("on_unknown", ["wait", "resend"])
def test_requests_that_a_kill_left_in_doubt_are_sent_again(
    account: Account, endpoint: str, on_unknown: str
) -> None:
    """Results could not be located, so ``on_unknown="wait"`` is impossible. Accepted requests are not sent again."""
    bodies = [f"n{n}" for n in range(30)]
    config = THROUGH_BOTOCORE.botocore_config
    batch = BatchTry.of_inputs(
        account, endpoint, bodies, on_unknown=on_unknown, botocore_config=config, max_wait_seconds=600
    )
    unanswered = {"fault": "lost_answer", "operation": "InvokeEndpointAsync", "resource": endpoint}
    with (
        faults(account, {**unanswered, "seconds": 3_600, "after": 7}),
        process_of(batch.again(1, max_rate=10, concurrency=1).execute) as process,
    ):
        while outputs_in(account, endpoint) < 8:
            assert process.is_alive(), "it ended before it could be killed"
            time.sleep(0.1)
    before = outputs_in(account, endpoint)
    summary = batch.again(2).run()
    assert outputs_of(account, summary) == [f"N{n}".encode() for n in range(30)]
    rows = rows_at(account, summary["rows_location"])
    assert {row.attempts for row in rows} == {1}, "nothing was waited for in vain"
    assert 30 < outputs_in(account, endpoint) <= 30 + before


def outputs_in(account: Account, endpoint: str) -> int:
    """Count the outputs of an endpoint; each unnamed request has one of its own."""
    config = account.sagemaker.describe_endpoint(EndpointName=endpoint)["AsyncInferenceConfig"]
    bucket, _, prefix = config["OutputConfig"]["S3OutputPath"].removeprefix("s3://").partition("/")
    return account.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["KeyCount"]


@pytest.mark.parametrize("resend", [False, True], ids=["wait", "resend"])
def test_lost_answers_are_sent_again(account: Account, endpoint: str, resend: bool) -> None:
    settings = settings_for(
        account, endpoint, upload_inputs(account, [f"n{n}" for n in range(10)]), resend=resend
    )
    rule = {"fault": "lost_answer", "operation": "InvokeEndpointAsync", "resource": endpoint, "times": 3}
    with faults(account, rule):
        done = run_unnamed(settings)
    assert done.report.counts.succeeded == 10
    assert invocations_of(account, endpoint) == 13


def test_a_second_process_awaits_the_requests_of_the_first(
    account: Account, endpoint: str, gate: Path
) -> None:
    settings = settings_for(account, endpoint, upload_inputs(account, [f"gate {gate}", "b", "c"]))

    async def send() -> None:
        async with AsyncBatch.open(THROUGH_BOTOCORE, settings) as batch:
            assert isinstance(await batch.advance(), Waiting)

    asyncio.run(send())
    gate.touch()
    assert run_unnamed(settings).report.counts.succeeded == 3
    assert len(calls(account, "InvokeEndpointAsync", resource=endpoint)) == 3
