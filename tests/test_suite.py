"""The layout of the suite itself."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
BENCHMARKS = TESTS / "benchmarks"


def imports_of(source: str) -> set[str]:
    """Return the dotted names that a module imports, anywhere in it; ``from a import b`` counts as ``a.b``, too."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return imported


def imports_benchmarks(source: str) -> bool:
    return any(f"{name}.".startswith("tests.benchmarks.") for name in imports_of(source))


@pytest.mark.parametrize(
    "statement",
    [
        "import tests.benchmarks.one_batch",
        "from tests.benchmarks import one_batch",
        "from tests.benchmarks.one_batch import BUCKET",
        "from tests import benchmarks",
        "def late():\n    import tests.benchmarks",
    ],
)
def test_every_form_of_an_import_is_seen(statement: str) -> None:
    assert imports_benchmarks(statement)


def test_no_test_imports_a_benchmark() -> None:
    """``make test`` leaves the benchmarks out; they may change without regard to the tests."""
    modules = [path for path in TESTS.rglob("*.py") if not path.is_relative_to(BENCHMARKS)]
    assert len(modules) > 100
    assert not [str(path.relative_to(TESTS)) for path in modules if imports_benchmarks(path.read_text())]
