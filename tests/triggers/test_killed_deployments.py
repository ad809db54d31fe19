"""A deploy task that is killed while it is deferred: its trigger deletes what the task created, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from airflow_sm_plugin.triggers.autopilot import AutoMLJobTrigger
from airflow_sm_plugin.triggers.endpoint import EndpointServingTrigger, EndpointTrigger
from tests.support import (
    POLL,
    Account,
    Requests,
    TaskInstanceDouble,
    context_for,
    deferred,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

Kill = Callable[[EndpointTrigger], None]


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    """An endpoint's name; endpoints are being created until a test says otherwise."""
    created = unique("endpoint")
    with account.settings(endpoint_creating_seconds=3600, endpoint_deleting_seconds=0):
        yield created
    if account.status(created) is not None:
        account.wait_for_endpoint(created)
        account.sagemaker.delete_endpoint(EndpointName=created)


def waiting(name: str, model: str, *, try_number: int = 1, **arguments: Any) -> EndpointTrigger:  # noqa: ANN401 - the operator's own
    """Deploy until the task defers; return its trigger as a triggerer makes it."""
    ti = TaskInstanceDouble(run_id=name, try_number=try_number)
    operator = deploy(name, model, **arguments)
    trigger = rebuilt(deferred(operator, context_for(ti)).trigger)
    assert isinstance(trigger, EndpointTrigger)
    return trigger


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - as above
    usual: dict[str, Any] = {"deferrable": True, "poll_interval": POLL, "aws_conn_id": None}
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | arguments
    )


def kill(trigger: EndpointTrigger) -> None:
    asyncio.run(trigger.on_kill())


def kill_while(trigger: EndpointTrigger, requests: Requests, change: Callable[[], object]) -> None:
    """Kill, and make the change once the trigger waits for the operation in progress."""
    requests.forget()
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(kill, trigger)
        while requests.count()["DescribeEndpoint"] < 2:
            assert not killed.done()
            time.sleep(0.01)
        change()
        killed.result()


def polled(requests: Requests) -> None:
    """Return once a trigger has polled the endpoint twice."""
    while requests.count()["DescribeEndpoint"] < 2:
        time.sleep(0.01)


def finish(account: Account, **seconds: float) -> Callable[[], object]:
    return lambda: account.change_settings(**seconds)


def configs(account: Account, name: str) -> list[str]:
    result = account.sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"]
    return [config["EndpointConfigName"] for config in result]


def test_what_is_being_created_is_deleted_once_sagemaker_lets_it_be(
    account: Account, name: str, requests: Requests
) -> None:
    trigger = waiting(name, account.create_model())
    kill_while(trigger, requests, finish(account, endpoint_creating_seconds=0))
    assert account.status(name) is None
    assert configs(account, name) == []


