"""The stack runner: a real Airflow that starts, works, and leaves nothing behind."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_sm_plugin.local.airflow_api import DagImportError, RequestRefusedError
from airflow_sm_plugin.local.airflow_stack import AirflowStack
from airflow_sm_plugin.local.processes import StackError, marked

TINY = """
from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, get_current_context, task

with DAG("tiny", schedule=None):
    wait = TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=0), deferrable=True)

    @task
    def add(number):
        print("adding to", number, "in", os.environ["PLACE"])
        return number + get_current_context()["dag_run"].conf["add"]

    @task
    def total(numbers):
        return {"total": sum(numbers)}

    wait >> total(add.expand(number=[1, 2, 3]))

with DAG("bad", schedule=None):
    @task
    def fail():
        raise ValueError("this is why")

    fail()

with DAG("long", schedule=None):
    @task.bash
    def sleep():
        return "exec sleep 600"

    sleep()
"""

STARTS_UNTIL_A_SIGNAL = """
import signal, sys
from pathlib import Path
from airflow_sm_plugin.local.airflow_stack import AirflowStack

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)
with AirflowStack(Path(sys.argv[1]), Path(sys.argv[2]), environment={}, grace=1):
    signal.pause()
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """One running stack for this module; its end is checked as well."""
    folder = tmp_path_factory.mktemp("stack")
    (folder / "dags").mkdir()
    (folder / "dags" / "tiny.py").write_text(TINY)
    runner = AirflowStack(folder / "home", folder / "dags", environment={"PLACE": "a test"}, grace=3)
    with runner:
        assert len(marked("AIRFLOW_HOME", str(runner.home))) >= 4
        yield runner
    assert marked("AIRFLOW_HOME", str(runner.home)) == []


def test_a_run_with_mapped_and_deferred_tasks_goes_through(stack: AirflowStack) -> None:
    api = stack.api
    api.wait_for_dag("tiny")
    seen: list[str] = []
    run_id = api.trigger("tiny", conf={"add": 10}, run_id="one:+1")
    look = api.wait_for_run("tiny", run_id, seconds=90, on_look=lambda look: seen.append(look.state))
    assert look.state == "success", [(task.label, task.state) for task in look.tasks]
    assert seen[-1] == "success"
    assert {task.label for task in look.tasks} == {"wait", "add[0]", "add[1]", "add[2]", "total"}
    assert api.xcom("tiny", run_id, "total") == {"total": 36}
    assert api.xcom("tiny", run_id, "add", map_index=2) == 13
    assert "adding to 2 in a test" in api.log_text("tiny", run_id, "add", map_index=1)


def test_a_cleared_task_runs_again(stack: AirflowStack) -> None:
    api = stack.api
    run_id = api.trigger("tiny", conf={"add": 0})
    api.wait_for_run("tiny", run_id, seconds=90)
    api.clear("tiny", run_id, ["total"])
    look = api.wait_for_run("tiny", run_id, seconds=90)
    tries = {task.task_id: task.try_number for task in look.tasks}
    assert (look.state, tries["total"], tries["add"]) == ("success", 2, 1)


def test_the_reason_of_a_failure_is_in_the_log_text(stack: AirflowStack) -> None:
    api = stack.api
    run_id = api.trigger("bad")
    assert api.wait_for_run("bad", run_id, seconds=90).state == "failed"
    assert "ValueError: this is why" in api.log_text("bad", run_id, "fail")
    with pytest.raises(RequestRefusedError, match="404"):
        api.xcom("bad", run_id, "fail")


def test_a_run_that_does_not_end_in_time_says_what_stands(stack: AirflowStack) -> None:
    """Last on purpose: its task is still running when the stack is stopped, and must not survive that."""
    api = stack.api
    run_id = api.trigger("long")
    _until(lambda: any(task.state == "running" for task in api.task_instances("long", run_id)), seconds=60)
    with pytest.raises(StackError, match="sleep running"):
        api.wait_for_run("long", run_id, seconds=0)


def test_a_broken_dag_file_is_told_with_its_traceback(stack: AirflowStack) -> None:
    broken = stack.dags_folder / "broken.py"
    broken.write_text("from airflow.sdk import DAG\nraise RuntimeError('not today')\n")
    try:
        with pytest.raises(DagImportError, match="not today"):
            stack.api.wait_for_dag("absent", seconds=60)
    finally:
        broken.unlink()


def test_the_database_lets_readers_through_while_one_writes(stack: AirflowStack) -> None:
    with sqlite3.connect(stack.home / "airflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


@pytest.mark.parametrize("signal_sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", ["migrate", "api-server", "triggerer"])
def test_interrupting_it_while_it_starts_leaves_nothing_behind(
    tmp_path: Path, begun: str, signal_sent: signal.Signals
) -> None:
    home = tmp_path / "home"
    process = subprocess.Popen([sys.executable, "-c", STARTS_UNTIL_A_SIGNAL, home, tmp_path])
    _until((home / "components" / f"{begun}.log").exists, seconds=60)
    process.send_signal(signal_sent)
    assert process.wait(timeout=60) != 0
    assert marked("AIRFLOW_HOME", str(home)) == []


def test_a_failed_start_says_why(tmp_path: Path) -> None:
    runner = AirflowStack(
        tmp_path / "home", tmp_path, environment={"AIRFLOW__CORE__EXECUTOR": "no.such.Executor"}
    )
    with pytest.raises(StackError, match=r"airflow .* exit code [\s\S]*no\.such"):
        runner.start()
    assert marked("AIRFLOW_HOME", str(runner.home)) == []


def _until(condition: Callable[[], bool], *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not true within {seconds:g} s")
        time.sleep(0.05)
