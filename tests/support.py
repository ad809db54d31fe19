"""Plain helpers of the Airflow-facing tests: an account in the embedded SageMaker, and a task run by hand.

Nothing here needs moto, scikit-learn or the embedded service's own code: the same tests run under Airflow 2.11, whose
environment has none of them.
"""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import tarfile
import threading
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config

from tests.task_instances import TaskInstanceDouble
from tests.task_runs import TaskDeferred, context_for, deferred, event_of, rebuilt, run_task

if TYPE_CHECKING:
    from botocore.model import StructureShape
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient

__all__ = [
    "BLOCKING",
    "BROKEN",
    "ECHO",
    "FAILING",
    "IMAGE",
    "POLL",
    "REGION",
    "ROLE",
    "Account",
    "Answer",
    "Requests",
    "TaskDeferred",
    "TaskInstanceDouble",
    "account_at",
    "answering",
    "archive",
    "botocore_knows",
    "closed_port",
    "context_for",
    "deferred",
    "event_of",
    "rebuilt",
    "run_task",
    "unique",
]

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"
POLL = 0.05
"""Seconds between polls: short, so that no test waits for nothing."""

ECHO = """
def model_fn(model_dir):
    return "echo"

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""
"""The code of the smallest archive: it answers what it gets."""

FAILING = """
def model_fn(model_dir):
    return "failing"

def transform_fn(model, data, content_type, accept):
    raise ValueError("this handler always fails")
"""
"""It comes up and fails every request."""

BROKEN = 'raise RuntimeError("this handler cannot be imported")\n'
"""It never comes up: its endpoint ends Failed, an update to it is rolled back."""

BLOCKING = """
import pathlib, time

def model_fn(model_dir):
    return "blocking"

def transform_fn(model, data, content_type, accept):
    gate = pathlib.Path(data.decode() if isinstance(data, bytes) else str(data))
    while not gate.exists():
        time.sleep(0.02)
    return b"done", "text/plain"
