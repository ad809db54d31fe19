"""Identity policies of the embedded service: the decision, what is refused, and AWS's answers."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.iam.policies import BadPolicy, IdentityPolicy, Permission
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, Clients
from tests.local.faults.test_faults import control

OBJECT = "arn:aws:s3:::bucket/folder/key"


def policy(*statements: dict[str, Any]) -> dict[str, Any]:
    usual = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": OBJECT}
    return {"Version": "2012-10-17", "Statement": [usual | statement for statement in statements]}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([{}], True),
        ([{"Action": ["s3:PutObject", "S3:getobject"]}], True),
        ([{"Action": "s3:Get*"}], True),
        ([{"Action": "*", "Resource": "*"}], True),
        ([{"Action": "s3:GetObjec"}], False),
        ([{"Action": "s3:GetObjec?"}], True),
        ([{"Resource": "arn:aws:s3:::bucket/*"}], True),
        ([{"Resource": "arn:aws:s3:::bucket/Folder/*"}], False),
        ([{"Resource": ["arn:aws:s3:::other/*", "arn:aws:s3:::b*y"]}], True),
        ([{"Resource": "arn:aws:s3:::bucket/folder/ke."}], False),
        ([{}, {"Effect": "Deny", "Action": "s3:*"}], False),
        ([{"Effect": "Deny", "Action": "s3:PutObject"}], False),
        ([{"Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}}], False),
    ],
)
def test_an_allow_that_applies_permits_unless_a_deny_applies(
    statements: list[dict[str, Any]], allowed: bool
) -> None:
    assert IdentityPolicy.read(policy(*statements)).allows(Permission("s3:GetObject", OBJECT)) == allowed


@pytest.mark.parametrize(
    ("operator", "values", "allowed"),
    [
        ("StringEquals", "sagemaker.amazonaws.com", True),
        ("StringEquals", ["ec2.amazonaws.com", "sagemaker.amazonaws.com"], True),
        ("StringEquals", "sagemaker.*", False),
        ("StringLike", "sagemaker.*", True),
        ("StringLike", "ec2.*", False),
    ],
)
def test_conditions_compare_the_calls_value(operator: str, values: object, allowed: bool) -> None:
    condition = {operator: {"iam:PassedToService": values}}
    passing = policy({"Action": "iam:PassRole", "Resource": "*", "Condition": condition})
    permission = Permission("iam:PassRole", "arn", {"iam:PassedToService": "sagemaker.amazonaws.com"})
    assert IdentityPolicy.read(passing).allows(permission) == allowed


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "a policy is an object with Version and Statement"),
        ({"Version": "2008-10-17", "Statement": []}, "Version must be \"2012-10-17\", not '2008-10-17'"),
        (policy({"NotAction": "s3:*"}), "a statement with NotAction is not evaluated here"),
        (policy({"Principal": "*"}), "a statement with Principal is not evaluated here"),
        (policy({"Effect": "allow"}), "Effect must be Allow or Deny, not 'allow'"),
        (
            policy({"Action": "GetObject"}),
            "Action must be text, or a list of texts, that IAM accepts; not 'GetObject'",
        ),
        (policy({"Action": []}), "Action must be text"),
        (policy({"Resource": "bucket/*"}), "Resource must be text"),
        (policy({"Resource": "arn:aws:sagemaker:<region>:<account>:endpoint/e"}), "Resource must be text"),
        (
            policy({"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
            "condition operators are StringEquals",
        ),
        (
            policy({"Condition": {"StringEquals": {"aws:SourceIp": "1"}}}),
            "condition key aws:SourceIp is not evaluated",
        ),
    ],
)
def test_what_is_not_evaluated_is_refused_by_name(document: object, message: str) -> None:
    with pytest.raises(BadPolicy) as refused:
        IdentityPolicy.read(document)
    assert message in str(refused.value)


@pytest.fixture
def key(sagemaker_server: EmbeddedSageMaker) -> Iterator[str]:
    access_key = f"limited-{uuid.uuid4().hex[:12]}"
    yield access_key
    control(sagemaker_server, "DELETE", f"policies/{access_key}")


def client(sagemaker_server: EmbeddedSageMaker, service: str, key: str) -> Any:  # noqa: ANN401 - any client
    session = boto3.Session(aws_access_key_id=key, aws_secret_access_key="test", region_name=REGION)
    return session.client(service, endpoint_url=sagemaker_server.url)  # type: ignore[call-overload] # the name is a variable


READS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "s3:GetObject": ("s3", "get_object", {"Bucket": "bucket", "Key": "Key"}, '"arn:aws:s3:::bucket/Key"'),
    "sagemaker:DescribeModel": (
        "sagemaker",
        "describe_model",
        {"ModelName": "Mine"},
        "arn:aws:sagemaker:us-east-1:123456789012:model/mine",
    ),
    "sagemaker:InvokeEndpoint": (
        "sagemaker-runtime",
        "invoke_endpoint",
        {"EndpointName": "Mine", "Body": b""},
        "arn:aws:sagemaker:us-east-1:123456789012:endpoint/mine",
    ),
    "sagemaker:ListModels": ("sagemaker", "list_models", {}, "*"),
    "logs:GetLogEvents": (
        "logs",
        "get_log_events",
        {"logGroupName": "/g", "logStreamName": "s"},
        "arn:aws:logs:us-east-1:123456789012:log-group:/g:log-stream:s",
    ),
    "cloudwatch:DeleteAlarms": (
        "cloudwatch",
        "delete_alarms",
        {"AlarmNames": ["a/b"]},
        "arn:aws:cloudwatch:us-east-1:123456789012:alarm:a/b",
    ),
    "sqs:DeleteMessage": (
        "sqs",
        "delete_message_batch",
        {"QueueUrl": "http://127.0.0.1/123456789012/q", "Entries": [{"Id": "1", "ReceiptHandle": "r"}]},
        "arn:aws:sqs:us-east-1:123456789012:q",
    ),
    "iam:GetRole": ("iam", "get_role", {"RoleName": "r"}, "arn:aws:iam::123456789012:role/r"),
    "tag:GetResources": ("resourcegroupstaggingapi", "get_resources", {}, "*"),
}


@pytest.mark.parametrize("action", READS)
def test_a_denied_call_gets_awss_answer_with_action_and_resource(
    sagemaker_server: EmbeddedSageMaker, key: str, action: str
) -> None:
    service, method, parameters, resource = READS[action]
    control(sagemaker_server, "PUT", f"policies/{key}", policy({"Resource": "arn:aws:s3:::none/*"}))
    with pytest.raises(ClientError) as denied:
        getattr(client(sagemaker_server, service, key), method)(**parameters)
    error = denied.value.response["Error"]
    assert error["Code"] in ("AccessDenied", "AccessDeniedException")
    assert error["Message"] == (
        f"User: arn:aws:iam::123456789012:user/{key} is not authorized to perform: {action} on resource: {resource} "
        f"because no identity-based policy allows the {action} action"
    )


def test_other_access_keys_are_permitted_every_call_and_removal_ends_the_restriction(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, key: str
) -> None:
    name: dict[str, Any] = {"Bucket": clients.bucket, "Key": "content.txt"}
    clients.s3.put_object(Bucket=clients.bucket, Key="content.txt", Body=b"content")
    control(sagemaker_server, "PUT", f"policies/{key}", policy({}))
    with pytest.raises(ClientError, match="AccessDenied"):
        client(sagemaker_server, "s3", key).get_object(**name)
    assert client(sagemaker_server, "s3", "another").get_object(**name)["Body"].read() == b"content"
    control(sagemaker_server, "DELETE", f"policies/{key}")
    assert client(sagemaker_server, "s3", key).get_object(**name)["Body"].read() == b"content"


def test_an_explicit_deny_is_named(sagemaker_server: EmbeddedSageMaker, clients: Clients, key: str) -> None:
    document = policy({"Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "s3:*", "Resource": "*"})
    control(sagemaker_server, "PUT", f"policies/{key}", document)
    with pytest.raises(ClientError, match="with an explicit deny in an identity-based policy"):
        client(sagemaker_server, "s3", key).get_object(Bucket=clients.bucket, Key="k")


def test_without_list_bucket_a_missing_object_is_denied(
    sagemaker_server: EmbeddedSageMaker, clients: Clients, key: str
) -> None:
    document = policy({"Resource": f"arn:aws:s3:::{clients.bucket}/*"})
    control(sagemaker_server, "PUT", f"policies/{key}", document)
    with pytest.raises(ClientError, match="s3:ListBucket"):
        client(sagemaker_server, "s3", key).get_object(Bucket=clients.bucket, Key="missing")


def test_a_bad_policy_is_refused_and_what_a_key_needed_is_answered(
    sagemaker_server: EmbeddedSageMaker, key: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        control(sagemaker_server, "PUT", f"policies/{key}", {"Statement": []})
    assert "Version must be" in json.load(refused.value)["message"]
    control(
        sagemaker_server,
        "PUT",
        f"policies/{key}",
        policy({"Action": "sagemaker:ListModels", "Resource": "*"}),
    )
    client(sagemaker_server, "sagemaker", key).list_models()
    answered: Any = control(sagemaker_server, "GET", "policies")
    needed = answered[key]["needed"]
    assert needed == [{"action": "sagemaker:ListModels", "resource": "*", "context": {}, "allowed": True}]
