"""The stack runner: a real Airflow that starts, works, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sqlite3
import urllib.request
from pathlib import Path
from threading import Event, Thread
from typing import Any, cast

import pytest

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi, DagImportError, RequestRefusedError
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import StackError
from airflow_sm_plugin.page.settings import URL_PREFIX
from tests.e2e.conftest import until
from tests.e2e.demo_runs import demo_of

pytestmark = pytest.mark.slow

SECONDS = 1700
"""Within which a run ends, also on a busy machine."""


def _runs_that_sleep(api: AirflowApi) -> list[str]:
    """Return the runs whose task has begun and does not end."""
    listed = api._call("GET", "/dags/e2e_sleeps/dagRuns", params={"state": "running"})
    assert isinstance(listed, dict)
    runs = [str(cast("dict[str, Any]", run)["dag_run_id"]) for run in cast("list[Any]", listed["dag_runs"])]
    return [run for run in runs if api.task_instances("e2e_sleeps", run)[0].state == "running"]


def test_a_run_with_mapped_and_deferred_tasks_goes_through(airflow_stack: AirflowStack) -> None:
    api = airflow_stack.api
    api.wait_for_dag("e2e_tiny")
    seen: list[str] = []
    run_id = api.trigger("e2e_tiny", conf={"add": 10}, run_id="one:+1")
    run_status = api.wait_for_run(
        "e2e_tiny", run_id, seconds=SECONDS, on_poll=lambda status: seen.append(status.state)
    )
    assert run_status.state == "success", [(task.label, task.state) for task in run_status.tasks]
    assert seen[-1] == "success"
    assert {task.label for task in run_status.tasks} == {"wait", "add[0]", "add[1]", "add[2]", "total"}
    assert api.xcom("e2e_tiny", run_id, "total") == {"total": 36}
    assert api.xcom("e2e_tiny", run_id, "add", map_index=2) == 13
    assert "adding to 2 in a test" in api.log_text("e2e_tiny", run_id, "add", map_index=1)


def test_the_reason_of_a_failure_is_in_the_log_text(airflow_stack: AirflowStack) -> None:
    api = airflow_stack.api
    api.wait_for_dag("e2e_fails")
    run_id = api.trigger("e2e_fails")
    assert api.wait_for_run("e2e_fails", run_id, seconds=SECONDS).state == "failed"
    assert "ValueError: [no] such luck" in api.log_text("e2e_fails", run_id, "give_up")
    with pytest.raises(RequestRefusedError, match="404"):
        api.xcom("e2e_fails", run_id, "give_up")


def test_a_run_that_does_not_end_in_time_says_what_stands(airflow_stack: AirflowStack) -> None:
    api = airflow_stack.api
    api.wait_for_dag("e2e_sleeps")
    run_id = api.trigger("e2e_sleeps")
    try:
        until(lambda: any(task.state == "running" for task in api.task_instances("e2e_sleeps", run_id)))
        with pytest.raises(StackError, match="sleep running"):
            api.wait_for_run("e2e_sleeps", run_id, seconds=0)
    finally:
        api._call("PATCH", f"/dags/e2e_sleeps/dagRuns/{run_id}", json={"state": "failed"})


def test_a_broken_dag_file_is_reported_with_its_traceback(airflow_stack: AirflowStack) -> None:
    broken = airflow_stack.dags_folder / "broken.py"
    broken.write_text("from airflow.sdk import DAG\nraise RuntimeError('not today')\n")
    try:
        with pytest.raises(DagImportError, match="not today"):
            airflow_stack.api.wait_for_dag("absent")
    finally:
        broken.unlink()
        until(lambda: airflow_stack.api.import_errors() == {})


def test_the_page_of_endpoints_is_served_by_airflow_itself(airflow_stack: AirflowStack) -> None:
    """What is on it, and who is permitted to see it, ``tests/page`` shows."""
    with urllib.request.urlopen(f"{airflow_stack.url}{URL_PREFIX}/", timeout=SECONDS) as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "<h1>SageMaker endpoints</h1>" in page
    assert "default-src 'none'" in policy


def test_the_database_lets_readers_through_while_one_writes(airflow_stack: AirflowStack) -> None:
    with sqlite3.connect(airflow_stack.home / "airflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_failed_run_shows_the_end_of_the_failed_tasks_log(
    airflow_stack: AirflowStack, embedded: EmbeddedProcess, tmp_path: Path
) -> None:
    code, output = demo_of("e2e_fails", airflow_stack, embedded.url, tmp_path)
    assert code == 1
    assert "give_up failed" in output
    assert "ValueError: [no] such luck" in output


def test_a_demo_that_is_terminated_while_its_task_runs_ends_all(
    airflow_stack: AirflowStack, embedded: EmbeddedProcess, tmp_path: Path
) -> None:
    """That nothing is left of a stack of its own, ``tests/demo`` shows."""
    api, over = airflow_stack.api, Event()
    api.wait_for_dag("e2e_sleeps")

    def terminate() -> None:
        until(lambda: over.is_set() or _runs_that_sleep(api) != [])
        if not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    terminator = Thread(target=terminate)
    terminator.start()
    try:
        code, output = demo_of("e2e_sleeps", airflow_stack, embedded.url, tmp_path)
    finally:
        over.set()
        terminator.join()
        for run_id in _runs_that_sleep(api):
            api._call("PATCH", f"/dags/e2e_sleeps/dagRuns/{run_id}", json={"state": "failed"})
    assert code == 130, output
    assert "Interrupted" in output
