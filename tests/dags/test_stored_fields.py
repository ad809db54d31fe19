"""Sensitive fields in Airflow's database, and rescheduling, by Airflow's own real run of a DAG."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.dags.conftest import run_dag
from tests.support import Account

FOLDER = Path(__file__).with_name("folder")
SECRET = "planted-secret-c0de"

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

TELLS_ATTRIBUTES = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    return context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"), "text/plain"
"""


@pytest.fixture(scope="module")
def ran(airflow_db: None, module_account: Account) -> dict[str, Any]:
    """One run that hands secrets to sensitive fields in every way."""
    endpoint = module_account.deploy(TELLS_ATTRIBUTES, asynchronous=True)
    conf = {
        "endpoint": endpoint,
        "input": module_account.upload("anything"),
        "model_data_url": module_account.upload_model(),
        "secret": SECRET,
        "bucket": module_account.bucket,
    }
    return {"endpoint": endpoint, **run_dag(FOLDER, "sensitive", url=module_account.url, conf=conf)}


def test_every_way_of_giving_a_value_works(ran: Mapping[str, Any], account: Account) -> None:
    """Templates are rendered, XComs awaited and mapped over: the model tells what it was sent."""
    assert {task for task, state in ran["tasks"].items() if state != "success"} == {"await_nothing"}

    def sent(task: str) -> str:
        location = ran["xcoms"][task]["output_location"]
        bucket, _, key = location.removeprefix("s3://").partition("/")
        account.s3.get_waiter("object_exists").wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1})
        return account.read(location).decode()

    assert sent("template") == f"{SECRET}-template"
    assert sent("xcom") == "from-xcom-0"
    assert [sent("literals[0]"), sent("literals[1]")] == [f"{SECRET}-0", "literal-1"]
    assert [sent("xcoms[0]"), sent("xcoms[1]")] == ["from-xcom-1", "from-xcom-2"]
    assert sent("partial[0]") == f"{SECRET}-partial"


def test_a_nested_secret_reaches_sagemaker(ran: Mapping[str, Any], account: Account) -> None:
    model = account.sagemaker.describe_model(ModelName=ran["endpoint"])
    assert model["PrimaryContainer"]["Environment"] == {"API_KEY": SECRET}


def test_a_mapped_invokes_results_are_awaited_together(ran: Mapping[str, Any]) -> None:
    """Airflow hands its own lazy sequence of XComs over."""
    assert ran["xcoms"]["await_mapped"]["return_value"] == [
        ran["xcoms"][f"literals[{index}]"]["output_location"] for index in (0, 1)
    ]


def test_rendered_sensitive_fields_are_stored_as_a_mask(ran: Mapping[str, Any]) -> None:
    stored = {
        task: fields.get("custom_attributes") or fields["containers"]
        for task, fields in ran["rendered"].items()
        if "custom_attributes" in fields or "containers" in fields
    }
    assert set(stored) == {
        *("template", "xcom", "partial[0]", "nested"),
        *(f"{task}[{index}]" for task in ("literals", "xcoms") for index in (0, 1)),
    }
    assert set(stored.values()) == {"***"}
    assert SECRET not in json.dumps(ran)


def test_a_rescheduled_wait_ends_by_our_deadline(ran: Mapping[str, Any]) -> None:
    """Each of its polls is a process of its own, which must learn from Airflow when the first one was.

    Without that it would end by Airflow's own time-out, later than these tests may take.
    """
    assert ran["tasks"]["await_nothing"] == "failed"
