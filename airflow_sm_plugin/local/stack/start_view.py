"""The terminal's output while the stack starts and after it: components with running clocks, addresses, next steps."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from airflow_sm_plugin.local.stack.demo_stack import AIRFLOW_PORT, SAGEMAKER, SAGEMAKER_PORT, Addresses

_LINE = 300
"""Characters of a log line that are shown."""


class StartProgress:
    """Shows components as they start: a live table on a terminal, else a line for each that is ready."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._begun: dict[str, float] = {}
        self._ready: dict[str, float] = {}
        self._since = time.monotonic()
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._table)

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def observe(self, component: str, state: str) -> None:
        moment = time.monotonic()
        if state == "starting":
            self._begun[component] = moment
            return
        self._ready[component] = moment
        if not self._console.is_terminal:
            self._console.print(f"  {moment - self._since:5.1f} s  {component} ready", highlight=False)

    def _table(self) -> Table:
        moment = time.monotonic()
        rows = {
            name: (self._ready.get(name, moment) - begun, name in self._ready)
            for name, begun in self._begun.items()
        }
        return start_table(rows, seconds=moment - self._since)


def start_table(rows: Mapping[str, tuple[float, bool]], *, seconds: float) -> Table:
    """Build a table of components, each with its seconds of starting and whether it is ready."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, (taken, is_ready) in rows.items():
        sign, state, style = ("✔", "ready", "green") if is_ready else ("▶", "starting", "bold cyan")
        table.add_row(Text(f"  {sign} {name}", style), Text(state, style), Text(f"{taken:.0f} s", "dim"))
    table.add_row("  in all", "", f"{seconds:.0f} s", style="dim")
    return table


def show_addresses(console: Console, addresses: Addresses) -> None:
    """Print both addresses, and why one has another port than usual."""
    for name, url, note, port in (
        ("Airflow", addresses.airflow, "no login", AIRFLOW_PORT),
        ("SageMaker", addresses.sagemaker, f"page: {addresses.sagemaker}/_embedded/ui/", SAGEMAKER_PORT),
    ):
        console.print(f"  {name:<9}  {url}  {note}", highlight=False, soft_wrap=True)
        if not url.endswith(f":{port}"):
            console.print(f"             port {port} is in use, so this is the next free one", style="dim")


def show_next_steps(console: Console, addresses: Addresses, *, dags: Path, state: Path) -> None:
    tried = " · try: demo_endpoint, then score_file" if (dags / "demo_endpoint.py").exists() else ""
    steps = f"""
  DAGs: {os.path.relpath(dags)} · logs: {os.path.relpath(state)}{tried}
  For the AWS CLI and boto3:
    export AWS_ENDPOINT_URL={addresses.sagemaker} AWS_DEFAULT_REGION=us-east-1
    export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any

make up again checks both and restarts what has ended.
make down stops both and keeps their state. make clean removes it."""
    console.print(escape(steps), highlight=False, soft_wrap=True)


def show_restarted(console: Console, ends: Mapping[str, str]) -> None:
    """Print which components did not work, and the last lines of their logs."""
    for component, log_end in ends.items():
        console.print(f"[bold red]{component} had stopped[/] and was restarted. The end of its log:")
        for line in log_end.splitlines() or ["(empty)"]:
            short = f"{line[:_LINE]} …" if len(line) > _LINE else line
            console.print(f"  {escape(short)}", style="dim", highlight=False, soft_wrap=True)
    if SAGEMAKER in ends:
        console.print(
            "The embedded SageMaker continues with the state of the last make down: what it made since is lost."
        )
