"""One embedded SageMaker for all tests of this folder, its clients, and archives to deploy."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker

if TYPE_CHECKING:
    from mypy_boto3_logs import CloudWatchLogsClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient
    from mypy_boto3_sagemaker_runtime import SageMakerRuntimeClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

REGION = "us-east-1"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"

TRAINED = Path(__file__).parents[2] / ".cache" / "trained"
"""What AutoML jobs have trained with this very code: the folder of ``tests/conftest.py``."""

ECHO = """
def model_fn(model_dir):
    return "echo"

def transform_fn(model, data, content_type, accept):
    return data, content_type
"""
"""The code of the smallest archive: it answers what it gets."""


@dataclass(frozen=True)
class Clients:
    """Boto3 clients of an embedded SageMaker, and shorthands for what every test does with them."""

    sagemaker: SageMakerClient
    runtime: SageMakerRuntimeClient
    s3: S3Client
    sns: SNSClient
    sqs: SQSClient
    logs: CloudWatchLogsClient
    bucket: str

    def upload_archive(self, files: Mapping[str, str | bytes], key: str = "") -> str:
        """Pack ``files`` (name → content) into a model.tar.gz, upload it, return its s3:// address."""
        key = key or f"models/{uuid.uuid4().hex}/model.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=archive(files))
        return f"s3://{self.bucket}/{key}"

    def create_model(self, *codes: str, name: str = "", environment: Mapping[str, str] | None = None) -> str:
        """Create a model with one container for each ``code/inference.py`` given, return its name."""
        name = name or unique("model")
        containers = [
            {
                "Image": IMAGE,
                "ModelDataUrl": self.upload_archive({"code/inference.py": code}),
                "Environment": dict(environment or {}),
            }
            for code in codes or (ECHO,)
        ]
        if len(containers) == 1:
            self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=containers[0])  # type: ignore[arg-type] # a plain dict
        else:
            self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)  # type: ignore[arg-type] # plain dicts
        return name

    def create_config(self, model: str, *, instances: int = 1, name: str = "", **others: object) -> str:
        """Create an endpoint configuration with the one variant ``AllTraffic``, return its name."""
        name = name or unique("config")
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": model,
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": instances,
                }
            ],
            **others,  # type: ignore[arg-type] # whatever the test wants to pass
        )
        return name

    def deploy(self, *codes: str, environment: Mapping[str, str] | None = None, **config: object) -> str:
        """Create model, configuration and endpoint; return the endpoint's name once it is InService."""
        model = self.create_model(*codes, environment=environment)
        name = unique("endpoint")
        config_name = self.create_config(model, **config)  # type: ignore[arg-type] # as create_config
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config_name)
        self.wait_for_endpoint(name)
        return name

    def wait_for_endpoint(self, name: str) -> None:
        """Wait until an endpoint is InService; raises botocore's WaiterError when it fails."""
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too

    def wait_until_deleted(self, name: str) -> None:
        """Wait until an endpoint is gone."""
        waiter = self.sagemaker.get_waiter("endpoint_deleted")
        waiter.wait(EndpointName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too


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


def clients_of(url: str, bucket: str = "") -> Clients:
    """Return clients of the embedded SageMaker at ``url`` and make them a bucket."""
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": "path"},
        connect_timeout=600,
        read_timeout=600,
    )
    made: dict[str, object] = {
        attribute: session.client(service, endpoint_url=url, config=config)  # type: ignore[call-overload] # the service is a variable
        for attribute, service in (
            ("sagemaker", "sagemaker"),
            ("runtime", "sagemaker-runtime"),
            ("s3", "s3"),
            ("sns", "sns"),
            ("sqs", "sqs"),
            ("logs", "logs"),
        )
    }
    clients = Clients(bucket=bucket or unique("bucket"), **made)  # type: ignore[arg-type] # typed by the attributes' names
    clients.s3.create_bucket(Bucket=clients.bucket)
    return clients


@contextmanager
def changed_settings(server: EmbeddedSageMaker, **values: float) -> Iterator[Settings]:
    """Change settings of a service for the block; lend all of them, to be changed again meanwhile."""
    before = server.settings.as_json()
    server.settings.change(values)
    try:
        yield server.settings
    finally:
        server.settings.change(before)


@pytest.fixture(scope="session")
def sagemaker_server() -> Iterator[EmbeddedSageMaker]:
    """Run one embedded SageMaker for the session; tests keep apart by names.

    Its containers may take as long to start and to answer as a busy machine needs.
    """
    settings = Settings(container_start_timeout_seconds=3600, invocation_timeout_seconds=3600)
    with EmbeddedSageMaker(settings=settings, training_cache=TRAINED) as embedded:
        yield embedded


@pytest.fixture(scope="session")
def session_clients(sagemaker_server: EmbeddedSageMaker) -> Clients:
    """Return the clients that wider fixtures use."""
    return clients_of(sagemaker_server.url)


@pytest.fixture
def clients(session_clients: Clients) -> Clients:
    """Return boto3 clients of the embedded SageMaker, and a bucket."""
    return session_clients


@pytest.fixture(scope="session")
def build_archive() -> Callable[[Mapping[str, str | bytes]], bytes]:
    """Return the function that packs a model.tar.gz, for tests that upload it themselves."""
    return archive
