"""A worker that is killed, a triggerer that is restarted: the task goes on, and nothing is made twice."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import psutil
import pytest

from airflow_sm_plugin.local.stack.airflow_settings import COMPONENTS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from tests.async_inference.batch.async_batches import calls
from tests.e2e.conftest import until
from tests.e2e.workers import Worker
from tests.endpoint_trials import call_log, control
from tests.support import Account, unique

pytestmark = pytest.mark.slow

LONGEST_RUN = 1700
SHORTEST_DEADLINE = 30
POLLS_AFTER_A_DEADLINE = 6
"""DescribeEndpoint calls of a wait whose deadline has passed, its task's own included; a new one makes one a second."""


def _state(stack: AirflowStack, dag_id: str, run_id: str) -> str | None:
    (task,) = stack.api.task_instances(dag_id, run_id)
    return task.state


def test_a_killed_deployment_is_finished_by_its_retry(airflow_stack: AirflowStack, account: Account) -> None:
    """The worker dies while it waits; the retry finds what was made: one endpoint, one configuration, no error.

    The endpoint comes up by itself meanwhile.
    """
    dag_id, name = "e2e_killed_worker", unique("killed")
    account.create_model(name=name)
    with account.settings(endpoint_creating_seconds=3600):
        airflow_stack.api.wait_for_dag(dag_id)
        run_id = airflow_stack.api.trigger(dag_id, conf={"name": name})
        until(lambda: account.status(name) == "Creating")
        configs = account.configs(name)
        made = account.sagemaker.describe_endpoint(EndpointName=name)["CreationTime"]
        Worker(airflow_stack, dag_id, run_id, "deploy").kill()
        account.change_settings(endpoint_creating_seconds=0)
        until(lambda: account.status(name) == "InService")
        run_status = airflow_stack.api.wait_for_run(dag_id, run_id, seconds=LONGEST_RUN)
    log = airflow_stack.api.log_text(dag_id, run_id, "deploy", try_number=2)
    assert (run_status.state, run_status.tasks[0].try_number) == ("success", 2), log
    assert "already existing" not in log
    endpoint = account.sagemaker.describe_endpoint(EndpointName=name)
    assert (endpoint["EndpointStatus"], endpoint["CreationTime"]) == ("InService", made)
    assert account.configs(name) == configs == [endpoint["EndpointConfigName"]]
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_a_deferred_sensor_survives_a_restart_of_the_triggerer(
    airflow_stack: AirflowStack, account: Account
) -> None:
    dag_id, output = "e2e_restarted_triggerer", f"s3://{account.bucket}/late/{unique('output')}"
    airflow_stack.api.wait_for_dag(dag_id)
    run_id = airflow_stack.api.trigger(dag_id, conf={"output_location": output})
    until(lambda: _state(airflow_stack, dag_id, run_id) == "deferred")
    triggerer = airflow_stack._started["triggerer"]
    triggerer.terminate()
    triggerer.wait(timeout=1700)
    airflow_stack._launch("triggerer", COMPONENTS["triggerer"])
    account.upload(b"late", output.removeprefix(f"s3://{account.bucket}/"))
    run_status = airflow_stack.api.wait_for_run(dag_id, run_id, seconds=LONGEST_RUN)
    assert run_status.state == "success"
    assert airflow_stack.api.xcom(dag_id, run_id, "await_result") == output


def _kill_triggerer(stack: AirflowStack) -> None:
    """SIGKILL the triggerer with all that it runs.

    Airflow hands over the triggers to another one when the killed one has been silent for half a minute.
    """
    supervisor = stack._started["triggerer"]
    children = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.kill()
    supervisor.wait(timeout=1700)
    for child in children:
        child.kill()
    psutil.wait_procs(children, timeout=1700)


def _times(stack: AirflowStack, dag_id: str, run_id: str, event: str) -> list[float]:
    """Return when a deployment's log got lines that hold ``event``, its triggers' own included, in epoch seconds."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/deploy/logs/1"
    log = stack.api._call("GET", path, params={"full_content": "true"})
    lines = [line for line in log["content"] if event in line["event"] and line.get("timestamp")]
    return sorted(datetime.fromisoformat(line["timestamp"]).timestamp() for line in lines)


def _is_waited_for(stack: AirflowStack, dag_id: str, run: str) -> bool:
    (task,) = stack.api.task_instances(dag_id, run)
    return task.start_date is not None and _times(stack, dag_id, run, ") starting") != []


def _deployed(
    stack: AirflowStack, dag_id: str, model: str, names: Mapping[str, str], seconds: float
) -> dict[str, str]:
    """Have the model deployed to each case's endpoint; return the runs once the triggerer waits for all of them."""
    runs = {
        case: stack.api.trigger(dag_id, conf={"name": name, "model": model, "max_wait_seconds": seconds})
        for case, name in names.items()
    }
    until(lambda: all(_is_waited_for(stack, dag_id, run) for run in runs.values()))
    return runs