"""
"""It answers a request, whose body is a path, once a file of that path exists."""


@dataclass(frozen=True)
class Account:
    """Boto3 clients of the embedded SageMaker, a bucket, and shorthands for what many tests do with them."""

    url: str
    sagemaker: SageMakerClient
    runtime: SageMakerRuntimeClient
    s3: S3Client
    bucket: str

    def with_own_bucket(self) -> Account:
        """Return the same clients with a new bucket."""
        account = replace(self, bucket=unique("bucket"))
        account.s3.create_bucket(Bucket=account.bucket)
        return account

    def upload(self, body: bytes | str, key: str = "") -> str:
        """Put an object, return its s3:// address."""
        key = key or f"inputs/{uuid.uuid4().hex}.csv"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def read(self, location: str) -> bytes:
        """Return an object's content."""
        bucket, _, key = location.removeprefix("s3://").partition("/")
        return self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()

    def upload_model(self, code: str = ECHO) -> str:
        """Pack ``code`` as ``code/inference.py`` into a model.tar.gz, upload it, return its s3:// address."""
        return self.upload(archive({"code/inference.py": code}), f"models/{uuid.uuid4().hex}/model.tar.gz")

    def create_model(
        self,
        code: str = ECHO,
        *,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        model_data_url: str = "",
        multi_model: bool = False,
    ) -> str:
        """Create a model of one container, return its name. ``model_data_url`` replaces ``code``.

        An endpoint of a ``multi_model`` one starts no process, so it takes just as long as the settings say.
        """
        name = name or unique("model")
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": model_data_url or self.upload_model(code),
                "Environment": dict(environment or {}),
                "Mode": "MultiModel" if multi_model else "SingleModel",
            },
        )
        return name

    def create_model_without_artefact(self, name: str = "") -> str:
        """Create a model whose artefact is deleted afterwards: its endpoints fail. Return its name."""
        key = f"{unique('deleted')}/model.tar.gz"
        model = self.create_model(name=name, model_data_url=self.upload(archive({}), key))
        self.s3.delete_object(Bucket=self.bucket, Key=key)
        return model

    def create_config(self, model: str, *, asynchronous: bool = False, name: str = "") -> str:
        """Create an endpoint configuration with the one variant ``AllTraffic``, return its name."""
        name = name or unique("config")
        section: dict[str, Any] = {}
        if asynchronous:
            output = {
                "S3OutputPath": f"s3://{self.bucket}/{name}/outputs",
                "S3FailurePath": f"s3://{self.bucket}/{name}/failures",
            }
            section = {"AsyncInferenceConfig": {"OutputConfig": output}}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": model,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            **section,
        )
        return name

    def start_endpoint(self, code: str = ECHO, *, asynchronous: bool = False, name: str = "") -> str:
        """Create model, configuration and endpoint, return the endpoint's name while it is still Creating."""
        name = name or unique("endpoint")
        config = self.create_config(self.create_model(code), asynchronous=asynchronous)
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        return name

    def deploy(self, code: str = ECHO, *, asynchronous: bool = False, name: str = "") -> str:
        """Have an endpoint InService, real-time or asynchronous (with a failure path); return its name."""
        name = self.start_endpoint(code, asynchronous=asynchronous, name=name)
        self.wait_for_endpoint(name)
        return name

    def wait_for_endpoint(self, name: str, waiter: str = "endpoint_in_service") -> None:
        """Wait until an endpoint is InService (or, ``endpoint_deleted``, gone); raises WaiterError when it fails."""
        made: Any = self.sagemaker.get_waiter(waiter)  # type: ignore[call-overload] # the name is a variable
        made.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})

    def status(self, endpoint: str) -> str | None:
        """Return an endpoint's status, None when there is none."""
        names = [endpoint["EndpointName"] for endpoint in self._endpoints()]
        if endpoint not in names:
            return None
        return self.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"]

    def configs(self, containing: str) -> list[str]:
        """Return the names of the endpoint configurations whose name holds a text."""
        response = self.sagemaker.list_endpoint_configs(NameContains=containing, MaxResults=100)
        return sorted(config["EndpointConfigName"] for config in response["EndpointConfigs"])

    def models(self, containing: str) -> list[str]:
        """Return the names of the models whose name holds a text."""
        response = self.sagemaker.list_models(NameContains=containing, MaxResults=100)
        return sorted(model["ModelName"] for model in response["Models"])

    def _endpoints(self) -> Iterator[Mapping[str, Any]]:
        for page in self.sagemaker.get_paginator("list_endpoints").paginate():
            yield from cast("list[Mapping[str, Any]]", page["Endpoints"])

    @contextmanager
    def settings(self, **seconds: float) -> Iterator[None]:
        """Change settings of the embedded service, e.g. ``endpoint_creating_seconds=5``, for the block."""
        before = self._put({})
        self._put(seconds)
        try:
            yield
        finally:
            self._put(before)

    def change_settings(self, **seconds: float) -> None:
        """Change settings of the embedded service inside a :meth:`settings` block, which restores them."""
        self._put(seconds)

    def _put(self, values: Mapping[str, float]) -> dict[str, float]:
        request = urllib.request.Request(
            f"{self.url}/_embedded/settings", data=json.dumps(values).encode(), method="PUT"
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return cast("dict[str, float]", json.load(answer))


def account_at(url: str) -> Account:
    """Return clients of the embedded SageMaker at ``url`` and make them a bucket."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path"},
        connect_timeout=600,
        read_timeout=600,
    )
    return Account(
        url=url,
        sagemaker=session.client("sagemaker", endpoint_url=url, config=config),
        runtime=session.client("sagemaker-runtime", endpoint_url=url, config=config),
        s3=session.client("s3", endpoint_url=url, config=config),
        bucket="",
    ).with_own_bucket()


def unique(kind: str) -> str:
    """Return a name that no other test uses."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"


def archive(files: Mapping[str, str | bytes]) -> bytes:
    """Return a tar.gz of ``files`` (name → content)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


def closed_port() -> str:
    """Return an address on loopback without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@dataclass(frozen=True)
class Answer:
    """An answer of :func:`answering`: an error in the words of the JSON, REST-JSON and XML protocols at once."""

    status: int
    code: str
    message: str = "said the test"

    def body(self, *, xml: bool) -> bytes:
        """Return the answer's body, as S3 (XML) or SageMaker spells it."""
        if xml:
            return f"<Error><Code>{self.code}</Code><Message>{self.message}</Message></Error>".encode()
        return json.dumps({"__type": self.code, "message": self.message}).encode()


@contextmanager
def answering(*answers: Answer | None, otherwise: str = "") -> Iterator[tuple[str, list[str]]]:
    """Serve these answers on loopback, one for each request, the last for ever; yield the address and what was asked.

    :param otherwise: pass requests on to the service at this address instead, where the answer is None and after the
        last one
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/_embedded/health":  # asked for a task's links: it is no embedded SageMaker
                self.send_error(404)
                return
            asked.append(self.headers.get("X-Amz-Target", f"{self.command} {self.path}"))
            answer = answers[min(len(asked), len(answers)) - 1]
            if answer is None or (otherwise and len(asked) > len(answers)):
                status, headers, content = self._passed_on(body)
            else:
                is_s3 = "/s3/" in self.headers.get("Authorization", "")
                status, content = answer.status, answer.body(xml=is_s3)
                headers = {"X-Amzn-ErrorType": answer.code, "Content-Type": "application/xml"}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _passed_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            host, _, port = otherwise.removeprefix("http://").partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=600)
            with closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers))
                got = connection.getresponse()
                kept = {
                    n: v for n, v in got.getheaders() if n.lower() not in ("content-length", "connection")
                }
                return got.status, kept, got.read()

        do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


def botocore_knows(parameter: str) -> bool:
    """Say whether the installed botocore can send this parameter of InvokeEndpointAsync."""
    shape = boto3.Session().client("sagemaker-runtime", region_name=REGION).meta.service_model
    request = shape.operation_model("InvokeEndpointAsync").input_shape
    return request is not None and parameter in request.members


def botocore_knows_pools() -> bool:
    """Say whether the installed botocore can send InstancePools of a production variant."""
    model = boto3.Session().client("sagemaker", region_name=REGION).meta.service_model
    variant = cast("StructureShape", model.shape_for("ProductionVariant"))
    return "InstancePools" in variant.members


class Requests:
    """Requests to the embedded service since this was made (or since :meth:`forget`), read from its request log."""

    _LINE = re.compile(r"\bPOST (?:SageMaker\.)?(\S+)(?: (\w+))? (\d{3}) \d+ ms")

    def __init__(self, log: Path) -> None:
        self._log = log
        self._start = log.stat().st_size

    def forget(self) -> None:
        """Count from now on."""
        self._start = self._log.stat().st_size

    def count(self) -> Counter[str]:
        """Return how often each operation (or runtime path) was called, whether it succeeded or not."""
        return Counter(match[1] for match in self._matches())

    def changes(self) -> list[str]:
        """Return the successful calls that change something (all but Describe… and List…), in order."""
        return [
            match[1]
            for match in self._matches()
            if not match[1].startswith(("Describe", "List")) and match[3].startswith("2")
        ]

    def _matches(self) -> list[re.Match[str]]:
        with self._log.open(errors="replace") as log:
            log.seek(self._start)
            return list(self._LINE.finditer(log.read()))
