"""``make demo-batch`` on the stack that is running already: its run, its table, its page."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.demo_view import report_of, report_table, saved_page
from tests.support import Account

pytestmark = pytest.mark.slow

DAG = "multi_model_batch"


def test_it_ends_with_a_table_and_a_page(
    airflow_stack: AirflowStack, account: Account, tmp_path: Path
) -> None:
    api = airflow_stack.api
    api.wait_for_dag(DAG)
    run_id = api.begin(DAG)
    run_status = api.wait_for_run(DAG, run_id, seconds=1700)
    assert run_status.state == "success", run_status
    assert {task.state for task in run_status.tasks} == {"success"}

    (report,) = (found for task in run_status.tasks if (found := report_of(api, DAG, run_id, task)))
    console = Console(width=240, file=io.StringIO(), record=True)
    console.print(report_table([report]))
    shown = console.export_text()
    assert "records/s" in shown
    assert "1797" in shown
    page = saved_page(report, folder=tmp_path, sagemaker=account.url)
    assert page is not None
    assert "store-007.tar.gz" in page.read_text()
    assert account.status("airflow-sm-stores") is None
