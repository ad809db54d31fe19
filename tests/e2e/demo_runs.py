"""The demo's own program on the Airflow that runs already: what it prints, and its exit code."""

from __future__ import annotations

import io
import signal
from pathlib import Path

from rich.console import Console

from airflow_sm_plugin.local.stack import demo
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.demo_stack import Addresses, DemoStack


class RunningStack(DemoStack):
    """A demo's two services that run before it and after it; :attr:`stopped` counts how often it wanted to end them."""

    def __init__(self, folder: Path, airflow: AirflowStack, sagemaker: str) -> None:
        super().__init__(folder, airflow.dags_folder)
        self._running, self._url = airflow, sagemaker
        self.stopped = 0

    def start(self) -> Addresses:
        """Hand over what runs."""
        self.airflow = self._running
        return Addresses(airflow=self._running.url, sagemaker=self._url)

    def stop(self) -> list[str]:
        """Only record it: other tests go on with them."""
        self.stopped += 1
        return []


def demo_of(dag_id: str, airflow: AirflowStack, sagemaker: str, folder: Path) -> tuple[int, str]:
    """Run the demo of a DAG; return its exit code and its output."""
    kept = {number: signal.getsignal(number) for number in demo._SIGNALS}
    console = Console(width=240, file=io.StringIO(), record=True)
    stack = RunningStack(folder, airflow, sagemaker)
    try:
        code = demo._demo(console, stack, dag_id)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert stack.stopped == 1
    return code, console.export_text()
