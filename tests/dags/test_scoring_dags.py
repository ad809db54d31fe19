"""The examples of asynchronous scoring, one after the other with ``dag.test()``: an endpoint, one file, every file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import run_dags
from tests.support import Account

DAGS = Path(__file__).parents[2] / "dags"
FILES = 20

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(airflow_db: None, module_account: Account) -> dict[str, dict[str, Any]]:
    """Each DAG's run, as Airflow stored it."""
    asked = {"input": "s3://airflow-sm-demo/incoming/07.csv", "trace_id": "planted-trace"}
    confs = {
        "demo_endpoint": None,
        "idle_endpoints": {"hours": 1e-6},
        "score_file": asked,
        "async_batch": None,
    }
    return run_dags(DAGS, confs, url=module_account.url)


def test_they_run_to_their_end(runs: Mapping[str, Any]) -> None:
    assert {dag_id: run["state"] for dag_id, run in runs.items()} == dict.fromkeys(runs, "success")


def test_an_idle_endpoint_is_kept_by_an_airflow_without_a_base_url(runs: Mapping[str, Any]) -> None:
    result = runs["idle_endpoints"]["xcoms"]["delete_idle_endpoints"]["return_value"]
    assert (result["dry_run"], result["deleted"]) == (True, [])
    (row,) = [each for each in result["endpoints"] if each["endpoint"] == "airflow-sm-demo"]
    assert (row["dag_id"], row["task_id"], row["decision"]) == ("demo_endpoint", "deploy", "keep")
    assert "base_url is not set" in row["reason"]


def test_the_form_gives_back_the_location_of_the_result(runs: Mapping[str, Any], account: Account) -> None:
    result = runs["score_file"]["xcoms"]["score"]
    assert result["input_location"] == "s3://airflow-sm-demo/incoming/07.csv"
    predicted = account.read(result["output_location"]).decode().splitlines()
    assert predicted
    assert {row.split(",")[0] for row in predicted} <= {"setosa", "versicolor", "virginica"}
    assert "planted-trace" not in json.dumps(runs["score_file"])


def test_the_batch_scores_every_file_and_its_report_adds_up(
    runs: Mapping[str, Any], account: Account
) -> None:
    summary = runs["async_batch"]["xcoms"]["score"]["return_value"]
    assert (summary["inputs"], summary["succeeded"], summary["failed"]) == (FILES, FILES, 0)
    report = json.loads(account.read(summary["report_location"]))
    assert report["inputs"] == FILES
