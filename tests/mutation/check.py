"""Plant each of the thirty faults and see whether the tests that run its lines find it: ``make mutation``.

Which test runs which line is read from a data file of coverage.py's, made by one run of all tests:

    .venv/bin/uv pip install --python .venv/bin/python coverage pytest-cov
    COVERAGE_FILE=.cache/contexts make test-all ARGS="--cov=airflow_sm_plugin --cov-context=test --cov-report="

Make it again after the package or the tests have changed. Processes that tests start are not measured, but run the
faulty code as well. Results lie in ``.cache/mutation.jsonl``: what is recorded there is not done again, so that this
goes on where it was stopped; a fault that survived is tried again when ``--only`` names it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from tests.mutation.faults import FAULTS, Fault
from tests.mutation.outcomes import FILE as OUTCOMES_FILE

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / ".cache" / "mutation.jsonl"
DURATIONS = ROOT / ".cache" / "junit-all.xml"
TRAINED = Path(".cache") / "trained"
WANTED = 28

FIRST_TESTS = 400
"""The nearest ones, which mostly find the fault; collecting thousands takes longer than running these."""

REAL_AIRFLOW = ("tests/e2e/", "tests/demo/")

_LONGEST_RUN = 7_200
_LONGEST_TEST = 300
"""Seconds: a fault may make a test wait for ever, and on a busy machine some take minutes."""

_UNKNOWN_TEST = (4, 5)
"""How pytest ends over a name that it does not know, without and with workers."""

_UNKNOWN_DURATION = 1.0


@dataclass(frozen=True)
class Result:
    """The fate of a fault.

    :param digest: of its text: another text is another fault
    :param found_by: the first test that failed; None where it survived
    :param reached: how many tests run its lines
    :param unsound: tests that fail in the copy without the fault, too, and so prove nothing
    """

    name: str
    digest: str
    found_by: str | None
    reached: int
    seconds: float
    unsound: Sequence[str] = field(default=())


def digest_of(fault: Fault) -> str:
    """Name a fault by its text."""
    return hashlib.sha256(f"{fault.path}\n{fault.before}\n{fault.after}".encode()).hexdigest()[:16]


def changed_lines(fault: Fault, source: str) -> set[int]:
    """Return the lines of the original, from 1, that make the difference."""
    first = source[: source.index(fault.before)].count("\n") + 1
    old, new = fault.before.splitlines(), fault.after.splitlines()
    last = first + len(old) - 1
    while old and new and old[0] == new[0]:
        first, old, new = first + 1, old[1:], new[1:]
    while old and new and old[-1] == new[-1]:
        last, old, new = last - 1, old[:-1], new[:-1]
    return set(range(first, max(first, last) + 1))


def measured_lines(source: str, lines: set[int]) -> set[int]:
    """Return the lines whose tests can meet a change of these: whole statements, as coverage.py may name any of theirs.

    A function's signature is run by the import alone: then every line of the function counts; outside of functions,
    every line of the module.
    """
    found: set[int] = set()
    tree = ast.parse(source)
    for line in lines:
        holders = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or node.lineno)
        ]
        functions = [node for node in holders if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        if not functions:
            return set(range(1, source.count("\n") + 2))
        found |= _lines_met(line, holders[-1], functions[-1])
    return found


def _lines_met(line: int, statement: ast.stmt, function: ast.stmt) -> set[int]:
    """Return a simple statement's lines, a compound one's head, or all of a function for its own head."""
    end = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    if statement is not function and body:
        end = max(statement.lineno, body[0].lineno - 1)
    # Behind a compound statement's head, yet in none of its statements: an `except`.
    return set(range(statement.lineno, end + 1)) if line <= end else {line}


class Reached:
    """Which tests run which lines of the package.

    :param contexts: a data file of coverage.py's; its paths may belong to another checkout
    """

    def __init__(self, contexts: Path) -> None:
        from coverage import CoverageData  # type: ignore[import-not-found,unused-ignore]  # not among the pins

        self._data = CoverageData(basename=str(contexts))
        self._data.read()

    def tests(self, fault: Fault, source: str) -> set[str]:
        """Return the ids of the tests that run a fault's lines."""
        lines = measured_lines(source, changed_lines(fault, source))
        found: set[str] = set()
        for measured in self._data.measured_files():
            if f"/{measured}".replace("\\", "/").endswith(f"/{fault.file}"):
                contexts = self._data.contexts_by_lineno(measured)
                found |= {name for line in lines for name in contexts.get(line, ())}
        return {name.rpartition("|")[0] for name in found if "::" in name}


