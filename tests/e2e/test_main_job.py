"""The main job, and secrets, on a real scheduler and triggerer."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from airflow_sm_plugin.local.stack.airflow_api import Json, RunStatus
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from tests.dags.main_job import (
    DATA_SETS,
    assert_documented_xcoms,
    assert_good_predictions,
    assert_masked_trace_id,
    assert_nothing_left,
    assert_success,
)
from tests.e2e.demo_runs import demo_of
from tests.support import BROKEN, Account, unique

SECONDS = 1700
"""Within which a run ends, also on a busy machine."""

MAIN_JOB = "autopilot_to_predictions"
SECRETS = {
    "custom_attributes": "planted-trace-7d1c",
    "body": "planted-body-91ab",
    "environment": "planted-environment-5e02",
}
ACCESS_KEY, SECRET_KEY = "AKIAPLANTEDPLANTED00", "planted-secret-key-3f77"


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended, and how its tasks did."""

    dag_id: str
    run_id: str
    name: str
    run_status: RunStatus

    @property
    def states(self) -> dict[str, str | None]:
        """Return each task's state."""
        return {task.label: task.state for task in self.run_status.tasks}


@pytest.fixture(scope="module")
def runs(airflow_stack: AirflowStack, module_account: Account) -> dict[str, Run]:
    """Runs at the same time: one full of secrets, one whose deployment fails, one whose wait ends."""
    api = airflow_stack.api
    connection = {"connection_id": "planted", "conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY}
    api._call("POST", "/connections", json=connection)
    for number in range(3):
        module_account.upload(SECRETS["body"], f"secret-inputs/{number}")
    conf = {
        "bucket": module_account.bucket,
        "model_data_url": module_account.upload_model(),
        "broken_model_data_url": module_account.upload_model(BROKEN),
        **SECRETS,
    }
    started: dict[str, tuple[str, str]] = {}
    for dag_id in (
        "e2e_keeps_secrets",
        "e2e_deploy_fails",
        "e2e_reschedule_times_out",
    ):
        name = unique("e2e")
        api.wait_for_dag(dag_id)
        started[dag_id] = (api.trigger(dag_id, conf={**conf, "name": name}), name)
    return {
        dag_id: Run(dag_id, run_id, name, api.wait_for_run(dag_id, run_id, seconds=SECONDS))
        for dag_id, (run_id, name) in started.items()
    }


@pytest.fixture(scope="module")
def demo(
    airflow_stack: AirflowStack, embedded: EmbeddedProcess, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, str]:
    """The main job as ``make demo`` runs it: the exit code, and what it prints."""
    return demo_of(MAIN_JOB, airflow_stack, embedded.url, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def main_job(airflow_stack: AirflowStack, demo: tuple[int, str]) -> Run:
    """The run of the demo."""
    api = airflow_stack.api
    listed = api._call("GET", f"/dags/{MAIN_JOB}/dagRuns")
    assert isinstance(listed, dict)
    (run_id,) = (str(entry["dag_run_id"]) for entry in _entries(listed["dag_runs"]))
    return Run(MAIN_JOB, run_id, "", api.poll(MAIN_JOB, run_id))


@pytest.fixture(scope="module")
def stored(airflow_stack: AirflowStack, main_job: Run) -> dict[str, Any]:
    """The main job as Airflow stored it, in the form of ``tests/dags/drive.py``."""
    xcoms: dict[str, dict[str, Any]] = {}
    for entry in _xcom_entries(airflow_stack, main_job):
        xcoms.setdefault(entry["task"], {})[entry["key"]] = entry["value"]
    rendered = {
        label.removesuffix("[-1]"): json.loads(fields)
        for label, fields in _rendered(airflow_stack, main_job).items()
    }
    return {
        "state": main_job.run_status.state,
        "tasks": main_job.states,
        "xcoms": xcoms,
        "rendered": rendered,
    }


def _xcom_entries(stack: AirflowStack, run: Run) -> list[dict[str, Any]]:
    """Return every XCom of a run, as the REST API tells it."""
    api, found = stack.api, []
    for task in run.run_status.tasks:
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task.task_id}/xcomEntries"
        listed = api._call("GET", path, params={"map_index": task.map_index, "limit": 100})
        assert isinstance(listed, dict)
        for entry in _entries(listed["xcom_entries"]):
            key = str(entry["key"])
            value = api.xcom(run.dag_id, run.run_id, task.task_id, key=key, map_index=task.map_index)
            found.append({"task": task.label, "key": key, "value": value})
    return found


def _xcoms(stack: AirflowStack, run: Run) -> str:
    """Return every XCom of a run as one text."""
    return json.dumps(_xcom_entries(stack, run))


def _entries(value: Json) -> Iterator[Mapping[str, Json]]:
    for entry in value if isinstance(value, list) else []:
        assert isinstance(entry, dict)
        yield entry


def _logs(stack: AirflowStack, run: Run) -> str:
    """Return every task log of a run as it lies on disk."""
    files = [path for path in (stack.home / "logs" / f"dag_id={run.dag_id}").rglob("*") if path.is_file()]
    assert len(files) >= len([task for task in run.run_status.tasks if task.start_date])
    return "\n".join(path.read_text(errors="replace") for path in files)


def _rendered(stack: AirflowStack, run: Run) -> dict[str, str]:
    """Return the rendered fields that Airflow keeps, as JSON texts, by task."""
    with closing(sqlite3.connect(stack.home / "airflow.db")) as database:
        query = (
            "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE run_id = ?"
        )
        return {f"{task}[{index}]": fields for task, index, fields in database.execute(query, [run.run_id])}


def test_the_main_job_succeeds_and_its_trace_id_came_back(stored: Mapping[str, Any]) -> None:
    assert_success(stored)
    for data_set in DATA_SETS:
        assert_good_predictions(stored, data_set)


def test_the_demo_ends_with_a_table_of_the_main_jobs_results(demo: tuple[int, str]) -> None:
    code, output = demo
    assert code == 0, output
    table = {
        cells[0]: cells[1:]
        for line in output.splitlines()
        if line.startswith("│") and (cells := [cell.strip() for cell in line.strip("│").split("│")])
    }
    assert max(len(line) for line in output.splitlines() if line[:1] in "┏│└") <= 80, output
    assert all(re.search(r"0\.\d+|1\.0", objective) for objective in table["objective"])
    assert table["response keys"] == ["predicted_label"] * 2
    assert all(int(predicted) > 0 for predicted in table["rows predicted"])
    assert all(float(accuracy) >= 0.9 for accuracy in table["accuracy on held-out rows"])
    assert table["trace id round trip"] == ["yes"] * 2
    for data_set in DATA_SETS:
        assert f"{data_set} candidate" in output
        assert f"{data_set} outputs  s3://airflow-sm-demo/{data_set}/" in output


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_what_its_tasks_leave_on_xcom_is_what_their_docstrings_say(
    stored: Mapping[str, Any], data_set: str
) -> None:
    assert_documented_xcoms(stored, data_set)


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_nothing_of_it_is_left_in_sagemaker(
    stored: Mapping[str, Any], data_set: str, account: Account
) -> None:
    assert_nothing_left(stored, data_set, account)


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_its_trace_id_is_in_no_rendered_field_and_no_xcom_of_ours(
    stored: Mapping[str, Any], data_set: str
) -> None:
    assert_masked_trace_id(stored, data_set)


def test_its_trace_ids_are_in_no_task_log_and_no_xcom(airflow_stack: AirflowStack, main_job: Run) -> None:
    """That they were sent, the report says."""
    assert "trace-id=" not in _xcoms(airflow_stack, main_job)
    assert "trace-id=" not in _logs(airflow_stack, main_job)


@pytest.mark.slow
def test_the_secrets_were_used(runs: Mapping[str, Run], account: Account) -> None:
    """Else the tests below would prove nothing."""
    run = runs["e2e_keeps_secrets"]
    assert run.states == {
        "model": "success",
        "deploy": "success",
        "inline": "success",
        "mapped[0]": "success",
        "mapped[1]": "success",
        "refused": "failed",
        "await_inline": "success",
        "await_mapped": "success",
        "waited": "success",
        "batch": "success",
        "clean_up": "success",
    }
    listed = account.s3.list_objects_v2(Bucket=account.bucket, Prefix="outputs/")["Contents"]
    contents = [account.read(f"s3://{account.bucket}/{found['Key']}") for found in listed]
    assert contents == [SECRETS["body"].encode()] * 7


@pytest.mark.slow
@pytest.mark.parametrize("secret", [*SECRETS.values(), SECRET_KEY], ids=[*SECRETS, "credentials"])
def test_no_secret_is_in_a_task_log_or_an_xcom_or_a_rendered_field(
    airflow_stack: AirflowStack, runs: Mapping[str, Run], secret: str
) -> None:
    run = runs["e2e_keeps_secrets"]
    assert secret not in _xcoms(airflow_stack, run)
    assert secret not in _logs(airflow_stack, run)
    rendered = _rendered(airflow_stack, run)
    assert {"model[-1]", "inline[-1]", "mapped[0]", "refused[-1]", "waited[-1]", "batch[-1]"} <= set(rendered)
    assert [task for task, fields in rendered.items() if secret in fields] == []


@pytest.mark.slow
def test_what_no_retry_can_mend_is_not_retried_and_names_the_limit(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    run = runs["e2e_keeps_secrets"]
    (refused,) = (task for task in run.run_status.tasks if task.task_id == "refused")
    assert refused.try_number == 1
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "refused")
    assert "InvalidCustomAttributes" in log
    assert "visible US-ASCII" in log


@pytest.mark.slow
def test_a_deployed_endpoint_is_linked(airflow_stack: AirflowStack, runs: Mapping[str, Run]) -> None:
    """Also the one whose deployment failed: there the logs are wanted most."""
    for dag_id in ("e2e_keeps_secrets", "e2e_deploy_fails"):
        run = runs[dag_id]
        path = f"/dags/{dag_id}/dagRuns/{run.run_id}/taskInstances/deploy/links"
        answer = airflow_stack.api._call("GET", path)
        assert isinstance(answer, dict)
        links = answer["extra_links"]
        assert isinstance(links, dict)
        assert "/_embedded/ui/endpoint?" in str(links["SageMaker endpoint"])
        assert str(links["SageMaker endpoint"]).endswith(f"&name={run.name}")
        assert "/_embedded/ui/logs?" in str(links["CloudWatch logs"])


@pytest.mark.slow
def test_a_failed_deployment_leaves_nothing_and_the_teardown_runs(
    airflow_stack: AirflowStack, runs: Mapping[str, Run], account: Account
) -> None:
    run = runs["e2e_deploy_fails"]
    assert run.run_status.state == "failed"
    assert run.states == {
        "model": "success",
        "deploy": "failed",
        "invoke": "upstream_failed",
        "clean_up": "success",
    }
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "deploy")
    assert "EndpointFailed" in log
    assert "did not pass the ping health check" in log, "SageMaker's reason is logged"
    assert account.status(run.name) is None
    assert account.configs(run.name) == []
    assert account.models(run.name) == []


@pytest.mark.slow
def test_a_rescheduled_wait_ends_by_our_deadline(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    """Each of its polls is a process of its own, which must learn from Airflow when the first one was."""
    run = runs["e2e_reschedule_times_out"]
    assert run.states == {"await_result": "failed"}
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "await_result")
    assert "AsyncInferenceTimedOut" in log
    assert "after 5 s" in log
