"""The model registry: versions, approval, and models made of a package."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.conftest import ECHO, IMAGE, ROLE, Clients, unique

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def specification(*containers: dict[str, Any]) -> Any:  # noqa: ANN401 - the stubs' type of it is long
    return {
        "Containers": list(containers) or [{"Image": IMAGE}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
        "SupportedRealtimeInferenceInstanceTypes": ["ml.g6.xlarge"],
    }


def group(clients: Clients) -> str:
    name = unique("Group")
    clients.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    return name


def register(clients: Clients, name: str, *containers: dict[str, Any], **others: Any) -> str:  # noqa: ANN401 - members of the request
    return clients.sagemaker.create_model_package(
        ModelPackageGroupName=name, InferenceSpecification=specification(*containers), **others
    )["ModelPackageArn"]


def test_versions_count_up_wait_for_approval_and_are_listed(clients: Clients) -> None:
    name = group(clients)
    arns = [register(clients, name) for _ in range(11)]
    assert arns[10] == f"{ARN}:model-package/{name.lower()}/11"
    described = clients.sagemaker.describe_model_package(ModelPackageName=arns[0])
    assert (described["ModelPackageVersion"], described["ModelApprovalStatus"]) == (
        1,
        "PendingManualApproval",
    )
    assert described["ModelPackageStatus"] == "Completed"
    for number in (0, 9):
        clients.sagemaker.update_model_package(
            ModelPackageArn=arns[number], ModelApprovalStatus="Approved", ApprovalDescription="good"
        )
    newest = clients.sagemaker.list_model_packages(
        ModelPackageGroupName=name,
        ModelApprovalStatus="Approved",
        SortBy="CreationTime",
        SortOrder="Descending",
        MaxResults=1,
    )
    assert [package["ModelPackageArn"] for package in newest["ModelPackageSummaryList"]] == [arns[9]]
    assert "ModelPackageName" not in newest["ModelPackageSummaryList"][0]
    pages = clients.sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=f"{ARN}:model-package-group/{name.lower()}", PaginationConfig={"PageSize": 4}
    )
    assert [
        package["ModelPackageVersion"] for page in pages for package in page["ModelPackageSummaryList"]
    ] == list(range(1, 12))


def test_a_package_of_its_own_name_is_in_no_group(clients: Clients) -> None:
    name = unique("package")
    arn = clients.sagemaker.create_model_package(
        ModelPackageName=name, InferenceSpecification=specification(), Tags=[{"Key": "a", "Value": "1"}]
    )["ModelPackageArn"]
    assert arn == f"{ARN}:model-package/{name}"
    listed = clients.sagemaker.list_model_packages(NameContains=name)["ModelPackageSummaryList"]
    assert [summary["ModelPackageName"] for summary in listed] == [name]
    assert clients.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "1"}]
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    assert len(clients.sagemaker.list_tags(ResourceArn=arn)["Tags"]) == 2
    clients.sagemaker.delete_model_package(ModelPackageName=name)
    with pytest.raises(ClientError, match=f"ModelPackage {arn} does not exist"):
        clients.sagemaker.describe_model_package(ModelPackageName=name)


def test_metadata_is_merged_and_removed(clients: Clients) -> None:
    arn = register(clients, group(clients), CustomerMetadataProperties={"a": "1", "b": "2"})
    clients.sagemaker.update_model_package(
        ModelPackageArn=arn,
        CustomerMetadataProperties={"b": "3", "c": "4"},
        CustomerMetadataPropertiesToRemove=["a"],
    )
    described = clients.sagemaker.describe_model_package(ModelPackageName=arn)
    assert described["CustomerMetadataProperties"] == {"b": "3", "c": "4"}
    assert described["LastModifiedTime"] >= described["CreationTime"]


def test_a_group_is_described_listed_and_deleted_once_it_is_empty(clients: Clients) -> None:
    name = group(clients)
    arn = clients.sagemaker.describe_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupArn"]
    assert clients.sagemaker.list_tags(ResourceArn=arn)["Tags"] == []
    listed = clients.sagemaker.list_model_package_groups(NameContains=name)["ModelPackageGroupSummaryList"]
    assert [summary["ModelPackageGroupArn"] for summary in listed] == [arn]
    with pytest.raises(ClientError, match="Model Package Group already exists"):
        clients.sagemaker.create_model_package_group(ModelPackageGroupName=name)
    package = register(clients, name)
    with pytest.raises(ClientError, match="not empty"):
        clients.sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    clients.sagemaker.delete_model_package(ModelPackageName=package)
    clients.sagemaker.delete_model_package_group(ModelPackageGroupName=name)
    with pytest.raises(ClientError, match=f"ModelPackageGroup {arn} does not exist"):
        clients.sagemaker.describe_model_package_group(ModelPackageGroupName=name)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({}, "Missing ARN"),
        ({"ModelPackageName": "a", "ModelPackageGroupName": "b"}, "Both ModelPackageName and"),
        ({"ModelPackageGroupName": "missing"}, "ModelPackageGroup .*missing does not exist"),
    ],
)
def test_a_package_needs_one_name(clients: Clients, names: dict[str, str], says: str) -> None:
    with pytest.raises(ClientError, match=says):
        clients.sagemaker.create_model_package(InferenceSpecification=specification(), **names)  # type: ignore[arg-type] # parametrised


def test_a_model_of_an_approved_package_serves_the_packages_containers(clients: Clients) -> None:
    says_its_environment = """
