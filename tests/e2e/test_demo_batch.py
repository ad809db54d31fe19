"""``make demo-batch`` on the stack that is running already: a DAG that comes paused, its table, its page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from airflow_sm_plugin.local.stack import airflow_api
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.demo_view import report_of, report_table, saved_page
from tests.support import Account

pytestmark = pytest.mark.slow

DAG = "multi_model_batch"


def test_its_schedule_starts_it_and_it_ends_with_a_table_and_a_page(
    airflow_stack: AirflowStack, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_api, "_SCHEDULE_SECONDS", 1700)
    api = airflow_stack.api
    api.wait_for_dag(DAG)
    run_id = api.begin(DAG)
    assert run_id.startswith("scheduled__")
    run_status = api.wait_for_run(DAG, run_id, seconds=1700)
    assert run_status.state == "success", run_status
    assert {task.state for task in run_status.tasks} == {"success"}

    (report,) = (found for task in run_status.tasks if (found := report_of(api, DAG, run_id, task)))
    console = Console(width=240, file=io.StringIO(), record=True)
    console.print(report_table([report], width=240))
    shown = console.export_text()
    assert "records/s" in shown
    assert "1797" in shown
    page = saved_page(report, folder=tmp_path, sagemaker=account.url)
    assert page is not None
    assert "store-007.tar.gz" in page.read_text()
    assert account.status("airflow-sm-stores") is None
