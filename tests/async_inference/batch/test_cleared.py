"""A task that is cleared while its batch is unfinished: ETags decide, and requests in flight are not paid twice."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin.async_inference.batch.ledger import LedgerPart
from airflow_sm_plugin.async_inference.batch.ledger_store import LedgerStore
from airflow_sm_plugin.async_inference.batch.report import Row, Status
from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress
from airflow_sm_plugin.async_inference.batch.run import Waiting
from airflow_sm_plugin.async_inference.watch_state import WatchCounts
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import TaskTry
from tests.async_inference.batch.async_batches import CONNECTION, OBEDIENT, advance_batch, rows_at, run_batch
from tests.async_inference.batch.test_runs import NEW, OLD, Task
from tests.support import POLL, Account, unique

CLEARED = {"run": "cleared once"}
AGAIN = {"run": "cleared twice"}


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def task(account: Account, endpoint: str) -> Task:
    return Task(account, endpoint)


class Killed(Exception):
    """The end of a process."""


def left_waiting(task: Task, number: int = 1, started: float = OLD, **changes: object) -> None:
    """Run a try that is killed as soon as it waits for a result."""
    polled = RoundProgress.poll

    async def poll(self: RoundProgress) -> WatchCounts:
        if self.ledger.sent:
            raise Killed
        return await polled(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RoundProgress, "poll", poll)
        with pytest.raises(Killed):
            run_batch(task.as_try(started, number, **changes))


def rows_of(task: Task, location: str) -> list[Row]:
    return rows_at(task.account, location)


@pytest.mark.parametrize("started", [OLD, NEW], ids=["the task alone", "the whole run"])
@pytest.mark.parametrize("restart", [False, True])
def test_overwritten_inputs_are_sent_again(task: Task, started: float, restart: bool) -> None:
    left_waiting(task)
    task.write("c", "d")
    done = task.run(started, 2, **CLEARED, restart=restart)
    assert task.outputs(done) == [b"C", b"D"]
    assert task.sent == 4


@pytest.mark.parametrize(("restart", "sent"), [(False, 3), (True, 4)])
def test_unchanged_inputs_are_awaited_unless_the_batch_is_restarted(
    task: Task, gate: Path, restart: bool, sent: int
) -> None:
    task.write(f"gate {gate}", "b")
    left_waiting(task)
    task.write(f"gate {gate}", "c")
    cleared: dict[str, Any] = {**CLEARED, "restart": restart}
    assert isinstance(advance_batch(task.as_try(NEW, 2, **cleared)), Waiting)
    gate.touch()
    done = task.run(NEW, 2, **cleared)
    assert task.outputs(done) == [f"gate {gate}".upper().encode(), b"C"]
    assert task.sent == sent


def test_rows_name_the_requests_that_were_sent(task: Task) -> None:
    left_waiting(task)
    task.write("a", "c")
    first, second = rows_of(task, task.run(NEW, 2, **CLEARED).report.rows_location)
    assert (first.inference_id or "").startswith(task.plan(0).root)
    assert (second.inference_id or "").startswith(task.plan(1).root)
    assert task.plan(0).root in (first.output_location or "")


def test_a_failed_input_is_sent_again_under_a_new_name(task: Task) -> None:
    task.write("once a", "b")
    left_waiting(task)
    done = task.run(NEW, 2, **CLEARED)
    assert task.outputs(done) == [b"ONCE A", b"B"]
    assert task.sent == 3


def test_a_retry_of_the_cleared_run_goes_on_with_its_plan(task: Task) -> None:
    task.write("a", "b")
    left_waiting(task)
    left_waiting(task, 2, NEW, **CLEARED)
    task.write("a", "c")
    done = task.run(NEW, 3, **CLEARED)
    assert task.outputs(done) == [b"A", b"B"]
    assert task.sent == 2


@pytest.mark.parametrize("killed_at", ["its wait", "its ledger", "its first round"])
def test_a_second_clearing_takes_over_what_the_first_one_took_over(task: Task, killed_at: str) -> None:
    task.write("a", "b")
    left_waiting(task)
    left_waiting(task, 2, NEW, **CLEARED)
    round_folder = task.folder.plan(1).round(1)
    if killed_at != "its wait":
        location = round_folder.ledger if killed_at == "its ledger" else round_folder.location
        task.remove(*task.keys(location))
    task.write("a", "c")
    done = task.run(NEW + 1, 3, **AGAIN)
    assert task.outputs(done) == [b"A", b"C"]
    assert task.sent == 3
    assert task.plan(2).root != task.plan(1).root


def test_results_of_a_finished_batch_outlive_an_unfinished_one(task: Task) -> None:
    task.run(OLD, 1)
    task.write("a", "b2")
    left_waiting(task, 2, NEW, **CLEARED)
    task.write("a", "c")
    done = task.run(NEW + 1, 3, **AGAIN)
    assert task.outputs(done) == [b"A", b"C"]
    assert task.sent == 4
    assert task.plan(2).carried_from == 0


def test_two_inputs_that_are_one_object_wait_for_a_result_each(account: Account, task: Task) -> None:
    source = f"s3://{account.bucket}/{task.prefix}00000.txt"
    manifest = f"{unique('manifest')}.jsonl"
    body = f"{json.dumps({'source-ref': source})}\n" * 2
    account.s3.put_object(Bucket=account.bucket, Key=manifest, Body=body)
    listed = InputSource(location=f"s3://{account.bucket}/{manifest}", inputs_type="ManifestFile")
    left_waiting(task, source=listed)
    done = task.run(NEW, 2, **CLEARED, source=listed)
    assert task.outputs(done) == [b"A", b"A"]
    assert task.sent == 2


@pytest.mark.parametrize(("resend", "status"), [(True, Status.SUCCEEDED), (False, Status.EXPIRED)])
def test_doubts_are_settled_as_they_are_in_a_retry(task: Task, resend: bool, status: Status) -> None:
    """The second input was intended and never sent."""
    task.write("a", "b")
    changes: dict[str, Any] = {"resend": resend, "attempts": 1, "wait_seconds": 600 if resend else 0.1}
    left_waiting(task, max_in_flight=1, **changes)
    wait_for_an_output(task)

    async def intend() -> None:
        async with S3Objects.open(CONNECTION) as s3:
            claim = await Claim.taken(s3, task.folder, token="t", task_try=TaskTry(OLD, 1))
            store = LedgerStore(s3, task.folder.plan(0).round(1), claim, count=2)
            await store.take_over()
            if not store.ledger.doubtful:
                await store.append(
                    LedgerPart(token="t", written_at=time.time(), may_send=store.ledger.unsent)
                )

    asyncio.run(intend())
    done = task.run(NEW, 2, **CLEARED, **changes)
    first, second = rows_of(task, done.report.rows_location)
    assert (first.status, second.status) == (Status.SUCCEEDED, status)
    assert task.sent == 1 + resend
    if not resend:
        assert "may never have been sent" in (second.error or "")


def wait_for_an_output(task: Task) -> None:
    """Wait until the first plan has an output."""
    described = task.account.sagemaker.describe_endpoint(EndpointName=task.endpoint)
    outputs, root = described["AsyncInferenceConfig"]["OutputConfig"]["S3OutputPath"], task.plan(0).root
    while not any(root in key for key in task.keys(outputs)):
        time.sleep(POLL)
