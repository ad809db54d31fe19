"""The page on the embedded SageMaker tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_sm_plugin.local import operations
from airflow_sm_plugin.local.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "embedded-sagemaker.md").read_text()


def test_its_settings_and_their_defaults_are_the_settings() -> None:
    told = {
        name: float(value) for name, value in re.findall(r"^\| `(\w+)` \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    }
    assert told == Settings().as_json()


def test_its_python_example_runs() -> None:
    example = next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "with Embedded" in code
    )
    exec(compile(example, "docs/embedded-sagemaker.md", "exec"), {})  # noqa: S102 - our own page


def test_the_operations_it_names_are_answered() -> None:
    operations.load()
    named = set(re.findall(r"\b((?:Create|Update|Invoke|List|Add|Delete)[A-Z]\w+)\b", PAGE)) - {
        "InvokeEndpointAsync"
    }
    assert "CreateTransformJob" in named
    assert [name for name in sorted(named) if operations.handler_of(name) is None] == []
