"""A batch's state counts only for its own DAG run and inputs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan
from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Finished, Waiting
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import FencedOff, InvalidRequest
from tests.async_inference.batch.async_batches import (
    CONNECTION,
    OBEDIENT,
    advance_batch,
    invocations_of,
    rows_at,
    run_batch,
    settings_for,
    upload_inputs,
)
from tests.support import Account, unique

pytestmark = pytest.mark.airflow

OLD, NEW = 1_000.0, 2_000.0
"""Start of the DAG run, and of the one that was created again under its id."""


class Task:
    """A task instance whose batch is run by several tries."""

    def __init__(self, account: Account, endpoint: str, **changes: object) -> None:
        self.account = account
        self.endpoint = endpoint
        self._sent_before = invocations_of(account, endpoint)
        self.prefix = f"batches/{unique('inputs')}/"
        self.write("a", "b")
        inputs = f"s3://{account.bucket}/{self.prefix}"
        self.settings = settings_for(account, self.endpoint, inputs, **changes)

    def write(self, *bodies: str) -> None:
        upload_inputs(self.account, bodies, self.prefix)

    def as_try(self, started: float | None, number: int, **changes: object) -> BatchSettings:
        given: dict[str, object] = {"task_try": TaskTry(started, number), **changes}
        return replace(self.settings, **given)  # type: ignore[arg-type]

    def run(self, started: float | None, number: int, **changes: object) -> Finished:
        return run_batch(self.as_try(started, number, **changes))

    def outputs(self, finished: Finished) -> list[bytes]:
        rows = rows_at(self.account, finished.report.rows_location)
        return [self.account.read(row.output_location or "") for row in rows]

    @property
    def sent(self) -> int:
        return invocations_of(self.account, self.endpoint) - self._sent_before

    @property
    def folder(self) -> BatchFolder:
        settings = self.settings
        return BatchFolder.below(settings.ledger_prefix, owner=settings.owner, arguments=settings.arguments)

    def keys(self, location: str) -> list[str]:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        listed = self.account.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        return [listed_object["Key"] for listed_object in listed]

    def remove(self, *keys: str) -> None:
        for key in keys:
            self.account.s3.delete_object(Bucket=self.account.bucket, Key=key)

    def claim(self, started: float | None, number: int) -> None:
        """Run a try that is killed right after its claim."""

        async def claimed() -> None:
            async with S3Objects.open(CONNECTION) as s3:
                await Claim.taken(s3, self.folder, token=unique("t"), task_try=TaskTry(started, number))

        asyncio.run(claimed())

    def plan(self, number: int) -> BatchPlan:
        return BatchPlan.from_json(self.account.read(self.folder.plan(number).plan))


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def task(account: Account, endpoint: str) -> Task:
    return Task(account, endpoint)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_dag_run_made_again_gets_nothing_of_the_deleted_one(task: Task, number: int) -> None:
    """Also what has not changed is sent again: the model may be another."""
    task.run(OLD, number)
    task.write("c")
    done = task.run(NEW, 1)
    assert task.outputs(done) == [b"C", b"B"]
    assert (done.report.counts.attempts, task.sent) == (2, 4)


def test_a_deleted_runs_unfinished_batch_is_not_gone_on_with(task: Task, gate: Path) -> None:
    task.write(f"gate {gate}")
    assert isinstance(advance_batch(task.as_try(OLD, 3)), Waiting)
    task.write("c")
    done = task.run(NEW, 1, attempts=1)
    assert task.outputs(done) == [b"C", b"B"]
    assert task.plan(1).root != task.plan(0).root


@pytest.mark.parametrize("finished", [True, False])
def test_the_second_try_remembers_that_the_first_found_a_deleted_runs_batch(
    task: Task, gate: Path, finished: bool
) -> None:
    """By its date and number alone the deleted run's first try could be one before the task was cleared."""
    if not finished:
        task.write(f"gate {gate}")
    advance = task.as_try(OLD, 1)
    run_batch(advance) if finished else advance_batch(advance)
    task.write("c")
    task.claim(NEW, 1)
    done = task.run(NEW, 2)
    assert task.outputs(done) == [b"C", b"B"]
    assert task.plan(1).carried == ()


