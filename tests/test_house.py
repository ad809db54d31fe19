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
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fnmatch",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "msgspec",
    "re",
    "string",
    "typing",
    "unicodedata",
    "urllib.parse",
    "zlib",
}
"""What a pure module may import beside other pure modules. ``datetime`` only for its arithmetic."""

TOUCHING = {"open", "print", "input", "exec", "eval", "__import__", "now", "utcnow", "today"}
ROOMS = (
    *("core", "resources", "invoke", "autopilot", "endpoints", "batches", "async_inference", "multi_model"),
    "iam",
)
"""Every module of these is pure unless it is in ``SHELLS``."""

FOUNDATION = {"exceptions", "_safe_text"}
"""Pure as well, and known to everybody."""

SHELLS = {
    "async_inference.batch.ledger_store",
    "async_inference.batch.page_writing",
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
    "batches.report.page",
    "endpoints.apply_scaling",
    "endpoints.cleanup",
    "endpoints.deletion",
    "endpoints.deployment",
    "endpoints.deployment_scaling",
    "endpoints.idle_deletion",
    "endpoints.noted_scaling",
    "iam.__main__",
    "invoke.endpoint_invoker",
    "invoke.errors",
    "invoke.http_connection",
    "invoke.http_pool",
    "multi_model.engine.attempts",
    "multi_model.engine.conclusions",
    "multi_model.engine.engine",
    "multi_model.engine.invocations",
    "multi_model.engine.output_writing",
    "multi_model.engine.payload_queue",
    "multi_model.engine.reader",
    "multi_model.engine.recorder",
    "multi_model.engine.result_queue",
    "multi_model.engine.work",
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
    "multi_model.statistics.progress",
}

COMMON = {"exceptions", "_safe_text", "_log", "_compat"}
"""Modules that every room may import."""

IMPORTS: Mapping[str, str] = {
    "core": "",
    "iam": "core",
    "aws": "core",
    "aws.s3": "aws core",
    "resources": "core",
    "invoke": "aws core",
    "hooks": "aws core invoke resources",
    "batches": "aws aws.s3 core",
    "batches.report": "core",
    "autopilot": "core",
    "endpoints": "aws core hooks resources",
    "async_inference": "aws aws.s3 batches core invoke",
    "async_inference.single": "async_inference aws aws.s3 batches core hooks invoke",
    "async_inference.batch": "async_inference aws aws.s3 batches batches.report core hooks invoke",
    "multi_model.statistics": "batches.report core",
    "multi_model.state": "aws.s3 batches core multi_model.statistics",
    "multi_model.payloads": "aws.s3 batches invoke multi_model.state",
    "multi_model.plan": "aws.s3 batches core hooks multi_model.payloads multi_model.state",
    "multi_model.engine": (
        "aws aws.s3 batches core invoke "
        "multi_model.payloads multi_model.plan multi_model.state multi_model.statistics"
    ),
    "multi_model.report": (
        "aws.s3 batches batches.report core multi_model.plan multi_model.state multi_model.statistics"
    ),
    "multi_model": (
        "aws aws.s3 batches batches.report core hooks invoke "
        "multi_model.engine multi_model.plan multi_model.report multi_model.state multi_model.statistics"
    ),
    "triggers": "async_inference autopilot aws aws.s3 core endpoints hooks resources",
    "killable": "",
    "base": "aws batches core hooks killable lineage links resources triggers",
    "lineage": "core",
    "metrics": "",
    "links": "aws core",
    "callbacks": "aws core hooks",
    "sensors": "async_inference base batches core invoke links metrics triggers",
    "operators": (
        "async_inference async_inference.batch async_inference.single autopilot aws aws.s3 base batches batches.report "
        "core endpoints hooks invoke killable lineage links metrics multi_model multi_model.engine "
        "multi_model.payloads multi_model.plan multi_model.report resources triggers"
    ),
    "task_groups": "base operators",
    "page": "aws core hooks resources",
    "plugin": "links page",
    "provider_info": "",
    "local": "core",
}
"""Room → the rooms that it imports, beside ``COMMON``: all of them, so that a new tie changes a line here."""

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


def test_rooms_import_what_the_table_says() -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in GRAPH.items():
        here = room_of(module)
        rooms.setdefault(here, set()).update({room_of(other) for other in others} - {here} - COMMON)
    for name in COMMON:
        assert rooms.pop(name) == set(), name
    assert {room: set(ties.split()) for room, ties in IMPORTS.items()} == rooms


@pytest.mark.parametrize("leg", sorted(LEGS))
def test_no_leg_imports_another_or_a_face(leg: str) -> None:
    ties = {top_of(tie) for room, ties in IMPORTS.items() if top_of(room) == leg for tie in ties.split()}
    assert ties & (LEGS | FACES) <= {leg}


def test_the_list_of_allowed_imports_does_not_rot() -> None:
    pure = [module for module in FILES if is_checked(module) and module not in SHELLS]
    assert {source for module in pure for source, _ in imports_of(module)} >= ALLOWED


@pytest.mark.parametrize(
    "path", sorted((ROOT / PACKAGE).rglob("__init__.py")), ids=lambda path: path.parent.name
)
def test_a_package_itself_holds_only_its_map(path: Path) -> None:
    """It would be imported with each of its modules."""
    statements = ast.parse(path.read_text()).body
    assert [
        ast.unparse(node) for node in statements[1:] if not ast.unparse(node).startswith("__version__ =")
    ] == []
    assert isinstance(statements[0], ast.Expr)


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
    r"(?<![a-z])(?:looks?|looked|looking|turns?|turned|turning|lanes?|shel(?:f|ves)|stor(?:y|ies)|sights?|bells?|places?"
    r"|stretch(?:es)?|bur(?:y|ies|ied)|told|telling|anew|nobody|somebody|take note|what of|say what|killed models?"
    r"|kill(?:s|ed)? (?:a|the|its) model)(?![a-z])",
    re.IGNORECASE,
)
"""Words that only the builders of this package understood, or that hide who does what."""

PLAIN = re.compile(r"looks? like|QuickSight", re.IGNORECASE)
"""The phrase for a file's likely format, and a name of AWS."""

CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
WRITTEN = [
    path
    for pattern in (
        "airflow_sm_plugin/**/*",
        "dags/**/*",
        "docs/**/*",
        "tests/**/*",
        "*.md",
        "Makefile",
        "pyproject.toml",
        "docker-compose.yaml",
        ".ci/run",
        ".github/**/*",
    )
    for path in sorted(ROOT.glob(pattern))
    if path.is_file()
    and path.suffix in {"", ".py", ".md", ".jinja", ".css", ".js", ".json", ".toml", ".yaml", ".yml"}
    if path != Path(__file__)
]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_those_of_aws_and_airflow(path: Path) -> None:
    lines = enumerate(path.read_text().splitlines(), start=1)
    found = [
        (number, match[0])
        for number, line in lines
        for match in PRIVATE_WORDS.finditer(CAMEL.sub(" ", PLAIN.sub("", line)))
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
