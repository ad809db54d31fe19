"""Every member of a request is done, ignored with a reason that the docs give, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, RUNTIME, service_model
from airflow_sm_plugin.local.protocol.request_members import (
    OPERATIONS,
    Done,
    Ignored,
    Members,
    Refused,
    check_members,
)
from tests.local.conftest import IMAGE, ROLE, Clients, unique

PAGE = (Path(__file__).parents[3] / "docs" / "embedded-sagemaker.md").read_text()


def _input(operation: str) -> Shape:
    service = RUNTIME if operation.startswith("Invoke") else CONTROL_PLANE
    shape = service_model(service).operation_model(operation).input_shape
    assert shape is not None
    return shape


def _unlisted(shape: Shape, fate: Members | Done | Ignored | Refused | None, path: str) -> Iterator[str]:
    """Yield the members of botocore's model that the table lacks, and vice versa."""
    while isinstance(shape, ListShape):
        shape = shape.member
    is_structure = isinstance(shape, StructureShape)
    if (
        fate is None
        or (isinstance(fate, Done) and is_structure)
        or (isinstance(fate, Mapping) and not is_structure)
    ):
        yield path
    elif isinstance(fate, Mapping) and isinstance(shape, StructureShape):
        for name in {*shape.members, *fate}:
            if name not in shape.members:
                yield f"{path}.{name} (not in botocore's model)"
            else:
                yield from _unlisted(shape.members[name], fate.get(name), f"{path}.{name}")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_table_has_every_member_in_botocores_model(operation: str) -> None:
    assert sorted(_unlisted(_input(operation), OPERATIONS[operation], operation)) == []


def _leaves(members: Members, kind: type[Ignored | Refused]) -> Iterator[str]:
    for name, fate in members.items():
        if isinstance(fate, Mapping):
            yield from _leaves(fate, kind)
        elif isinstance(fate, kind):
            yield name


@pytest.mark.parametrize("kind", [Ignored, Refused])
def test_the_page_names_what_is_ignored_and_what_is_refused(kind: type[Ignored | Refused]) -> None:
    section = PAGE.split("## What it does not do")[1]
    members = {name for members in OPERATIONS.values() for name in _leaves(members, kind)}
    assert {name for name in members if f"`{name}`" not in section} == set()


def test_a_refusal_names_every_member_and_what_is_not_done() -> None:
    variant = {"VariantName": "v", "InstancePools": [{"ModelNameOverride": "other"}], "NewMember": 1}
    with pytest.raises(ValidationFailure) as refused:
        check_members(
            "CreateEndpointConfig",
            {"ProductionVariants": [variant], "ShadowProductionVariants": [{}], "KmsKeyId": "k"},
        )
    message = refused.value.message
    for member, what in (
        ("ProductionVariants.InstancePools.ModelNameOverride", "other models by instance type"),
        ("ProductionVariants.NewMember", "CreateEndpointConfig"),
        ("ShadowProductionVariants", "shadow variants"),
    ):
        assert member in message
        assert what in message
    assert "KmsKeyId" not in message


def test_what_is_empty_is_not_asked_for() -> None:
    check_members("CreateEndpointConfig", {"ShadowProductionVariants": [], "ExplainerConfig": None})
    check_members("ListModels", {"Anything": 1})


def _config(clients: Clients, **members: object) -> None:
    clients.create_config(clients.create_model(), **members)  # type: ignore[arg-type] # whatever the test wants


PROFILE = {
    "ProfileName": "p",
    "TransformJobDefinition": {
        "TransformInput": {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in"}}},
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    },
}
VARIANT = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (
            {"ShadowProductionVariants": [VARIANT]},
            "does not do shadow variants (member ShadowProductionVariants)",
        ),
        (
            {"ExplainerConfig": {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {}}}}},
            "does not do explanations (member ExplainerConfig)",
        ),
    ],
)
def test_an_endpoint_configuration_that_cannot_be_done_is_refused(
    clients: Clients, members: dict[str, object], text: str
) -> None:
    with pytest.raises(ClientError, match="ValidationException") as refused:
        _config(clients, **members)
    assert text in str(refused.value)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"CertifyForMarketplace": True}, "certification for AWS Marketplace (member CertifyForMarketplace)"),
        (
            {"ValidationSpecification": {"ValidationRole": ROLE, "ValidationProfiles": [PROFILE]}},
            "validation jobs of a model package (member ValidationSpecification)",
        ),
        (
            {"AdditionalInferenceSpecifications": [{"Name": "more", "Containers": [{"Image": IMAGE}]}]},
            "additional inference specifications of a model package (member AdditionalInferenceSpecifications)",
        ),
    ],
)
def test_a_model_package_that_cannot_be_done_is_refused(
    clients: Clients, members: dict[str, object], text: str
) -> None:
    name = unique("package")
    with pytest.raises(ClientError, match="ValidationException") as refused:
        clients.sagemaker.create_model_package(ModelPackageName=name, **members)  # type: ignore[arg-type] # plain dicts
    assert f"cannot do this CreateModelPackage: it does not do {text}" in str(refused.value)
    assert clients.sagemaker.create_model_package(ModelPackageName=name, CertifyForMarketplace=False)


