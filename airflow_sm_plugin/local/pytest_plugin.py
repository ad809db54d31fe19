"""The pytest fixture ``sagemaker_local``: an embedded SageMaker for the tests of one's own DAGs.

The entry point ``pytest11`` loads this module in every run of pytest in its environment. Hence it imports nothing that
pytest does not import itself, until a test requests the fixture.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_PYTHON = "AIRFLOW_SM_LOCAL_PYTHON"
"""Names another interpreter with the extra ``local``: the constraints of Airflow 2.11 pin a moto that is too old."""


@dataclass(frozen=True)
class LocalSageMaker:
    """The embedded SageMaker, and with it S3, IAM, SNS, SQS, … of one account, which is empty when a test begins.

    :param url: its address, to which ``AWS_ENDPOINT_URL`` points during the test
    :param log: the file in which it logs each request
    """

    url: str
    log: Path

    def client(self, service: str) -> Any:  # noqa: ANN401 - boto3 creates its classes at run time
        """Create a boto3 client, e.g. of ``sagemaker``, ``sagemaker-runtime`` or ``s3``."""
        from boto3.session import Session

        session: Any = Session()  # its types are for literal names of services
        return session.client(service, endpoint_url=self.url)

    def control(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Call ``/_embedded/<path>``: settings, faults, endpoints and calls; return the answer.

        :param body: any JSON, e.g. ``control("PUT", "settings", {"endpoint_creating_seconds": 5})``
        :raises urllib.error.HTTPError: the service refused it
        """
        return self._request(method, f"/_embedded/{path}", body)

    def reset(self) -> None:
        """Remove everything: resources, objects, faults, the call log. Settings stay."""
        self._request("POST", "/moto-api/reset", None)

    def _request(self, method: str, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
        import urllib.request

        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=60) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def _sagemaker_local_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSageMaker]:
    """Run the embedded SageMaker as a process of its own, one for each process of pytest."""
    python = os.environ.get(_PYTHON, sys.executable)
    if python == sys.executable and (missing := missing_requirements()):
        pytest.skip(
            f"sagemaker_local needs the extra `local` of airflow-sm-plugin; install {', '.join(missing)}, "
            f"or set {_PYTHON} to an interpreter that has them"
        )
    from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess

    log = tmp_path_factory.mktemp("sagemaker-local") / "embedded.log"
    with EmbeddedProcess(log, python=python) as process:
        yield LocalSageMaker(process.url, log)


@pytest.fixture
def sagemaker_local(
    _sagemaker_local_service: LocalSageMaker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalSageMaker]:
    """Point every AWS client of the test, and of what it starts, at an embedded SageMaker with an empty account.

    The test is skipped, with the remedy, where the extra ``local`` is not installed.
    """
    from airflow_sm_plugin.local.stack.processes import clean_environment

    service = _sagemaker_local_service
    settings = service.control("GET", "settings")
    _point_clients_at(service.url, monkeypatch, clean_environment({}))
    yield service
    service.control("PUT", "settings", settings)
    service.reset()


def _point_clients_at(url: str, monkeypatch: pytest.MonkeyPatch, clean: dict[str, str]) -> None:
    """Set made-up credentials and *url* for every client; a test never reaches the user's account."""
    from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS

    for name in os.environ:
        if name.startswith(("AWS_", "AIRFLOW_CONN_AWS_")):
            monkeypatch.delenv(name)
    for name in (name for name in clean if name.startswith("AWS_") or name.upper() == "NO_PROXY"):
        monkeypatch.setenv(name, clean[name])
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://")
    if "boto3" in sys.modules:  # its default session could hold the user's credentials
        monkeypatch.setattr("boto3.DEFAULT_SESSION", None)


def missing_requirements() -> list[str]:
    """List the requirements of the extra ``local`` that are not installed, or not in a new enough version."""
    from importlib import metadata

    from packaging.requirements import Requirement

    missing = []
    for requirement in map(Requirement, metadata.requires("airflow-sm-plugin") or ()):
        if requirement.marker is None or not requirement.marker.evaluate({"extra": "local"}):
            continue
        try:
            installed = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            installed = None
        if installed is None or installed not in requirement.specifier:
            missing.append(f"{requirement.name}{requirement.specifier}")
    return missing
