"""AWS clients other than boto3, in an environment without Airflow (``make test-sdk``).

Where the SageMaker Python SDK or the AWS command line is not installed their tests are skipped.
"""

from __future__ import annotations

import io
import tarfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import pytest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sagemaker import SageMakerClient

    from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serving:1"

UPPER = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    text = data if isinstance(data, str) else data.decode()
    if "raise" in text:
        raise ValueError("the model cannot do that")
    attributes = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if attributes:
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", attributes)
    return text.upper(), "text/csv"
"""
"""Answers in capitals, and the custom attributes it was sent."""


@dataclass(frozen=True)
class Workbench:
    """A bucket, a model in it, and boto3 to prepare and check with."""

    bucket: str
    model_data: str
    s3: S3Client
    sagemaker: SageMakerClient

    def in_service(self, endpoint: str) -> None:
        """Wait until an endpoint serves."""
        waiter = self.sagemaker.get_waiter("endpoint_in_service")
        waiter.wait(EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too

    def transformed(self, job: str) -> None:
        """Wait for the end of a transform job."""
        waiter = self.sagemaker.get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName=job, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too

    def read(self, key: str) -> str:
        """Return an object's text."""
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read().decode()


def unique(kind: str) -> str:
    """Return a name that no other test uses."""
    return f"{kind}-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session", autouse=True)
def _sdk_polls_no_longer(embedded: EmbeddedProcess) -> Iterator[None]:
    """Let end what SageMaker's SDK leaves behind: threads that poll for an output or failure that never comes."""
    yield
    for thread in threading.enumerate():
        if "(check_" in thread.name:
            thread.join(600)  # longer than any of them polls


@pytest.fixture
def workbench(aws: str) -> Workbench:
    """Return a bucket with a model, at the embedded SageMaker that ``AWS_ENDPOINT_URL`` names."""
    bucket = unique("bucket")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="model.tar.gz", Body=archive("code/inference.py", UPPER))
    return Workbench(bucket, f"s3://{bucket}/model.tar.gz", s3, boto3.client("sagemaker"))


def archive(name: str, content: str) -> bytes:
    """Return a tar.gz of one file."""
    packed, data = io.BytesIO(), content.encode()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()
