"""Helpers for tests of asynchronous batches: endpoints whose handler obeys its input, and settings."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from airflow_sm_plugin._compat import AirflowFailException, Context
from airflow_sm_plugin.async_inference.batch.report import Row
from airflow_sm_plugin.async_inference.batch.round import RequestTemplate, RoundNames
from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress
from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Finished, Waiting
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from tests.support import POLL, Account, run_task, unique

CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")

OBEDIENT = """
import os
import time

def model_fn(model_dir):
    return {}

def transform_fn(seen, data, content_type, accept):
    text = data.decode() if isinstance(data, bytes) else str(data)
    order, _, argument = text.partition(" ")
    seen[text] = seen.get(text, 0) + 1
    if order == "fail" or (order == "once" and seen[text] == 1):
        raise ValueError("ordered to fail: " + argument)
    while order == "gate" and not os.path.exists(argument):
        time.sleep(0.02)
    return text.upper(), "text/plain"
"""
"""It answers in capitals; ``fail x`` fails, ``once x`` fails the first time, and ``gate /a/path`` waits until there is
such a file."""


def upload_inputs(account: Account, bodies: Sequence[str], prefix: str = "") -> str:
    """Upload inputs, and return their prefix."""
    prefix = prefix or f"batches/{unique('inputs')}/"
    for number, body in enumerate(bodies):
        account.s3.put_object(Bucket=account.bucket, Key=f"{prefix}{number:05d}.txt", Body=body)
    return f"s3://{account.bucket}/{prefix}"


def settings_for(account: Account, endpoint: str, inputs: str, **changes: Any) -> BatchSettings:  # noqa: ANN401 - fields
    """Make the settings of a batch that shares no state with others."""
    settings = BatchSettings(
        template=RequestTemplate(endpoint_name=endpoint, content_type="text/plain"),
        source=InputSource(location=inputs),
        ledger_prefix=f"s3://{account.bucket}/ledgers",
        owner=unique("owner"),
        run="a run",
        wait_seconds=600,
    )
    return replace(settings, **changes)


class GivenBatchOperator(SageMakerAsyncBatchOperator):
    """The operator with given settings, not all of which are arguments; it keeps the end of the batch."""

    given: BatchSettings
    finished: Finished | None = None

    def _settings(self, context: Context) -> BatchSettings:  # noqa: ARG002 - as the operator has it
        return self.given

    def _conclude(self, finished: Finished) -> dict[str, Any]:
        self.finished = finished
        return super()._conclude(finished)


def run_batch(
    settings: BatchSettings, *, poll_interval: float = POLL, connection: AwsConnection = CONNECTION
) -> Finished:
    """Run a try of the operator to its end; raise the cause of a failure."""
    operators: list[GivenBatchOperator] = []

    def make() -> GivenBatchOperator:
        operator = GivenBatchOperator(
            task_id="batch",
            endpoint_name=settings.template.endpoint_name,
            inputs=settings.source.location,
            ledger_prefix=settings.ledger_prefix,
            on_failure="collect",
            container_log_lines=0,
            deferrable=True,
            poll_interval=poll_interval,
            aws_conn_id=connection.aws_conn_id,
            region_name=connection.region_name,
            botocore_config=connection.botocore_config,
        )
        operator.given = settings
        operators.append(operator)
        return operator

    try:
        summary = run_task(make)
    except AirflowFailException as error:
        raise error.__context__ or error from None
    finished = operators[-1].finished
    assert finished is not None
    assert summary == finished.report.summary()
    return finished


def advance_batch(settings: BatchSettings) -> Waiting | Finished:

    async def run() -> Waiting | Finished:
        async with AsyncBatch.open(CONNECTION, settings) as batch:
            return await batch.advance()

    return asyncio.run(run())


def advance_until_pending(settings: BatchSettings, count: int) -> None:
    """Advance a waiting batch until at most so many results are missing."""
    while isinstance(step := advance_batch(settings), Waiting) and step.pending > count:
        time.sleep(POLL)
    assert isinstance(step, Waiting), "it has ended"


@contextmanager
def growing_patience() -> Iterator[None]:
    """Double the wait for results from round to round, in this process.

    So the wait for a request that was never sent ends soon, and a batch ends even on a busy machine.
    """
    init = RoundProgress.__init__

    def patient(*args: Any, names: RoundNames, seconds: float, **how: Any) -> None:  # noqa: ANN401 - as __init__
        doubled = seconds * 2.0 ** min(names.round_number - 1, 20)
        init(*args, names=names, seconds=doubled, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundProgress, "__init__", patient)
        yield


def rows_at(account: Account, prefix: str | None) -> list[Row]:
    """Read the rows below a prefix, in order."""
    if prefix is None:
        return []
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    listed = account.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
    bodies = [account.read(f"s3://{bucket}/{listed_object['Key']}").decode() for listed_object in listed]
    return [Row.from_line(line) for body in bodies for line in body.splitlines()]


def calls(
    account: Account, operation: str, *, since: int = 0, resource: str = "*"
) -> list[Mapping[str, Any]]:
    """Read the embedded service's log of an operation's calls."""
    query = urllib.parse.urlencode(
        {"operation": operation, "since": since, "service": "*", "resource": resource}
    )
    with urllib.request.urlopen(f"{account.url}/_embedded/calls?{query}", timeout=600) as answer:
        return cast("list[Mapping[str, Any]]", json.load(answer)["calls"])


def invocations_of(account: Account, endpoint: str) -> int:
    """Count the requests that an endpoint has accepted."""
    return sum(bool(call["effect"]) for call in calls(account, "InvokeEndpointAsync", resource=endpoint))


@contextmanager
def faults(account: Account, *rules: Mapping[str, object]) -> Iterator[None]:
    """Inject faults into the embedded service for the block; each rule must name its resource."""
    _control(account, "POST", "faults", list(rules))
    try:
        yield
    finally:
        for rule in rules:
            _control(account, "DELETE", f"faults?resource={rule['resource']}")


def _control(account: Account, method: str, path: str, value: object = None) -> None:
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(f"{account.url}/_embedded/{path}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=600) as answer:
        answer.read()
