"""The house: which room may know which, where decisions are pure, and how large a room may grow.

What this package decides and what it does are apart. A pure module takes everything as arguments, the time included;
the modules that talk, wait, log or read a clock are listed in ``SHELLS``. A decision that moves into a shell shows up
in review as a line of that list.
"""

from __future__ import annotations

import ast
import json
import re
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
    "msgspec",
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
ROOMS = ("core", "resources", "invoke", "autopilot", "endpoints", "batches", "async_inference", "multi_model")
"""Every module of these is pure unless it is in ``SHELLS``."""

FOUNDATION = {"exceptions", "_safe_text"}
"""Pure as well, and known to everybody."""

SHELLS = {
    "async_inference.batch.ledger_store",
    "async_inference.batch.plan",
    "async_inference.batch.round_run",
    "async_inference.batch.rows",
    "async_inference.batch.run",
    "async_inference.batch.settings",
    "async_inference.batch.submission",
    "async_inference.invoker",
    "async_inference.queue",
    "async_inference.single.input",
    "async_inference.single.result",
    "async_inference.single.run",
    "async_inference.watcher",
    "batches.claim",
    "batches.input_chunks",
    "batches.listing",
    "batches.manifest_reading",
    "batches.numbered_log",
    "batches.parallel",
    "endpoints.apply_scaling",
    "endpoints.cleanup",
    "endpoints.deletion",
    "endpoints.deployment",
    "endpoints.deployment_scaling",
    "endpoints.noted_scaling",
    "invoke.errors",
    "multi_model.engine.attempts",
    "multi_model.engine.conclusions",
    "multi_model.engine.engine",
    "multi_model.engine.feed",
    "multi_model.engine.invocations",
    "multi_model.engine.invoker",
    "multi_model.engine.progress",
    "multi_model.engine.recorder",
    "multi_model.payloads.source",
    "multi_model.plan.draft",
    "multi_model.plan.estimate",
    "multi_model.plan.make",
    "multi_model.plan.settings",
    "multi_model.plan.spool",
    "multi_model.plan.store",
    "multi_model.report.merge",
    "multi_model.run",
    "multi_model.shard",
    "multi_model.state.fenced_objects",
    "multi_model.state.outputs",
    "multi_model.state.store",
}

AWS = {"aws", "aws.s3", "core"}
SERVICES = {*AWS, "hooks", "invoke", "resources", "batches"}
BATCH = {*SERVICES, "async_inference"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "exceptions": set(),
    "core": set(),
    "resources": {"core"},
    "aws": {"core"},
    "aws.s3": {"aws", "core"},
    "invoke": AWS,
    "hooks": {*AWS, "invoke", "resources"},
    "batches": AWS,
    "autopilot": SERVICES,
    "endpoints": SERVICES,
    "async_inference": SERVICES,
    "async_inference.single": BATCH,
    "async_inference.batch": BATCH,
    "multi_model.statistics": SERVICES,
    "multi_model.state": {*SERVICES, "multi_model.statistics"},
    "multi_model.payloads": {*SERVICES, "multi_model.state"},
    "multi_model.plan": {*SERVICES, "multi_model.state", "multi_model.payloads"},
    "multi_model.engine": {
        *SERVICES,
        *(f"multi_model.{floor}" for floor in ("statistics", "state", "payloads", "plan")),
    },
    "multi_model.report": {
        *SERVICES,
        *(f"multi_model.{floor}" for floor in ("statistics", "state", "payloads", "plan")),
    },
    "local": {"core"},
}
"""Room → which rooms it may know, beside itself, ``exceptions``, ``_safe_text`` and ``_log``.

Rooms that are not named here are above: ``multi_model``'s own files know its floors, then come triggers, then
operators, sensors and task groups. No leg knows another.
"""

LEGS = {"async_inference", "multi_model", "endpoints", "autopilot"}
FACES = {
    "operators",
    "sensors",
    "triggers",
    "task_groups",
    "base",
    "callbacks",
    "links",
    "plugin",
    "provider_info",
}


def folder_of(module: str) -> str:
    return module.rpartition(".")[0]


def top_of(module: str) -> str:
    return module.partition(".")[0]


def room_of(module: str) -> str:
    """Return the folder, or the module itself where it lies at the top; all of the embedded service is one room."""
    return top_of(module) if top_of(module) == "local" else folder_of(module) or module


def imports_of(module: str) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of each import, those for annotations and those inside of functions included."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            yield from ((node.module or "", alias.name) for alias in node.names)


def own_imports(module: str) -> set[str]:
    imported = set()
    for source, name in imports_of(module):
        if source == PACKAGE or source.startswith(f"{PACKAGE}."):
            inside = source[len(PACKAGE) + 1 :]
            deeper = f"{inside}.{name}".lstrip(".")
            imported.add(deeper if deeper in FILES else inside)
    return imported - {module}


