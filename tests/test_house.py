"""The house: which room may know which, where decisions are pure, and how large a room may grow.

What this package decides and what it does are apart. A pure module takes everything as arguments, the time included;
the modules that talk, wait, log or read a clock are listed in ``SHELLS``. A decision that moves into a shell shows up
in review as a line of that list.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "airflow_sm_plugin"
FILES = {
    ".".join(path.relative_to(ROOT / PACKAGE).with_suffix("").parts): path
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
    if path.name != "__init__.py"
}
TREES = {module: ast.parse(path.read_text()) for module, path in FILES.items()}

MOST_MODULES = 15
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
"""What a pure module may import beside other pure modules. ``datetime`` only for its arithmetic."""

TOUCHING = {"open", "print", "input", "exec", "eval", "__import__", "now", "utcnow", "today"}
PURE_ROOMS = {"core"}
SHELLS: frozenset[str] = frozenset()

BELOW_ALL = {"exceptions", "_safe_text"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "exceptions": {"core"},
    "core": {"exceptions"},
    "hooks": {"core", "exceptions", "_log"},
    "batch": {"hooks", "core", "exceptions", "_log"},
    "local": {"core", "exceptions"},
}
"""Room → which rooms it may know, beside itself. What is not named here may import whatever lies below it."""

TOO_LARGE = {"batch", "core", "hooks", "local", "local.automl", "operators"}
SAME_NAME = {
    "Answer",
    "Channel",
    "Counts",
    "HttpRequest",
    "Lane",
    "Look",
    "ModelCalls",
    "NotOurs",
    "Outcome",
    "Pace",
    "Part",
    "Payload",
    "Plan",
    "PlanFolder",
    "Reply",
    "RequestRefused",
    "ServiceError",
    "Stage",
    "Verdict",
}
FILES_IN_CIRCLES = {
    "batch.async_plan",
    "batch.model_feed",
    "batch.open_input",
    "batch.plan_reuse",
    "batch.round_progress",
    "operators.deployment_arguments",
    "operators.endpoint",
}


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports_of(module: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each import, those for annotations and those inside of functions included."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(module: str) -> set[str]:
    found = set()
    for source, name in imports_of(module):
        if source == PACKAGE or source.startswith(f"{PACKAGE}."):
            inside = source[len(PACKAGE) + 1 :]
            deeper = f"{inside}.{name}".lstrip(".")
            found.add(deeper if deeper in FILES else inside)
    return found - {module}


GRAPH = {module: own_imports(module) & set(FILES) for module in FILES}


def impurities(module: str) -> set[str]:
    """Say what keeps a module from being pure."""
    foreign = {source for source, _ in imports_of(module) if source.partition(".")[0] != PACKAGE} - ALLOWED
    shells = {other for other in GRAPH[module] if other in SHELLS or not is_checked(other)}
    nodes = list(ast.walk(TREES[module]))
    waits = {type(node).__name__ for node in nodes if isinstance(node, (ast.AsyncFunctionDef, ast.Await))}
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {func.id for func in called if isinstance(func, ast.Name)}
    names |= {func.attr for func in called if isinstance(func, ast.Attribute)}
    return foreign | shells | waits | (names & TOUCHING)


def is_checked(module: str) -> bool:
    return room_of(module) in PURE_ROOMS or module in BELOW_ALL


def in_circles(graph: Mapping[str, set[str]]) -> set[str]:
    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [*graph[start]]
        while todo:
            if (there := todo.pop()) not in seen:
                seen.add(there)
                todo += graph.get(there, ())
        return seen

    return {node for node in graph if node in reachable(node)}


def test_there_is_a_house_to_look_at() -> None:
    assert len(FILES) > 100


@pytest.mark.parametrize(
    "module", [module for module in FILES if is_checked(module) and module not in SHELLS]
)
def test_what_is_no_shell_is_pure(module: str) -> None:
    assert not impurities(module)


def test_the_list_of_shells_does_not_rot() -> None:
    assert {module for module in SHELLS if module not in FILES or not impurities(module)} == set()


@pytest.mark.parametrize("module", FILES)
def test_imports_lead_downwards(module: str) -> None:
    allowed = MAY_IMPORT.get(room_of(module))
    if allowed is not None:
        rooms = {room_of(other) for other in GRAPH[module]} - {room_of(module)}
        assert rooms - allowed == set()


def test_nothing_imports_the_embedded_service() -> None:
    users = {
        module
        for module in FILES
        if room_of(module) != "local"
        for other in GRAPH[module]
        if room_of(other) == "local"
    }
    assert users == set()


def test_no_file_is_in_a_circle_not_even_for_annotations() -> None:
    assert in_circles(GRAPH) == FILES_IN_CIRCLES


def test_no_folder_has_more_modules_than_one_reads() -> None:
    sizes = Counter(folder_of(module) for module in FILES)
    assert {folder for folder, size in sizes.items() if size > MOST_MODULES} == TOO_LARGE


def test_no_two_public_classes_have_one_name() -> None:
    names = Counter(
        node.name
        for tree in TREES.values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, times in names.items() if times > 1} == SAME_NAME


@pytest.mark.parametrize("module", FILES)
def test_nothing_imports_from_a_package_itself(module: str) -> None:
    """Each circle that was ever measured ran through an ``__init__`` that gathers names."""
    gathered = {
        f"{source}.{name}"
        for source, name in imports_of(module)
        if (ROOT / source.replace(".", "/") / "__init__.py").exists() and name
    }
    packages = {f"{PACKAGE}.{other}" for other in FILES}
    assert {found for found in gathered if found not in packages and not is_a_folder(found)} == set()


def is_a_folder(dotted: str) -> bool:
    return (ROOT / dotted.replace(".", "/") / "__init__.py").exists()


def test_a_fresh_interpreter_loads_what_is_pure_without_airflow_or_aws() -> None:
    """What the source says, seen at run time: a triggerer or a Lambda may use it for next to nothing."""
    names = [f"{PACKAGE}.{module}" for module in FILES if is_checked(module) and module not in SHELLS]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert PACKAGE in loaded
    assert not loaded & {"airflow", "boto3", "botocore", "aiobotocore", "aiohttp", "requests", "logging"}
