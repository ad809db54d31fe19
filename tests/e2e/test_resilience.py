"""A worker that is killed, a triggerer that is restarted: the task goes on, and nothing is made twice."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import pytest

from airflow_sm_plugin.local.airflow_settings import COMPONENTS
from airflow_sm_plugin.local.airflow_stack import AirflowStack
from airflow_sm_plugin.local.processes import marked
from tests.support import Account, unique

pytestmark = pytest.mark.timeout(240)


def _until(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {seconds:g} s")
        time.sleep(0.1)


def _state(stack: AirflowStack, dag_id: str, run_id: str) -> str | None:
    (task,) = stack.api.task_instances(dag_id, run_id)
    return task.state


def _kill_worker(stack: AirflowStack, dag_id: str, run_id: str, task_id: str) -> None:
    """SIGKILL the process of a task, its supervisor first so that nobody tells Airflow of it."""
    path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
    instance = stack.api._call("GET", path)
    assert isinstance(instance, dict)
    (task,) = (
        process
        for process in marked("AIRFLOW_HOME", str(stack.home))
        if f"airflow worker -- {instance['id']}" in " ".join(process.cmdline())
    )
    supervisor = task.parent()
    assert supervisor is not None
    supervisor.kill()
    task.kill()
    psutil.wait_procs([supervisor, task], timeout=10)


def test_a_killed_deployment_is_finished_by_its_retry(airflow_stack: AirflowStack, account: Account) -> None:
    """The worker dies while it waits; the retry finds what was made: one endpoint, one configuration, no error.

    Airflow notices the missing heartbeat after half a minute; until then the endpoint comes up by itself.
    """
    dag_id, name = "e2e_killed_worker", unique("killed")
    account.create_model(name=name)
    with account.settings(endpoint_creating_seconds=15):
        airflow_stack.api.wait_for_dag(dag_id)
        run_id = airflow_stack.api.trigger(dag_id, conf={"name": name})
        _until(lambda: account.status(name) == "Creating")
        configs = account.configs(name)
        made = account.sagemaker.describe_endpoint(EndpointName=name)["CreationTime"]
        _kill_worker(airflow_stack, dag_id, run_id, "deploy")
        look = airflow_stack.api.wait_for_run(dag_id, run_id, seconds=150)
    log = airflow_stack.api.log_text(dag_id, run_id, "deploy", try_number=2)
    assert (look.state, look.tasks[0].try_number) == ("success", 2), log
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
    _until(lambda: _state(airflow_stack, dag_id, run_id) == "deferred")
    triggerer = airflow_stack._started["triggerer"]
    triggerer.terminate()
    triggerer.wait(timeout=60)
    airflow_stack._launch("triggerer", COMPONENTS["triggerer"])
    account.upload(b"late", output.removeprefix(f"s3://{account.bucket}/"))
    look = airflow_stack.api.wait_for_run(dag_id, run_id, seconds=120)
    assert look.state == "success"
    assert airflow_stack.api.xcom(dag_id, run_id, "await_result") == output
