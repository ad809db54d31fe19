"""The conditions of a benchmark, printed with its tables: load, Python, libraries of the client, CPU of the stub."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tests.stubs.endpoint import StubUse


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def python_build() -> str:
    """Name the interpreter: one without profile guided optimisation takes a third more CPU."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    pgo = "with" if "--enable-optimizations" in options else "without"
    lto = "with" if "--with-lto" in options else "without"
    return f"Python {platform.python_version()}, {platform.python_compiler()}, {pgo} PGO, {lto} LTO"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


@dataclass
class Report:
    """Prints the tables of a benchmark, and under them the conditions of its run.

    :param uses: returns the work of the stub's processes so far
    """

    capsys: pytest.CaptureFixture[str]
    uses: Callable[[], Sequence[StubUse]] = tuple
    clients: set[str] = field(default_factory=set)
    """Libraries of the processes that were measured; see :func:`tests.benchmarks.measured.client_libraries`."""

    def __post_init__(self) -> None:
        self._load = _load()
        self.measure_stubs(self.uses)

    def measure_stubs(self, uses: Callable[[], Sequence[StubUse]]) -> None:
        """Count the work of the stub's processes from now on."""
        self.uses, self._began, self._earlier = uses, time.perf_counter(), uses()

    def show(self, *texts: str) -> None:
        """Print tables and lines, then the conditions."""
        seconds = time.perf_counter() - self._began
        lines = [f"load {self._load} before, {_load()} after, {os.cpu_count()} cores; {python_build()}"]
        lines += [f"client: {client}" for client in sorted(self.clients)]
        for use, earlier in zip(self.uses(), self._earlier, strict=True):
            work = use.since(earlier)
            lines.append(
                f"stub, {work.name}: {work.requests:,} requests, {work.text(seconds)} in {seconds:.0f} s"
            )
        with self.capsys.disabled():
            sys.stdout.write("\n".join(["", *texts, *(f"- {line}" for line in lines), ""]))
