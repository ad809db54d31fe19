"""A plugin of pytest's that writes down how each test ended, one a line: pytest's summary cuts names short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FILE = "MUTATION_OUTCOMES"
"""The environment variable that names the file."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write ``passed`` or ``failed`` and the test's id; workers report to the process that started them."""
    if "PYTEST_XDIST_WORKER" not in os.environ and (
        report.failed or (report.when == "call" and report.passed)
    ):
        with Path(os.environ[FILE]).open("a") as outcomes:
            outcomes.write(f"{report.outcome} {report.nodeid}\n")
