"""Fixtures that all tests share: an Airflow of their own, and one embedded SageMaker over real HTTP."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from tests.cheap_clients import cheap_clients

if TYPE_CHECKING:
    from tests.metrics import Metrics
    from tests.support import Account, Requests

try:
    from hypothesis import HealthCheck
    from hypothesis import settings as hypothesis_settings
except ImportError:  # not every environment of these tests has it
    pass
else:
    # Properties are judged by their results, not by how busy the machine is.
    hypothesis_settings.register_profile(
        "unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    hypothesis_settings.load_profile("unhurried")

# Workers that run tests at the same time do not share Airflow's database.
os.environ["AIRFLOW_HOME"] = str(
    Path(os.environ.get("AIRFLOW_HOME") or tempfile.mkdtemp(prefix="airflow-sm-"))
    / os.environ.get("PYTEST_XDIST_WORKER", "")
)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(Path(__file__).parents[1] / "dags")
os.environ["AIRFLOW__CORE__UNIT_TEST_MODE"] = "False"

APART = (
    "operators/test_lost_answers.py",
    "operators/test_killed_deployments.py",
    "operators/test_deploy_races.py",
)
"""Files whose tests any worker takes, each by itself: long ones that share nothing. Other files stay whole."""

FIRST = (
    "e2e",
    "demo",
    "test_readme.py",
    "local/automl/test_jobs.py",
    "hooks/test_hostile_answers.py",
)
"""What takes longest, by the names that :func:`shared_by` returns."""

TRAINED = Path(__file__).parents[1] / ".cache" / "trained"
"""What AutoML jobs have trained: the same jobs over the same data, in every worker and every run."""

LOCAL_PYTHON = os.environ.get("AIRFLOW_SM_LOCAL_PYTHON", sys.executable)
"""An interpreter with the extra ``local``: under Airflow 2.11 another one than that of the tests."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:  # noqa: ANN401 - xdist has no types
    """Hand out together what shares something that is dear to start."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped] # it has none

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # as above
        def _split_scope(self, nodeid: str) -> str:
            return shared_by(nodeid)

    return Scheduling(config, log)


def shared_by(nodeid: str) -> str:
    """Return the name of the group of tests that one worker runs one after the other."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    if file.startswith(("e2e/", "demo/")):
        return file.partition("/")[0]  # a real Airflow keeps a core busy
    return nodeid if file in APART else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, :data:`FIRST`: the others fill the time in which it waits."""
    first = {name: position for position, name in enumerate(FIRST)}
    items.sort(key=lambda item: first.get(shared_by(item.nodeid), len(first)))


@pytest.fixture(scope="session", autouse=True)
def _clients_cheaply_made() -> Iterator[None]:
    with cheap_clients():
        yield


@pytest.fixture(scope="session")
def embedded_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the embedded SageMaker logs its requests."""
    return tmp_path_factory.mktemp("embedded") / "embedded.log"


@pytest.fixture(scope="session")
def embedded(embedded_log: Path) -> Iterator[EmbeddedProcess]:
    """Run one embedded SageMaker as a process of its own; ``embedded.url`` is its address.

    Its containers may take as long to start and to answer as a busy machine needs.
    """
    arguments = ["--training-cache", str(TRAINED)]
    for name in ("container_start_timeout_seconds", "invocation_timeout_seconds"):
        arguments += ["--set", f"{name}=3600"]
    with EmbeddedProcess(
        embedded_log, python=LOCAL_PYTHON, arguments=arguments, start_seconds=1700
    ) as process:
        yield process


@pytest.fixture(scope="session")
def session_account(embedded: EmbeddedProcess) -> Account:
    """The account of fixtures that serve several modules."""
    from tests.support import account_at  # imports Airflow, which not every environment of these tests has

    return account_at(embedded.url)


@pytest.fixture(scope="module")
def module_account(session_account: Account) -> Account:
    """The account with a bucket that no other module writes to; for wider fixtures than a test's."""
    return session_account.with_own_bucket()


@pytest.fixture
def account(module_account: Account, aws: str) -> Account:
    """Clients of the embedded SageMaker and a bucket; our operators' clients point there too. Keep apart by names."""
    return module_account


@pytest.fixture
def requests(embedded_log: Path, account: Account) -> Requests:
    """Requests to the embedded SageMaker since the test began."""
    from tests.support import Requests

    return Requests(embedded_log)


@pytest.fixture
def aws(embedded: EmbeddedProcess, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point every AWS client of this test at the embedded SageMaker; return its address."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded.url)
    for name, value in AWS_SETTINGS.items():
        monkeypatch.setenv(name, value)
    return embedded.url


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that is not there yet: a model that waits for it goes on when the test makes it, or at the test's end."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Have Airflow's database: ``dag.test()`` needs one."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, timeout=900)


@pytest.fixture(autouse=True)
def _no_patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests of S3 give up by the number of their attempts: an outage of a minute takes a minute."""
    if "airflow" in sys.modules:
        monkeypatch.setattr("airflow_sm_plugin.aws.retry.OUTAGE_SECONDS", 0.0)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A bundle that trusts a server on loopback, and that server's context."""
    from tests.stubs.certificates import make_certificates

    bundle, server = make_certificates(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server)
    return bundle, context


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    """Receive what goes to Airflow's statistics."""
    from tests.metrics import Metrics

    with Metrics().installed() as received:
        yield received