def test_an_autopilot_job_on_other_compute_is_refused(clients: Clients) -> None:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{clients.bucket}/in"}}
    with pytest.raises(
        ClientError, match=r"ValidationException.*this machine's \(member AutoMLComputeConfig\)"
    ):
        clients.sagemaker.create_auto_ml_job_v2(
            AutoMLJobName=unique("job")[:32],
            AutoMLJobInputDataConfig=[{"DataSource": source}],  # type: ignore[typeddict-item] # a plain dict
            OutputDataConfig={"S3OutputPath": f"s3://{clients.bucket}/out"},
            AutoMLProblemTypeConfig={"TabularJobConfig": {"TargetAttributeName": "y"}},
            RoleArn=ROLE,
            AutoMLComputeConfig={"EmrServerlessComputeConfig": {"ExecutionRoleARN": ROLE}},
        )


@pytest.mark.parametrize("member", [{"InstanceType": "ml.m5.large"}, {"InitialInstanceCount": 1}])
def test_a_serverless_variant_has_no_instances(clients: Clients, member: dict[str, object]) -> None:
    (name,) = member
    with pytest.raises(ClientError, match=f"ValidationException.*both ServerlessConfig and {name}"):
        _serverless(clients, size=1024, variant=member)


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        ("EnableExplanations", "`true`", "explanations (member EnableExplanations)"),
        ("InferenceComponentName", "a-component", "inference components (member InferenceComponentName)"),
        ("SessionId", "NEW_SESSION", "stateful sessions (member SessionId)"),
    ],
)
def test_an_invocation_that_cannot_be_done_is_refused(
    clients: Clients, member: str, value: str, text: str
) -> None:
    with pytest.raises(ClientError) as refused:
        clients.runtime.invoke_endpoint(EndpointName="any", Body=b"x", **{member: value})
    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert f"The embedded SageMaker cannot do this InvokeEndpoint: it does not do {text}" in str(
        refused.value
    )


def test_a_variant_without_a_model_is_refused_by_name(clients: Clients) -> None:
    variant = {"VariantName": "components", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    with pytest.raises(ClientError, match="variant components names no model; inference components are not"):
        clients.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("config"),
            ProductionVariants=[variant],  # type: ignore[list-item] # a plain dict
        )


@pytest.mark.parametrize("size", [1025, 1111, 7168])
def test_a_serverless_memory_size_between_the_steps_is_refused(clients: Clients, size: int) -> None:
    with pytest.raises(ClientError, match=r"ValidationException.*(MemorySizeInMB|memorySizeInMB)"):
        _serverless(clients, size=size)
    assert _serverless(clients, size=6144)


@pytest.mark.parametrize(
    ("together", "text"),
    [
        (
            {
                "DataCaptureConfig": {
                    "InitialSamplingPercentage": 1,
                    "DestinationS3Uri": "s3://b/c",
                    "CaptureOptions": [{"CaptureMode": "Input"}],
                }
            },
            "data capture",
        ),
        ({"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/o"}}}, "asynchronous inference"),
    ],
)
def test_what_serverless_endpoints_lack_is_refused(
    clients: Clients, together: dict[str, object], text: str
) -> None:
    with pytest.raises(ClientError, match=f"ValidationException.*Serverless endpoints do not support {text}"):
        _serverless(clients, together, size=1024)
    with pytest.raises(ClientError, match="Serverless endpoints do not support models of several containers"):
        _serverless(clients, size=1024, model=clients.create_model("one", "two"))


def _serverless(
    clients: Clients,
    together: Mapping[str, object] | None = None,
    *,
    size: int,
    model: str = "",
    variant: Mapping[str, object] | None = None,
) -> str:
    name = unique("config")
    serverless = {
        "VariantName": "v",
        "ModelName": model or clients.create_model(),
        "ServerlessConfig": {"MemorySizeInMB": size, "MaxConcurrency": 1},
        **(variant or {}),
    }
    clients.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[serverless],  # type: ignore[list-item] # a plain dict
        **(together or {}),  # type: ignore[arg-type] # whatever the test wants
    )
    return name


def test_a_variant_named_twice_in_a_change_of_weights_is_refused(clients: Clients) -> None:
    endpoint = clients.deploy()
    twice = [{"VariantName": "AllTraffic", "DesiredWeight": weight} for weight in (1, 2)]
    with pytest.raises(
        ClientError, match=r"ValidationException.*must be unique within DesiredWeightsAndCapacities"
    ):
        clients.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint,
            DesiredWeightsAndCapacities=twice,  # type: ignore[arg-type] # plain dicts
        )
    assert clients.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


