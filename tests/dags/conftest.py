"""Run programs that print JSON: Airflow takes over a process, so each has its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from airflow_sm_plugin.local.airflow_settings import AWS_SETTINGS

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
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout[-5000:]}\n{done.stderr[-5000:]}"
    return done


def json_of(*command: str | Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a Python program; return what its last line says."""
    return _told(finished(*command, environment=environment))


def run_dag(folder: Path, dag_id: str, *, url: str, conf: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Run a DAG with ``dag.test()`` against the embedded SageMaker at ``url``; see ``drive.py`` for what comes back."""
    return logged_run(folder, dag_id, url=url, conf=conf)[0]


def logged_run(
    folder: Path, dag_id: str, *, url: str, conf: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], str]:
    """Run a DAG as :func:`run_dag`; return its tasks' logs as well."""
    environment = {**AWS_SETTINGS, "AWS_ENDPOINT_URL": url}
    done = finished(_DRIVE, folder, dag_id, json.dumps(conf or {}), environment=environment)
    return _told(done), done.stdout + done.stderr


def _told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(done.stdout.splitlines()[-1]))
