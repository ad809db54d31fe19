"""What the tests share: an Airflow of their own, and one embedded SageMaker over real HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_sm_plugin.local.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.embedded_process import EmbeddedProcess

os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="airflow-sm-"))
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[1] / "dags")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

LOCAL_PYTHON = os.environ.get("AIRFLOW_SM_LOCAL_PYTHON", sys.executable)
"""An interpreter with the extra ``local``: under Airflow 2.11 another one than that of the tests."""


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedProcess]:
    """Run one embedded SageMaker as a process of its own; ``embedded.url`` is its address."""
    log = tmp_path_factory.mktemp("embedded") / "embedded.log"
    with EmbeddedProcess(log, python=LOCAL_PYTHON) as process:
        yield process


@pytest.fixture
def aws(embedded: EmbeddedProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point every AWS client of this test at the embedded SageMaker; return its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded.url)
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)
    return embedded.url


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Have Airflow's database: ``dag.test()`` needs one."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, timeout=300)
