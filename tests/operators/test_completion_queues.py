"""A queue of the endpoint's notifications ends a wait long before the next poll would; S3 holds the outcome."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator
from tests.async_inference.batch.async_batches import upload_inputs
from tests.stubs.notified_endpoint import NotifiedEndpoint, notification_of
from tests.support import Account, context_for, deferred, event_of, rebuilt, run_task, unique

pytestmark = pytest.mark.airflow

NEXT_POLL = 3600.0
"""The first poll comes at once; without notifications the next would come after an hour: too late for pytest."""

FOREIGN = "another sender's text"


@pytest.fixture
def gate(opening_gate: Path) -> Path:
    """A gate that opens after the first poll of a trigger: only a notification can report its result."""
    return opening_gate


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Warnings about messages that are not ours."""
    caplog.set_level(logging.INFO)
    message = "holds messages that are not about what is waited for"
    return lambda: [record.getMessage() for record in caplog.records if message in record.getMessage()]


def batch(notified: NotifiedEndpoint, inputs: str, **arguments: Any) -> SageMakerAsyncBatchOperator:  # noqa: ANN401 - the operator's own
    given: dict[str, Any] = {
        "endpoint_name": notified.name,
        "inputs": inputs,
        "ledger_prefix": inputs.replace("/batches/", "/ledgers/"),
        "content_type": "text/plain",
        "completion_queue": notified.queue,
        "poll_interval": NEXT_POLL,
        "deferrable": True,
        "aws_conn_id": None,
    }
    return SageMakerAsyncBatchOperator(task_id="batch", **given | arguments)


def invoke(notified: NotifiedEndpoint, body: str, **arguments: Any) -> SageMakerInvokeEndpointAsyncOperator:  # noqa: ANN401 - the operator's own
    given: dict[str, Any] = {
        "endpoint_name": notified.name,
        "body": body,
        "content_type": "text/plain",
        "completion_queue": notified.queue,
        "poll_interval": NEXT_POLL,
        "wait_for_completion": True,
        "return_output": True,
        "aws_conn_id": None,
    }
    return SageMakerInvokeEndpointAsyncOperator(task_id="invoke", **given | arguments)


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])
def test_a_batch_ends_when_its_last_notification_comes(
    account: Account,
    notified: NotifiedEndpoint,
    warnings: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
    gate: Path,
    *,
    deferrable: bool,
) -> None:
    inputs = upload_inputs(account, ["a", "fail b", f"gate {gate}"])
    _wait_for_messages(notified, 2)  # each topic announces itself
    notified.say(FOREIGN)
    make = partial(batch, notified, inputs, attempts=1, on_failure="collect", deferrable=deferrable)
    result = run_task(make)
    assert (result["succeeded"], result["failed"]) == (2, 1)
    assert notified.left() == 1, "only the foreign one is left"
    assert FOREIGN in _bodies(notified)
    assert len(warnings()) == 1
    assert FOREIGN not in caplog.text


def test_duplicates_are_deleted_too(account: Account, notified: NotifiedEndpoint, gate: Path) -> None:
    """A message is delivered at least once: one that repeats a known result is ours all the same."""
    inputs = upload_inputs(account, ["a", f"gate {gate}"])
    task = batch(notified, inputs)
    deferral = deferred(task)
    _wait_for_messages(notified, 3)
    (body,) = [one for one in _bodies(notified) if "InferenceResult" in one]
    notified.say(body, body)
    event = event_of(rebuilt(deferral.trigger))
    assert (event["why"], event["counts"]["succeeded"]) == ("complete", 2)
    assert notified.left() == 0
    assert task.execute_complete(context_for(), event)["succeeded"] == 2


def test_notifications_of_an_earlier_round_are_ours(
    account: Account, notified: NotifiedEndpoint, warnings: Callable[[], list[str]], gate: Path
) -> None:
    """Failed inputs are sent again, and the first round's late notifications disturb nothing."""
    inputs = upload_inputs(account, ["once a", "once b", f"gate {gate}"])
    result = run_task(lambda: batch(notified, inputs))
    assert result["succeeded"] == 3
    assert warnings() == []


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferrable", "blocking"])
def test_one_invocation_ends_when_its_notification_comes(
    account: Account,
    notified: NotifiedEndpoint,
    warnings: Callable[[], list[str]],
    gate: Path,
    *,
    deferrable: bool,
) -> None:
    other = notification_of(notified.name, output_location=f"s3://{account.bucket}/{unique('other')}.out")
    _wait_for_messages(notified, 2)  # each topic announces itself; one that came later would be left
    notified.say(FOREIGN, other)
    result = run_task(partial(invoke, notified, f"gate {gate}", deferrable=deferrable))
    assert result["output"] == f"gate {gate}".upper()
    assert notified.left() == 2
    assert sorted(_bodies(notified)) == sorted([FOREIGN, other])
    assert len(warnings()) == 1


def _bodies(notified: NotifiedEndpoint) -> list[str]:
    """Read the queue's messages without removing them."""
    received = notified.sqs.receive_message(QueueUrl=notified.queue, MaxNumberOfMessages=10)
    return [message["Body"] for message in received.get("Messages", [])]


def _wait_for_messages(notified: NotifiedEndpoint, count: int) -> None:
    give_up = time.monotonic() + 600
    while notified.left() < count:
        assert time.monotonic() < give_up, f"{notified.left()} of {count} messages came"
        time.sleep(0.05)
