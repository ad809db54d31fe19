"""The demo's output: the running tasks, a table of results, and the report's page as a file."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import boto3
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi, Json, RunStatus, TaskInstance
from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS

COLUMNS: Mapping[str, str] = {
    "data_set": "data set",
    "objective": "objective",
    "response_keys": "response keys",
    "rows": "rows predicted",
    "accuracy": "accuracy on held-out rows",
    "trace_id_round_trip": "trace id round trip",
}
"""The keys of a data set's report, and their headings."""

BATCH_COLUMNS: Mapping[str, str] = {
    "models": "models",
    "inputs": "inputs",
    "records": "records",
    "failed": "failed",
    "accuracy": "accuracy",
    "records_per_second": "records/s",
}
"""The keys of a batch's report, and their headings."""

BELOW = ("candidate", "outputs", "report")
"""The keys with long values, which are below the table, a line each: 80 columns would fold them."""

_STATES: Mapping[str | None, tuple[str, str]] = {
    None: ("·", "dim"),
    "scheduled": ("·", "dim"),
    "queued": ("·", "yellow"),
    "running": ("▶", "bold cyan"),
    "deferred": ("⏸", "magenta"),
    "up_for_retry": ("↻", "yellow"),
    "up_for_reschedule": ("↻", "cyan"),
    "success": ("✔", "green"),
    "failed": ("✘", "bold red"),
    "upstream_failed": ("✘", "dim red"),
    "skipped": ("-", "dim"),
}
_WAITING = frozenset({None, "scheduled", "queued"})
_WORKING = frozenset({"running", "deferred"})


class Progress:
    """Shows the polls of a run: a live table on a terminal, else a line for each change of a task's state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._tasks: Sequence[TaskInstance] = ()
        self._states: dict[str, str | None] = {}
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._table)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, status: RunStatus) -> None:
        self._tasks = status.tasks
        if self._console.is_terminal:
            return
        for task in in_order(status.tasks):
            if task.state not in _WAITING and task.state != self._states.get(task.label):
                seconds = f"{time.monotonic() - self._begun:6.1f} s"
                self._console.print(f"{seconds}  {task.label:<40} {task.state}", highlight=False)
            self._states[task.label] = task.state

    def _table(self) -> Table:
        seconds = time.monotonic() - self._begun
        return progress_table(self._tasks, seconds=seconds, now=datetime.datetime.now(datetime.UTC))


def progress_table(tasks: Sequence[TaskInstance], *, seconds: float, now: datetime.datetime) -> Table:
    """Build a table of tasks in the order of their start.

    Task groups with the same steps are columns; else each task has a row.
    """
    groups = sorted({task.label.rpartition(".")[0] for task in tasks} - {""})
    rows: dict[str, dict[str, TaskInstance]] = {}
    for task in in_order(tasks):
        group, _, step = task.label.rpartition(".") if len(groups) > 1 else ("", "", task.label)
        rows.setdefault(step, {})[group] = task
    columns = sorted({group for row in rows.values() for group in row})
    title = f"{seconds:.0f} s" if tasks else f"{seconds:.0f} s, waiting until Airflow has read the DAG"
    table = Table(title=title, title_justify="left", title_style="dim", box=None, padding=(0, 2, 0, 0))
    table.add_column("task" if rows else "")
    for column in columns:
        table.add_column(column)
    for step, row in rows.items():
        table.add_row(step, *(_cell(row.get(column), now) for column in columns))
    return table


def in_order(tasks: Sequence[TaskInstance]) -> list[TaskInstance]:
    """Sort tasks by their start, and the mapped ones of a task by their index."""
    starts: dict[str, str] = {}
    for task in tasks:
        begun = task.start_date or "~"
        starts[task.task_id] = min(begun, starts.get(task.task_id, begun))
    return sorted(tasks, key=lambda task: (starts[task.task_id], task.task_id, task.map_index))


def report_table(reports: Sequence[Mapping[str, Json]]) -> Table:
    """Build a table of reports of the same kind, with a column per report."""
    is_batch = BATCH_COLUMNS.keys() <= reports[0].keys()
    cells = [
        [heading, *(_text(report.get(key)) for report in reports)]
        for key, heading in (BATCH_COLUMNS if is_batch else COLUMNS).items()
    ]
    table = Table(show_header=not is_batch)
    for heading in [""] * len(cells[0]) if is_batch else cells.pop(0):
        table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def locations(reports: Sequence[Mapping[str, Json]]) -> Text:
    """List the long values of reports, one a line."""
    lines = []
    for report in reports:
        prefix = f"{report['data_set']} " if "data_set" in report else ""
        lines += [f"{prefix}{key}  {report[key]}" for key in BELOW if report.get(key) is not None]
    return Text("\n".join(lines))


def _cell(task: TaskInstance | None, now: datetime.datetime) -> Text:
    if task is None:
        return Text("")
    sign, style = _STATES.get(task.state, ("?", ""))
    taken = _seconds(task, now)
    return Text(f"{sign} {task.state or 'waiting'}{'' if taken is None else f' {taken}'}", style=style)


def _seconds(task: TaskInstance, now: datetime.datetime) -> str | None:
    """Format how long a task ran or, while it works, how long it has been running."""
    if task.state in _WORKING and task.start_date is not None:
        begun = datetime.datetime.fromisoformat(task.start_date)
        return f"{max(0.0, (now - begun).total_seconds()):.0f} s"
    return None if task.duration is None else f"{task.duration:.1f} s"


def _text(value: Json) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4f}"
        case list():
            return "\n".join(_text(item) for item in value)
        case dict():
            return "\n".join(f"{name}: {_text(item)}" for name, item in value.items())
    return str(value)


def report_of(api: AirflowApi, dag_id: str, run_id: str, task: TaskInstance) -> dict[str, Json] | None:
    """Read the returned value of a successful task named ``report``, in a group or not; else None."""
    if task.task_id.rpartition(".")[2] != "report" or task.state != "success":
        return None
    value = api.xcom(dag_id, run_id, task.task_id)
    return value if isinstance(value, dict) else None


def saved_page(report: Mapping[str, Json], *, folder: Path, sagemaker: str) -> Path | None:
    """Save a report's page from the S3 of the embedded SageMaker as ``report.html``; None for a report without one."""
    location = report.get("report")
    if not isinstance(location, str) or not location.endswith(".html"):
        return None
    bucket, _, key = location.removeprefix("s3://").partition("/")
    s3 = boto3.client(
        "s3",
        endpoint_url=sagemaker,
        region_name=AWS_SETTINGS["AWS_DEFAULT_REGION"],
        aws_access_key_id=AWS_SETTINGS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=AWS_SETTINGS["AWS_SECRET_ACCESS_KEY"],
    )
    page = folder / "report.html"
    page.write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return page