def durations(report: Path) -> Mapping[tuple[str, str], float]:
    """Return how many seconds tests took, by class and name; nothing where there is no report."""
    if not report.exists():
        return {}
    cases = ET.parse(report).iter("testcase")  # noqa: S314 - our own tests' report
    return {(case.get("classname", ""), case.get("name", "")): float(case.get("time", "0")) for case in cases}


def reported_as(test: str) -> tuple[str, str]:
    """Return class and name under which a report has a test."""
    base, bracket, parameters = test.partition("[")
    file, *classes, name = base.split("::")
    return ".".join([file.removesuffix(".py").replace("/", "."), *classes]), f"{name}{bracket}{parameters}"


def ordered(fault: Fault, tests: Iterable[str], seconds: Mapping[tuple[str, str], float]) -> list[str]:
    """Order tests: the module's own, then those beside it, then the others; quick files first, in them quick tests.

    Files stay whole, since what their tests share is dear to start.
    """
    by_file: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for test in tests:
        taken = seconds.get(reported_as(test), _UNKNOWN_DURATION)
        by_file[test.partition("::")[0]].append((taken, test))

    def position(file: str) -> tuple[int, float, str]:
        mean = sum(taken for taken, _ in by_file[file]) / len(by_file[file])
        return _distance(fault, file), mean, file

    return [test for file in sorted(by_file, key=position) for _, test in sorted(by_file[file])]


def _distance(fault: Fault, file: str) -> int:
    module, tested = PurePosixPath(fault.path), PurePosixPath(file)
    if tested.stem == f"test_{module.stem}":
        return 0
    return 1 if tested.parent == "tests" / module.parent else 2


@dataclass(frozen=True)
class Outcomes:
    """Ids of tests, by their ends."""

    passed: frozenset[str] = frozenset()
    failed: tuple[str, ...] = ()


class Copy:
    """A copy of the working tree, whose tests run against its own package.

    :param folder: where it lies
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._outcomes = folder / ".cache" / "outcomes"
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - whichever git
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        (folder / ".cache").mkdir(exist_ok=True)
        if (ROOT / TRAINED).is_dir():
            shutil.copytree(ROOT / TRAINED, folder / TRAINED)

    def source(self, fault: Fault) -> str:
        """Return the source of a fault's module as it is in the copy."""
        return (self._folder / fault.file).read_text()

    @contextmanager
    def planted(self, fault: Fault) -> Iterator[None]:
        """Have the fault in the copy for the block."""
        source = self.source(fault)
        self._write(fault, fault.planted(source))
        try:
            yield
        finally:
            self._write(fault, source)

    def _write(self, fault: Fault, source: str) -> None:
        path = self._folder / fault.file
        path.write_text(source)
        # Byte code of the same second and size would be taken for the new source's.
        Path(importlib.util.cache_from_source(path)).unlink(missing_ok=True)

    def run(self, tests: Sequence[str]) -> Outcomes:
        """Run tests until one fails; a few more may fail with it.

        :raises RuntimeError: pytest ended otherwise
        """
        code, output = self._pytest(tests)
        if code in _UNKNOWN_TEST:
            code, output = self._pytest(self._existing(tests))
        ended = [line.partition(" ") for line in self._outcomes.read_text().splitlines()]
        failed = dict.fromkeys(test for how, _, test in ended if how == "failed")
        if code and not failed:
            raise RuntimeError(f"pytest ended with {code}:\n{output[-3_000:]}")
        passed = frozenset(test for how, _, test in ended if how == "passed")
        return Outcomes(passed - failed.keys(), tuple(failed))

    def _existing(self, tests: Sequence[str]) -> list[str]:
        """Return those of the tests that there are now: the data file may be of earlier ones."""
        files = {test.partition("::")[0] for test in tests}
        there = sorted(file for file in files if (self._folder / file).exists())
        _, output = self._run(["--collect-only", *there]) if there else (0, "")
        collected = set(output.splitlines())
        return [test for test in tests if test in collected]

    def _pytest(self, tests: Sequence[str]) -> tuple[int, str]:
        self._outcomes.write_text("")
        if not tests:
            return 0, ""
        arguments = self._folder / ".cache" / "tests"
        arguments.write_text("".join(f"{test}\n" for test in tests))
        workers = ["-n", "2", "--dist", "loadscope", "--no-loadscope-reorder"] if len(tests) > 1 else []
        limit = f"timeout={_LONGEST_TEST}"
        return self._run(["-x", "-o", limit, "-p", "tests.mutation.outcomes", *workers, f"@{arguments}"])

    def _run(self, arguments: Sequence[str]) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        process = subprocess.Popen(
            command,
            cwd=self._folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=_LONGEST_RUN)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return process.returncode, output

    def _environment(self) -> dict[str, str]:
        """Return the Makefile's environment, with the copy's package for all processes that tests start."""
        left_out = ("AWS_", "AIRFLOW_", "_AIRFLOW_", "PYTEST_", "COV_", "COVERAGE_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return kept | {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AIRFLOW_HOME": str(self._folder / ".cache" / "airflow"),
            "PYTHONPATH": str(self._folder),
            OUTCOMES_FILE: str(self._outcomes),
        }


