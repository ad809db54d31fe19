"""``--state-dir``: the state that an embedded SageMaker writes at its end and reads at its next start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess
from airflow_sm_plugin.local.stack.processes import StackError
from tests.local.automl.test_jobs import ended, job_v1, job_v2, put
from tests.local.conftest import Clients, clients_of

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


@contextmanager
def service(folder: Path, *settings: str) -> Iterator[tuple[str, Clients]]:
    """A process with the folder's state; the block's end ends it."""
    with EmbeddedProcess(
        folder / "log",
        arguments=["--state-dir", str(folder / "state"), *settings],
        start_seconds=1700,
        grace=1700,
    ) as process:
        yield process.url, clients_of(process.url)


def described(clients: Clients, endpoint: str) -> dict[str, Any]:
    """Everything of an endpoint that a restart must not change."""
    clients.wait_for_endpoint(endpoint)
    answer: Any = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
    config: Any = clients.sagemaker.describe_endpoint_config(EndpointConfigName=answer["EndpointConfigName"])
    variant = config["ProductionVariants"][0]
    model: Any = clients.sagemaker.describe_model(ModelName=variant["ModelName"])
    for kept in (answer, config, model):
        kept.pop("ResponseMetadata")
    answer.pop("LastModifiedTime")
    tags = clients.sagemaker.list_tags(ResourceArn=answer["EndpointArn"])["Tags"]
    return {"endpoint": answer, "config": config, "model": model, "tags": tags}


def test_objects_endpoints_and_ended_jobs_are_there_again(tmp_path: Path) -> None:
    with service(tmp_path) as (url, clients):
        bucket = clients.bucket
        clients.s3.put_object(
            Bucket=bucket,
            Key="a/ä b",
            Body=b"\x00\xff",
            ContentType="x/y",
            Metadata={"m": "1"},
            Tagging="t=2",
        )
        clients.s3.create_bucket(
            Bucket="elsewhere", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        endpoint = clients.deploy()
        clients.sagemaker.add_tags(
            ResourceArn=f"{ARN}:endpoint/{endpoint}", Tags=[{"Key": "k", "Value": "v"}]
        )
        before = described(clients, endpoint)
        orphan = clients.deploy()
        config = clients.sagemaker.describe_endpoint(EndpointName=orphan)["EndpointConfigName"]
        clients.sagemaker.delete_endpoint_config(EndpointConfigName=config)

        source, output = put(clients, "a,b\n1,2\n"), f"s3://{bucket}/models"
        clients.sagemaker.create_auto_ml_job(**job_v1("first", source, output))
        clients.sagemaker.create_auto_ml_job_v2(**job_v2("second", source, output))
        jobs = [ended(clients, name) for name in ("first", "second")]
        requests.put(
            f"{url}/_embedded/settings", json={"automl_seconds": 3600}, timeout=600
        ).raise_for_status()
        clients.sagemaker.create_auto_ml_job(**job_v1("running", source, output))

    with service(tmp_path, "--set", "endpoint_creating_seconds=3600") as (_, clients):
        assert clients.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "Creating"
        assert f"the endpoint {orphan} is not kept" in (tmp_path / "log").read_text()

    with service(tmp_path) as (_, clients):
        stored = clients.s3.get_object(Bucket=bucket, Key="a/ä b")
        assert (stored["Body"].read(), stored["ContentType"], stored["Metadata"]) == (
            b"\x00\xff",
            "x/y",
            {"m": "1"},
        )
        assert clients.s3.get_object_tagging(Bucket=bucket, Key="a/ä b")["TagSet"] == [
            {"Key": "t", "Value": "2"}
        ]
        assert clients.s3.get_bucket_location(Bucket="elsewhere")["LocationConstraint"] == "eu-west-1"
        assert described(clients, endpoint) == before
        answer = clients.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"?")
        assert answer["Body"].read() == b"?"
        again = [ended(clients, name) for name in ("first", "second")]
        for job in (*jobs, *again):
            job.pop("ResponseMetadata")
        assert again == jobs
        with pytest.raises(ClientError, match="running"):
            ended(clients, "running")
        with pytest.raises(ClientError, match="Could not find endpoint"):
            clients.sagemaker.describe_endpoint(EndpointName=orphan)

        clients.sagemaker.delete_endpoint(EndpointName=endpoint)
        clients.wait_until_deleted(endpoint)
    with service(tmp_path) as (_, clients), pytest.raises(ClientError, match="Could not find endpoint"):
        clients.sagemaker.describe_endpoint(EndpointName=endpoint)


def test_a_state_that_cannot_be_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "state.msgpack").write_bytes(b"\xc1")
    with pytest.raises(StackError, match=r"state cannot be read|remove that folder"), service(tmp_path):
        pass
    assert (tmp_path / "state" / "state.msgpack").read_bytes() == b"\xc1"
