"""Findings of foreign clients: members that the embedded SageMaker took and ignored; with boto3 alone.

Each test names its finding. Further cases of the same kinds are in tests/local (``test_request_members``,
``test_data_capture``, ``test_archives``).
"""

from __future__ import annotations

import json

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.clients.conftest import IMAGE, ROLE, UPPER, Workbench, archive, unique

VARIANT = {"VariantName": "v", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}


def _model(workbench: Workbench, **more: object) -> str:
    name = unique("model")
    container = {"Image": IMAGE, "ModelDataUrl": workbench.model_data, **more}
    workbench.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)  # type: ignore[arg-type] # a plain dict
    return name


def _config(workbench: Workbench, model: str, **more: object) -> str:
    name = unique("config")
    workbench.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{**VARIANT, "ModelName": model}],  # type: ignore[list-item] # a plain dict
        **more,  # type: ignore[arg-type] # whatever the test wants
    )
    return name


def _endpoint(workbench: Workbench, config: str) -> str:
    name = unique("endpoint")
    workbench.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    workbench.in_service(name)
    return name


def _code(says: str) -> str:
    return UPPER.replace("text.upper()", f"text + '|{says}'")


def test_b1_direct_invocation(workbench: Workbench) -> None:
    runtime, containers = boto3.client("sagemaker-runtime"), []
    for name in ("first", "second"):
        workbench.s3.put_object(
            Bucket=workbench.bucket, Key=name, Body=archive("code/inference.py", _code(name))
        )
        url = f"s3://{workbench.bucket}/{name}"
        containers.append({"Image": IMAGE, "ContainerHostname": name, "ModelDataUrl": url})
    model = unique("direct")
    workbench.sagemaker.create_model(
        ModelName=model,
        ExecutionRoleArn=ROLE,
        InferenceExecutionConfig={"Mode": "Direct"},
        Containers=containers,  # type: ignore[arg-type] # plain dicts
    )
    endpoint = _endpoint(workbench, _config(workbench, model))

    answer = runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", TargetContainerHostname="second")
    assert answer["Body"].read() == b"x|second"
    for target in ({}, {"TargetContainerHostname": "nonsense"}):
        with pytest.raises(ClientError) as refused:
            runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", **target)
        assert refused.value.response["Error"]["Code"] == "ValidationError"
        assert "TargetContainerHostname" in str(refused.value)


def test_b2_data_capture_is_written(workbench: Workbench) -> None:
    runtime, capture = boto3.client("sagemaker-runtime"), f"s3://{workbench.bucket}/capture"
    config = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": capture,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }
    model = _model(workbench)
    endpoint = _endpoint(workbench, _config(workbench, model, DataCaptureConfig=config))
    for number in range(5):
        runtime.invoke_endpoint(
            EndpointName=endpoint, Body=b"1,2", ContentType="text/csv", InferenceId=f"i{number}"
        )
    workbench.sagemaker.delete_endpoint(EndpointName=endpoint)
    waiter = workbench.sagemaker.get_waiter("endpoint_deleted")
    waiter.wait(EndpointName=endpoint, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    keys = [
        one["Key"]
        for one in workbench.s3.list_objects_v2(Bucket=workbench.bucket, Prefix="capture/")["Contents"]
    ]
    assert all(key.startswith(f"capture/{endpoint}/v/2") and key.endswith(".jsonl") for key in keys)
    lines = [json.loads(line) for key in keys for line in workbench.read(key).splitlines()]
    assert sorted(line["eventMetadata"]["inferenceId"] for line in lines) == [
        f"i{number}" for number in range(5)
    ]

    workbench.s3.put_object(Bucket=workbench.bucket, Key="input/a.csv", Body=b"1,2\n")
    job = unique("job")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{workbench.bucket}/input"}}
    workbench.sagemaker.create_transform_job(
        TransformJobName=job,
        ModelName=model,
        TransformInput={"DataSource": source, "ContentType": "text/csv"},  # type: ignore[typeddict-item] # a plain dict
        TransformOutput={"S3OutputPath": f"s3://{workbench.bucket}/out"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
        DataCaptureConfig={"DestinationS3Uri": f"s3://{workbench.bucket}/tcapture"},
    )
    workbench.transformed(job)
    listed = workbench.s3.list_objects_v2(Bucket=workbench.bucket, Prefix="tcapture/")["Contents"]
    assert [json.loads(workbench.read(one["Key"])) for one in listed] == [
        [{"prefix": f"s3://{workbench.bucket}/input/"}, "a.csv"],
        [{"prefix": f"s3://{workbench.bucket}/out/"}, "a.csv.out"],
    ]


def test_b3_shadow_variants_are_refused(workbench: Workbench) -> None:
    model = _model(workbench)
    shadow = [{**VARIANT, "VariantName": "s", "ModelName": model}]
    with pytest.raises(ClientError, match=r"ValidationException.*member ShadowProductionVariants"):
        _config(workbench, model, ShadowProductionVariants=shadow)


def test_b4_explainers_components_and_sessions_are_refused(workbench: Workbench) -> None:
    model, runtime = _model(workbench), boto3.client("sagemaker-runtime")
    explainer = {"ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1,2"}}}}
    with pytest.raises(ClientError, match=r"ValidationException.*member ExplainerConfig"):
        _config(workbench, model, ExplainerConfig=explainer)
    endpoint = _endpoint(workbench, _config(workbench, model))
    for member, value in (
        ("InferenceComponentName", "ic"),
        ("EnableExplanations", "`true`"),
        ("SessionId", "NEW_SESSION"),
    ):
        with pytest.raises(ClientError, match=rf"ValidationError.*member {member}"):
            runtime.invoke_endpoint(EndpointName=endpoint, Body=b"x", **{member: value})


