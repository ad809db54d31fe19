"""``make demo``: run the main job in a real Airflow against the embedded SageMaker, offline, and print a table.

``make demo-batch`` runs the multi-model batch instead, and saves its report as well. ``--up`` starts both services and
leaves them running, or checks those that run; ``--down`` ends them and keeps their state.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi, RequestRefusedError, RunStatus
from airflow_sm_plugin.local.stack.demo_stack import SAGEMAKER_PORT, Addresses, DemoStack
from airflow_sm_plugin.local.stack.demo_view import Progress, locations, report_of, report_table, saved_page
from airflow_sm_plugin.local.stack.processes import StackError
from airflow_sm_plugin.local.stack.start_view import (
    StartProgress,
    show_addresses,
    show_next_steps,
    show_restarted,
)

_DAG_ID = "autopilot_to_predictions"
_RUN_SECONDS = 3600.0
"""Limit of a demo's run: far beyond its minutes, so that only a run that hangs reaches it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130
"""A shell's exit status for SIGINT: 128 and the signal's number."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m airflow_sm_plugin.local.stack.demo", description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument(
        "--up", action="store_true", help="start Airflow and SageMaker, and leave them running"
    )
    action.add_argument("--down", action="store_true", help="end what --up started")
    parser.add_argument("--dags", type=Path, default=Path("dags"), help="DAG folder (default: %(default)s)")
    parser.add_argument("--dag", default=_DAG_ID, help="DAG to run (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of the embedded SageMaker, e.g. multi_model_load_seconds=0.5; can be repeated",
    )
    parser.add_argument(
        "--state", type=Path, default=Path(".demo"), help="logs and databases (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)  # a file has room for wider tables than 80 columns
    kept = DemoStack(options.state / "up", options.dags, settings=options.set, keep=True)
    if options.down:
        return _down(console, kept)
    if not options.dags.is_dir():
        parser.error(f"there is no folder {options.dags}; run this where the repository's dags/ is")
    if options.up:
        return _up(console, kept)
    return _demo(console, DemoStack(options.state / "run", options.dags, settings=options.set), options.dag)


def _up(console: Console, stack: DemoStack) -> int:
    addresses = stack.running()
    try:
        if addresses is None:
            with _ended_on_error(console, stack):
                addresses = _start(console, stack)
        else:
            _repair(console, stack)
    except StackError as error:
        code = _failed(console, error)
        console.print(
            f"Try make down and make up. If the kept state is the cause, remove {os.path.relpath(stack.folder)}."
        )
        return code
    except KeyboardInterrupt:
        return _INTERRUPTED
    show_addresses(console, addresses)
    show_next_steps(console, addresses, dags=stack.dags_folder, state=stack.folder)
    return 0


def _start(console: Console, stack: DemoStack) -> Addresses:
    console.print("Starting the embedded SageMaker and Airflow, about half a minute …")
    with StartProgress(console) as progress:
        stack.observer = progress.observe
        return stack.start()


def _repair(console: Console, stack: DemoStack) -> None:
    """Check a stack that runs. It keeps running when this is interrupted or fails."""
    console.print("Both are started already. Checking each component …")
    with StartProgress(console) as progress:
        stack.observer = progress.observe
        ends = stack.repair()
    show_restarted(console, ends)
    console.print("All others work." if ends else "All work.")


def _down(console: Console, stack: DemoStack) -> int:
    begun = time.monotonic()
    ran = stack.stop()
    if not ran:
        console.print("Nothing was running.")
        return 0
    console.print(f"Stopped after {time.monotonic() - begun:.0f} s: {', '.join(ran)}.", highlight=False)
    console.print(f"State and logs are kept in {os.path.relpath(stack.folder)}; make clean removes them.")
    return 0


def _demo(console: Console, stack: DemoStack, dag_id: str) -> int:
    begun = time.monotonic()
    try:
        with _ended_on_error(console, stack):
            addresses = _start(console, stack)
            show_addresses(console, addresses)
            console.print(f"Running the DAG [bold]{dag_id}[/].")
            succeeded = _run(console, stack, dag_id, addresses)
            _stop(stack)
    except StackError as error:
        return _failed(console, error)
    except KeyboardInterrupt:
        return _INTERRUPTED
    seconds = time.monotonic() - begun
    console.print(
        f"{seconds:.0f} s in all; everything is stopped, logs: {os.path.relpath(stack.folder)}",
        highlight=False,
    )
    return 0 if succeeded else 1


def _run(console: Console, stack: DemoStack, dag_id: str, addresses: Addresses) -> bool:
    if stack.airflow is None:
        raise StackError("Airflow is not running")
    api = stack.airflow.api
    with Progress(console) as progress:

        def on_poll(status: RunStatus) -> None:
            stack.check()
            progress.show(status)

        api.wait_for_dag(dag_id)
        run_id = api.begin(dag_id)
        status = api.wait_for_run(dag_id, run_id, seconds=_RUN_SECONDS, on_poll=on_poll)
    reports = [report for task in status.tasks if (report := report_of(api, dag_id, run_id, task))]
    if reports:
        console.print(report_table(reports))
        console.print(locations(reports), highlight=False, soft_wrap=True)
        console.print(
            "Names and numbers vary from run to run. These S3 objects end with the demo.\n"
            f"To open such objects in a browser: make up, run {dag_id} in Airflow,\n"
            f"then http://127.0.0.1:{SAGEMAKER_PORT}/_embedded/ui/",
            style="dim",
            highlight=False,
        )
    for report in reports:
        if page := saved_page(report, folder=stack.folder, sagemaker=addresses.sagemaker):
            console.print(f"Open [bold]{os.path.relpath(page)}[/] to see the report.", highlight=False)
    if status.state == "success":
        return True
    _show_failures(console, api, dag_id, run_id, status)
    return False


def _show_failures(console: Console, api: AirflowApi, dag_id: str, run_id: str, status: RunStatus) -> None:
    for task in status.tasks:
        if task.state != "failed":
            continue
        try:
            text = api.log_text(
                dag_id, run_id, task.task_id, try_number=task.try_number, map_index=task.map_index
            )
        except RequestRefusedError as error:
            text = str(error)
        console.print(f"\n[bold red]{task.label} failed[/], the end of its log:")
        lines = [line for line in text.splitlines() if "::group::" not in line and "::endgroup::" not in line]
        console.print(escape("\n".join(lines[-30:])), highlight=False, soft_wrap=True)


def _failed(console: Console, error: StackError) -> int:
    console.print(f"[bold red]Failed:[/] {escape(str(error))}", highlight=False)
    return 1


@contextmanager
def _ended_on_error(console: Console, stack: DemoStack) -> Iterator[None]:
    """Raise KeyboardInterrupt at SIGINT, SIGTERM and SIGHUP, and end the stack on any exception."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        _hold_signals()  # a second signal must not interrupt the clean-up
        raise KeyboardInterrupt

    for signal_number in _SIGNALS:
        signal.signal(signal_number, interrupt)
    try:
        yield
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            console.print("\nInterrupted; ending every process …")
        _stop(stack)
        raise


def _stop(stack: DemoStack) -> None:
    _hold_signals()
    stack.stop()


def _hold_signals() -> None:
    for signal_number in _SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
