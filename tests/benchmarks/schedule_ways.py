"""Orders in which records can go to models that must be loaded first, over our own transport: only the order differs.

Each record's call is repeated while its model is not loaded. The inputs are read before, the outputs written after.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.invoke.endpoint_invoker import EndpointInvoker
from tests.benchmarks.measured import measured
from tests.benchmarks.multi_model_job import CONNECTION, CONTENT_TYPE, Job
from tests.stubs.endpoint import BUCKET, ENDPOINT

_PAUSE = 0.5

Call = tuple[str, int, bytes]
"""An input, a record's index in it, the record."""


def one_after_the_other(job: Job) -> None:
    """Send a model's records, wait for all of them, begin with the next model: the loop everybody writes first."""
    with measured():
        asyncio.run(_push(job, shuffled=False))


def in_random_order(job: Job) -> None:
    """Send records as they come when they are not sorted by model."""
    with measured():
        asyncio.run(_push(job, shuffled=True))


async def _push(job: Job, *, shuffled: bool) -> None:
    async with (
        S3Objects.open(CONNECTION) as s3,
        EndpointInvoker.open(CONNECTION, ENDPOINT, max_connections=job.in_flight) as invoker,
    ):
        found = {key: (await s3.read(f"s3://{BUCKET}/{key}")).splitlines() for key in job.input_keys()}
        answers = {key: [b""] * len(lines) for key, lines in found.items()}
        calls = [[(key, index, line) for index, line in enumerate(lines)] for key, lines in found.items()]
        if shuffled:
            calls = [[call for several in calls for call in several]]
            random.Random(7).shuffle(calls[0])  # noqa: S311 - the same order in every run
        for several in calls:
            await _send(job, invoker, several, answers)
        for key, rows in answers.items():
            await s3.write(f"s3://{BUCKET}/{job.output_key(key)}", b"\n".join(rows) + b"\n")


async def _send(
    job: Job, invoker: EndpointInvoker, calls: Iterable[Call], answers: dict[str, list[bytes]]
) -> None:
    waiting = iter(calls)

    async def work() -> None:
        for key, index, line in waiting:
            answers[key][index] = await _invoke(invoker, line, job.target_model(key))

    async with asyncio.TaskGroup() as group:
        for _ in range(job.in_flight):
            group.create_task(work())


async def _invoke(invoker: EndpointInvoker, body: bytes, model: str) -> bytes:
    while True:
        try:
            answer = await invoker.invoke(
                body, target_model=model, content_type=CONTENT_TYPE, accept=CONTENT_TYPE
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ModelNotReadyException":
                raise
            await asyncio.sleep(_PAUSE * (0.5 + random.random()))  # noqa: S311 - jitter
        else:
            return answer.body
