"""A DAG file's cost of importing us: our own modules and nothing heavy, at every parse."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_sm_plugin.operators
import airflow_sm_plugin.sensors

pytestmark = pytest.mark.airflow

# What every DAG file pays for anyway comes first; the report has what we add to it.
_IMPORT = """
import json, sys
import airflow
try:
    from airflow.sdk import DAG, BaseOperator, BaseOperatorLink, BaseSensorOperator, Context, PokeReturnValue, XComArg
    from airflow.sdk.exceptions import AirflowFailException
    from airflow.sdk.execution_time.xcom import XCom
except ImportError:  # Airflow 2.11
    from airflow import DAG
    from airflow.exceptions import AirflowFailException
    from airflow.models import BaseOperator, XCom
    from airflow.models.xcom_arg import XComArg
    from airflow.models.baseoperatorlink import BaseOperatorLink
    from airflow.sensors.base import BaseSensorOperator
before = set(sys.modules)
for name in sys.argv[1:]:
    __import__(name)
print(json.dumps(sorted(set(sys.modules) - before)))
"""
_HEAVY = (
    "boto3",
    "botocore",
    "aiobotocore",
    "airflow.providers",
    "aiohttp",
    "numpy",
    "pandas",
    "sklearn",
    "moto",
)


def _faces() -> list[str]:
    """Return every module that a DAG file or Airflow itself imports."""
    packages = (airflow_sm_plugin.operators, airflow_sm_plugin.sensors)
    module_names = [
        module.name
        for package in packages
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]
    return [
        *module_names,
        *(f"airflow_sm_plugin.{name}" for name in ("base", "callbacks", "links", "plugin")),
    ]


def _newly_imported(tmp_path: Path, *modules: str) -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", _IMPORT, *modules],
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr
    return [str(name) for name in json.loads(finished.stdout.splitlines()[-1])]


def _of(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_our_modules_bring_in_nothing_but_themselves(tmp_path: Path) -> None:
    faces = _faces()
    assert {"airflow_sm_plugin.operators.endpoint", "airflow_sm_plugin.sensors.async_inference"} <= set(faces)
    new = _newly_imported(tmp_path, *faces)
    assert set(faces) <= set(new)
    assert [name for name in new if _of(name, _HEAVY)] == []
    strangers = {name.partition(".")[0] for name in new} - {"airflow_sm_plugin", "airflow"}
    assert strangers <= sys.stdlib_module_names, strangers


@pytest.mark.parametrize(("module", "other"), [("invoke", "invoke_async"), ("endpoint", "endpoint_deletion")])
def test_an_operator_that_can_be_imported_from_another_module_as_well_is_loaded_when_asked_for(
    tmp_path: Path, module: str, other: str
) -> None:
    new = _newly_imported(tmp_path, f"airflow_sm_plugin.operators.{module}")
    assert f"airflow_sm_plugin.operators.{module}" in new
    assert f"airflow_sm_plugin.operators.{other}" not in new
    assert not [name for name in new if name.startswith("airflow_sm_plugin.async_inference")]
