"""Core decides and touches nothing: no Airflow, no AWS, no clock, no randomness, no input or output, no logging."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "airflow_sm_plugin"
MODULES = sorted((PACKAGE / "core").rglob("*.py"))
ALLOWED = {
    "__future__",
    "array",
    "ast",
    "base64",
    "bisect",
    "collections",
    "collections.abc",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fnmatch",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "operator",
    "re",
    "statistics",
    "string",
    "typing",
    "unicodedata",
    "urllib.parse",
    "zlib",
}
TOUCHING = {"open", "print", "input", "exec", "eval", "__import__", "now", "utcnow", "today"}


def imported_by(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def called_by(path: Path) -> set[str]:
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {func.id for func in calls if isinstance(func, ast.Name)}
    return names | {func.attr for func in calls if isinstance(func, ast.Attribute)}


def test_there_is_a_core_to_look_at() -> None:
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_core_imports_only_core_exceptions_and_what_cannot_touch_the_world(path: Path) -> None:
    foreign = {
        name
        for name in imported_by(path) - ALLOWED
        if not name.startswith("airflow_sm_plugin.core.") and name != "airflow_sm_plugin.exceptions"
    }
    assert not foreign


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_core_calls_nothing_that_reads_a_clock_or_a_file(path: Path) -> None:
    """``datetime`` may be imported for its arithmetic, but time is an argument."""
    assert not called_by(path) & TOUCHING


def test_exceptions_import_nothing_but_what_makes_their_texts_fit_to_be_shown() -> None:
    assert imported_by(PACKAGE / "exceptions.py") <= {
        "__future__",
        "airflow_sm_plugin.core.safe_text",
        "typing",
        "unicodedata",
    }
    assert imported_by(PACKAGE / "core" / "safe_text.py") <= {"__future__", "json", "re"}


def test_a_fresh_interpreter_loads_core_without_airflow_or_aws() -> None:
    """What the source says, seen at run time: a triggerer or a Lambda may use core for next to nothing."""
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    code = (
        "import importlib, json, sys\n"
        f"for name in {[name for name in names if not name.endswith('__init__')]!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert "airflow_sm_plugin" in loaded
    assert not loaded & {"airflow", "boto3", "botocore", "aiobotocore", "aiohttp", "requests", "logging"}
