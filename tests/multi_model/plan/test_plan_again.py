"""Planning again: a retry gets its plan, a cleared task the unfinished inputs, and an orphan's plan never counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from airflow_sm_plugin.batches.inputs import InputSource
from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.exceptions import FencedOff, TargetModelNotFound
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.store import PlanFence
from tests.multi_model.plan.plans import finish, planned, settings_of
from tests.stubs.stopped_s3 import SharedS3, Stop
from tests.support import Account, unique

Put = Callable[..., None]


@pytest.fixture
def top(account: Account) -> str:
    """A prefix of this test alone, without a slash at its end."""
    return f"s3://{account.bucket}/{unique('plan')}"


@pytest.fixture
def put(account: Account, top: str) -> Put:
    """Write inputs of stores, ``put(1, 2, body="x")``."""

    def write(*stores: int, body: str = "x") -> None:
        for store in stores:
            account.upload(body, f"{top}/in/store={store}/a".removeprefix(f"s3://{account.bucket}/"))

    return write


def stores(sources: list[str]) -> list[str]:
    return [source.rpartition("store=")[2].partition("/")[0] for source in sources]


def cleared(settings: PlanSettings, run: str = "another run", **changes: bool) -> PlanSettings:
    return replace(settings, writer=StateWriter(settings.writer.task_try, run), **changes)  # type: ignore[arg-type] # fields that are true or false


@pytest.mark.parametrize("restart", [False, True])
def test_a_retry_of_the_same_run_gets_its_plan_whatever_has_changed(
    put: Put, top: str, restart: bool
) -> None:
    put(1, 2)
    settings = settings_of(top, restart=restart)
    first = planned(settings)
    put(3)
    assert planned(settings) == first


def test_a_cleared_task_gets_the_same_plan_while_nothing_has_changed(put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    first = planned(settings)
    finish(first)
    assert planned(cleared(settings)) == first
    assert planned(replace(settings, writer=StateWriter())) == first


def test_a_cleared_task_leaves_out_finished_inputs_that_have_not_changed(put: Put, top: str) -> None:
    put(1, 2, 3, 4)
    settings = settings_of(top)
    first = planned(settings)
    finish(first, failed=lambda entry: "store=2/" in entry.source)
    put(3, body="changed")
    put(5)
    second = planned(cleared(settings))
    assert stores(second.sources) == ["2", "3", "5"]
    assert (second.plan.number, second.plan.carried, second.plan.inputs) == (1, 2, 3)
    assert second.plan.digest != first.plan.digest
    assert second.folder != first.folder


def test_other_patterns_plan_only_the_inputs_that_they_add(put: Put, top: str) -> None:
    put(1, 2, 3)

    def choosing(run: str, **patterns: tuple[str, ...]) -> PlanSettings:
        source = InputSource(location=f"{top}/in/", **patterns)  # type: ignore[arg-type] # patterns
        return cleared(replace(settings, source=source), run)

    settings = settings_of(top)
    first = planned(choosing("a", include=("store=[12]/*",)))
    finish(first)
    assert planned(choosing("b", exclude=("store=3/*",))) == first
    second = planned(choosing("c"))
    assert (stores(second.sources), second.plan.carried) == (["3"], 2)


def test_unfinished_inputs_are_planned_again(put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    planned(settings)
    put(3)
    second = planned(cleared(settings))
    assert (stores(second.sources), second.plan.carried) == (["1", "2", "3"], 0)


def test_results_of_the_plan_before_the_last_are_not_forgotten(put: Put, top: str) -> None:
    put(1)
    settings = settings_of(top)
    for number, run in enumerate("abc", start=1):
        put(number)
        plan = planned(cleared(settings, run))
        assert (stores(plan.sources), plan.plan.carried) == ([str(number)], number - 1)
        finish(plan)


def test_results_of_an_older_version_of_an_input_do_not_count(put: Put, top: str) -> None:
    """The output belongs to the version that was processed last."""
    settings = settings_of(top)
    for run, body in enumerate(("first", "second", "first")):
        put(1, body=body)
        plan = planned(cleared(settings, str(run)))
        assert stores(plan.sources) == ["1"]
        finish(plan)


def test_a_later_failure_outweighs_an_earlier_success(put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    finish(planned(settings))
    again = planned(cleared(settings, restart=True))
    finish(again, failed=lambda entry: "store=1/" in entry.source)
    put(3)
    assert stores(planned(cleared(settings, "third")).sources) == ["1", "3"]


def test_restart_plans_all_inputs_again(put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    first = planned(settings)
    finish(first)
    again = planned(cleared(settings, restart=True))
    assert (stores(again.sources), again.plan.number, again.plan.carried) == (["1", "2"], 1, 0)
    assert again.plan.digest == first.plan.digest


def test_a_plan_without_unfinished_inputs_has_no_shards(account: Account, put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    finish(planned(settings))
    account.s3.delete_object(
        Bucket=account.bucket, Key=f"{top}/in/store=2/a".removeprefix(f"s3://{account.bucket}/")
    )
    plan = planned(cleared(settings))
    assert (plan.plan.inputs, plan.plan.shards, plan.plan.carried) == (0, 0, 1)


def test_an_input_without_an_etag_never_counts_as_finished(account: Account, top: str) -> None:
    """Without an ETag a change of the input would go unnoticed."""
    line = f'{{"source-ref": "{top}/a", "target-model": "m"}}\n'
    location = account.upload(line)
    settings = settings_of(
        top, source=InputSource(location=location, inputs_type="ManifestFile", check_inputs=False)
    )
    finish(planned(settings))
    account.upload(line + line.replace("/a", "/b"), location.removeprefix(f"s3://{account.bucket}/"))
    assert planned(cleared(settings)).plan.inputs == 2


def test_uploading_a_missing_model_does_not_change_the_plan(account: Account, put: Put, top: str) -> None:
    put(1, 2)
    endpoint = EndpointModels(endpoint_name="ratings", prefixes=(f"{top}/models/",))
    models = f"{top}/models/".removeprefix(f"s3://{account.bucket}/")
    account.upload("x", f"{models}1.tar.gz")
    settings = settings_of(top)
    first = planned(settings, endpoint)
    finish(first, failed=lambda entry: "store=2/" in entry.source)
    assert planned(cleared(settings), endpoint) == first
    account.upload("x", f"{models}2.tar.gz")
    assert planned(cleared(settings), endpoint) == first


def test_a_missing_model_fails_a_later_plan_with_fail_on_missing(put: Put, top: str) -> None:
    put(1)
    endpoint = EndpointModels(endpoint_name="ratings", prefixes=(f"{top}/models/",))
    settings = settings_of(top)
    assert planned(settings, endpoint).plan.missing_models
    with pytest.raises(TargetModelNotFound):
        planned(replace(cleared(settings), fail_on_missing=True), endpoint)


@pytest.mark.parametrize(
    "deleted", ["plan.json", "shards/00000/shard.json", "shards/00000/inputs/00000.jsonl"]
)
def test_no_input_up_to_an_incomplete_plan_counts_as_finished(
    account: Account, put: Put, top: str, caplog: pytest.LogCaptureFixture, deleted: str
) -> None:
    """Part of the state was deleted, so the outputs that the plan replaced are unknown."""
    settings = settings_of(top)
    put(1)
    finish(planned(settings))
    put(2)
    second = planned(cleared(settings, "second"))
    finish(second)
    put(3)
    finish(planned(cleared(settings, "third")))
    bucket = f"s3://{account.bucket}/"
    account.s3.delete_object(
        Bucket=account.bucket, Key=f"{second.folder.location}/{deleted}".removeprefix(bucket)
    )
    put(4)
    fourth = planned(cleared(settings, "fourth"))
    assert (stores(fourth.sources), fourth.plan.carried, fourth.plan.number) == (["1", "2", "4"], 1, 3)
    assert f"the inputs up to plan {second.folder.location} are processed again" in caplog.text


def test_a_last_plan_that_was_deleted_makes_the_next(account: Account, put: Put, top: str) -> None:
    put(1)
    settings = settings_of(top)
    first = planned(settings)
    key = first.folder.plan.removeprefix(f"s3://{account.bucket}/")
    account.s3.delete_object(Bucket=account.bucket, Key=key)
    again = planned(settings)
    assert (again.plan.number, stores(again.sources)) == (1, ["1"])


def test_other_arguments_and_other_owners_have_plans_of_their_own(put: Put, top: str) -> None:
    put(1)
    settings = settings_of(top)
    first = planned(settings)
    for other in (replace(settings, owner="other"), replace(settings, target_model="x")):
        assert planned(other).folder.location != first.folder.location


def by(settings: PlanSettings, started: float, number: int, run: str = "a run") -> PlanSettings:
    return replace(settings, writer=StateWriter(TaskTry(started, number), run))


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("is_finished", [False, True])
def test_a_deleted_dag_runs_plan_is_never_continued(
    put: Put, top: str, *, is_finished: bool, restart: bool
) -> None:
    """Not even if no input has changed. Its results do not count later, either."""
    put(1, 2)
    settings = settings_of(top, restart=restart)
    first = planned(by(settings, 100, 3))
    if is_finished:
        finish(first)
    created_again = planned(by(settings, 200, 1))
    assert created_again.sources == first.sources
    assert (created_again.plan.number, created_again.plan.carried) == (1, 0)
    assert planned(by(settings, 200, 2)) == created_again
    put(2, body="changed")
    cleared_then = planned(by(replace(settings, restart=False), 300, 3, "cleared"))
    assert (stores(cleared_then.sources), cleared_then.plan.carried) == (["1", "2"], 0)


def undated(settings: PlanSettings, number: int) -> PlanSettings:
    return replace(settings, writer=StateWriter(TaskTry(None, number), "a run"))


def test_without_start_dates_a_later_trys_plan_counts_until_it_is_finished(put: Put, top: str) -> None:
    """A lower try number belongs to an orphan, or to a DAG run that was created again."""
    put(1, 2)
    settings = settings_of(top)
    first = planned(undated(settings, 3))
    with pytest.raises(FencedOff):
        planned(undated(settings, 1))
    finish(first)
    created_again = planned(undated(settings, 1))
    assert created_again.folder != first.folder
    assert (created_again.sources, created_again.plan.carried) == (first.sources, 0)
    assert planned(undated(settings, 2)) == created_again


def test_a_retry_compares_the_inputs_once_its_plan_is_finished(put: Put, top: str) -> None:
    put(1, 2)
    settings = settings_of(top)
    first = planned(by(settings, 100, 1))
    finish(first)
    assert planned(by(settings, 100, 2)) == first
    put(2, body="changed")
    again = planned(by(settings, 100, 3))
    assert (stores(again.sources), again.plan.carried) == (["2"], 1)


def test_without_start_dates_a_first_try_compares_the_inputs(put: Put, top: str) -> None:
    put(1)
    settings = replace(settings_of(top), writer=StateWriter(TaskTry(None, 1), "a run"))
    first = planned(settings)
    assert planned(settings) == first
    put(1, body="changed")
    assert planned(settings).plan.digest != first.plan.digest


def test_an_earlier_try_is_fenced_off(account: Account, put: Put, top: str) -> None:
    put(1)
    settings = settings_of(top)
    later = planned(by(settings, 200, 1))
    for started, number in ((100, 1), (100, 7)):
        with pytest.raises(FencedOff):
            planned(by(settings, started, number))
    put(2)
    with pytest.raises(FencedOff):
        planned(by(settings, 100, 2, "cleared"))
    assert planned(by(settings, 200, 2)) == later


@pytest.mark.slow
@pytest.mark.parametrize("is_unchanged", [False, True])
def test_the_later_trys_plan_counts_wherever_an_earlier_planner_is_stopped(
    account: Account, put: Put, top: str, *, is_unchanged: bool
) -> None:
    """The earlier planner has listed other inputs; the later planner makes a plan, or continues the previous plan."""
    put(1)
    settings = settings_of(top)

    async def raced(stop_at: int) -> bool:
        mine = replace(settings, owner=f"{settings.owner}-{stop_at}")
        async with SharedS3.open() as shared:
            s3, stop = shared.of(Stop()), Stop(stop_at)
            before, _ = await make_plan(s3, by(mine, 100, 1), None)
            await asyncio.to_thread(put, 2)
            orphan = asyncio.ensure_future(make_plan(shared.of(stop), by(mine, 200, 2, "cleared"), None))
            was_stopped = await stop.reached(orphan)
            key = f"{top}/in/store=2/a".removeprefix(f"s3://{account.bucket}/")
            await asyncio.to_thread(account.s3.delete_object, Bucket=account.bucket, Key=key)
            if not is_unchanged:
                await asyncio.to_thread(put, 3)
            plan, folder = await make_plan(s3, by(mine, 200, 3, "cleared twice"), None)
            stop.gone_on.set()
            with suppress(FencedOff):
                await orphan
            await PlanFence(s3, folder).check()
            retry, _ = await make_plan(s3, by(mine, 200, 4, "cleared twice"), None)
            assert retry == plan
            assert plan.inputs == (1 if is_unchanged else 2)
            assert (plan.digest == before.digest) is is_unchanged
        key = f"{top}/in/store=3/a".removeprefix(f"s3://{account.bucket}/")
        account.s3.delete_object(Bucket=account.bucket, Key=key)
        return was_stopped

    for stop_at in range(99):
        if not asyncio.run(raced(stop_at)):
            break
    assert stop_at > 5
