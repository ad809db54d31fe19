"""The fixture ``sagemaker_local`` as users get it: in a process of pytest with that plugin alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Clients of the test and of its subprocesses, the account's emptiness, settings and faults, and the log.
USE = """
import os
import pathlib
import subprocess
import sys

import boto3
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_begins_with_an_empty_account(sagemaker_local, number):
    s3, sagemaker = boto3.client("s3"), sagemaker_local.client("sagemaker")
    assert s3.list_buckets()["Buckets"] == []
    assert sagemaker.list_models()["Models"] == []
    assert sagemaker_local.control("GET", "settings")["automl_seconds"] == 0.2
    assert sagemaker_local.control("GET", "calls?service=*&operation=CreateBucket")["calls"] == []
    s3.create_bucket(Bucket="mine")
    container = {"Image": "0.dkr.ecr.us-east-1.amazonaws.com/x:1", "ModelDataUrl": "s3://mine/", "Mode": "MultiModel"}
    role = "arn:aws:iam::123456789012:role/sagemaker"
    sagemaker.create_model(ModelName="mine", ExecutionRoleArn=role, PrimaryContainer=container)
    sagemaker_local.control("PUT", "settings", {"automl_seconds": 7})

def test_reaches_no_account_of_the_user(sagemaker_local):
    assert os.environ["AWS_ENDPOINT_URL"] == sagemaker_local.url
    assert "AWS_PROFILE" not in os.environ and "AWS_ENDPOINT_URL_S3" not in os.environ
    code = "import boto3; print(boto3.client('s3').meta.endpoint_url, boto3.Session().get_credentials().access_key)"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == [sagemaker_local.url, "testing"]

def test_restores_the_environment():
    assert os.environ["AWS_PROFILE"] == "production"
    assert "AWS_ENDPOINT_URL" not in os.environ

def test_logs_its_requests(sagemaker_local):
    sagemaker_local.client("sagemaker").list_endpoints()
    assert "SageMaker.ListEndpoints" in sagemaker_local.log.read_text()
    pathlib.Path("log").write_text(str(sagemaker_local.log))
"""
UNUSED = """
import sys

def test_costs_nothing():
    assert not {"boto3", "airflow", "moto", "urllib.request"} & set(sys.modules)
    assert not [name for name in sys.modules if name.startswith("airflow_sm_plugin.local.s")]
"""


def run_pytest(folder: Path, code: str, *arguments: str, python: str = sys.executable) -> str:
    """Run a test file in a folder; return pytest's output, which ends with its counts."""
    (folder / "test_mine.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = ignore\n")
    own = {"PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_PLUGINS", "PYTHONPATH"}
    users = {
        "AWS_PROFILE": "production",
        "AWS_ENDPOINT_URL_S3": "https://s3.example",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    environment = {name: value for name, value in os.environ.items() if name not in own} | users
    environment.pop("AWS_ENDPOINT_URL", None)
    command = [python, "-m", "pytest", "-p", "sagemaker_local", "-p", "no:cacheprovider", "-rs", *arguments]
    finished = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=1200
    )
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("arguments", [(), ("-p", "xdist", "-n", "2")], ids=["alone", "xdist"])
def test_each_test_has_an_empty_account_and_no_process_stays(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    output = run_pytest(tmp_path, USE, *arguments)
    assert "5 passed" in output, output
    marker = f"AIRFLOW_SM_EMBEDDED={(tmp_path / 'log').read_text()}"
    assert [path for path in Path("/proc").glob("[0-9]*/environ") if marker in _text(path)] == []


def test_it_costs_nothing_where_no_test_uses_it(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, UNUSED)
    assert "1 passed" in output, output


def test_it_is_skipped_with_the_remedy_where_the_extra_is_missing(tmp_path: Path) -> None:
    """Metadata of the package with an extra that wants what is not there stands in for an environment without it."""
    (tmp_path / "conftest.py").write_text(
        "from importlib import metadata\n"
        "extra = ['moto[server]>=99; extra == \"local\"', 'no-such-package; extra == \"local\"', 'packaging', "
        "'other>=99; extra == \"other\"']\n"
        "metadata.requires = lambda name: extra\n"
    )
    output = run_pytest(tmp_path, "def test_x(sagemaker_local): ...\ndef test_y(sagemaker_local): ...\n")
    assert "2 skipped" in output, output
    assert "needs the extra `local` of airflow-sm-plugin; install moto>=99, no-such-package, or set" in output


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
