"""One real Airflow for all end-to-end tests, working against the embedded SageMaker."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.processes import marked

HERE = Path(__file__).parent
DAGS = (HERE.parent.parent / "dags", HERE / "dags")


class Embedded(Protocol):
    """The value of the fixture ``embedded``: a running embedded SageMaker."""

    @property
    def url(self) -> str:
        """Where it serves."""


@pytest.fixture(scope="package")
def airflow_stack(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """A running Airflow with the example DAGs and those of ``tests/e2e/dags``.

    It ends with the last of its tests, since it keeps a core busy, and leaves no process behind, a task that is running
    when it is stopped included.
    """
    folder = tmp_path_factory.mktemp("airflow")
    for source in DAGS:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / "dags", dirs_exist_ok=True, ignore=ignored)
    environment = {
        **AWS_SETTINGS,
        "AWS_ENDPOINT_URL": embedded.url,
        "WHERE": "a test",
        # Files that come are read within seconds all the same; those here do not change.
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "36000",
        # Most of the time nothing can be scheduled, and the scheduler's loop costs a fifth of a core.
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
    }
    stack = AirflowStack(
        folder / "home", folder / "dags", environment=environment, start_seconds=1700, grace=3
    )
    with stack:
        assert len(marked("AIRFLOW_HOME", str(stack.home))) >= 4
        yield stack
        stack.api.wait_for_dag("e2e_sleeps")
        run_id = stack.api.trigger("e2e_sleeps")
        until(lambda: any(task.state == "running" for task in stack.api.task_instances("e2e_sleeps", run_id)))
    assert marked("AIRFLOW_HOME", str(stack.home)) == []


def until(condition: Callable[[], bool]) -> None:
    """Return when the condition is true; pytest's own time limit ends what hangs."""
    while not condition():
        time.sleep(0.2)
