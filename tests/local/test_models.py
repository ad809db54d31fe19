"""Models, endpoint configurations and tags: what is answered, refused and listed."""

from __future__ import annotations

import uuid

import pytest
from botocore.exceptions import ClientError

from tests.local.conftest import IMAGE, ROLE, Clients, unique

ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def test_a_model_is_described_as_it_was_created(clients: Clients) -> None:
    name = unique("Model")
    container = {
        "Image": IMAGE,
        "ModelDataUrl": clients.upload_archive({}),
        "Environment": {"KEY": "value"},
        "ContainerHostname": "first",
    }
    created = clients.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        Containers=[container, {"Image": IMAGE}],  # type: ignore[list-item] # plain dicts
    )
    described = clients.sagemaker.describe_model(ModelName=name)
    assert created["ModelArn"] == described["ModelArn"] == f"{ARN}:model/{name.lower()}"
    assert described["Containers"][0] == {**container, "Mode": "SingleModel"}
    assert described["ExecutionRoleArn"] == ROLE
    assert described["EnableNetworkIsolation"] is False
    assert "PrimaryContainer" not in described


def test_a_model_name_is_taken_until_it_is_deleted(clients: Clients) -> None:
    name = clients.create_model()
    with pytest.raises(ClientError) as taken:
        clients.create_model(name=name)
    clients.sagemaker.delete_model(ModelName=name)
    with pytest.raises(ClientError) as gone:
        clients.sagemaker.describe_model(ModelName=name)
    assert taken.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": f'Cannot create already existing model "{ARN}:model/{name}".',
    }
    assert gone.value.response["Error"]["Message"] == f'Could not find model "{ARN}:model/{name}".'
    clients.create_model(name=name)


@pytest.mark.parametrize(
    ("containers", "says"),
    [
        ({}, "either a PrimaryContainer or Containers"),
        ({"PrimaryContainer": {"Image": IMAGE}, "Containers": [{"Image": IMAGE}]}, "and not both"),
        ({"PrimaryContainer": {"ModelDataUrl": "s3://a/b"}}, "Specify one of either Image and Model Data URL or"),
        ({"Containers": [{"Image": IMAGE, "ContainerHostname": "same"}] * 2}, "must be unique"),
        ({"Containers": [{"Image": IMAGE}] * 16}, "less than or equal to 15"),
        (
            {"PrimaryContainer": {"Image": IMAGE, "Environment": {f"K{n}": "v" * 1024 for n in range(33)}}},
            "at most 32768 bytes",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused_with_the_reason(
    clients: Clients, containers: dict[str, object], says: str
) -> None:
    with pytest.raises(ClientError, match=says):
        clients.sagemaker.create_model(ModelName=unique("bad"), ExecutionRoleArn=ROLE, **containers)  # type: ignore[arg-type] # parametrised


def test_an_endpoint_configuration_keeps_everything_it_was_given(clients: Clients) -> None:
    model = clients.create_model()
    given: dict[str, object] = {
        "AsyncInferenceConfig": {
            "OutputConfig": {"S3OutputPath": "s3://bucket/out", "S3FailurePath": "s3://bucket/bad"},
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 3},
        },
        "KmsKeyId": "key",
    }
    name = clients.create_config(model, instances=2, **given)  # type: ignore[arg-type] # keys of the request
    described = clients.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    assert described["EndpointConfigArn"] == f"{ARN}:endpoint-config/{name}"
    assert {key: described[key] for key in given} == given  # type: ignore[literal-required] # keys of `given`
    assert described["ProductionVariants"] == [
        {
            "VariantName": "AllTraffic",
            "ModelName": model,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 2,
            "InitialVariantWeight": 1.0,
        }
    ]


def test_an_endpoint_configuration_needs_models_that_exist_and_a_free_name(clients: Clients) -> None:
    with pytest.raises(ClientError, match=f'Could not find model "{ARN}:model/nobody".'):
        clients.create_config("nobody")
    name = clients.create_config(clients.create_model())
    with pytest.raises(
        ClientError, match=f'already existing endpoint configuration "{ARN}:endpoint-config/{name}"'
    ):
        clients.create_config(clients.create_model(), name=name)
    clients.sagemaker.delete_endpoint_config(EndpointConfigName=name)
    with pytest.raises(
        ClientError, match=f'Could not find endpoint configuration "{ARN}:endpoint-config/{name}".'
    ):
        clients.sagemaker.delete_endpoint_config(EndpointConfigName=name)


def test_two_variants_of_one_name_are_refused(clients: Clients) -> None:
    variant = {
        "VariantName": "same",
        "ModelName": clients.create_model(),
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    with pytest.raises(ClientError, match="must be unique"):
        clients.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("config"),
            ProductionVariants=[variant, variant],  # type: ignore[list-item] # plain dicts
        )


def test_lists_are_filtered_sorted_and_paged(clients: Clients) -> None:
    part = uuid.uuid4().hex[:8]
    names = [clients.create_model(name=f"{part}-{number:02}") for number in range(12)]
    paginator = clients.sagemaker.get_paginator("list_models")
    pages = list(
        paginator.paginate(
            NameContains=part, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 5}
        )
    )
    assert [len(page["Models"]) for page in pages] == [5, 5, 2]
    assert [one["ModelName"] for page in pages for one in page["Models"]] == names
    newest = clients.sagemaker.list_models(NameContains=part, MaxResults=1)["Models"][0]
    assert newest["ModelName"] == names[-1]
    later = clients.sagemaker.list_models(NameContains=part, CreationTimeAfter=newest["CreationTime"])
    assert later["Models"] == []
    config = clients.create_config(names[0], name=f"{part}-config")
    listed = clients.sagemaker.list_endpoint_configs(NameContains=part)["EndpointConfigs"]
    assert [one["EndpointConfigName"] for one in listed] == [config]
