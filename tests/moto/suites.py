"""Moto's own suites against the embedded service and against plain moto: ``make test-moto``.

The tests come from moto's source distribution and run in its server mode, as clients of a server at port 5000; here
of one on a free port. Fails if the embedded service loses a test that plain moto passes.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import moto
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from airflow_sm_plugin.local.server import EmbeddedSageMaker

SUITES = ("s3", "sqs", "sns")
FOLDER = Path(__file__).parents[2] / ".cache" / "moto"
KNOWN_DIFFERENCES: Mapping[str, str] = dict.fromkeys(
    (
        "tests.test_s3.test_s3::test_s3_object_in_private_bucket",
        "tests.test_s3.test_s3_acl::test_s3_object_in_private_bucket",
        "tests.test_s3.test_s3_acl::test_s3_object_in_public_bucket",
    ),
    "wants the code 403; S3 and the embedded service say AccessDenied",
)
"""Tests that the embedded service may lose, with the reason."""

Outcomes = Mapping[str, str]
"""``passed``, ``failed`` or ``skipped`` by a test's name."""


def fetch() -> Path:
    """Return the source distribution of the installed moto, downloaded once."""
    archive = FOLDER / f"moto-{moto.__version__}.tar.gz"
    if not archive.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "moto"]
        subprocess.run([*download, "--dest", str(FOLDER), f"moto=={moto.__version__}"], check=True)
    return archive


def unpack(archive: Path, folder: Path, port: int) -> None:
    """Unpack moto's tests, with the port that they are to use instead of 5000."""
    with tarfile.open(archive) as tar:
        top = f"moto-{moto.__version__}"
        members = [member for member in tar.getmembers() if member.name.startswith(f"{top}/tests/")]
        tar.extractall(folder, members=members, filter="data")
    for file in (folder / top / "tests").glob("test_*/*.py"):
        if "localhost:5000" in (text := file.read_text()):
            file.write_text(text.replace("localhost:5000", f"localhost:{port}"))


def run(label: str, port: int, arguments: Sequence[str]) -> Outcomes:
    """Run the suites against the server at ``port``; return what became of each test."""
    folder = FOLDER / label
    unpack(fetch(), folder, port)
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))
    }
    environment |= {
        "TEST_SERVER_MODE": "true",
        "TEST_SERVER_MODE_ENDPOINT": f"http://localhost:{port}",
        "TESTS_SKIP_REQUIRES_DOCKER": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "PYTHONPATH": str(FOLDER / "packages"),
    }
    options = [
        "-q",
        "-c",
        os.devnull,
        "--rootdir=.",
        "-p",
        "no:cacheprovider",
        f"--junit-xml={report}",
        "--tb=short",
    ]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        *(f"tests/test_{suite}" for suite in SUITES),
        *arguments,
    ]
    with (folder / "log").open("w") as log:
        subprocess.run(
            command,
            cwd=folder / f"moto-{moto.__version__}",
            env=environment,
            stdout=log,
            stderr=log,
            check=False,
        )
    if not report.exists():
        raise SystemExit(f"moto's tests did not run; see {folder / 'log'}")
    return read(report)


def read(report: Path) -> Outcomes:
    """Read a report of pytest's."""
    outcomes: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it
        kinds = {child.tag for child in case}
        state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = state
    return outcomes


def lost(plain: Outcomes, ours: Outcomes) -> list[str]:
    """Return the tests that plain moto passes and the embedded service does not."""
    return sorted(name for name, state in plain.items() if state == "passed" and ours.get(name) != "passed")


def figures(outcomes: Outcomes, suite: str) -> str:
    """Count a suite's outcomes for a line of text."""
    counts = Counter(state for name, state in outcomes.items() if f"test_{suite}." in name)
    return ", ".join(f"{counts[state]} {state}" for state in ("passed", "failed", "skipped"))


def main(arguments: Sequence[str]) -> int:
    """Run both, print the figures and what is lost; 1 if that is more than the known differences."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        plain = run("plain", server.get_host_and_port()[1], arguments)
    finally:
        server.stop()
    with EmbeddedSageMaker() as embedded:
        ours = run("embedded", int(embedded.url.rpartition(":")[2]), arguments)
    for suite in SUITES:
        print(f"{suite}: plain moto {figures(plain, suite)}; embedded {figures(ours, suite)}")  # noqa: T201 - for people
    missing = lost(plain, ours)
    for name in missing:
        print(f"lost: {name} {KNOWN_DIFFERENCES.get(name, '')}")  # noqa: T201 - for people
    return int(any(name not in KNOWN_DIFFERENCES for name in missing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
