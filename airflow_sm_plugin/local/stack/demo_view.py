"""The demo's output: the running tasks, a table of results, and the report's page as a file."""

from __future__ import annotations

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
    "candidate": "candidate",
    "objective": "objective",
    "response_keys": "response keys",
    "rows": "rows predicted",
    "accuracy": "accuracy on held-out rows",
    "trace_id_round_trip": "trace id round trip",
    "outputs": "outputs",
}
"""The keys of a data set's report, and their headings."""

BATCH_COLUMNS: Mapping[str, str] = {
    "models": "models",
    "inputs": "inputs",
    "records": "records",
    "failed": "failed",
    "accuracy": "accuracy",
    "records_per_second": "records/s",
    "report": "report",
}
"""The keys of a batch's report, and their headings."""

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
_WIDE = 160
"""From this number of characters on, the report's eight columns fit on a line."""

_WAITING = frozenset({None, "scheduled", "queued"})


class Progress:
    """Shows the polls of a run: a live table on a terminal, else a line for each change of a task's state."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun = time.monotonic()
        self._states: dict[str, str | None] = {}
        self._live = Live(console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, status: RunStatus) -> None:
        if self._console.is_terminal:
            self._live.update(progress_table(status.tasks, seconds=time.monotonic() - self._begun))
            return
        for task in sorted(status.tasks, key=lambda task: task.start_date or "~"):
            if task.state not in _WAITING and task.state != self._states.get(task.label):
                seconds = f"{time.monotonic() - self._begun:6.1f} s"
                self._console.print(f"{seconds}  {task.label:<40} {task.state}", highlight=False)
            self._states[task.label] = task.state


def progress_table(tasks: Sequence[TaskInstance], *, seconds: float) -> Table:
    """Build a table of tasks: a row for each step, a column for each task group."""
    steps: dict[str, dict[str, TaskInstance]] = {}
    for task in tasks:
        group, _, step = task.label.rpartition(".")
        steps.setdefault(step, {})[group] = task
    groups = sorted({group for row in steps.values() for group in row})
    ordered = sorted(steps.items(), key=lambda item: min(t.start_date or "~" for t in item[1].values()))
    table = Table(
        title=f"{seconds:.0f} s", title_justify="left", title_style="dim", box=None, padding=(0, 2, 0, 0)
    )
    table.add_column("step")
    for group in groups:
        table.add_column(group or "run")
    for step, row in ordered:
        table.add_row(step, *(_cell(row.get(group)) for group in groups))
    return table


def report_table(reports: Sequence[Mapping[str, Json]], *, width: int) -> Table:
    """Build a table of reports of the same kind: a row per report, or a column where ``width`` is too small."""
    columns = BATCH_COLUMNS if BATCH_COLUMNS.keys() <= reports[0].keys() else COLUMNS
    cells = [[heading, *(_text(report.get(key)) for report in reports)] for key, heading in columns.items()]
    rows = list(zip(*cells, strict=True)) if width >= _WIDE else cells
    table = Table(show_lines=width >= _WIDE)
    for heading in rows[0]:
        table.add_column(heading, overflow="fold")
    for row in rows[1:]:
        table.add_row(*row)
    return table


def _cell(task: TaskInstance | None) -> Text:
    if task is None:
        return Text("")
    sign, style = _STATES.get(task.state, ("?", ""))
    seconds = f" {task.duration:.1f} s" if task.duration is not None else ""
    return Text(f"{sign} {task.state or 'waiting'}{seconds}", style=style)


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
