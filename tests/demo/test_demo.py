"""``make demo``, ``make up`` and ``make down``: what they print, how they end, and that nothing is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi
from airflow_sm_plugin.local.stack.processes import marked
from tests.e2e.conftest import until

ROOT = Path(__file__).parent.parent.parent
SLEEPS = """
from __future__ import annotations

from airflow.sdk import DAG, task

with DAG("sleeps", schedule=None):

    @task.bash
    def sleep():
        return "exec sleep 100000"

    sleep()
"""
REPORTS = """
from __future__ import annotations

from airflow.sdk import DAG, task

with DAG("reports", schedule=None):

    @task
    def report():
        return {"data_set": "small", "accuracy": 0.75, "trace_id_round_trip": True, "outputs": "s3://there"}

    report()
"""

pytestmark = pytest.mark.slow


@pytest.fixture
def dags(tmp_path: Path) -> Path:
    """A DAG folder with a DAG that does not end and one that reports."""
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "sleeps.py").write_text(SLEEPS)
    (folder / "reports.py").write_text(REPORTS)
    return folder


def _left(state: Path) -> list[int]:
    return [p.pid for part in ("run", "up") for p in marked("AIRFLOW_SM_DEMO", str(state.resolve() / part))]


@contextmanager
def _demo(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start the demo and hand its process over; it is killed when the test fails to end it."""
    # A shell without job control hands its background children SIGINT ignored; a terminal does not.
    command = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler);"
    command += "runpy.run_module('airflow_sm_plugin.local.stack.demo', run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def _until(process: subprocess.Popen[str], expected: str) -> str:
    """Read the demo's output up to the first line that matches, and return it."""
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        read.append(line)
        if re.search(expected, line):
            return line
    pytest.fail(f"{expected!r} never came:\n{''.join(read)}")


def test_a_run_ends_with_its_table_and_leaves_no_process(tmp_path: Path, dags: Path) -> None:
    with _demo("--state", tmp_path, "--dags", dags, "--dag", "reports") as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines()]
    assert [row[1] for row in rows if row[0] in {"accuracy on held-out rows", "trace id round trip"}] == [
        "0.7500",
        "yes",
    ]
    assert "small outputs  s3://there" in output.splitlines()
    assert "everything is stopped" in output
    assert _left(tmp_path) == []


def test_it_runs_the_main_job_of_the_repositorys_dags_unless_another_is_given() -> None:
    """The run's end is tested with the main job itself."""
    with _demo("--help") as process:
        output, _ = process.communicate()
    assert re.search(r"--dags DAGS\s+DAG folder \(default: dags\)", output)
    assert re.search(r"--dag DAG\s+DAG to run \(default:\s+autopilot_to_predictions\)", output)


def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, dags: Path) -> None:
    """Also not the task that was running."""
    with _demo("--state", tmp_path, "--dags", dags, "--dag", "sleeps") as process:
        _until(process, r"sleep +running")
        assert len(_left(tmp_path)) > 4
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in output
    assert _left(tmp_path) == []


def test_a_demo_that_is_terminated_while_it_starts_leaves_no_process(tmp_path: Path, dags: Path) -> None:
    with _demo("--state", tmp_path, "--dags", dags, "--dag", "sleeps") as process:
        log = tmp_path / "run" / "airflow" / "components" / "migrate.log"
        until(lambda: log.exists() and len(_left(tmp_path)) >= 2)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 130
    assert "Interrupted" in output
    assert _left(tmp_path) == []


def _output(*arguments: str | Path) -> str:
    with _demo(*arguments) as process:
        output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def _addresses(output: str) -> list[str]:
    return re.findall(r"^ +(?:Airflow|SageMaker) +(http://127\.0\.0\.1:\d+) ", output, re.MULTILINE)


def test_up_repairs_what_ended_and_keeps_its_state_over_down(tmp_path: Path, dags: Path) -> None:
    arguments = ("--state", tmp_path, "--dags", dags)
    try:
        addresses = airflow, sagemaker = _addresses(_output("--up", *arguments))
        requests.put(f"{sagemaker}/kept-bucket", timeout=1700).raise_for_status()
        api = AirflowApi(airflow, timeout=1700)
        api.wait_for_dag("reports", seconds=1700)
        run_id = api.begin("reports")
        assert api.wait_for_run("reports", run_id, seconds=1700).state == "success"

        again = _output("--up", *arguments)
        assert _addresses(again) == [*addresses]
        assert "All work." in again

        pids = json.loads((tmp_path / "up" / "running.json").read_text())["pids"]
        for component in ("scheduler", "embedded SageMaker"):
            os.kill(pids[component], signal.SIGKILL)
        repaired = _output("--up", *arguments)
        assert _addresses(repaired) == [*addresses]
        assert re.findall(r"^(.+) had stopped", repaired, re.MULTILINE) == ["embedded SageMaker", "scheduler"]
        assert "what it made since is lost" in repaired
        requests.put(f"{sagemaker}/kept-bucket", timeout=1700).raise_for_status()
        assert api.wait_for_run("reports", api.begin("reports"), seconds=1700).state == "success"

        stopped = _output("--down", *arguments)
        assert "embedded SageMaker, api-server, scheduler, dag-processor, triggerer" in stopped
        assert _left(tmp_path) == []
        airflow, sagemaker = _addresses(_output("--up", *arguments))
        assert AirflowApi(airflow, timeout=1700).run_state("reports", run_id) == "success"
        assert requests.head(f"{sagemaker}/kept-bucket", timeout=1700).status_code == 200
    finally:
        with _demo("--down", *arguments) as process:
            process.communicate()
    assert _left(tmp_path) == []
    assert "Nothing was running." in _output("--down", *arguments)


def test_a_folder_without_dags_is_reported_at_once(tmp_path: Path) -> None:
    with _demo("--state", tmp_path, "--dags", tmp_path / "absent") as process:
        output, _ = process.communicate()
    assert process.returncode == 2
    assert "there is no folder" in output