@pytest.fixture(scope="module")
def direct(session_clients: Clients) -> str:
    return _deploy(session_clients, _containers(session_clients), "Direct")


class TestDirectInvocation:
    """InferenceExecutionConfig Mode Direct: each request names its container."""

    def test_exactly_the_named_container_answers(self, clients: Clients, direct: str) -> None:
        assert _asked(clients, direct, TargetContainerHostname="first") == "x|first"
        assert _asked(clients, direct, TargetContainerHostname="second", Accept="text/last") == "x|second"

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            ({}, "is configured for direct invocation: TargetContainerHostname must be given"),
            (
                {"TargetContainerHostname": "third"},
                "TargetContainerHostname third does not exist in endpoint",
            ),
            (
                {"TargetContainerHostname": "primary"},
                "TargetContainerHostname primary does not exist",
            ),
            (
                {"TargetContainerHostname": "first", "TargetModel": "a"},
                "does not support target model header",
            ),
        ],
    )
    def test_what_names_no_container_is_refused(
        self, clients: Clients, direct: str, target: dict[str, str], text: str
    ) -> None:
        answer = _asked(clients, direct, **target)
        assert "ValidationError" in answer
        assert text in answer

    def test_a_pipeline_and_a_single_container_take_no_name(self, clients: Clients) -> None:
        serial = _deploy(clients, _containers(clients), "Serial")
        assert _asked(clients, serial) == "x|first|second"
        for endpoint in (serial, clients.deploy()):
            answer = _asked(clients, endpoint, TargetContainerHostname="first")
            assert "ValidationError" in answer
            assert "is not configured for direct invocation" in answer

    def test_only_the_named_container_loads_a_target_model(self, clients: Clients) -> None:
        prefix = f"s3://{clients.bucket}/{unique('many')}/"
        one, two = _containers(clients)
        key = prefix.partition(f"{clients.bucket}/")[2] + "a.tar.gz"
        clients.upload_archive({"code/inference.py": _code("a")}, key=key)
        many = {**two, "Mode": "MultiModel", "ModelDataUrl": prefix}
        endpoint = _deploy(clients, [one, many], "Direct")
        assert _asked(clients, endpoint, TargetContainerHostname="first") == "x|first"
        assert _asked(clients, endpoint, TargetContainerHostname="second", TargetModel="a.tar.gz") == "x|a"
        assert "missing a target model" in _asked(clients, endpoint, TargetContainerHostname="second")

    def test_it_takes_several_containers_with_names(self, clients: Clients) -> None:
        one, two = _containers(clients)
        for containers in ([one], [one, {**two, "ContainerHostname": None}]):
            with pytest.raises(
                ClientError, match=r"ValidationException.*more than one container, each with a"
            ):
                _model(clients, containers, "Direct")

    def test_nothing_that_cannot_name_a_container_takes_it(self, clients: Clients) -> None:
        model = _model(clients, _containers(clients), "Direct")
        with pytest.raises(ClientError, match=r"ValidationException.*does not support AsyncInferenceConfig"):
            clients.create_config(
                model, AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{clients.bucket}/out"}}
            )
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{clients.bucket}/"}}
        with pytest.raises(ClientError, match=r"ValidationException.*Transform jobs cannot name a container"):
            clients.sagemaker.create_transform_job(
                TransformJobName=unique("job"),
                ModelName=model,
                TransformInput={"DataSource": source},  # type: ignore[typeddict-item] # a plain dict
                TransformOutput={"S3OutputPath": f"s3://{clients.bucket}/out"},
                TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            )


def _code(says: str) -> str:
    return (
        "def model_fn(model_dir): return None\n"
        f"def transform_fn(model, data, content_type, accept): return data + '|{says}', content_type\n"
    )


def _containers(clients: Clients) -> list[dict[str, object]]:
    return [
        {
            "Image": IMAGE,
            "ContainerHostname": name,
            "ModelDataUrl": clients.upload_archive({"code/inference.py": _code(name)}),
        }
        for name in ("first", "second")
    ]


def _model(clients: Clients, containers: list[dict[str, object]], mode: str) -> str:
    name = unique("model")
    given = [
        {key: value for key, value in container.items() if value is not None} for container in containers
    ]
    clients.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        Containers=given,  # type: ignore[arg-type] # plain dicts
        InferenceExecutionConfig={"Mode": mode},  # type: ignore[typeddict-item] # one of the two
    )
    return name


def _deploy(clients: Clients, containers: list[dict[str, object]], mode: str) -> str:
    name = unique("endpoint")
    config = clients.create_config(_model(clients, containers, mode))
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    clients.wait_for_endpoint(name)
    return name


def _asked(clients: Clients, endpoint: str, **members: str) -> str:
    try:
        answer = clients.runtime.invoke_endpoint(
            EndpointName=endpoint,
            Body=b"x",
            ContentType="text/csv",
            **members,
        )
    except ClientError as error:
        return str(error)
    return answer["Body"].read().decode()
