"""The ways to push records through a multi-model endpoint, each in a process of its own: what the benchmarks start.

``python -m tests.benchmarks.batch_ways <way> <job>``; two lines of JSON on stdout. Every way does the same: it reads
the inputs as streams, splits them into lines, invokes with a bounded number on the way, and writes each input's answers
in the input's order. botocore's ways get what is known to help them: one client, no parameter validation, a fixed
User-Agent, a bounded window of futures. Their clients are made before the clock starts; ours makes its own after, and
only planning is no part of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from tests.benchmarks.measured import measured
from tests.benchmarks.multi_model_job import CONTENT_TYPE, Job, run_as_a_task_does
from tests.benchmarks.schedule_ways import in_random_order, one_after_the_other
from tests.stubs.endpoint import BUCKET, ENDPOINT

REGION = "us-east-1"


@dataclass
class _Output:
    """An input's answers, in order."""

    key: str
    bodies: list[bytes] = field(default_factory=list)

    def body(self) -> bytes:
        return b"\n".join(self.bodies) + b"\n"


# boto3 in threads


def _config(job: Job) -> Config:
    return Config(
        region_name=REGION,
        max_pool_connections=max(10, job.in_flight),
        parameter_validation=False,
        user_agent="fixed",
        request_checksum_calculation="when_required",
        retries={"mode": "standard", "total_max_attempts": 5},
    )


def _records(s3: Any, job: Job) -> Iterator[tuple[_Output, str, bytes, bool]]:  # noqa: ANN401 - boto3's client
    """Yield each record with its input's output and model, and whether it is its input's last."""
    for key in job.input_keys():
        output, model, last = _Output(job.output_key(key)), job.target_model(key), None
        for line in s3.get_object(Bucket=BUCKET, Key=key)["Body"].iter_lines(65_536):
            if last is not None:
                yield output, model, last, False
            last = line
        if last is not None:
            yield output, model, last, True


def boto3_threads(job: Job) -> None:
    """Invoke in as many threads as may be on the way; the window is twice that."""
    config = _config(job)
    s3, runtime = boto3.client("s3", config=config), boto3.client("sagemaker-runtime", config=config)

    def invoke(model: str, body: bytes) -> bytes:
        answer = runtime.invoke_endpoint(
            EndpointName=ENDPOINT, Body=body, ContentType=CONTENT_TYPE, Accept=CONTENT_TYPE, TargetModel=model
        )
        return answer["Body"].read()

    window: deque[tuple[_Output, Future[bytes], bool]] = deque()

    def take() -> None:
        output, answer, is_last = window.popleft()
        output.bodies.append(answer.result())
        if is_last:
            s3.put_object(Bucket=BUCKET, Key=output.key, Body=output.body())

    with measured(), ThreadPoolExecutor(job.in_flight) as pool:
        for output, model, body, is_last in _records(s3, job):
            window.append((output, pool.submit(invoke, model, body), is_last))
            if len(window) >= 2 * job.in_flight:
                take()
        while window:
            take()


# aiobotocore


async def _async_records(s3: Any, job: Job) -> AsyncIterator[tuple[_Output, str, bytes, bool]]:  # noqa: ANN401 - as above
    for key in job.input_keys():
        output, model, last = _Output(job.output_key(key)), job.target_model(key), None
        answer = await s3.get_object(Bucket=BUCKET, Key=key)
        async for line in answer["Body"].iter_lines(65_536):
            if last is not None:
                yield output, model, last, False
            last = line
        if last is not None:
            yield output, model, last, True


async def _aiobotocore(job: Job) -> None:
    from aiobotocore.config import AioConfig  # type: ignore[import-untyped]  # it ships no annotations
    from aiobotocore.session import get_session  # type: ignore[import-untyped]  # as above

    config = AioConfig().merge(_config(job))
    session = get_session()
    async with (
        session.create_client("s3", config=config) as s3,
        session.create_client("sagemaker-runtime", config=config) as runtime,
    ):

        async def invoke(model: str, body: bytes) -> bytes:
            answer = await runtime.invoke_endpoint(
                EndpointName=ENDPOINT,
                Body=body,
                ContentType=CONTENT_TYPE,
                Accept=CONTENT_TYPE,
                TargetModel=model,
            )
            async with answer["Body"] as stream:
                return bytes(await stream.read())

        async def put(output: _Output) -> None:
            await s3.put_object(Bucket=BUCKET, Key=output.key, Body=output.body())

        with measured():
            await _in_window(_async_records(s3, job), invoke, put, job.in_flight)


async def _in_window(
    found: AsyncIterator[tuple[_Output, str, bytes, bool]],
    invoke: Callable[[str, bytes], Awaitable[bytes]],
    put: Callable[[_Output], Awaitable[None]],
    in_flight: int,
) -> None:
    """Invoke with workers that share one queue, and keep the order: what the window's first waits for waits."""
    queue: asyncio.Queue[tuple[str, bytes, asyncio.Future[bytes]]] = asyncio.Queue()
    window: deque[tuple[_Output, asyncio.Future[bytes], bool]] = deque()

    async def work() -> None:
        while True:
            model, body, future = await queue.get()
            try:
                future.set_result(await invoke(model, body))
            except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
                future.set_exception(error)

    async def take() -> None:
        output, answer, is_last = window.popleft()
        output.bodies.append(await answer)
        if is_last:
            await put(output)

    loop = asyncio.get_running_loop()
    workers = [asyncio.create_task(work()) for _ in range(in_flight)]
    async for output, model, body, is_last in found:
        future: asyncio.Future[bytes] = loop.create_future()
        window.append((output, future, is_last))
        queue.put_nowait((model, body, future))
        if len(window) >= 2 * in_flight:
            await take()
    while window:
        await take()
    for worker in workers:
        worker.cancel()


def aiobotocore(job: Job) -> None:
    """Invoke through aiobotocore over its aiohttp session."""
    asyncio.run(_aiobotocore(job))


# Ours


def ours(job: Job) -> None:
    """Do it with the engine."""
    plan = asyncio.run(job.plan())
    run_as_a_task_does(job.note_client())
    with measured():
        run_as_a_task_does(job.batch(plan))


WAYS: dict[str, Callable[[Job], None]] = {
    "boto3, threads": boto3_threads,
    "aiobotocore": aiobotocore,
    "ours": ours,
    "one model after the other": one_after_the_other,
    "random order": in_random_order,
}


if __name__ == "__main__":
    WAYS[sys.argv[1]](Job.from_json(sys.argv[2]))
