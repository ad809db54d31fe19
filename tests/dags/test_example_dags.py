"""The example DAGs: all parse, and the main job runs to its end with ``dag.test()`` against the embedded SageMaker.

``image_uri`` is not run: its virtualenv comes from a package index. Its function is tested beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import json_of, run_dag
from tests.support import Account

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "dags"
ON_AIRFLOW_3 = find_spec("airflow.sdk") is not None
PARSE = """
import json, sys
sys.path.insert(0, sys.argv[1])
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # Airflow 2.11
    from airflow.models.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({"errors": bag.import_errors, "dags": sorted(bag.dags)}))
"""
DATA_SETS = {"breast_cancer": 143, "wine": 45}
"""Rows held out of each."""


@pytest.fixture(scope="module")
def parsed(airflow_db: None) -> dict[str, Any]:
    """What Airflow makes of the DAG folder, without any AWS."""
    return json_of("-c", PARSE, DAGS)


def test_every_example_parses(parsed: Mapping[str, Any]) -> None:
    """One is for Airflow 3 only: asset watchers are new there."""
    on_3 = {"finished_inferences"}
    everywhere = {
        "async_batch",
        "autopilot_to_predictions",
        "demo_endpoint",
        "image_uri",
        "multi_model_batch",
        "multi_model_form",
        "score_file",
    }
    broken = {Path(name).stem for name in parsed["errors"]}
    assert broken == (set() if ON_AIRFLOW_3 else on_3), parsed["errors"]
    assert set(parsed["dags"]) == everywhere | (on_3 if ON_AIRFLOW_3 else set())


@pytest.fixture(scope="module")
def main_job(airflow_db: None, module_account: Account) -> dict[str, Any]:
    """The main job, run once by ``dag.test()``: state, tasks, XComs and rendered fields as Airflow stored them."""
    return run_dag(DAGS, "autopilot_to_predictions", url=module_account.url)


@pytest.mark.timeout(300)
def test_the_main_job_runs_to_its_end(main_job: Mapping[str, Any]) -> None:
    assert main_job["state"] == "success"
    assert set(main_job["tasks"].values()) == {"success"}


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_its_predictions_are_good_and_the_trace_id_came_back(
    main_job: Mapping[str, Any], data_set: str
) -> None:
    report = main_job["xcoms"][f"{data_set}.report"]["return_value"]
    assert report["rows"] == DATA_SETS[data_set]
    assert report["accuracy"] >= 0.9
    assert report["trace_id_round_trip"] is True


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_what_the_tasks_leave_on_xcom_is_what_their_docstrings_say(
    main_job: Mapping[str, Any], data_set: str
) -> None:
    """Each key is an XCom of its own as well, and all of it is small."""
    xcoms = {
        task: main_job["xcoms"][f"{data_set}.{task}"] for task in ("export", "deploy", "invoke", "clean_up")
    }
    returned = {task: values["return_value"] for task, values in xcoms.items()}
    endpoint = main_job["rendered"][f"{data_set}.deploy"]["endpoint_name"]
    assert set(returned["export"]) == {
        "model_name",
        "model_arn",
        "auto_ml_job_name",
        "candidate_name",
        "objective",
        "inference_response_keys",
    }
    assert returned["deploy"]["status"] == "InService"
    assert returned["deploy"]["action"] == "created"
    assert returned["invoke"]["endpoint_name"] == returned["deploy"]["endpoint_name"] == endpoint
    assert (
        main_job["xcoms"][f"{data_set}.await_result"]["return_value"] == returned["invoke"]["output_location"]
    )
    assert returned["clean_up"]["deleted"] == [
        f"endpoint {endpoint}",
        f"model {returned['export']['model_name']}",
        f"endpoint configuration {returned['deploy']['endpoint_config_name']}",
    ]
    for values in xcoms.values():
        assert {key: values[key] for key in values["return_value"]} == values["return_value"]
        assert len(json.dumps(values)) < 4_000


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_nothing_of_it_is_left_in_sagemaker(
    main_job: Mapping[str, Any], data_set: str, account: Account
) -> None:
    endpoint = main_job["rendered"][f"{data_set}.deploy"]["endpoint_name"]
    assert account.status(endpoint) is None
    assert account.configs(endpoint) == []
    assert account.models(main_job["xcoms"][f"{data_set}.export"]["model_name"]) == []


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_the_trace_id_is_in_no_rendered_field_and_no_xcom_of_ours(
    main_job: Mapping[str, Any], data_set: str
) -> None:
    """Airflow stores rendered fields: ours masks the value, though the request carried it (the report says so)."""
    assert main_job["rendered"][f"{data_set}.invoke"]["custom_attributes"] == "***"
    assert "trace-id=" not in json.dumps(main_job["xcoms"])
