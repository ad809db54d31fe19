"""The examples for multi-model batches: the scheduled one keeps its endpoint, the form then works on it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import run_dags
from tests.support import Account

DAGS = Path(__file__).parents[2] / "dags"
STORES, RECORDS = 60, 1_797

pytestmark = [pytest.mark.airflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def runs(airflow_db: None, module_account: Account) -> dict[str, dict[str, Any]]:
    """Each DAG's run, as Airflow stored it."""
    confs = {"multi_model_batch": {"keep": True}, "multi_model_form": {"multi_record": True}}
    return run_dags(DAGS, confs, url=module_account.url)


def test_they_run_to_their_end(runs: Mapping[str, Any]) -> None:
    assert {dag_id: run["state"] for dag_id, run in runs.items()} == dict.fromkeys(runs, "success")


def test_each_store_is_scored_by_its_own_model(runs: Mapping[str, Any]) -> None:
    report = runs["multi_model_batch"]["xcoms"]["report"]["return_value"]
    assert (report["models"], report["inputs"], report["records"]) == (STORES, STORES, RECORDS)
    assert report["failed"] == 0
    assert report["accuracy"] >= 0.9


def test_the_endpoint_stays_as_asked(runs: Mapping[str, Any], account: Account) -> None:
    assert runs["multi_model_batch"]["tasks"]["clean_up"] == "skipped"
    assert account.status("airflow-sm-stores") == "InService"


def test_the_form_scores_the_same_in_fewer_payloads(runs: Mapping[str, Any], account: Account) -> None:
    summary = runs["multi_model_form"]["xcoms"]["batch.merge"]["return_value"]
    assert (summary["records"], summary["failed"], summary["invocations"]) == (RECORDS, 0, STORES)
    assert json.loads(account.read(summary["report_location"]))["records"] == RECORDS
    scheduled = runs["multi_model_batch"]["xcoms"]["scores.merge"]["return_value"]
    outputs = [f"{one['outputs'].rstrip('/')}/store_id=007/day.csv.out" for one in (scheduled, summary)]
    assert account.read(outputs[0]) == account.read(outputs[1])