def batches(tests: Sequence[str]) -> Iterator[list[str]]:
    """Yield the tests in the order in which they are worth their time; those with a real Airflow come last."""
    slow = [test for test in tests if test.startswith(REAL_AIRFLOW)]
    others = [test for test in tests if not test.startswith(REAL_AIRFLOW)]
    yield from (others[:FIRST_TESTS], others[FIRST_TESTS:], slow)


def tried(fault: Fault, tests: Sequence[str], copy: Copy) -> Result:
    """Plant a fault and run the tests until one finds it that passes without the fault."""
    began, unsound = time.monotonic(), list[str]()
    found: str | None = None
    for some in batches(tests):
        left = some
        while left and found is None:
            with copy.planted(fault):
                ended = copy.run(left)
            if not ended.failed:
                break
            anyway = {test for test in ended.failed if copy.run([test]).failed}
            found = next((test for test in ended.failed if test not in anyway), None)
            unsound += sorted(anyway)
            left = [test for test in left if test not in ended.passed | anyway]
    seconds = round(time.monotonic() - began, 1)
    return Result(fault.name, digest_of(fault), found, len(tests), seconds, unsound)


def recorded(file: Path) -> dict[str, Result]:
    """Return the latest recorded results by a fault's digest."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {result.digest: result for result in (Result(**json.loads(line)) for line in lines)}


def record(file: Path, result: Result) -> None:
    """Add a result."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as results:
        results.write(f"{json.dumps(asdict(result))}\n")


def check(faults: Sequence[Fault], contexts: Path, *, named: bool) -> None:
    """Try the faults that are not recorded; with ``named`` also those that survived."""
    known = recorded(RESULTS)
    todo = [
        fault
        for fault in faults
        if (result := known.get(digest_of(fault))) is None or (named and result.found_by is None)
    ]
    if not todo:
        return
    reached, seconds = Reached(contexts), durations(DURATIONS)
    with tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as folder:
        copy = Copy(Path(folder))
        for fault in todo:
            tests = reached.tests(fault, copy.source(fault))
            try:
                result = tried(fault, ordered(fault, tests, seconds), copy)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                _say(f"{fault.name}: not tried: {error}")
                continue
            record(RESULTS, result)
            _say(f"{fault.name}: {result.found_by or 'SURVIVED'} ({result.seconds:.0f} s)")


def table(faults: Sequence[Fault], results: Mapping[str, Result]) -> Iterator[str]:
    """Yield the lines of the table, and how many were found."""
    longest = max(len(fault.name) for fault in faults)
    yield f"leg  kill-safe  {'fault':{longest}}  tests  seconds  found by"
    found = 0
    for fault in faults:
        result = results.get(digest_of(fault))
        start = f"{fault.leg:3}  {'yes' if fault.kill_safe else '':9}  {fault.name:{longest}}"
        if result is None:
            yield f"{start}  not tried"
            continue
        found += result.found_by is not None
        yield f"{start}  {result.reached:5}  {result.seconds:7.0f}  {result.found_by or '- survived -'}"
    yield f"{found} of {len(faults)} found"


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - for people


def main() -> int:
    """Try the faults and print the table; 1 when fewer than 28 are found, or one of those that were named survived."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--contexts", type=Path, required=True, help="coverage.py's data file")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults to try, by name")
    arguments = parser.parse_args()
    faults = [fault for fault in FAULTS if not arguments.only or fault.name in arguments.only]
    if unknown := set(arguments.only or ()) - {fault.name for fault in faults}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    if not arguments.contexts.exists():
        parser.error(
            f"{arguments.contexts} does not exist; how it is made says the top of {Path(__file__).name}"
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the copy is removed
    check(faults, arguments.contexts, named=bool(arguments.only))
    results = recorded(RESULTS)
    for line in table(faults, results):
        _say(line)
    found = sum(result.found_by is not None for fault in faults if (result := results.get(digest_of(fault))))
    return int(found < (len(faults) if arguments.only else WANTED))


if __name__ == "__main__":
    sys.exit(main())
