"""An Airflow of one's own: what interrupts its start leaves nothing, what fails says why."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from airflow_sm_plugin.local.stack.processes import StackError, marked
from tests.e2e.conftest import until

pytestmark = pytest.mark.slow

SECONDS = 1700
"""Within which a database is migrated, also on a busy machine."""

STARTS_UNTIL_A_SIGNAL = """
import signal, sys
from pathlib import Path
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.default_int_handler)
with AirflowStack(Path(sys.argv[1]), Path(sys.argv[2]), environment={}, grace=1):
    signal.pause()
"""


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as ``airflow db migrate`` leaves it."""
    home = tmp_path_factory.mktemp("migrated")
    AirflowStack(home, home, environment={})._migrate(time.monotonic() + SECONDS)
    return home / "airflow.db"


@pytest.mark.parametrize(
    ("begun", "signal_sent"),
    [("migrate", signal.SIGINT), ("api-server", signal.SIGTERM), ("triggerer", signal.SIGINT)],
)
def test_interrupting_it_while_it_starts_leaves_nothing_behind(
    tmp_path: Path, migrated: Path, begun: str, signal_sent: signal.Signals
) -> None:
    """Either signal is the same to it: its caller converts signals to exceptions."""
    home = tmp_path / "home"
    if begun != "migrate":
        home.mkdir()
        shutil.copy(migrated, home)
    process = subprocess.Popen([sys.executable, "-c", STARTS_UNTIL_A_SIGNAL, home, tmp_path])
    try:
        until((home / "components" / f"{begun}.log").exists)
        process.send_signal(signal_sent)
        assert process.wait() != 0
    finally:
        process.kill()
    assert marked("AIRFLOW_HOME", str(home)) == []


def test_a_failed_start_says_why(tmp_path: Path, migrated: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(migrated, home)
    runner = AirflowStack(home, tmp_path, environment={"AIRFLOW__CORE__EXECUTOR": "no.such.Executor"})
    with pytest.raises(StackError, match=r"airflow .* exit code [\s\S]*no\.such"):
        runner.start()
    assert marked("AIRFLOW_HOME", str(runner.home)) == []
