"""The server of the benchmarks, a process of its own, and clients that point to it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from tests.stubs.aws import StubClient, running
from tests.stubs.endpoint import StubServer, serving

# Read when Airflow is imported. The provider's sensor logs each key it asks for; what that costs is left out.
os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubClient]:
    """Run an empty S3 and SageMaker runtime in memory."""
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)
    with running() as client:
        monkeypatch.setenv("AWS_ENDPOINT_URL", client.url)
        yield client


@pytest.fixture
def endpoint() -> Iterator[StubServer]:
    """Run a multi-model endpoint and its S3 in memory."""
    with serving() as server:
        yield server
