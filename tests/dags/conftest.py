"""Run programs that print JSON: Airflow takes over a process, so each has its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS

ROOT = Path(__file__).parents[2]
_DRIVE = Path(__file__).with_name("drive.py")


def finished(
    *command: str | Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a Python program to its end; it must succeed."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done


def json_of(*command: str | Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a Python program; return what its last line says."""
    return _result(finished(*command, environment=environment))


def run_dag(folder: Path, dag_id: str, *, url: str, conf: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run a DAG with ``dag.test()`` against the embedded SageMaker at ``url``; see ``drive.py`` for what comes back."""
    return logged_run(folder, dag_id, url=url, conf=conf)[0]


def run_dags(
    folder: Path, confs: Mapping[str, Mapping[str, Any] | None], *, url: str
) -> dict[str, dict[str, Any]]:
    """Run DAGs one after the other in one process, as :func:`run_dag`.

    :param confs: the configuration of each run by DAG id
    """
    return _logged_runs(folder, confs, url=url)[0]


def logged_run(
    folder: Path, dag_id: str, *, url: str, conf: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """Run a DAG as :func:`run_dag`; return its tasks' logs as well."""
    runs, log = _logged_runs(folder, {dag_id: conf}, url=url)
    return runs[dag_id], log


def _logged_runs(
    folder: Path, confs: Mapping[str, Mapping[str, Any] | None], *, url: str
) -> tuple[dict[str, dict[str, Any]], str]:
    environment = {**AWS_SETTINGS, "AWS_ENDPOINT_URL": url}
    words = [word for dag_id, conf in confs.items() for word in (dag_id, json.dumps(conf or {}))]
    done = finished(_DRIVE, folder, *words, environment=environment)
    return _result(done), done.stdout + done.stderr


def _result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))