def test_d1_code_at_submit_directory_is_fetched(workbench: Workbench) -> None:
    workbench.s3.put_object(Bucket=workbench.bucket, Key="weights.tar.gz", Body=archive("weights", "1"))
    workbench.s3.put_object(
        Bucket=workbench.bucket, Key="src/sourcedir.tar.gz", Body=archive("serve.py", _code("s3"))
    )
    environment = {
        "SAGEMAKER_PROGRAM": "serve.py",
        "SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{workbench.bucket}/src/sourcedir.tar.gz",
    }
    url = f"s3://{workbench.bucket}/weights.tar.gz"
    endpoint = _endpoint(
        workbench, _config(workbench, _model(workbench, ModelDataUrl=url, Environment=environment))
    )
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"x")
    assert answer["Body"].read() == b"x|s3"


def test_d1_a_folder_of_the_model_can_be_the_submit_directory(workbench: Workbench) -> None:
    workbench.s3.put_object(
        Bucket=workbench.bucket, Key="own.tar.gz", Body=archive("src/serve.py", _code("own"))
    )
    environment = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/src"}
    url = f"s3://{workbench.bucket}/own.tar.gz"
    endpoint = _endpoint(
        workbench, _config(workbench, _model(workbench, ModelDataUrl=url, Environment=environment))
    )
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"x")
    assert answer["Body"].read() == b"x|own"


def test_d1_source_code_that_is_not_there_is_reported(workbench: Workbench) -> None:
    environment = {"SAGEMAKER_SUBMIT_DIRECTORY": f"s3://{workbench.bucket}/missing.tar.gz"}
    endpoint = unique("endpoint")
    workbench.sagemaker.create_endpoint(
        EndpointName=endpoint,
        EndpointConfigName=_config(workbench, _model(workbench, Environment=environment)),
    )
    with pytest.raises(Exception, match="Failed"):
        workbench.in_service(endpoint)
    reason = workbench.sagemaker.describe_endpoint(EndpointName=endpoint)["FailureReason"]
    assert "Failed to fetch the source code" in reason
    assert f"s3://{workbench.bucket}/missing.tar.gz: NoSuchKey" in reason


@pytest.mark.parametrize("size", [1111, 6145])
def test_e1_serverless_memory_comes_in_steps(workbench: Workbench, size: int) -> None:
    model = _model(workbench)
    variant = {
        "VariantName": "v",
        "ModelName": model,
        "ServerlessConfig": {"MemorySizeInMB": size, "MaxConcurrency": 1},
    }
    with pytest.raises(ClientError, match=r"ValidationException.*emorySizeInMB"):
        workbench.sagemaker.create_endpoint_config(
            EndpointConfigName=unique("mb"),
            ProductionVariants=[variant],  # type: ignore[list-item] # a plain dict
        )


def test_e2_a_variant_is_weighed_once(workbench: Workbench) -> None:
    endpoint = _endpoint(workbench, _config(workbench, _model(workbench)))
    with pytest.raises(ClientError, match=r"ValidationException.*must be unique"):
        workbench.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint,
            DesiredWeightsAndCapacities=[
                {"VariantName": "v", "DesiredWeight": 1},
                {"VariantName": "v", "DesiredWeight": 2},
            ],
        )


@pytest.mark.parametrize("mode", ["SingleModel", "MultiModel"])
def test_g1_a_silent_container_has_a_log_group(workbench: Workbench, mode: str) -> None:
    url = workbench.model_data if mode == "SingleModel" else f"s3://{workbench.bucket}/"
    endpoint = _endpoint(workbench, _config(workbench, _model(workbench, Mode=mode, ModelDataUrl=url)))
    group, logs = f"/aws/sagemaker/Endpoints/{endpoint}", boto3.client("logs")
    logs.put_retention_policy(logGroupName=group, retentionInDays=1)
    assert logs.describe_log_streams(logGroupName=group)["logStreams"][0]["logStreamName"].startswith("v/i-")
