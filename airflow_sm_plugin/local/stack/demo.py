"""``make demo``: run the main job in a real Airflow against the embedded SageMaker, offline, and print a table.

``make demo-batch`` runs the multi-model batch instead, and saves its report as well. ``--up`` starts both services and
leaves them running, ``--down`` ends them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from airflow_sm_plugin.local.stack.airflow_api import AirflowApi, RequestRefusedError, RunStatus
from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.demo_view import Progress, report_of, report_table, saved_page
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import StackError, end, marked

_MARKER = "AIRFLOW_SM_DEMO"

_DAG_ID = "autopilot_to_predictions"
_RUN_SECONDS = 3600.0
"""Limit of a demo's run: far beyond its minutes, so that only a run that hangs reaches it."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_INTERRUPTED = 130
"""A shell's exit status for SIGINT: 128 and the signal's number."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The URLs of both services."""

    airflow: str
    sagemaker: str


class DemoStack:
    """Both services. All their files are in a folder.

    :param folder: emptied at the start. ``airflow/`` is AIRFLOW_HOME, ``sagemaker.log`` has the embedded SageMaker's
        requests, ``running.json`` the addresses and process ids
    :param settings: of the embedded SageMaker, ``NAME=VALUE`` each
    """

    def __init__(self, folder: Path, dags_folder: Path, *, settings: Sequence[str] = ()) -> None:
        self.folder = folder.resolve()
        self._marker = (_MARKER, str(self.folder))
        self._dags_folder = dags_folder
        self._settings = tuple(settings)
        self._running_file = self.folder / "running.json"
        self.airflow: AirflowStack | None = None

    def start(self) -> Addresses:
        """Start both and wait until both serve; after a failure, the caller must call :meth:`stop`.

        Processes of an earlier run in the same folder are ended first. Raises StackError.
        """
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        sagemaker = EmbeddedProcess(
            self.folder / "sagemaker.log",
            environment=dict([self._marker]),
            arguments=[word for setting in self._settings for word in ("--set", setting)],
        )
        sagemaker.start()
        self.airflow = AirflowStack(
            self.folder / "airflow",
            self._dags_folder,
            environment={**AWS_SETTINGS, "AWS_ENDPOINT_URL": sagemaker.url, _MARKER: self._marker[1]},
        )
        self.airflow.start()
        addresses = Addresses(airflow=self.airflow.url, sagemaker=sagemaker.url)
        pids = sorted(process.pid for process in marked(*self._marker))
        self._running_file.write_text(json.dumps({**asdict(addresses), "pids": pids}, indent=1) + "\n")
        return addresses

    def running(self) -> Addresses | None:
        """Read the addresses of this folder's running stack, started by any process; None when it does not run."""
        if not self._running_file.exists() or not marked(*self._marker):
            return None
        running = json.loads(self._running_file.read_text())
        return Addresses(airflow=running["airflow"], sagemaker=running["sagemaker"])

    def stop(self) -> None:
        """End all processes of this folder's stack, whoever started them; can be called at any time."""
        end(marker=self._marker)
        self._running_file.unlink(missing_ok=True)


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
    kept = DemoStack(options.state / "up", options.dags, settings=options.set)
    if options.down:
        kept.stop()
        return 0
    if not options.dags.is_dir():
        parser.error(f"there is no folder {options.dags}; run this where the repository's dags/ is")
    if options.up:
        return _up(console, kept)
    return _demo(console, DemoStack(options.state / "run", options.dags, settings=options.set), options.dag)


def _up(console: Console, stack: DemoStack) -> int:
    addresses = stack.running()
    if addresses is None:
        try:
            with _ended_on_error(console, stack):
                addresses = stack.start()
        except StackError as error:
            return _failed(console, error)
        except KeyboardInterrupt:
            return _INTERRUPTED
    _show_addresses(console, addresses)
    console.print("Both keep running until [bold]make down[/].")
    return 0


def _demo(console: Console, stack: DemoStack, dag_id: str) -> int:
    begun = time.monotonic()
    try:
        with _ended_on_error(console, stack):
            console.print("Starting the embedded SageMaker and Airflow …")
            addresses = stack.start()
            _show_addresses(console, addresses)
            console.print(
                f"Healthy after {time.monotonic() - begun:.0f} s; running the DAG [bold]{dag_id}[/]."
            )
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
    api.wait_for_dag(dag_id)
    run_id = api.begin(dag_id)
    with Progress(console) as progress:
        status = api.wait_for_run(dag_id, run_id, seconds=_RUN_SECONDS, on_poll=progress.show)
    reports = [report for task in status.tasks if (report := report_of(api, dag_id, run_id, task))]
    if reports:
        console.print(report_table(reports, width=console.width))
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


def _show_addresses(console: Console, addresses: Addresses) -> None:
    console.print(f"  Airflow    {addresses.airflow}", highlight=False)
    console.print(
        f"  SageMaker  {addresses.sagemaker}  (AWS_ENDPOINT_URL; any made-up credentials)", highlight=False
    )


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
