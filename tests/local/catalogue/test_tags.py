"""Tags of every kind of resource, and what is refused of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.conftest import IMAGE, ROLE, Clients, unique

ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
KINDS = [
    "model",
    "endpoint",
    "endpoint-config",
    "model-package",
    "model-package-group",
    "transform-job",
    "automl-job",
    "training-job",
    "processing-job",
    "experiment",
    "experiment-trial",
    "pipeline",
    "inference-component",
    "no-such-kind",
]


def tags_of(clients: Clients, arn: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in clients.sagemaker.list_tags(ResourceArn=arn)["Tags"]}


@pytest.fixture
def arn(clients: Clients) -> str:
    """Return the ARN of a model with the tags a=1 and b=2."""
    created = clients.sagemaker.create_model(
        ModelName=unique("model"),
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
        Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}],
    )
    return created["ModelArn"]


def test_tags_are_given_at_creation_added_replaced_and_removed(clients: Clients, arn: str) -> None:
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "3"}, {"Key": "c", "Value": "4"}])
    clients.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a", "never there"])
    assert tags_of(clients, arn) == {"b": "3", "c": "4"}
    config = clients.create_config(arn.rpartition("/")[2], Tags=[{"Key": "of", "Value": "config"}])
    config_arn = clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
    assert tags_of(clients, config_arn) == {"of": "config"}


def test_tags_of_what_moto_keeps_are_changed_alike(clients: Clients) -> None:
    arn = clients.sagemaker.create_experiment(ExperimentName=unique("experiment"))["ExperimentArn"]
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "c", "Value": "3"}])
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "4"}])
    clients.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["c"])
    assert clients.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "4"}]


@pytest.mark.parametrize("name", ["none", "none/1", "NONE", "a/b/c/d", ""])
@pytest.mark.parametrize("kind", KINDS)
def test_tags_of_what_is_not_there_are_refused_at_once(clients: Clients, kind: str, name: str) -> None:
    arn = f"{ACCOUNT}:{kind}/{name}"
    calls: list[Callable[[], Any]] = [
        lambda: clients.sagemaker.list_tags(ResourceArn=arn),
        lambda: clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "a", "Value": "1"}]),
        lambda: clients.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"]),
    ]
    for call in calls:
        with pytest.raises(ClientError, match="Could not find") as refused:
            call()
        assert refused.value.response["Error"]["Code"] == "ValidationException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert arn in str(refused.value)


@pytest.mark.parametrize(
    "arn", ["none", "arn:aws:s3:::bucket", "arn:aws:sagemaker:us-east-1:1:model/x", f"{ACCOUNT}:", ""]
)
def test_what_is_no_arn_of_sagemaker_is_refused(clients: Clients, arn: str) -> None:
    with pytest.raises(ClientError) as refused:
        clients.sagemaker.list_tags(ResourceArn=arn)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_an_arn_of_another_region_is_not_found_here(clients: Clients, arn: str) -> None:
    with pytest.raises(ClientError, match="Could not find model"):
        clients.sagemaker.list_tags(ResourceArn=arn.replace("us-east-1", "eu-west-1"))


def test_a_deleted_resource_has_no_tags(clients: Clients, arn: str) -> None:
    clients.sagemaker.delete_model(ModelName=arn.rpartition("/")[2])
    with pytest.raises(ClientError, match="Could not find model"):
        clients.sagemaker.list_tags(ResourceArn=arn)


def test_a_resource_has_at_most_fifty_tags(clients: Clients, arn: str) -> None:
    more = [{"Key": f"k{number}", "Value": ""} for number in range(48)]
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=more)  # type: ignore[arg-type] # plain dicts
    with pytest.raises(ClientError, match="51 tags: a resource has at most 50"):
        clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "one more", "Value": ""}])
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "k0", "Value": "replaced"}])
    assert len(tags_of(clients, arn)) == 50


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ([{"Key": f"k{number}", "Value": ""} for number in range(51)], "length less than or equal to 50"),
        ([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}], "Duplicate tag key: a"),
        (
            [{"Key": "aws:cloudformation:stack-name", "Value": "1"}],
            "System prefix 'aws:' reserved for AWS usage",
        ),
        ([{"Key": "AWS:x", "Value": "1"}], "System prefix 'aws:' reserved for AWS usage"),
        ([{"Key": "k" * 129, "Value": ""}], "length less than or equal to 128"),
        ([{"Key": "a", "Value": "v" * 257}], "length less than or equal to 256"),
        ([{"Key": "a;b", "Value": ""}], "regular expression pattern"),
    ],
)
def test_wrong_tags_are_refused_at_creation_and_later(
    clients: Clients, arn: str, tags: list[Any], reason: str
) -> None:
    name = unique("model")
    for call in (
        lambda: clients.sagemaker.create_model(
            ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE}, Tags=tags
        ),
        lambda: clients.sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=tags),
        lambda: clients.sagemaker.create_experiment(ExperimentName=name, Tags=tags),
        lambda: clients.sagemaker.add_tags(ResourceArn=arn, Tags=tags),
    ):
        with pytest.raises(ClientError, match=reason):
            call()
    assert tags_of(clients, arn) == {"a": "1", "b": "2"}
    with pytest.raises(ClientError, match="Could not find model"):
        clients.sagemaker.describe_model(ModelName=name)


def test_tags_of_aws_itself_are_not_removed(clients: Clients, arn: str) -> None:
    with pytest.raises(ClientError, match="reserved for AWS usage in tag key: aws:x"):
        clients.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["aws:x"])


def test_a_version_of_a_group_takes_no_tags(clients: Clients) -> None:
    group = unique("group")
    clients.sagemaker.create_model_package_group(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="Tag the group"):
        clients.sagemaker.create_model_package(ModelPackageGroupName=group, Tags=[{"Key": "a", "Value": "1"}])
