"""Rate and CPU of submitting asynchronous invocations, beside boto3 in a loop and in threads: ``make bench``.

All three ask the same server in one run. Ours does more: it lists and checks the inputs, plans them, and keeps a
ledger. CPU is the client's; the server is a process of its own. The figures are of one run on one machine; quote the
ratios of requests per CPU second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

from airflow_sm_plugin.async_inference.batch.round import RoundNames
from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Waiting
from tests.benchmarks.client_cost import Cost, cost_of
from tests.benchmarks.measured import client_libraries
from tests.benchmarks.one_batch import BUCKET, CONNECTION, ENDPOINT, batch_settings, input_keys
from tests.benchmarks.report import Report, table
from tests.stubs.aws import StubClient

OURS = 20_000
LOOP = 1_000
POOL = 5_000
THREADS = 16
REGION = "us-east-1"


def _ours(stub: StubClient, count: int, name: str) -> Cost:
    """Return the cost of everything from listing the inputs to the wait."""
    stub.fill(input_keys(count, f"inputs-{name}/"))
    settings = batch_settings(f"inputs-{name}/", name)

    async def submit() -> None:
        async with AsyncBatch.open(CONNECTION, settings) as batch:
            step = await batch.advance()
            assert isinstance(step, Waiting)
            assert step.pending == count
            await batch.publish_wait()

    return cost_of(stub, lambda: asyncio.run(submit()))


def _sender(threads: int) -> Callable[[int], object]:
    """Make a function that sends one request with boto3, with the parameters of ours."""
    client = boto3.client(
        "sagemaker-runtime", region_name=REGION, config=Config(max_pool_connections=max(10, threads))
    )
    names = RoundNames("boto3", 1)

    def send(number: int) -> object:
        one = names.of(number)
        return client.invoke_endpoint_async(
            EndpointName=ENDPOINT,
            InputLocation=f"s3://{BUCKET}/inputs/{number:07}.csv",
            ContentType="text/csv",
            InferenceId=one.inference_id,
            Filename=one.filename,
            S3OutputPathExtension=one.extension,
        )

    send(0)
    return send


def _loop(stub: StubClient) -> Cost:
    send = _sender(1)

    def work() -> None:
        for number in range(LOOP):
            send(number)

    return cost_of(stub, work)


def _pool(stub: StubClient) -> Cost:
    send = _sender(THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(send, range(THREADS)))
        return cost_of(stub, lambda: list(pool.map(send, range(POOL))))


def _row(way: str, count: int, cost: Cost) -> list[str]:
    others = cost.calls.total() - cost.calls["invoke"]
    return [
        way,
        f"{count:,}",
        f"{others:,}",
        f"{count / cost.wall:,.0f}",
        f"{cost.cpu * 1_000 / count:.2f}",
        f"{count / cost.cpu:,.0f}",
    ]


def test_submission(stub: StubClient, report: Report) -> None:
    """Submit with boto3 in a loop, with boto3 in sixteen threads, and as a whole batch of ours."""
    loop, pool = _loop(stub), _pool(stub)
    _ours(stub, 100, "warm")
    ours = _ours(stub, OURS, "all")
    head = ("way", "requests", "other calls", "requests per s", "CPU ms a request", "requests per CPU s")
    rows = [
        _row("boto3 in a loop", LOOP, loop),
        _row(f"boto3 in {THREADS} threads", POOL, pool),
        _row("ours, from listing the inputs to the wait", OURS, ours),
    ]
    ratio = (pool.cpu / POOL) / (ours.cpu / OURS)
    report.clients.add(asyncio.run(client_libraries()))
    report.show(table(head, rows), f"requests per CPU second, ours to the threads': {ratio:.1f} (>= 3)\n")
    assert ours.calls["invoke"] == OURS
