"""The Resource Groups Tagging API sees our resources beside those of other services."""

# ruff: noqa: ANN401 - there are no stubs of this service here

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import IMAGE, REGION, ROLE, Clients, unique


@pytest.fixture
def tagging(sagemaker_server: EmbeddedSageMaker) -> Any:
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
    return session.client("resourcegroupstaggingapi", endpoint_url=sagemaker_server.url)


def create_model(clients: Clients, **tags: str) -> str:
    return clients.sagemaker.create_model(
        ModelName=unique("model"),
        ExecutionRoleArn=ROLE,
        PrimaryContainer={"Image": IMAGE},
        Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
    )["ModelArn"]


def arns(found: dict[str, Any]) -> set[str]:
    return {mapping["ResourceARN"] for mapping in found["ResourceTagMappingList"]}


def test_our_resources_are_found_beside_motos(clients: Clients, tagging: Any) -> None:
    team = unique("team")
    model = create_model(clients, team=team, stage="test")
    config = clients.create_config(model.rpartition("/")[2], Tags=[{"Key": "team", "Value": team}])
    config_arn = clients.sagemaker.describe_endpoint_config(EndpointConfigName=config)["EndpointConfigArn"]
    group = clients.sagemaker.create_model_package_group(
        ModelPackageGroupName=unique("group"), Tags=[{"Key": "team", "Value": team}]
    )["ModelPackageGroupArn"]
    clients.s3.put_bucket_tagging(Bucket=clients.bucket, Tagging={"TagSet": [{"Key": "team", "Value": team}]})
    bucket = f"arn:aws:s3:::{clients.bucket}"
    mine = [{"Key": "team", "Values": [team]}]

    assert arns(tagging.get_resources(TagFilters=mine)) == {model, config_arn, group, bucket}
    stage = [*mine, {"Key": "stage"}]
    assert arns(tagging.get_resources(TagFilters=stage)) == {model}
    assert arns(tagging.get_resources(TagFilters=[{"Key": "team", "Values": ["unused"]}])) == set()
    for filters, found in (
        (["sagemaker"], {model, config_arn, group}),
        (["sagemaker:model"], {model}),
        (["sagemaker:endpoint-config", "s3"], {config_arn, bucket}),
        (["sagemaker:endpoint"], set()),
        (["sqs"], set()),
    ):
        assert arns(tagging.get_resources(TagFilters=mine, ResourceTypeFilters=filters)) == found
    (one,) = tagging.get_resources(ResourceARNList=[model])["ResourceTagMappingList"]
    assert one["Tags"] == [{"Key": "team", "Value": team}, {"Key": "stage", "Value": "test"}]

    clients.sagemaker.delete_tags(ResourceArn=model, TagKeys=["team"])
    assert model not in arns(tagging.get_resources(TagFilters=mine))


def test_keys_and_values_are_merged(clients: Clients, tagging: Any) -> None:
    key = unique("key")
    create_model(clients, **{key: "1"})
    create_model(clients, **{key: "2"})
    assert key in [
        tag_key for page in tagging.get_paginator("get_tag_keys").paginate() for tag_key in page["TagKeys"]
    ]
    assert tagging.get_tag_values(Key=key)["TagValues"] == ["1", "2"]


def test_pages_hold_at_most_what_was_asked_for(clients: Clients, tagging: Any) -> None:
    team = unique("team")
    models = {
        create_model(clients, team=team, **{f"k{number}": "" for number in range(40)}) for _ in range(5)
    }
    filters = [{"Key": "team", "Values": [team]}]

    def pages(**limits: int) -> list[set[str]]:
        paginator = tagging.get_paginator("get_resources")
        return [arns(page) for page in paginator.paginate(TagFilters=filters, **limits)]

    by_number = pages(ResourcesPerPage=2)
    assert [len(page) for page in by_number] == [2, 2, 1]
    assert set().union(*by_number) == models
    assert [len(page) for page in pages(TagsPerPage=100)] == [2, 2, 1]


@pytest.mark.parametrize(
    "params",
    [
        {"ResourcesPerPage": 101},
        {"ResourcesPerPage": 0},
        {"TagsPerPage": 99},
        {"TagsPerPage": 150},
        {"PaginationToken": "no token"},
        {"ResourceARNList": ["arn:aws:s3:::b"], "TagFilters": [{"Key": "a"}]},
    ],
)
def test_wrong_parameters_are_refused(tagging: Any, params: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        tagging.get_resources(**params)
    assert refused.value.response["Error"]["Code"] == "InvalidParameterException"


def test_tags_are_changed_from_there_too(clients: Clients, tagging: Any) -> None:
    model, missing = create_model(clients), "arn:aws:sagemaker:us-east-1:123456789012:model/none"
    changed = tagging.tag_resources(ResourceARNList=[model, missing], Tags={"a": "1", "b": "2"})
    assert list(changed["FailedResourcesMap"]) == [missing]
    assert "Could not find model" in changed["FailedResourcesMap"][missing]["ErrorMessage"]
    tagging.untag_resources(ResourceARNList=[model], TagKeys=["a"])
    assert clients.sagemaker.list_tags(ResourceArn=model)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_records_that_moto_keeps_break_no_listing(clients: Clients, tagging: Any) -> None:
    model, team = create_model(clients, team=(value := unique("team"))), value
    clients.sagemaker.create_model_card(
        ModelCardName=unique("card"),
        Content="{}",
        ModelCardStatus="Draft",
        Tags=[{"Key": "team", "Value": "x"}],
    )
    assert arns(tagging.get_resources(TagFilters=[{"Key": "team", "Values": [team]}])) == {model}
    assert team in tagging.get_tag_values(Key="team")["TagValues"]


def test_one_missing_resource_does_not_keep_the_others_from_being_tagged(
    clients: Clients, tagging: Any
) -> None:
    model, there = create_model(clients), f"arn:aws:s3:::{clients.bucket}"
    missing = f"arn:aws:s3:::{unique('missing')}"
    tags = {"team": unique("team")}
    mine = [{"Key": "team", "Values": [tags["team"]]}]
    given = [missing, there, f"{model}-missing", model]
    failed = tagging.tag_resources(ResourceARNList=given, Tags=tags)["FailedResourcesMap"]
    assert {arn: one["ErrorCode"] for arn, one in failed.items()} == dict.fromkeys(
        (missing, f"{model}-missing"), "InvalidParameterException"
    )
    assert all(failure["ErrorMessage"] for failure in failed.values())
    assert arns(tagging.get_resources(TagFilters=mine)) == {there, model}

    failed = tagging.untag_resources(ResourceARNList=given, TagKeys=["team"])["FailedResourcesMap"]
    assert f"{model}-missing" in failed
    assert arns(tagging.get_resources(TagFilters=mine)) == set()
