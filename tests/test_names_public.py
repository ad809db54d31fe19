"""Public names: what the documentation promises can be imported, and every ``__all__`` is right."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airflow_sm_plugin"
PROMISED = (
    "airflow_sm_plugin:__version__",
    "airflow_sm_plugin.core.custom_attributes:validate",
    "airflow_sm_plugin.core.notifications:parse",
    "airflow_sm_plugin.core.response_keys:select_response_keys",
    "airflow_sm_plugin.exceptions:SageMakerInferenceError",
    "airflow_sm_plugin.hooks.runtime:SageMakerRuntimeHook.invoke_endpoint",
    "airflow_sm_plugin.hooks.runtime:SageMakerRuntimeHook.invoke_endpoint_async",
    "airflow_sm_plugin.operators.async_batch:SageMakerAsyncBatchOperator",
    "airflow_sm_plugin.operators.autoscaling:SageMakerScaleEndpointOperator",
    "airflow_sm_plugin.operators.autopilot:SageMakerExportAutopilotModelOperator",
    "airflow_sm_plugin.operators.endpoint:SageMakerDeleteEndpointOperator",
    "airflow_sm_plugin.operators.endpoint:SageMakerDeployEndpointOperator",
    "airflow_sm_plugin.operators.invoke:SageMakerInvokeEndpointAsyncOperator",
    "airflow_sm_plugin.operators.invoke:SageMakerInvokeEndpointOperator",
    "airflow_sm_plugin.operators.model:SageMakerCreateModelOperator",
    "airflow_sm_plugin.operators.multi_model:SageMakerMergeBatchReportOperator",
    "airflow_sm_plugin.operators.multi_model:SageMakerMultiModelBatchOperator",
    "airflow_sm_plugin.operators.multi_model:SageMakerPlanMultiModelBatchOperator",
    "airflow_sm_plugin.plugin:SageMakerInferencePlugin",
    "airflow_sm_plugin.provider_info:get_provider_info",
    "airflow_sm_plugin.sensors.async_inference:SageMakerAsyncInferenceSensor",
    "airflow_sm_plugin.task_groups:multi_model_batch",
    # A trigger's class path is stored in Airflow's database: moving one breaks tasks that wait.
    "airflow_sm_plugin.triggers.async_inference:AsyncInferenceTrigger",
    "airflow_sm_plugin.triggers.autopilot:AutoMLJobTrigger",
    "airflow_sm_plugin.triggers.endpoint:EndpointChangeableTrigger",
    "airflow_sm_plugin.triggers.endpoint:EndpointServingTrigger",
)
RESOLVE = """
import functools, importlib, json, sys
missing = []
for name in json.load(sys.stdin):
    module, _, path = name.partition(":")
    try:
        functools.reduce(getattr, path.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        missing.append(f"{name}: {error}")
print(json.dumps(missing))
"""


def listed(path: Path) -> list[str]:
    """Return a module's ``__all__`` without importing the module."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            names = ast.literal_eval(node.value)
            return [str(name) for name in names]
    return []


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


LISTS = {module_name(path): names for path in sorted(PACKAGE.rglob("*.py")) if (names := listed(path))}


@functools.cache
def unresolved(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of ``module:name`` that a fresh interpreter, with an Airflow of its own, does not find."""
    with tempfile.TemporaryDirectory() as home:
        finished = subprocess.run(
            [sys.executable, "-c", RESOLVE],
            input=json.dumps(names),
            cwd=ROOT,
            env=os.environ | {"AIRFLOW_HOME": home},
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
    return tuple(json.loads(finished.stdout.splitlines()[-1]))


def test_every_promised_name_can_be_imported() -> None:
    assert unresolved(PROMISED) == ()


def test_every_listed_name_exists() -> None:
    names = tuple(f"{module}:{name}" for module, names in LISTS.items() for name in names)
    assert names
    assert unresolved(names) == ()


def test_a_name_that_does_not_exist_would_be_seen() -> None:
    """The two tests above can fail."""
    (message,) = unresolved(
        ("airflow_sm_plugin.core.names:check_name", "airflow_sm_plugin.core.names:missing")
    )
    assert "missing" in message


@pytest.mark.parametrize("module", sorted(LISTS))
def test_a_list_is_sorted_and_names_nothing_twice(module: str) -> None:
    assert LISTS[module] == sorted(set(LISTS[module]))
