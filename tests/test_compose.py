"""``docker-compose.yaml`` says what the specification allows, and starts what the stack runner starts.

No container engine is needed: what the tests prove about the stack runner then holds for the file as well.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import yaml

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS, COMPONENTS, SETTINGS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yaml"
BESIDES = {"init", "postgres", "sagemaker"}


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, object]]:
    """The services, anchors resolved."""
    services: dict[str, dict[str, object]] = yaml.safe_load(FILE.read_text())["services"]
    return services


def _environment(service: dict[str, object]) -> dict[str, str]:
    environment = service["environment"]
    assert isinstance(environment, dict)
    return environment


def _ports(service: dict[str, object]) -> list[str]:
    ports = service.get("ports", [])
    assert isinstance(ports, list)
    return ports


def _against_the_schema(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_file_follows_the_compose_specification() -> None:
    finished = _against_the_schema(FILE)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_schema_would_notice_a_misspelt_key(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("healthcheck:", "healthchek:", 1))
    finished = _against_the_schema(wrong)
    assert finished.returncode == 1
    assert "healthchek" in finished.stdout


def test_its_processes_are_the_stack_runners(services: dict[str, dict[str, object]]) -> None:
    assert set(services) - BESIDES == set(COMPONENTS)
    assert {name: services[name]["command"] for name in COMPONENTS} == {
        name: list(arguments) for name, arguments in COMPONENTS.items()
    }
    assert services["init"]["command"] == ["db", "migrate"]


@pytest.mark.parametrize("name", [*COMPONENTS, "init"])
def test_its_settings_are_the_stack_runners(
    services: dict[str, dict[str, object]], name: str, tmp_path: Path
) -> None:
    here = _environment(services[name])
    assert {key: here.get(key) for key in (*SETTINGS, *AWS_SETTINGS)} == {**SETTINGS, **AWS_SETTINGS}

    runner = AirflowStack(
        tmp_path, tmp_path, environment={**AWS_SETTINGS, "AWS_ENDPOINT_URL": "http://sagemaker"}
    ).environment
    ours = {key for key in runner if key.startswith(("AIRFLOW__", "AIRFLOW_CONN_", "AWS_"))}
    files = {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"}  # a container has no home of the user's
    assert set(here) == ours - files


def test_nothing_is_published_beyond_loopback(services: dict[str, dict[str, object]]) -> None:
    published = [port for service in services.values() for port in _ports(service)]
    assert published
    assert [port for port in published if not port.startswith("127.0.0.1:")] == []


def test_the_embedded_sagemaker_listens_where_airflow_connects_to_it(
    services: dict[str, dict[str, object]],
) -> None:
    address = _environment(services["scheduler"])["AWS_ENDPOINT_URL"]
    command = services["sagemaker"]["command"]
    assert isinstance(command, list)
    assert command[:3] == ["python", "-m", "airflow_sm_plugin.local"]
    assert address == f"http://sagemaker:{command[command.index('--port') + 1]}"
    published = _ports(services["sagemaker"])[0].rpartition(":")[0]
    assert command[command.index("--public-url") + 1] == f"http://{published}"


def test_the_embedded_sagemakers_command_serves_under_that_name(
    services: dict[str, dict[str, object]],
) -> None:
    command = services["sagemaker"]["command"]
    assert isinstance(command, list)
    assert command[-2] == "--port"
    arguments = ["127.0.0.1" if argument == "0.0.0.0" else argument for argument in command[1:-1]]  # noqa: S104 - not on this machine
    with subprocess.Popen(
        [sys.executable, *arguments, "0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            url = program.stdout.readline().split()[1]
            asked = Request(f"{url}/_embedded/health", headers={"Host": "sagemaker:4566"})
            with urlopen(asked, timeout=600) as answer:
                assert answer.status == 200
                assert json.load(answer)["ui"] == "http://127.0.0.1:4566/_embedded/ui/"
        finally:
            program.terminate()


def test_the_image_is_the_airflow_that_is_tested() -> None:
    pins = (ROOT / "requirements" / "airflow-3.3.txt").read_text()
    pinned = re.search(r"^apache-airflow==(\S+)$", pins, re.MULTILINE)
    assert pinned
    tags = re.findall(r"apache[/-]airflow(?::|==)([\d.]+)", FILE.read_text())
    assert set(tags) == {pinned[1]}
