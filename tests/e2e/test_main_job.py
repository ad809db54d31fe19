"""The main job, and secrets, on a real scheduler and triggerer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

import pytest

from airflow_sm_plugin.local.airflow_api import Json, RunLook
from airflow_sm_plugin.local.airflow_stack import AirflowStack
from tests.support import Account, unique

pytestmark = pytest.mark.timeout(400)

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
    look: RunLook

    @property
    def states(self) -> dict[str, str | None]:
        """Return each task's state."""
        return {task.label: task.state for task in self.look.tasks}


@pytest.fixture(scope="module")
def runs(airflow_stack: AirflowStack, module_account: Account) -> dict[str, Run]:
    """Runs at the same time: the main job, one full of secrets, one whose deployment fails, one whose wait ends."""
    api = airflow_stack.api
    connection = {"connection_id": "planted", "conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY}
    api._call("POST", "/connections", body=connection)
    for number in range(3):
        module_account.upload(SECRETS["body"], f"secret-inputs/{number}")
    conf = {
        "bucket": module_account.bucket,
        "model_data_url": module_account.upload_model(),
        **SECRETS,
    }
    started: dict[str, tuple[str, str]] = {}
    for dag_id in (
        "autopilot_to_predictions",
        "e2e_keeps_secrets",
        "e2e_deploy_fails",
        "e2e_reschedule_times_out",
    ):
        name = unique("e2e")
        api.wait_for_dag(dag_id)
        started[dag_id] = (api.trigger(dag_id, conf={**conf, "name": name}), name)
    return {
        dag_id: Run(dag_id, run_id, name, api.wait_for_run(dag_id, run_id, seconds=300))
        for dag_id, (run_id, name) in started.items()
    }


def _xcoms(stack: AirflowStack, run: Run) -> str:
    """Return every XCom of a run, as the REST API tells it."""
    api, found = stack.api, []
    for task in run.look.tasks:
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task.task_id}/xcomEntries"
        listed = api._call("GET", path, query={"map_index": task.map_index, "limit": 100})
        assert isinstance(listed, dict)
        for entry in _entries(listed["xcom_entries"]):
            key = str(entry["key"])
            value = api.xcom(run.dag_id, run.run_id, task.task_id, key=key, map_index=task.map_index)
            found.append({"task": task.label, "key": key, "value": value})
    return json.dumps(found)


def _entries(value: Json) -> Iterator[Mapping[str, Json]]:
    for entry in value if isinstance(value, list) else []:
        assert isinstance(entry, dict)
        yield entry


def _logs(stack: AirflowStack, run: Run) -> str:
    """Return every task log of a run as it lies on disk."""
    files = [path for path in (stack.home / "logs" / f"dag_id={run.dag_id}").rglob("*") if path.is_file()]
    assert len(files) >= len([task for task in run.look.tasks if task.start_date])
    return "\n".join(path.read_text(errors="replace") for path in files)


def _rendered(stack: AirflowStack, run: Run) -> dict[str, str]:
    """Return the rendered fields that Airflow keeps, as JSON texts, by task."""
    with closing(sqlite3.connect(stack.home / "airflow.db")) as database:
        query = (
            "SELECT task_id, map_index, rendered_fields FROM rendered_task_instance_fields WHERE run_id = ?"
        )
        return {f"{task}[{index}]": fields for task, index, fields in database.execute(query, [run.run_id])}


def test_the_main_job_succeeds_and_its_trace_id_came_back(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    run = runs["autopilot_to_predictions"]
    assert run.look.state == "success", run.states
    for data_set in ("breast_cancer", "wine"):
        report = airflow_stack.api.xcom(run.dag_id, run.run_id, f"{data_set}.report")
        assert isinstance(report, dict)
        assert float(str(report["accuracy"])) >= 0.9
        assert report["trace_id_round_trip"] is True


def test_its_trace_ids_are_in_no_task_log_and_no_xcom(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    """That they were sent, the report says."""
    run = runs["autopilot_to_predictions"]
    assert "trace-id=" not in _xcoms(airflow_stack, run)
    assert "trace-id=" not in _logs(airflow_stack, run)


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


def test_what_no_retry_can_mend_is_not_retried_and_names_the_limit(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    run = runs["e2e_keeps_secrets"]
    (refused,) = (task for task in run.look.tasks if task.task_id == "refused")
    assert refused.try_number == 1
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "refused")
    assert "InvalidCustomAttributes" in log
    assert "visible US-ASCII" in log


def test_a_deployed_endpoint_is_linked(airflow_stack: AirflowStack, runs: Mapping[str, Run]) -> None:
    """Also the one whose deployment failed: there the logs are wanted most."""
    for dag_id in ("e2e_keeps_secrets", "e2e_deploy_fails"):
        run = runs[dag_id]
        path = f"/dags/{dag_id}/dagRuns/{run.run_id}/taskInstances/deploy/links"
        answer = airflow_stack.api._call("GET", path)
        assert isinstance(answer, dict)
        links = answer["extra_links"]
        assert isinstance(links, dict)
        assert str(links["SageMaker endpoint"]).endswith(f"/endpoints/{run.name}")
        assert "log-groups" in str(links["CloudWatch logs"])


def test_a_failed_deployment_leaves_nothing_and_the_teardown_runs(
    airflow_stack: AirflowStack, runs: Mapping[str, Run], account: Account
) -> None:
    run = runs["e2e_deploy_fails"]
    assert run.look.state == "failed"
    assert run.states == {
        "model": "success",
        "deploy": "failed",
        "invoke": "upstream_failed",
        "clean_up": "success",
    }
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "deploy")
    assert "EndpointFailed" in log
    assert "missing/model.tar.gz" in log, "SageMaker's reason is told"
    assert account.status(run.name) is None
    assert account.configs(run.name) == []
    assert account.models(run.name) == []


def test_a_rescheduled_wait_ends_by_our_deadline(
    airflow_stack: AirflowStack, runs: Mapping[str, Run]
) -> None:
    """Each of its looks is a process of its own, which must learn from Airflow when the first one was."""
    run = runs["e2e_reschedule_times_out"]
    assert run.states == {"await_result": "failed"}
    log = airflow_stack.api.log_text(run.dag_id, run.run_id, "await_result")
    assert "AsyncInferenceTimedOut" in log
    assert "after 5 s" in log