GRAPH = {module: own_imports(module) & set(FILES) for module in FILES}


def impurities(module: str) -> set[str]:
    """List what keeps a module from being pure."""
    foreign = {source for source, _ in imports_of(module) if source.partition(".")[0] != PACKAGE} - ALLOWED
    shells = {other for other in GRAPH[module] if other in SHELLS or not is_checked(other)}
    nodes = list(ast.walk(TREES[module]))
    waits = {type(node).__name__ for node in nodes if isinstance(node, (ast.AsyncFunctionDef, ast.Await))}
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = {func.id for func in called if isinstance(func, ast.Name)}
    names |= {func.attr for func in called if isinstance(func, ast.Attribute)}
    return foreign | shells | waits | (names & TOUCHING)


def is_checked(module: str) -> bool:
    return top_of(module) in ROOMS or module in FOUNDATION


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


def test_there_is_a_package_to_check() -> None:
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
    rooms = {room_of(other) for other in GRAPH[module]} - {room_of(module), *FOUNDATION}
    if module in FOUNDATION or room_of(module) in MAY_IMPORT:
        assert rooms - MAY_IMPORT.get(room_of(module), set()) - {"_log"} == set()
    elif top_of(module) in LEGS:
        assert {top_of(room) for room in rooms} & (LEGS | FACES) <= {top_of(module)}
    elif top_of(module) == "triggers":
        assert not rooms & {"operators", "sensors", "task_groups"}


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
    assert in_circles(GRAPH) == set()


def test_no_room_is_in_a_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        here = folder_of(module) or module
        rooms.setdefault(here, set()).update({folder_of(other) or other for other in others} - {here})
    assert in_circles(rooms) == set()


def test_no_folder_has_more_modules_than_one_reads() -> None:
    sizes = Counter(folder_of(module) for module in FILES)
    assert {folder for folder, size in sizes.items() if size > MOST_MODULES} == set()


def test_no_two_classes_have_one_name() -> None:
    names = Counter(
        node.name for tree in TREES.values() for node in tree.body if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in names.items() if times > 1] == []


PRIVATE_WORDS = re.compile(
    r"(?<![a-z])(?:looks?|looked|looking|turns?|lanes?|shel(?:f|ves)|stor(?:y|ies)|sights?|bells?|places?|stretch(?:es)?"
    r"|bur(?:y|ies|ied)|told|anew|nobody|somebody|take note|what of)(?![a-z])",
    re.IGNORECASE,
)
"""Words that meant something to the builders of this package only, or that hide who does what."""

PLAIN = re.compile(
    r"looks? like|looked like|look(?:s|ed)? up|decimal places?|in place(?! of)|turn(?:s|ed)? o(?:n|ff)",
    re.IGNORECASE,
)
"""The same words in common phrases."""

WRITTEN = [
    path
    for pattern in ("airflow_sm_plugin/**/*", "dags/**/*", "docs/**/*", "tests/**/*.py", "*.md")
    for path in sorted(ROOT.glob(pattern))
    if path.suffix in {".py", ".md", ".jinja", ".css", ".js", ".json"} and path != Path(__file__)
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_those_of_aws_and_airflow(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), start=1)
    found = [
        (number, match[0]) for number, line in lines for match in PRIVATE_WORDS.finditer(PLAIN.sub("", line))
    ]
    assert found == []


@pytest.mark.parametrize("module", FILES)
def test_nothing_imports_from_a_package_itself(module: str) -> None:
    """Each circle that was ever measured ran through an ``__init__`` that gathers names."""
    gathered = {
        f"{source}.{name}"
        for source, name in imports_of(module)
        if (ROOT / source.replace(".", "/") / "__init__.py").exists() and name
    }
    packages = {f"{PACKAGE}.{other}" for other in FILES}
    assert {name for name in gathered if name not in packages and not is_a_folder(name)} == set()


def is_a_folder(dotted: str) -> bool:
    return (ROOT / dotted.replace(".", "/") / "__init__.py").exists()


def test_a_fresh_interpreter_loads_what_is_pure_without_airflow_or_aws() -> None:
    """The imports in the source, proven at run time: a triggerer or a Lambda can use it for next to nothing."""
    names = [f"{PACKAGE}.{module}" for module in FILES if is_checked(module) and module not in SHELLS]
    code = (
        "import importlib, json, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=600, check=True
    )
    loaded = set(json.loads(finished.stdout))
    assert PACKAGE in loaded
    assert not loaded & {"airflow", "boto3", "botocore", "aiobotocore", "aiohttp", "requests", "logging"}