def test_deferred_deployments_survive_a_triggerer_that_is_killed(
    airflow_stack: AirflowStack, account: Account
) -> None:
    """Both waits, before it acts and after, go on to the right end, and by the deadlines that they began with.

    Two deadlines pass while no triggerer runs: the next one's first poll is the last. One that began again would poll
    on, every second. They are three times what this machine takes from such a run's beginning to its wait.
    """
    dag_id, api = "e2e_deferred_deploy", airflow_stack.api
    model = account.create_model(multi_model=True)
    others = account.create_config(account.create_model(multi_model=True))
    good = {case: unique(case) for case in ("serves", "waits-out")}
    never = {case: unique(case) for case in ("never-serves", "never-free")}
    names = good | never
    for name in never.values():
        control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "seconds": 100_000})
    with account.settings(endpoint_creating_seconds=3600):
        for case in ("waits-out", "never-free"):
            account.sagemaker.create_endpoint(EndpointName=names[case], EndpointConfigName=others)
        api.wait_for_dag(dag_id)
        began = time.time()
        runs = _deployed(airflow_stack, dag_id, model, good, 3600)
        seconds = max(SHORTEST_DEADLINE, round(3 * (time.time() - began)))
        began = time.time()
        runs |= _deployed(airflow_stack, dag_id, model, never, seconds)
        assert {_state(airflow_stack, dag_id, run) for run in runs.values()} == {"deferred"}
        _kill_triggerer(airflow_stack)
        account.change_settings(endpoint_creating_seconds=0)
        killed = int(cast("int", call_log(account, operation="-")["sequence"]))
        starts = {case: _times(airflow_stack, dag_id, run, ") starting") for case, run in runs.items()}
        assert [len(times) for times in starts.values()] == [1] * len(names)
        until(lambda: time.time() > max(times[0] for times in starts.values()) + seconds)
        airflow_stack._launch("triggerer", COMPONENTS["triggerer"])
        ends = {case: api.wait_for_run(dag_id, run, seconds=LONGEST_RUN) for case, run in runs.items()}
    logs = {case: api.log_text(dag_id, run, "deploy") for case, run in runs.items()}

    assert {case: run_status.state for case, run_status in ends.items()} == {
        "serves": "success",
        "waits-out": "success",
        "never-serves": "failed",
        "never-free": "failed",
    }, logs
    actions = {case: api.xcom(dag_id, runs[case], "deploy", key="action") for case in good}
    assert actions == {"serves": "created", "waits-out": "updated"}
    assert all(len(account.configs(name)) == 1 for name in good.values())
    for case, name in never.items():
        assert f"EndpointDeadlineExceeded: endpoint {name} was still Creating after {seconds} s" in logs[case]
        again = len(_times(airflow_stack, dag_id, runs[case], ") starting")) - 1
        polls = len(calls(account, "DescribeEndpoint", since=killed, resource=name))
        assert 1 <= again <= polls <= POLLS_AFTER_A_DEADLINE * again
        (fired,) = _times(airflow_stack, dag_id, runs[case], "Trigger fired event")
        assert fired >= began + seconds
    assert account.configs(never["never-free"]) == []
    for name in good.values():
        account.sagemaker.delete_endpoint(EndpointName=name)


def test_a_deferred_deployment_that_a_user_marks_failed_is_deleted(
    airflow_stack: AirflowStack, account: Account
) -> None:
    """While it is being created SageMaker deletes nothing: the trigger waits for that, then deletes."""
    dag_id, api, name = "e2e_deferred_deploy", airflow_stack.api, unique("killed")
    conf: dict[str, Any] = {
        "name": name,
        "model": account.create_model(multi_model=True),
        "max_wait_seconds": LONGEST_RUN,
        "cleanup_wait_seconds": 600,
    }
    api.wait_for_dag(dag_id)
    with account.settings(endpoint_creating_seconds=3600):
        run = api.trigger(dag_id, conf=conf)
        until(lambda: _is_waited_for(airflow_stack, dag_id, run))
        api._call("PATCH", f"/dags/{dag_id}/dagRuns/{run}/taskInstances/deploy", json={"new_state": "failed"})
        until(lambda: _times(airflow_stack, dag_id, run, "the task was killed while it waited") != [])
        account.change_settings(endpoint_creating_seconds=0)
        until(lambda: account.status(name) is None)
    assert _state(airflow_stack, dag_id, run) == "failed"
