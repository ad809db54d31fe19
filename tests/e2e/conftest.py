"""One real Airflow for all end-to-end tests, working against the embedded SageMaker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from airflow_sm_plugin.local.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.airflow_stack import AirflowStack
from airflow_sm_plugin.local.processes import marked

HERE = Path(__file__).parent
DAGS = (HERE.parent.parent / "dags", HERE / "dags")


class Embedded(Protocol):
    """What the fixture ``embedded`` gives: a running embedded SageMaker."""

    @property
    def url(self) -> str:
        """Where it serves."""


@pytest.fixture(scope="session")
def airflow_stack(embedded: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowStack]:
    """A running Airflow with the example DAGs and those of ``tests/e2e/dags``; it leaves no process behind."""
    folder = tmp_path_factory.mktemp("airflow")
    for source in DAGS:
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, folder / "dags", dirs_exist_ok=True, ignore=ignored)
    stack = AirflowStack(
        folder / "home", folder / "dags", environment={**AWS_SETTINGS, "AWS_ENDPOINT_URL": embedded.url}
    )
    with stack:
        yield stack
    assert marked("AIRFLOW_HOME", str(stack.home)) == []