def test_an_orphan_of_a_deleted_run_is_fenced_off(task: Task, gate: Path) -> None:
    task.write(f"gate {gate}")
    advance_batch(task.as_try(OLD, 7))
    task.write("c")
    done = task.run(NEW, 1)
    for at_hand in (False, True):
        with pytest.raises(FencedOff):
            at_hand_or_not(task.as_try(OLD, 7), at_hand)
    assert task.run(NEW, 2) == done


def at_hand_or_not(settings: BatchSettings, plan_at_hand: bool) -> Waiting | Finished:
    async def advanced() -> Waiting | Finished:
        async with AsyncBatch.open(CONNECTION, settings, plan_at_hand=plan_at_hand) as batch:
            return await batch.advance()

    return asyncio.run(advanced())


@pytest.mark.parametrize(("restart", "sent"), [(False, 1), (True, 2)])
def test_a_cleared_run_obeys_on_rerun(task: Task, restart: bool, sent: int) -> None:
    task.run(OLD, 1)
    task.write("c")
    done = task.run(NEW, 2, run="another", restart=restart)
    assert task.outputs(done) == [b"C", b"B"]
    assert task.sent == 2 + sent


@pytest.mark.parametrize("started", [OLD, None])
@pytest.mark.parametrize("number", [1, 2])
def test_a_try_that_finds_its_run_finished_reports_the_current_inputs(
    task: Task, started: float | None, number: int
) -> None:
    first = task.run(started, 1)
    assert task.run(started, number) == first
    assert task.sent == 2
    task.write("c")
    done = task.run(started, number)
    assert task.outputs(done) == [b"C", b"B"]
    assert task.sent == 3


def test_without_start_dates_a_finished_batch_of_a_later_try_fences_no_try_off(task: Task) -> None:
    """It may be from a deleted run, and no date shows that."""
    first = task.run(None, 3)
    assert task.run(None, 1) == first
    task.write("c")
    assert task.outputs(task.run(None, 1)) == [b"C", b"B"]
    assert task.sent == 3


def test_a_later_step_of_a_try_goes_on_with_the_plan_at_hand(task: Task) -> None:
    first = task.run(OLD, 1)
    task.write("c", "d", "e")
    assert at_hand_or_not(task.as_try(OLD, 1), plan_at_hand=True) == first


@pytest.mark.parametrize(
    "removed", ["", "plan.json", "claims"], ids=["all of it", "the plan alone", "all but rounds and reports"]
)
def test_outputs_of_a_batch_whose_state_was_removed_are_no_results(task: Task, removed: str) -> None:
    task.run(OLD, 1)
    task.write("c", "d")
    keys = task.keys(task.folder.location)
    if removed == "claims":
        task.remove(*(key for key in keys if "/claims/" in key or "/plan.json" in key))
    else:
        task.remove(*(key for key in keys if removed in key))
    done = task.run(OLD, 2)
    assert task.outputs(done) == [b"C", b"D"]
    assert task.sent == 4


def test_claims_that_a_lifecycle_rule_deleted_stop_no_later_try(task: Task) -> None:
    advance_batch(task.as_try(OLD, 1))
    task.claim(OLD, 1)
    first, *_ = task.keys(task.folder.claims)
    task.remove(first)
    assert task.run(OLD, 2).report.counts.succeeded == 2


@pytest.mark.parametrize("body", [b"", b'{"number": 0, "count": 2}', b'{"format": 0}'])
def test_a_plan_of_another_version_is_refused_with_the_remedy(task: Task, body: bytes) -> None:
    task.account.s3.put_object(
        Bucket=task.account.bucket, Key=S3Uri.parse(task.folder.plan(0).plan).key, Body=body
    )
    remedy = f"Remove the batch's folder {task.folder.location} and clear the task"
    with pytest.raises(InvalidRequest, match=remedy):
        task.run(OLD, 1)
    assert task.sent == 0
    task.remove(*task.keys(task.folder.location))
    assert task.run(OLD, 2).report.counts.succeeded == 2


def test_the_same_task_in_two_airflows_shares_no_names(task: Task) -> None:
    mine, others = task.settings, replace(task.settings, ledger_prefix=f"s3://{task.account.bucket}/others")
    task.run(OLD, 1)
    task.write("c", "d")
    done = run_batch(others)
    assert task.outputs(done) == [b"C", b"D"]
    first, second = (
        {row.inference_id for row in rows_at(task.account, run_batch(one).report.rows_location)}
        for one in (mine, others)
    )
    assert not first & second