import os
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept):
    return data.decode() + os.environ["FROM_PACKAGE"] + os.environ["FROM_MODEL"]
"""
    containers = [
        {
            "Image": IMAGE,
            "ModelDataUrl": clients.upload_archive({"code/inference.py": code}),
            "Environment": {"FROM_PACKAGE": "package ", "FROM_MODEL": "overwritten"},
        }
        for code in (ECHO, says_its_environment)
    ]
    arn = register(clients, group(clients), *containers)
    name = unique("model")
    container = {"ModelPackageName": arn, "Environment": {"FROM_MODEL": "model"}}

    def create() -> None:
        clients.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[container])  # type: ignore[list-item] # a plain dict

    with pytest.raises(ClientError, match="its approval status is PendingManualApproval"):
        create()
    clients.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    clients.sagemaker.update_model_package(
        ModelPackageArn=arn, ModelApprovalStatus="Approved"
    )  # and once more
    create()
    assert clients.sagemaker.describe_model(ModelName=name)["Containers"] == [
        {**container, "Mode": "SingleModel"}
    ]
    endpoint = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=clients.create_config(name))
    clients.wait_for_endpoint(endpoint)
    answer = clients.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"through ")
    assert answer["Body"].read() == b"through package model"
    described = clients.sagemaker.describe_endpoint(EndpointName=endpoint)
    assert len(described["ProductionVariants"][0]["DeployedImages"]) == 2


def test_a_model_of_a_package_whose_artefact_is_gone_is_refused(clients: Clients) -> None:
    uri = f"s3://{clients.bucket}/{unique('gone')}/model.tar.gz"
    arn = register(clients, group(clients), {"Image": IMAGE, "ModelDataUrl": uri})
    clients.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    with pytest.raises(ClientError, match=f"Could not find model data at {uri}"):
        clients.sagemaker.create_model(
            ModelName=unique("model"), ExecutionRoleArn=ROLE, PrimaryContainer={"ModelPackageName": arn}
        )


def test_a_model_of_a_package_that_does_not_exist_is_refused(clients: Clients) -> None:
    with pytest.raises(ClientError, match=r"ModelPackage .*missing/1 does not exist"):
        clients.sagemaker.create_model(
            ModelName=unique("model"),
            ExecutionRoleArn=ROLE,
            PrimaryContainer={"ModelPackageName": f"{ARN}:model-package/missing/1"},
        )
