"""The package as it is installed: entry points, the wheel, and that Airflow still imports with it."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import airflow_sm_plugin

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parent.parent
NAME = "airflow-sm-plugin"
ENTRY_POINTS = {
    "apache_airflow_provider": "airflow_sm_plugin.provider_info:get_provider_info",
    "airflow.plugins": "airflow_sm_plugin.plugin:SageMakerInferencePlugin",
}

ASK_AIRFLOW = f"""
import json
from airflow import plugins_manager
from airflow.providers_manager import ProvidersManager

if hasattr(plugins_manager, "_get_plugins"):
    plugins, errors = plugins_manager._get_plugins()
else:  # Airflow 2.11
    plugins_manager.ensure_plugins_loaded()
    plugins, errors = plugins_manager.plugins, plugins_manager.import_errors
print(json.dumps({{
    "version": ProvidersManager().providers["{NAME}"].version,
    "plugins": [plugin.name for plugin in plugins if plugin.name == "airflow_sm_plugin"],
    "errors": dict(errors),
}}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built here and without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True
    )
    (built,) = folder.glob("*.whl")
    return built


def _fresh(code: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, away from the sources, as a user's Airflow would."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW_", "PYTHON"))
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=home,
        env={**environment, "AIRFLOW_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_airflow_imports_with_the_package_installed(tmp_path: Path) -> None:
    """On 3.2 and later a provider whose package imports Airflow breaks ``import airflow`` itself."""
    finished = _fresh("import airflow, airflow.models; print(airflow.__version__)", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip().splitlines()[-1] == importlib.metadata.version("apache-airflow")
    assert "airflow_sm_plugin" not in finished.stderr


def test_the_package_itself_imports_nothing(tmp_path: Path) -> None:
    tree = ast.parse(Path(airflow_sm_plugin.__file__).read_text())
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)] == []
    finished = _fresh("import sys, airflow_sm_plugin; print('airflow' in sys.modules)", tmp_path)
    assert finished.stdout.strip() == "False", finished.stderr


def test_airflow_lists_the_provider_and_loads_the_plugin(tmp_path: Path) -> None:
    finished = _fresh(ASK_AIRFLOW, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == {
        "version": airflow_sm_plugin.__version__,
        "plugins": ["airflow_sm_plugin"],
        "errors": {},
    }


@pytest.mark.parametrize("group", ENTRY_POINTS)
def test_the_entry_points_load(group: str) -> None:
    ours = [
        point
        for point in importlib.metadata.entry_points(group=group)
        if point.dist is not None and point.dist.name == NAME
    ]
    assert [point.value for point in ours] == [ENTRY_POINTS[group]]
    assert callable(ours[0].load())


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "airflow_sm_plugin/py.typed" in names
    assert {name.split("/")[0] for name in names} == {
        "airflow_sm_plugin",
        f"airflow_sm_plugin-{airflow_sm_plugin.__version__}.dist-info",
    }
    sources = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "airflow_sm_plugin").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources <= set(names)


def test_the_wheel_says_what_it_needs_and_where_airflow_enters(wheel: Path) -> None:
    folder = f"airflow_sm_plugin-{airflow_sm_plugin.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        points = archive.read(f"{folder}/entry_points.txt").decode()
    for group, value in ENTRY_POINTS.items():
        assert f"[{group}]" in points
        assert value in points
    assert "[pytest11]\nsagemaker_local = airflow_sm_plugin.local.pytest_plugin" in points
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    plain = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert plain == {
        "apache-airflow>=2.11.0",
        "apache-airflow-providers-amazon[aiobotocore]>=9.8.0",
        "msgspec>=0.18",
    }
