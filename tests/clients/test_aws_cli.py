"""The AWS command line, unchanged, against the embedded SageMaker."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import IMAGE, ROLE, Workbench, unique

AWS = Path(sys.executable).with_name("aws")

if not AWS.exists():
    pytest.skip("the AWS command line is not installed here", allow_module_level=True)


def _aws(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    """Run ``aws``; return what it prints. Raises CalledProcessError."""
    done = subprocess.run(
        [AWS, *arguments, "--output", "json"], check=True, capture_output=True, text=True, timeout=600
    )
    return json.loads(done.stdout) if done.stdout.strip() else None


def _refused(*arguments: str) -> str:
    """Run ``aws`` and return what it says when it fails."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        _aws(*arguments)
    return str(refused.value.stderr)


def _deploy(workbench: Workbench, *more: str) -> str:
    """Deploy the model by command line; return the endpoint's name once it serves."""
    name = unique("cli")
    container = {"Image": IMAGE, "ModelDataUrl": workbench.model_data}
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": name,
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    model = ("--model-name", name, "--execution-role-arn", ROLE, "--primary-container", json.dumps(container))
    config = ("--endpoint-config-name", name, "--production-variants", json.dumps([variant]), *more)
    _aws("sagemaker", "create-model", *model)
    _aws("sagemaker", "create-endpoint-config", *config)
    _aws("sagemaker", "create-endpoint", "--endpoint-name", name, "--endpoint-config-name", name)
    workbench.in_service(name)
    return name


def test_a_real_time_endpoint(workbench: Workbench, tmp_path: Path) -> None:
    endpoint = _deploy(workbench)
    payload, answer = tmp_path / "payload", tmp_path / "answer"
    payload.write_text("a,b")

    described = _aws("sagemaker", "describe-endpoint", "--endpoint-name", endpoint)
    assert described["EndpointStatus"] == "InService"
    assert described["EndpointArn"].endswith(f":endpoint/{endpoint}")

    invoked = _aws(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", endpoint, "--content-type", "text/csv",
        "--body", f"fileb://{payload}", "--custom-attributes", "Trace ID: 7", str(answer),
    )  # fmt: skip
    assert answer.read_text() == "A,B"
    assert invoked["ContentType"] == "text/csv"
    assert invoked["CustomAttributes"] == "Trace ID: 7"
    assert invoked["InvokedProductionVariant"] == "AllTraffic"

    payload.write_text("raise")
    said = _refused(
        "sagemaker-runtime", "invoke-endpoint", "--endpoint-name", endpoint, "--content-type", "text/csv",
        "--body", f"fileb://{payload}", str(answer),
    )  # fmt: skip
    assert "(ModelError)" in said
    assert "the model cannot do that" in said

    _aws("sagemaker", "delete-endpoint", "--endpoint-name", endpoint)


def test_an_asynchronous_endpoint(workbench: Workbench) -> None:
    output = {"OutputConfig": {"S3OutputPath": f"s3://{workbench.bucket}/out"}}
    endpoint = _deploy(workbench, "--async-inference-config", json.dumps(output))
    workbench.s3.put_object(Bucket=workbench.bucket, Key="in", Body=b"a,b")

    accepted = _aws(
        "sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", endpoint,
        "--input-location", f"s3://{workbench.bucket}/in", "--inference-id", "mine",
    )  # fmt: skip

    assert accepted["InferenceId"] == "mine"
    key = accepted["OutputLocation"].removeprefix(f"s3://{workbench.bucket}/")
    waiter = workbench.s3.get_waiter("object_exists")
    waiter.wait(Bucket=workbench.bucket, Key=key, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    assert workbench.read(key) == "A,B"


def test_a_transform_job(workbench: Workbench) -> None:
    name = unique("cli")
    container = {"Image": IMAGE, "ModelDataUrl": workbench.model_data}
    workbench.s3.put_object(Bucket=workbench.bucket, Key="in/a.csv", Body=b"a,b\n")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{workbench.bucket}/in"}}
    _aws("sagemaker", "create-model", "--model-name", name, "--execution-role-arn", ROLE,
         "--primary-container", json.dumps(container))  # fmt: skip

    _aws(
        "sagemaker", "create-transform-job", "--transform-job-name", name, "--model-name", name,
        "--transform-input", json.dumps({"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"}),
        "--transform-output", json.dumps({"S3OutputPath": f"s3://{workbench.bucket}/out"}),
        "--transform-resources", "InstanceType=ml.m5.large,InstanceCount=1",
    )  # fmt: skip
    workbench.transformed(name)

    described = _aws("sagemaker", "describe-transform-job", "--transform-job-name", name)
    assert described["TransformJobStatus"] == "Completed"
    assert workbench.read("out/a.csv.out") == "A,B\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("sagemaker", "describe-endpoint", "--endpoint-name", "nowhere"), "Could not find endpoint"),
        (("sagemaker", "describe-auto-ml-job-v2", "--auto-ml-job-name", "nowhere"), "(ResourceNotFound)"),
        (("sagemaker", "describe-transform-job", "--transform-job-name", "nowhere"), "(ValidationException)"),
        (
            ("sagemaker-runtime", "invoke-endpoint-async", "--endpoint-name", "nowhere",
             "--input-location", "s3://b/k"),
            "(ValidationError)",
        ),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_in_the_services_words(
    workbench: Workbench, arguments: tuple[str, ...], text: str
) -> None:
    assert text in _refused(*arguments)
