"""The embedded SageMaker as a program and as a context manager: ready, reset, end, and no process left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, WaiterError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import Clients, clients_of

ROOT = Path(__file__).parents[2]

WHO = """
import json, os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
def model_fn(model_dir): return [os.getpid(), child.pid, model_dir]
def transform_fn(model, data, content_type, accept): return json.dumps(model)
"""
"""Says its process, one that it started, and its folder."""

HANGS = """
import threading
threading.Event().wait()
"""


@contextlib.contextmanager
def _program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "airflow_sm_plugin.local", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        try:
            assert program.stdout is not None
            word, url = program.stdout.readline().split()
            assert word == "ready"
            yield program, url
        finally:
            program.kill()


def _who(clients: Clients) -> tuple[list[int], Path]:
    answer = clients.runtime.invoke_endpoint(EndpointName=clients.deploy(WHO), Body=b"?")
    *pids, folder = json.loads(answer["Body"].read())
    return [int(pid) for pid in pids], Path(folder)


@contextlib.contextmanager
def _ends(pids: list[int], seconds: float = 600) -> Iterator[None]:
    """Check that every process is alive before, and has ended soon after, what is done inside."""
    watched = [os.pidfd_open(pid) for pid in pids]
    try:
        assert not any(select.select([descriptor], [], [], 0)[0] for descriptor in watched)
        yield
        for descriptor in watched:
            assert select.select([descriptor], [], [], seconds)[0], "a process is left"
    finally:
        for descriptor in watched:
            os.close(descriptor)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_program_cleanly_with_its_containers(number: signal.Signals) -> None:
    with _program("--quiet") as (program, url):
        pids, folder = _who(clients_of(url))
        with _ends(pids):
            program.send_signal(number)
            _, errors = program.communicate(timeout=600)
        assert program.returncode == 0
        assert errors == ""
        assert not folder.exists()


def test_a_killed_program_leaves_no_container_and_no_folder() -> None:
    with _program("--quiet") as (program, url):
        pids, folder = _who(clients_of(url))
        with _ends(pids):
            program.kill()
        assert not folder.exists()


def test_requests_are_logged_without_their_content() -> None:
    with _program("--set", "endpoint_creating_seconds=0") as (program, url):
        clients = clients_of(url)
        name = clients.deploy(environment={"TOKEN": "s3cr3t-environment"})
        clients.runtime.invoke_endpoint(
            EndpointName=name, Body=b"s3cr3t-body", CustomAttributes="s3cr3t-attributes"
        )
        signed = clients.s3.generate_presigned_url(
            "get_object", Params={"Bucket": clients.bucket, "Key": "k"}
        )
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(signed)
        missing.value.close()
        program.terminate()
        _, errors = program.communicate(timeout=600)
    assert "POST SageMaker.CreateModel 200" in errors
    assert f"POST /endpoints/{name}/invocations 200" in errors
    assert f"GET /{clients.bucket}/k (moto)" in errors
    assert "s3cr3t" not in errors
    assert "Signature" not in errors


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--set", "nothing=1"], "unknown setting 'nothing'; known are "),
        (
            ["--set", "automl_seconds=-1"],
            "setting 'automl_seconds' must be a number of seconds >= 0, not -1.0",
        ),
        (
            ["--set", "automl_seconds=soon"],
            "--set 'automl_seconds=soon' is not NAME=NUMBER: write, e.g., --set ",
        ),
        (["--set", "x"], "--set 'x' is not NAME=NUMBER: write, e.g., --set automl_seconds=5"),
        (["--port", "99999"], "'99999' is not a port: give a number from 0 to 65535, 0 for a free one"),
        (["--port", "-1"], "'-1' is not a port: give a number from 0 to 65535"),
        (["--port", "http"], "'http' is not a port"),
        (
            ["--port", "{used}"],
            "port {used} of 127.0.0.1 is in use: stop what listens there, or give another --port",
        ),
    ],
)
def test_a_bad_argument_is_named_with_what_is_permitted(arguments: list[str], says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        used = str(listening.getsockname()[1])
        given = [argument.replace("{used}", used) for argument in arguments]
        command = [sys.executable, "-m", "airflow_sm_plugin.local", *given]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert says.replace("{used}", used) in ended.stderr.splitlines()[-1]


def test_a_reset_stops_every_container_and_forgets_everything() -> None:
    with _program("--quiet") as (_, url):  # moto's state is the process's: not in the tests' own
        clients = clients_of(url)
        pids, folder = _who(clients)
        with _ends(pids):
            urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset", method="POST")).close()
        assert not folder.exists()
        assert clients.sagemaker.list_models()["Models"] == []
        assert clients.s3.list_buckets()["Buckets"] == []
        again = clients_of(url)
        assert _who(again)[0] != pids


def _rules(url: str, method: str = "GET", rules: object = None) -> list[object]:
    body = None if rules is None else json.dumps(rules).encode()
    asked = urllib.request.Request(f"{url}/_embedded/faults", data=body, method=method)
    with urllib.request.urlopen(asked) as answer:
        return list(json.load(answer)["rules"])


def test_a_reset_of_moto_resets_sagemaker_whatever_its_address() -> None:
    with _program("--quiet") as (_, url):  # as above
        for path in ("/moto-api/reset", "/moto-api/reset/", "//moto-api/reset"):
            _rules(url, "PUT", [{"operation": "CreateModel", "fault": "throttle"}])
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(url + path).close()
            assert _rules(url)
            urllib.request.urlopen(urllib.request.Request(url + path, method="POST")).close()
            assert _rules(url) == []


def test_a_reset_does_not_wait_for_containers_that_start() -> None:
    with EmbeddedSageMaker() as embedded:
        clients = clients_of(embedded.url)
        config = clients.create_config(clients.create_model(HANGS))
        clients.sagemaker.create_endpoint(EndpointName="hangs", EndpointConfigName=config)
        embedded.reset()
        with pytest.raises(ClientError, match="Could not find endpoint"):
            clients.sagemaker.describe_endpoint(EndpointName="hangs")


def test_a_container_that_does_not_come_up_in_time_fails_its_endpoint() -> None:
    settings = Settings(container_start_timeout_seconds=0.5)
    with EmbeddedSageMaker(settings=settings) as embedded:
        clients = clients_of(embedded.url)
        with pytest.raises(WaiterError) as failed:
            clients.deploy(HANGS)
        reason = str(dict(failed.value.last_response)["FailureReason"])
        assert reason.startswith(
            "The primary container for production variant AllTraffic did not pass the ping"
        )


def test_regions_are_worlds_of_their_own(sagemaker_server: EmbeddedSageMaker) -> None:
    import boto3

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    here, there = (
        boto3.client("sagemaker", region_name=region, endpoint_url=sagemaker_server.url, **keys)  # type: ignore[call-overload] # keys in a dict
        for region in ("eu-west-1", "eu-central-1")
    )
    created = here.create_model(
        ModelName="regional",
        ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
        PrimaryContainer={"Image": "image"},
    )
    assert created["ModelArn"].startswith("arn:aws:sagemaker:eu-west-1:")
    assert there.list_models()["Models"] == []


def test_health_and_unknown_paths_are_answered(sagemaker_server: EmbeddedSageMaker) -> None:
    with urllib.request.urlopen(f"{sagemaker_server.url}/_embedded/health") as response:
        assert json.load(response) == {"status": "ok", "ui": "/_embedded/ui/"}
    with pytest.raises(urllib.error.HTTPError, match="404") as missing:
        urllib.request.urlopen(f"{sagemaker_server.url}/_embedded/nothing")
    missing.value.close()
