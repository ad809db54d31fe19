"""The servers of the benchmarks, processes of their own, clients that point to them, and the report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from tests.benchmarks.report import Report
from tests.stubs.aws import StubClient, running
from tests.stubs.endpoint import StubServer, StubUse, serving

# Read when Airflow is imported. The provider's sensor logs each key it asks for; what that costs is left out.
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"


class _CountingClient(StubClient):
    """Knows all requests since the start: those that were taken and those that were not."""

    def __init__(self, url: str, server: psutil.Process) -> None:
        super().__init__(url)
        self._server = server
        self._requests = 0

    def take_calls(self) -> Counter[str]:
        calls = super().take_calls()
        self._requests += calls.total()
        return calls

    def uses(self) -> list[StubUse]:
        """Return the work of the server; what was not taken is taken."""
        self.take_calls()
        times = self._server.cpu_times()
        return [StubUse("S3 and InvokeEndpointAsync in Python", self._requests, times.user + times.system)]


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Return what prints the tables, with the load of now as the load before."""
    return Report(capsys)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, report: Report) -> Iterator[StubClient]:
    """Run an empty S3 and SageMaker runtime in memory."""
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)
    others = set(psutil.Process().children())
    with running() as client:
        monkeypatch.setenv("AWS_ENDPOINT_URL", client.url)
        (server,) = set(psutil.Process().children()) - others
        counting = _CountingClient(client.url, server)
        report.measure_stubs(counting.uses)
        yield counting


@pytest.fixture
def endpoint(report: Report) -> Iterator[StubServer]:
    """Run a multi-model endpoint and its S3 in memory."""
    with serving() as server:
        report.measure_stubs(server.uses)
        yield server
