"""Assertions about a run of the main job, by ``dag.test()`` or by a real scheduler.

A run is what ``drive.py`` prints of it: its state, and its tasks' states, XComs and rendered fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support import Account

DATA_SETS = {"breast_cancer": 143, "wine": 45}
"""Rows held out of each."""


def assert_success(run: Mapping[str, Any]) -> None:
    """Assert that all of it succeeded."""
    assert run["state"] == "success", run["tasks"]
    assert set(run["tasks"].values()) == {"success"}


def assert_good_predictions(run: Mapping[str, Any], data_set: str) -> None:
    """Assert that predictions are good and that the trace id came back."""
    report = run["xcoms"][f"{data_set}.report"]["return_value"]
    assert report["rows"] == DATA_SETS[data_set]
    assert report["accuracy"] >= 0.9
    assert report["trace_id_round_trip"] is True


def assert_documented_xcoms(run: Mapping[str, Any], data_set: str) -> None:
    """Assert that the XComs are those of the docstrings: each key is an XCom of its own as well, and all are small."""
    xcoms = {task: run["xcoms"][f"{data_set}.{task}"] for task in ("export", "deploy", "invoke", "clean_up")}
    returned = {task: values["return_value"] for task, values in xcoms.items()}
    endpoint = run["rendered"][f"{data_set}.deploy"]["endpoint_name"]
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
    assert run["xcoms"][f"{data_set}.await_result"]["return_value"] == returned["invoke"]["output_location"]
    assert returned["clean_up"]["deleted"] == [
        f"endpoint {endpoint}",
        f"model {returned['export']['model_name']}",
        f"endpoint configuration {returned['deploy']['endpoint_config_name']}",
    ]
    for values in xcoms.values():
        assert {key: values[key] for key in values["return_value"]} == values["return_value"]
        assert len(json.dumps(values)) < 4_000


def assert_nothing_left(run: Mapping[str, Any], data_set: str, account: Account) -> None:
    """Assert that SageMaker has none of what it created."""
    endpoint = run["rendered"][f"{data_set}.deploy"]["endpoint_name"]
    assert account.status(endpoint) is None
    assert account.configs(endpoint) == []
    assert account.models(run["xcoms"][f"{data_set}.export"]["model_name"]) == []


def assert_masked_trace_id(run: Mapping[str, Any], data_set: str) -> None:
    """Assert that the trace id is in no rendered field and no XCom of ours.

    Airflow stores rendered fields: ours masks the value, though the request carried it (the report says so).
    """
    assert run["rendered"][f"{data_set}.invoke"]["custom_attributes"] == "***"
    assert "trace-id=" not in json.dumps(run["xcoms"])