def test_what_cannot_be_deleted_in_time_is_reported_with_what_it_costs(
    account: Account, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__ON_KILL_TIMEOUT", "1")
    trigger = waiting(name, account.create_model())
    with caplog.at_level(logging.INFO):
        kill(trigger)
    assert (
        f"could not clean up the endpoint {name} that this task created: it stays and costs money"
        in caplog.text
    )
    assert account.status(name) == "Creating"
    account.change_settings(endpoint_creating_seconds=0)


def test_a_deletion_that_goes_on_when_time_is_up_is_no_reason_for_a_warning(
    account: Account, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__ON_KILL_TIMEOUT", "1")
    trigger = waiting(name, account.create_model())
    account.change_settings(endpoint_creating_seconds=0, endpoint_deleting_seconds=3600)
    account.wait_for_endpoint(name)
    kill(trigger)
    assert account.status(name) == "Deleting"
    assert configs(account, name) == []
    assert "could not clean up" not in caplog.text
    account.change_settings(endpoint_deleting_seconds=0)
    account.wait_for_endpoint(name, "endpoint_deleted")


def test_without_cleanup_on_failure_nothing_is_asked_or_deleted(
    account: Account, name: str, requests: Requests
) -> None:
    trigger = waiting(name, account.create_model(), cleanup_on_failure=False)
    requests.forget()
    kill(trigger)
    assert not requests.count()
    account.change_settings(endpoint_creating_seconds=0)


def test_a_task_that_only_waits_for_another_ones_endpoint_deletes_nothing(
    account: Account, name: str, requests: Requests
) -> None:
    account.start_endpoint(name=name)
    trigger = waiting(name, account.create_model())
    kill(trigger)
    account.change_settings(endpoint_creating_seconds=0)
    account.wait_for_endpoint(name)
    assert set(requests.changes()) <= {"CreateModel", "CreateEndpoint", "CreateEndpointConfig", "AddTags"}


def test_what_a_later_try_or_another_task_deploys_as_well_stays(
    account: Account, name: str, requests: Requests
) -> None:
    """The task was cleared: its next try has begun, and waits for the same endpoint."""
    model = account.create_model()
    first = waiting(name, model)
    waiting(name, model, try_number=2)
    kill_while(first, requests, finish(account, endpoint_creating_seconds=0))
    assert account.status(name) == "InService"


def test_what_was_created_again_by_another_program_stays(account: Account, name: str) -> None:
    trigger = waiting(name, account.create_model())
    account.change_settings(endpoint_creating_seconds=0)
    account.wait_for_endpoint(name)
    account.sagemaker.delete_endpoint(EndpointName=name)
    account.wait_for_endpoint(name, "endpoint_deleted")
    account.deploy(name=name)
    kill(trigger)
    assert account.status(name) == "InService"


def test_an_endpoint_that_was_there_stays_when_its_update_is_killed(account: Account, name: str) -> None:
    account.change_settings(endpoint_creating_seconds=0)
    account.deploy(name=name)
    with account.settings(endpoint_updating_seconds=3600):
        trigger = waiting(name, account.create_model(), cleanup_wait_seconds=0.2)
        kill(trigger)
        assert account.status(name) == "Updating"
        account.change_settings(endpoint_updating_seconds=0)
        account.wait_for_endpoint(name)
    served = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    assert served == trigger.wanted_config


def test_nothing_is_deleted_once_the_task_has_its_event(account: Account, name: str) -> None:
    trigger = waiting(name, account.create_model())
    account.change_settings(endpoint_creating_seconds=0)

    async def ended() -> None:
        async for _ in trigger.run():
            await trigger.on_kill()

    asyncio.run(ended())
    assert account.status(name) == "InService"


def test_a_trigger_that_an_earlier_version_stored_deletes_nothing(account: Account, name: str) -> None:
    trigger = waiting(name, account.create_model())
    arguments = {key: value for key, value in trigger.serialize()[1].items() if key != "cleanup"}
    kill(type(trigger)(**arguments))
    assert account.status(name) == "Creating"
    account.change_settings(endpoint_creating_seconds=0)


@pytest.mark.parametrize("kind", [AsyncInferenceTrigger, AutoMLJobTrigger])
def test_waits_that_created_nothing_have_nothing_to_delete(kind: type[BaseTrigger]) -> None:
    assert getattr(kind, "on_kill", None) is getattr(BaseTrigger, "on_kill", None)


def test_a_cleanup_goes_on_when_airflow_cancels_it_again_as_it_does_each_second(
    account: Account, name: str, requests: Requests
) -> None:
    trigger = waiting(name, account.create_model())
    requests.forget()

    async def cancelled_again() -> None:
        task = asyncio.create_task(trigger.on_kill())
        await asyncio.sleep(0)  # it begins
        for _ in range(3):
            task.cancel("killed")
            await asyncio.to_thread(polled, requests)
        account.change_settings(endpoint_creating_seconds=0)
        await task

    asyncio.run(cancelled_again())
    assert account.status(name) is None


def test_a_triggerer_that_stops_ends_a_cleanup_and_reports_what_may_be_left(
    account: Account, name: str, requests: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    trigger = waiting(name, account.create_model())
    requests.forget()

    async def stopped() -> None:
        kept = asyncio.create_task(trigger.on_kill())
        await asyncio.to_thread(polled, requests)
        assert not kept.done()

    asyncio.run(stopped())  # it cancels the other tasks, and ends when the thread has ended
    account.change_settings(endpoint_creating_seconds=0)
    account.wait_for_endpoint(name)
    assert f"cut short: check whether endpoint {name} is still there" in caplog.text
    assert "DeleteEndpoint" not in requests.changes()


def test_a_kill_is_noticed_while_the_client_is_being_created(
    account: Account, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asgiref drops the message of a cancellation, which alone distinguishes a kill from a triggerer's stop."""
    trigger = waiting(name, account.create_model())
    account.change_settings(endpoint_creating_seconds=0)
    may_end = threading.Event()

    async def run() -> tuple[object, ...]:
        begun = asyncio.Event()

        async def making(*_: object) -> object:
            begun.set()
            return await sync_to_async(may_end.wait)()

        async def first() -> object:
            return [event async for event in trigger.run()]

        monkeypatch.setattr(trigger, "_client", making)
        task = asyncio.create_task(first())
        await begun.wait()
        await asyncio.sleep(0)
        task.cancel("killed")
        asyncio.get_running_loop().call_soon(may_end.set)
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        return cancelled.value.args

    assert asyncio.run(run()) == ("killed",)


class TestInATriggerer:
    """As Airflow's own runner of triggers does it."""

    @pytest.fixture(autouse=True)
    def _since_airflow_3_3(self) -> None:
        if not hasattr(BaseTrigger, "on_kill"):
            pytest.skip("this Airflow does not report kills to triggers")

    @pytest.fixture
    def state(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
        """The task instance's state, as Airflow's API reports it."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        reported: dict[str, object] = {"state": "failed"}

        def states(**asked: Any) -> dict[str, dict[str, object]]:  # noqa: ANN401 - Airflow's own
            (run_id,), (task_id,) = asked["run_ids"], asked["task_ids"]
            if isinstance(reported["state"], Exception):
                raise reported["state"]
            index = asked["map_index"]
            return {run_id: {task_id if index < 0 else f"{task_id}_{index}": reported["state"]}}

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(states))
        return reported

    @staticmethod
    def cancelled(trigger: EndpointTrigger, *why: str, map_index: int = -1) -> None:
        """Run the trigger in Airflow's runner until it has polled once; cancel it as Airflow does."""
        from types import SimpleNamespace
        from unittest.mock import create_autospec

        from airflow.jobs.triggerer_job_runner import TriggerRunner
        from structlog.typing import FilteringBoundLogger

        polled = asyncio.Event()
        poll = trigger.poll

        async def noted(client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - aiobotocore's
            seen = await poll(client, now=now)
            polled.set()
            return seen

        async def run() -> None:
            runner = TriggerRunner()
            runner.log = create_autospec(FilteringBoundLogger, instance=True)
            trigger.poll = noted  # type: ignore[method-assign]
            task_instance: Any = SimpleNamespace(
                id="1",
                dag_id="d",
                task_id="deploy",
                run_id="r",
                try_number=1,
                map_index=map_index,
                context_carrier=None,
            )
            trigger.task_instance = task_instance
            details: Any = {"task": None, "is_watcher": False, "name": "t", "events": 0}
            runner.triggers[1] = details
            task = asyncio.create_task(runner.run_trigger(1, trigger))
            await polled.wait()
            task.cancel(*why)
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())

    @pytest.mark.parametrize(
        ("reported", "map_index"), [(None, -1), (None, 3), ("failed", -1), ("skipped", -1)]
    )
    def test_a_killed_task_is_cleaned_up_after(
        self, account: Account, name: str, state: dict[str, object], reported: str | None, map_index: int
    ) -> None:
        state["state"] = reported  # None: cleared, so to run again
        trigger = waiting(name, account.create_model())
        account.change_settings(endpoint_creating_seconds=1)
        self.cancelled(trigger, "__airflow_user_action__", map_index=map_index)
        assert account.status(name) is None

    @pytest.mark.parametrize(
        ("reported", "why"),
        [
            ("deferred", ["__airflow_user_action__"]),  # the trigger was moved to another triggerer
            (
                "success",
                ["__airflow_user_action__"],
            ),  # and fired there; or a person says that the work stands
            (RuntimeError("no API"), ["__airflow_user_action__"]),  # unknown
            ("failed", []),  # the triggerer stops
        ],
    )
    def test_nothing_is_deleted_when_the_task_may_go_on(
        self, account: Account, name: str, state: dict[str, object], reported: object, why: list[str]
    ) -> None:
        trigger = waiting(name, account.create_model())
        state["state"] = reported
        self.cancelled(trigger, *why)
        assert account.status(name) == "Creating"
        account.change_settings(endpoint_creating_seconds=0)
        account.wait_for_endpoint(name)

    @pytest.mark.usefixtures("account")
    def test_only_states_of_work_that_is_given_up_let_anything_be_deleted(
        self, state: dict[str, object], requests: Requests
    ) -> None:
        """Asked of every state that this Airflow has."""
        from airflow.utils.state import TaskInstanceState

        given_up = set()
        for reported in (None, *TaskInstanceState):
            state["state"] = reported
            requests.forget()
            kill(of_a_task_instance())
            if requests.count():
                given_up.add(reported)
        assert given_up == {None, "failed", "up_for_retry", "skipped", "upstream_failed", "removed"}

    @pytest.mark.usefixtures("account")
    @pytest.mark.parametrize("answer", [{}, {"r": {}}, {"r": {"deploy_0": "failed"}}])
    def test_nothing_is_deleted_where_airflow_knows_no_such_task_instance(
        self,
        requests: Requests,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        answer: dict[str, dict[str, str]],
    ) -> None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(lambda **_: answer))
        requests.forget()
        kill(of_a_task_instance())
        assert not requests.count()
        assert "Airflow does not report whether its task was killed (KeyError)" in caplog.text


def of_a_task_instance() -> EndpointTrigger:
    """Make a trigger of a task instance whose state Airflow may be asked for; its endpoint is gone."""
    from types import SimpleNamespace

    trigger = EndpointServingTrigger(
        endpoint_name=unique("gone"),
        wanted_config="c",
        note={"touched": True},
        deadline=0,
        poll_interval=POLL,
        aws=AwsConnection(aws_conn_id=None).as_mapping(),
        cleanup={"owner": "another", "try_number": 1, "max_wait_seconds": 1},
    )
    task_instance: Any = SimpleNamespace(dag_id="d", task_id="deploy", run_id="r", map_index=-1)
    trigger.task_instance = task_instance
    return trigger


def test_a_retry_goes_on_with_what_could_not_be_deleted(
    account: Account, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__TRIGGERER__ON_KILL_TIMEOUT", "1")
    model = account.create_model()
    kill(waiting(name, model))
    account.change_settings(endpoint_creating_seconds=0)
    ti = TaskInstanceDouble(run_id=name, try_number=2)
    result = run_task(lambda: deploy(name, model, deferrable=False), context_for(ti))
    assert result["status"] == "InService"
