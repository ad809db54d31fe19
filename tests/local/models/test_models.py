"""Models, endpoint configurations and tags: what is answered, refused and listed."""

from __future__ import annotations

import uuid
from typing import Any

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
        (
            {"PrimaryContainer": {"ModelDataUrl": "s3://a/b"}},
            "Specify one of either Image and Model Data URL or",
        ),
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


def create(clients: Clients, role: str = ROLE, **container: object) -> str:
    name = unique("model")
    clients.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=role,
        PrimaryContainer={"Image": IMAGE, **container},  # type: ignore[arg-type] # whatever the test wants
    )
    return name


def refused(clients: Clients, role: str = ROLE, **container: object) -> str:
    """Return the text in which a model is refused."""
    with pytest.raises(ClientError) as caught:
        create(clients, role, **container)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return caught.value.response["Error"]["Message"]


def loose(uri: str, kind: str = "S3Prefix", compression: str = "None") -> dict[str, object]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": kind, "CompressionType": compression}}


class TestModelData:
    """CreateModel checks the model data: a missing artefact is no endpoint's failure."""

    @pytest.mark.parametrize(
        "key", ["model.tar.gz", "a%2Fb?c/model.tar.gz", "folder", "", "folder/model.tar.gz.old"]
    )
    def test_an_object_that_is_not_there_is_refused(self, clients: Clients, key: str) -> None:
        """Nor is a prefix, or the beginning of another object's key, an archive."""
        bucket = unique("bucket")
        clients.s3.create_bucket(Bucket=bucket)
        for other in ("folder/model.tar.gz", "folder/model.tar.gz.older"):
            clients.s3.put_object(Bucket=bucket, Key=other)
        uri = f"s3://{bucket}/{key}"
        text = f"Could not find model data at {uri}."
        assert refused(clients, ModelDataUrl=uri) == text
        assert refused(clients, ModelDataSource=loose(uri, "S3Object", "Gzip")) == text
        assert refused(clients, ModelDataSource=loose(uri, "S3Object", "None")) == text

    def test_a_prefix_with_nothing_below_is_refused(self, clients: Clients) -> None:
        clients.s3.put_object(Bucket=clients.bucket, Key="loose-1/weights")
        prefix = f"s3://{clients.bucket}/loose-1/"
        create(clients, ModelDataSource=loose(prefix))
        missing = f"s3://{clients.bucket}/loose-2/"
        assert refused(clients, ModelDataSource=loose(missing)) == f"Could not find model data at {missing}."

    def test_an_https_address_is_read_as_well(self, clients: Clients) -> None:
        there = clients.upload_archive({})
        key = there.removeprefix(f"s3://{clients.bucket}/")
        for host in (f"{clients.bucket}.s3.amazonaws.com", f"s3.us-east-1.amazonaws.com/{clients.bucket}"):
            create(clients, ModelDataUrl=f"https://{host}/{key}")
            assert refused(clients, ModelDataUrl=f"https://{host}/no/{key}") == (
                f"Could not find model data at s3://{clients.bucket}/no/{key}."
            )

    def test_a_bucket_that_is_not_there_cannot_be_accessed(self, clients: Clients) -> None:
        uri = f"s3://{unique('missing')}/model.tar.gz"
        text = refused(clients, ModelDataUrl=uri)
        assert text.startswith(
            f'Could not access model data at {uri}. Please ensure that the role "{ROLE}" exists'
        )
        assert text.endswith("and that the object is located in us-east-1.")

    def test_each_container_is_checked(self, clients: Clients) -> None:
        missing = f"s3://{clients.bucket}/second/model.tar.gz"
        containers: list[Any] = [
            {"Image": IMAGE, "ModelDataUrl": url} for url in (clients.upload_archive({}), missing)
        ]
        name = unique("model")
        with pytest.raises(ClientError, match=f"Could not find model data at {missing}"):
            clients.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers)
        with pytest.raises(ClientError, match="Could not find model "):
            clients.sagemaker.describe_model(ModelName=name)

    def test_a_multi_model_prefix_is_not_checked(self, clients: Clients) -> None:
        create(clients, Mode="MultiModel", ModelDataUrl=f"s3://{clients.bucket}/{unique('none')}/")
        create(clients, Mode="MultiModel", ModelDataUrl=f"s3://{unique('missing')}/models/")

    def test_a_multi_model_container_takes_no_model_data_source(self, clients: Clients) -> None:
        clients.s3.put_object(Bucket=clients.bucket, Key="many-1/a.tar.gz")
        source = loose(f"s3://{clients.bucket}/many-1/")
        text = refused(clients, Mode="MultiModel", ModelDataSource=source)
        assert text == "Container 1 has Mode MultiModel, which takes ModelDataUrl and no ModelDataSource."

    def test_a_taken_name_is_refused_before_the_artefact_is_checked(self, clients: Clients) -> None:
        """A CreateModel whose answer was lost may be repeated after the artefact has gone."""
        name = create(clients)
        with pytest.raises(ClientError, match="Cannot create already existing model"):
            clients.sagemaker.create_model(
                ModelName=name,
                ExecutionRoleArn=ROLE,
                PrimaryContainer={"Image": IMAGE, "ModelDataUrl": f"s3://{clients.bucket}/gone.tar.gz"},
            )


@pytest.mark.parametrize("path", ["role/", "rolesagemaker", "role/team/", "role//"])
def test_a_role_without_a_name_is_invalid(clients: Clients, path: str) -> None:
    """The service model's pattern takes it."""
    role = f"arn:aws:iam::123456789012:{path}"
    assert refused(clients, role) == (
        f'The execution role ARN "{role}" is invalid. Please ensure that the role exists and that its trust '
        'relationship policy allows the action "sts:AssumeRole" for the service principal "sagemaker.amazonaws.com".'
    )


def test_a_model_needs_no_role_and_a_role_may_have_a_path(clients: Clients) -> None:
    create(clients, "arn:aws-cn:iam::123456789012:role/team/a/sagemaker@x")
    clients.sagemaker.create_model(ModelName=unique("model"), PrimaryContainer={"Image": IMAGE})


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
    with pytest.raises(ClientError, match=f'Could not find model "{ARN}:model/missing".'):
        clients.create_config("missing")
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
    assert [model["ModelName"] for page in pages for model in page["Models"]] == names
    newest = clients.sagemaker.list_models(NameContains=part, MaxResults=1)["Models"][0]
    assert newest["ModelName"] == names[-1]
    later = clients.sagemaker.list_models(NameContains=part, CreationTimeAfter=newest["CreationTime"])
    assert later["Models"] == []
    config = clients.create_config(names[0], name=f"{part}-config")
    listed = clients.sagemaker.list_endpoint_configs(NameContains=part)["EndpointConfigs"]
    assert [summary["EndpointConfigName"] for summary in listed] == [config]
