"""Stacks with SageMaker resources are refused, in whichever form the template comes; others are made."""

# ruff: noqa: ANN401 - there are no stubs of this service here

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, Clients, unique

QUEUE = {"Type": "AWS::SQS::Queue"}
MODEL = {
    "Type": "AWS::SageMaker::Model",
    "Properties": {
        "ExecutionRoleArn": "arn:aws:iam::123456789012:role/x",
        "PrimaryContainer": {"Image": "i:1"},
    },
}
YAML = """
Parameters: {Make: {Type: String, Default: 'no'}}
Conditions: {Making: !Equals [!Ref Make, 'yes']}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Mine:
    Type: AWS::SageMaker::Endpoint
    Condition: Making
    Properties:
      EndpointConfigName: !Sub '${Queue}'
      Tags: !If [Making, [{Key: a, Value: !GetAtt Queue.Arn}], !Ref 'AWS::NoValue']
"""


@pytest.fixture
def cloudformation(sagemaker_server: EmbeddedSageMaker) -> Any:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("cloudformation", endpoint_url=sagemaker_server.url)


def template(**resources: object) -> str:
    return json.dumps({"Resources": resources})


def nested(url: object) -> dict[str, object]:
    return {"Type": "AWS::CloudFormation::Stack", "Properties": {"TemplateURL": url}}


def upload(clients: Clients, text: str) -> str:
    key = f"templates/{unique('template')}.json"
    clients.s3.put_object(Bucket=clients.bucket, Key=key, Body=text.encode())
    return f"https://{clients.bucket}.s3.amazonaws.com/{key}"


def refusal(call: Any, **params: object) -> str:
    with pytest.raises(ClientError) as refused:
        call(**params)
    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationError"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    return error["Message"]


def queues(clients: Clients) -> list[str]:
    return clients.sqs.list_queues().get("QueueUrls", [])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (template(Queue=QUEUE, Mine=MODEL), "Mine (AWS::SageMaker::Model)"),
        (json.dumps(json.loads(template(Mine=MODEL)), indent="\t"), "Mine (AWS::SageMaker::Model)"),
        (YAML, "Mine (AWS::SageMaker::Endpoint)"),
        (
            template(Mine={"Type": "AWS::SageMaker::WhatComesNextYear"}),
            "Mine (AWS::SageMaker::WhatComesNextYear)",
        ),
    ],
)
@pytest.mark.parametrize("by_url", [False, True])
def test_a_stack_with_sagemaker_resources_is_refused_before_anything_is_made(
    clients: Clients,
    cloudformation: Any,
    body: str,
    named: str,
    by_url: bool,
) -> None:
    stack, before = unique("stack"), queues(clients)
    given = {"TemplateURL": upload(clients, body)} if by_url else {"TemplateBody": body}
    message = refusal(cloudformation.create_stack, StackName=stack, **given)
    assert message.startswith("Template format error: Unrecognized resource types: ")
    assert named in message
    assert "does not exist" in refusal(cloudformation.describe_stacks, StackName=stack)
    assert queues(clients) == before
    refusal(
        cloudformation.create_change_set, StackName=stack, ChangeSetName="c", ChangeSetType="CREATE", **given
    )
    refusal(cloudformation.create_stack_set, StackSetName=stack, **given)


def test_a_nested_stack_with_sagemaker_resources_is_refused(clients: Clients, cloudformation: Any) -> None:
    inner = upload(clients, template(Deep=MODEL))
    outer = template(Queue=QUEUE, Middle=nested(upload(clients, template(Inner=nested(inner)))))
    before = queues(clients)
    message = refusal(cloudformation.create_stack, StackName=unique("stack"), TemplateBody=outer)
    assert "Middle.Inner.Deep (AWS::SageMaker::Model)" in message
    assert queues(clients) == before


def test_a_nested_stack_whose_address_is_computed_is_refused_as_well(
    clients: Clients, cloudformation: Any
) -> None:
    url = upload(clients, template(Deep=MODEL))
    computed = {"Fn::Join": ["", [url[:20], url[20:]]]}
    stack = template(Inner=nested(computed))
    message = refusal(cloudformation.create_stack, StackName=unique("stack"), TemplateBody=stack)
    assert "AWS::SageMaker::Model" in message


def test_an_update_to_sagemaker_resources_is_refused(clients: Clients, cloudformation: Any) -> None:
    stack = unique("stack")
    cloudformation.create_stack(StackName=stack, TemplateBody=template(Queue=QUEUE))
    described = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    more = template(Queue=QUEUE, Mine=MODEL)
    assert "Mine (AWS::SageMaker::Model)" in refusal(
        cloudformation.update_stack, StackName=stack, TemplateBody=more
    )
    refusal(cloudformation.create_change_set, StackName=stack, ChangeSetName="c", TemplateBody=more)
    resources = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    assert [resource["LogicalResourceId"] for resource in resources] == ["Queue"]


def test_a_template_that_contains_itself_ends(clients: Clients, cloudformation: Any) -> None:
    url = f"https://{clients.bucket}.s3.amazonaws.com/templates/self.json"
    clients.s3.put_object(
        Bucket=clients.bucket,
        Key="templates/self.json",
        Body=template(Again=nested(url), Mine=MODEL).encode(),
    )
    message = refusal(cloudformation.create_stack, StackName=unique("stack"), TemplateURL=url)
    assert "Again.Mine (AWS::SageMaker::Model)" in message


@pytest.mark.parametrize("body", ["a: [", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_template_is_refused(cloudformation: Any, body: str) -> None:
    message = refusal(cloudformation.create_stack, StackName=unique("stack"), TemplateBody=body)
    assert message.startswith("Template format error: ")
