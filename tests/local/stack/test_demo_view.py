"""The demo's tables: tasks in order with running clocks, and results that fit 80 columns."""

from __future__ import annotations

import datetime
import io

import pytest
from rich.console import Console, RenderableType

from airflow_sm_plugin.local.stack.airflow_api import TaskInstance
from airflow_sm_plugin.local.stack.demo_stack import Addresses
from airflow_sm_plugin.local.stack.demo_view import in_order, locations, progress_table, report_table
from airflow_sm_plugin.local.stack.start_view import (
    StartProgress,
    show_addresses,
    show_restarted,
    start_table,
)

NOW = datetime.datetime(2026, 11, 30, 12, 0, 30, tzinfo=datetime.UTC)
REPORT = {
    "data_set": "breast_cancer",
    "candidate": "breast-cancer-9f8cd3c0a-006-c0a65827",
    "objective": "F1 0.961",
    "response_keys": ["predicted_label", "probability"],
    "rows": 143,
    "accuracy": 0.958,
    "trace_id_round_trip": True,
    "outputs": "s3://airflow-sm-demo/breast_cancer/9f8cd3953d0b4e6c8d1f",
}
BATCH = {
    "models": 60,
    "inputs": 60,
    "records": 1797,
    "failed": 0,
    "accuracy": 0.9,
    "records_per_second": 30.5,
    "report": "s3://airflow-sm-demo/stores/outputs/63a9f0ac-5a4b-5b0e-8e9b-9c2b8f1b6f2e/report.html",
}


def shown(what: RenderableType) -> list[str]:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(what, soft_wrap=False)
    return console.export_text().splitlines()


def task(
    task_id: str, state: str | None = None, *, index: int = -1, start: int | None = None
) -> TaskInstance:
    begun = None if start is None else f"2026-11-30T12:00:{start:02d}Z"
    ended = state == "success"
    return TaskInstance(task_id, index, state, 1, begun, None, 2.25 if ended else None)


def test_tasks_are_in_the_order_of_their_start_and_mapped_ones_in_that_of_their_index() -> None:
    tasks = [
        task("merge"),
        task("batch", "running", index=0, start=12),
        task("batch", "running", index=10, start=13),
        task("batch", "success", index=2, start=11),
        task("batch", "queued", index=1),
        task("plan", "success", start=5),
    ]
    assert [each.label for each in in_order(tasks)] == [
        "plan",
        "batch[0]",
        "batch[1]",
        "batch[2]",
        "batch[10]",
        "merge",
    ]


@pytest.mark.parametrize(("state", "seconds"), [("running", "18 s"), ("deferred", "18 s"), ("queued", None)])
def test_a_task_that_works_shows_its_seconds(state: str, seconds: str | None) -> None:
    (_, _, line) = shown(progress_table([task("train", state, start=12)], seconds=20, now=NOW))
    assert line.rstrip().endswith(seconds or state)


def test_a_single_task_group_makes_rows_and_several_make_columns() -> None:
    one = shown(progress_table([task("model"), task("scores.batch", index=1)], seconds=1, now=NOW))
    assert [line.split()[0] for line in one[2:]] == ["model", "scores.batch[1]"]
    two = shown(progress_table([task("wine.train"), task("iris.train")], seconds=1, now=NOW))
    assert two[1].split() == ["task", "iris", "wine"]
    assert len(two) == 3


@pytest.mark.parametrize("reports", [[REPORT, {**REPORT, "data_set": "wine"}], [BATCH]])
def test_results_fit_eighty_columns_and_name_each_address_in_one_piece(
    reports: list[dict[str, object]],
) -> None:
    table = shown(report_table(reports))  # type: ignore[arg-type] # their values are JSON
    assert max(map(len, table)) <= 80
    assert not [line for line in table if "s3:" in line]
    below = locations(reports).plain.splitlines()  # type: ignore[arg-type] # their values are JSON
    assert [line.split()[-1] for line in below if "s3:" in line] == [
        report.get("outputs") or report["report"] for report in reports
    ]


def test_a_batchs_table_has_no_row_for_a_header() -> None:
    first, second, *_ = shown(report_table([BATCH]))  # type: ignore[list-item] # its values are JSON
    assert not {"models", "60"} & set(first.split())
    assert {"models", "60"} <= set(second.split())


def test_a_component_that_starts_shows_its_seconds() -> None:
    lines = shown(start_table({"database": (4.2, True), "scheduler": (7.0, False)}, seconds=11.4))
    assert [line.split() for line in lines] == [
        ["✔", "database", "ready", "4", "s"],
        ["▶", "scheduler", "starting", "7", "s"],
        ["in", "all", "11", "s"],
    ]


def test_without_a_terminal_each_component_that_is_ready_has_a_line() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    with StartProgress(console) as progress:
        progress.observe("database", "starting")
        progress.observe("database", "ready")
    assert console.export_text().rstrip().endswith("s  database ready")


def test_another_port_than_usual_is_explained() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    show_addresses(console, Addresses(airflow="http://127.0.0.1:8081", sagemaker="http://127.0.0.1:4566"))
    text = console.export_text()
    assert "port 8080 is in use" in text
    assert "port 4566 is in use" not in text


def test_what_was_restarted_has_the_end_of_its_log_in_short_lines() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    show_restarted(console, {"scheduler": f"no [module] x\n{'y' * 1000}"})
    text = console.export_text()
    assert "scheduler had stopped" in text
    assert "no [module] x" in text
    assert max(map(len, text.splitlines())) < 400
