"""The call log over HTTP: who called what, what became of it, and nothing secret."""

from __future__ import annotations

import json
import urllib.error

import pytest
from botocore import xform_name
from botocore.exceptions import ClientError
from moto.s3.responses import S3Response

from airflow_sm_plugin.local.account.calls import CallLog
from airflow_sm_plugin.local.account.state import now
from airflow_sm_plugin.local.protocol.call_names import NOT_IN_MOTO, CallName, s3_operation
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import IMAGE, ROLE, clients_of
from tests.local.faults.test_faults import control


def test_every_call_is_noted_with_what_became_of_it() -> None:
    with EmbeddedSageMaker() as embedded:
        clients = clients_of(embedded.url)
        container = {"Image": IMAGE, "Environment": {"TOKEN": "s3cr3t"}}
        for _ in range(2):
            try:
                clients.sagemaker.create_model(
                    ModelName="Mine",
                    ExecutionRoleArn=ROLE,
                    PrimaryContainer=container,  # type: ignore[arg-type] # a plain dict
                )
            except ClientError:
                continue
        clients.sagemaker.describe_model(ModelName="Mine")
        with pytest.raises(ClientError):
            clients.runtime.invoke_endpoint(EndpointName="none", Body=b"s3cr3t", CustomAttributes="s3cr3t")
        clients.s3.put_object(Bucket=clients.bucket, Key="a/kéy 100%25", Body=b"s3cr3t")
        answer = control(embedded, "GET", "calls")
        everything = control(embedded, "GET", "calls?service=*")
        seen = [
            (
                call["service"],
                call["operation"],
                call["resource"],
                call["status"],
                call["error"],
                call["effect"],
            )
            for call in answer["calls"]  # type: ignore[attr-defined] # JSON
        ]
        assert seen == [
            ("sagemaker", "CreateModel", "Mine", 200, None, True),
            ("sagemaker", "CreateModel", "Mine", 400, "ValidationException", False),
            ("sagemaker", "DescribeModel", "Mine", 200, None, False),
            ("sagemaker-runtime", "InvokeEndpoint", "none", 400, "ValidationError", False),
        ]
        assert "s3cr3t" not in json.dumps(everything)
        puts = control(embedded, "GET", "calls?service=s3&operation=PutObject")["calls"]
        assert [(call["resource"], call["status"], call["effect"]) for call in puts] == [  # type: ignore[attr-defined] # JSON
            (f"{clients.bucket}/a/kéy 100%25", 200, True)
        ]
        named = control(embedded, "GET", "calls?resource=M*e")["calls"]
        assert [call["operation"] for call in named] == ["CreateModel", "CreateModel", "DescribeModel"]  # type: ignore[attr-defined] # JSON
        second = answer["calls"][1]["sequence"]  # type: ignore[index] # JSON
        later = control(embedded, "GET", f"calls?since={second}")["calls"]
        assert [call["operation"] for call in later] == ["DescribeModel", "InvokeEndpoint"]  # type: ignore[attr-defined] # JSON
        last = everything["sequence"]
        assert control(embedded, "GET", f"calls?service=*&since={last}")["calls"] == []
        assert control(embedded, "DELETE", "calls") == {"calls": [], "sequence": last, "forgotten": 0}
        clients.sagemaker.describe_model(ModelName="Mine")
        after = control(embedded, "GET", f"calls?since={last}")["calls"]
        assert [call["operation"] for call in after] == ["DescribeModel"]  # type: ignore[attr-defined] # JSON
        with pytest.raises(urllib.error.HTTPError, match="400") as refused:
            control(embedded, "GET", "calls?since=yesterday")
        refused.value.close()


def test_other_services_operations_are_named() -> None:
    with EmbeddedSageMaker() as embedded:
        clients = clients_of(embedded.url)
        topic = clients.sns.create_topic(Name="reported")["TopicArn"]
        clients.sns.publish(TopicArn=topic, Message="s3cr3t")
        clients.sqs.create_queue(QueueName="waiting")
        clients.logs.describe_log_groups()
        seen = {
            (call.service, call.operation, call.resource) for call in embedded.calls.calls(service="s[nq]s")
        }
        assert ("sns", "Publish", topic) in seen
        assert ("sqs", "CreateQueue", "waiting") in seen
        assert [call.operation for call in embedded.calls.calls(service="logs")] == ["DescribeLogGroups"]


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "operation"),
    [
        ("GET", "/", "", {}, "ListBuckets"),
        ("PUT", "/bucket", "", {}, "CreateBucket"),
        ("GET", "/bucket", "list-type=2&prefix=a", {}, "ListObjectsV2"),
        ("GET", "/bucket/", "prefix=a", {}, "ListObjects"),
        ("HEAD", "/bucket/a/b", "", {}, "HeadObject"),
        ("GET", "/bucket/a/b", "", {}, "GetObject"),
        ("PUT", "/bucket/a/b", "", {}, "PutObject"),
        ("PUT", "/bucket/a/b", "", {"x-amz-copy-source": "c/d"}, "CopyObject"),
        ("PUT", "/bucket/a/b", "partNumber=1&uploadId=x", {}, "UploadPart"),
        ("POST", "/bucket/a/b", "uploads", {}, "CreateMultipartUpload"),
        ("POST", "/bucket/a/b", "uploadId=x", {}, "CompleteMultipartUpload"),
        ("DELETE", "/bucket/a/b", "", {}, "DeleteObject"),
        ("POST", "/bucket", "delete", {}, "DeleteObjects"),
        ("PUT", "/bucket/folder/", "", {}, "PutObject"),
        ("PUT", "/bucket//a", "", {}, "PutObject"),
        ("GET", "/bucket", "analytics", {}, "ListBucketAnalyticsConfigurations"),
        ("DELETE", "/bucket", "inventory&id=i", {}, "DeleteBucketInventoryConfiguration"),
        ("PATCH", "/bucket", "", {}, "PATCH /bucket"),
    ],
)
def test_s3_requests_are_named(
    method: str, path: str, query: str, headers: dict[str, str], operation: str
) -> None:
    assert s3_operation(method, path, query, headers) == operation


def test_the_log_is_bounded_and_counts_what_it_forgot() -> None:
    log = CallLog(kept=3)
    name = CallName("sagemaker", "CreateModel", "m", "us-east-1", "POST", "/")
    for _ in range(5):
        log.add(name, request_id="r", began=now(), status=200, error=None, fault=None, carried_out=True)
    assert [call.sequence for call in log.calls()] == [3, 4, 5]
    assert log.as_json()["forgotten"] == 2


def test_what_is_said_to_be_missing_in_moto_is() -> None:
    """An operation that a newer moto answers leaves the list."""
    assert [name for name in sorted(NOT_IN_MOTO) if hasattr(S3Response, xform_name(name))] == []
