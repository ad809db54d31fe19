"""The SageMaker Python SDK 2.x, unchanged, against the embedded SageMaker."""

# ruff: noqa: ANN401 - the SDK has no annotations

from __future__ import annotations

import importlib
import json
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.clients.conftest import IMAGE, ROLE, Workbench, archive, unique

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK's own
    sdk: Any = pytest.importorskip("sagemaker", reason="the SageMaker Python SDK is not installed here")

pytestmark = pytest.mark.filterwarnings("ignore")  # the SDK's own

QUIET = {"SchemaVersion": "1.0", "SageMaker": {"PythonSDK": {"Modules": {"TelemetryOptOut": True}}}}
"""Without it the SDK reports its use to the internet."""

PATIENCE = sdk.async_inference.WaiterConfig(max_attempts=60, delay=1)

ROWS = 300


@pytest.fixture
def session(workbench: Workbench) -> Any:
    return sdk.Session(boto_session=boto3.Session(), default_bucket=workbench.bucket, sagemaker_config=QUIET)


@pytest.fixture
def model(workbench: Workbench, session: Any) -> Any:
    return sdk.model.Model(
        image_uri=IMAGE,
        model_data=workbench.model_data,
        role=ROLE,
        name=unique("sdk"),
        predictor_cls=_csv_predictor,
        sagemaker_session=session,
    )


def _csv_predictor(endpoint: str, session: Any) -> Any:
    return sdk.predictor.Predictor(
        endpoint,
        session,
        serializer=sdk.serializers.CSVSerializer(),
        deserializer=sdk.deserializers.CSVDeserializer(),
    )


def _deploy(workbench: Workbench, model: Any, **arguments: object) -> Any:
    """Deploy without the SDK's waiting, which polls twice a minute."""
    endpoint = unique("sdk")
    predictor = model.deploy(
        initial_instance_count=1,
        instance_type="ml.m5.large",
        endpoint_name=endpoint,
        wait=False,
        **arguments,
    )
    workbench.in_service(endpoint)
    return predictor


def test_a_predictor(workbench: Workbench, model: Any) -> None:
    predictor = _deploy(workbench, model)

    assert predictor.predict([["a", "b"], ["c", "d"]]) == [["A", "B"], ["C", "D"]]

    predictor.delete_model()
    predictor.delete_endpoint()


INFERENCE = """
import os

def model_fn(model_dir):
    with open(os.path.join(model_dir, "weights")) as weights:
        return weights.read()

def predict_fn(data, model):
    return [f"{model} {value}" for value in data]
"""


@pytest.mark.parametrize(
    ("framework", "version"), [("sklearn.SKLearnModel", "1.2-1"), ("xgboost.XGBoostModel", "1.7-1")]
)
def test_a_framework_model_whose_code_stays_in_s3(
    workbench: Workbench, session: Any, framework: str, version: str, tmp_path: Path
) -> None:
    """SKLearnModel and XGBoostModel do not repack: the code lies at SAGEMAKER_SUBMIT_DIRECTORY."""
    (tmp_path / "inference.py").write_text(INFERENCE)
    (tmp_path / "requirements.txt").write_text("nothing\n")
    workbench.s3.put_object(Bucket=workbench.bucket, Key="weights.tar.gz", Body=archive("weights", "weight"))
    module, _, model = framework.partition(".")
    made = getattr(importlib.import_module(f"sagemaker.{module}"), model)(
        model_data=f"s3://{workbench.bucket}/weights.tar.gz",
        role=ROLE,
        entry_point="inference.py",
        source_dir=str(tmp_path),
        image_uri=IMAGE,
        framework_version=version,
        name=unique(module),
        sagemaker_session=session,
    )

    predictor = _deploy(workbench, made)

    environment = workbench.sagemaker.describe_model(ModelName=made.name)["PrimaryContainer"]["Environment"]
    assert environment["SAGEMAKER_SUBMIT_DIRECTORY"].startswith(f"s3://{workbench.bucket}/")
    predictor.serializer = sdk.serializers.JSONSerializer()
    predictor.deserializer = sdk.deserializers.JSONDeserializer()
    assert predictor.predict(["a", "b"]) == ["weight a", "weight b"]


def test_data_capture_that_the_sdk_configures(workbench: Workbench, model: Any) -> None:
    capture = sdk.model_monitor.DataCaptureConfig(
        enable_capture=True, sampling_percentage=100, destination_s3_uri=f"s3://{workbench.bucket}/captured"
    )
    predictor = _deploy(workbench, model, data_capture_config=capture)
    predictor.predict([["a", "b"]])
    workbench.sagemaker.delete_endpoint(EndpointName=predictor.endpoint_name)
    workbench.sagemaker.get_waiter("endpoint_deleted").wait(
        EndpointName=predictor.endpoint_name,
        WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000},  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    )

    (line,) = [
        json.loads(line)
        for key in sdk.s3.S3Downloader.list(f"s3://{workbench.bucket}/captured", model.sagemaker_session)
        for line in sdk.s3.S3Downloader.read_file(key, model.sagemaker_session).splitlines()
    ]
    data = line["captureData"]
    assert (data["endpointInput"]["data"], data["endpointInput"]["encoding"]) == ("a,b", "CSV")
    assert (data["endpointOutput"]["data"], data["endpointOutput"]["encoding"]) == ("A,B", "CSV")


def test_an_asynchronous_predictor(workbench: Workbench, model: Any) -> None:
    output = f"s3://{workbench.bucket}/output"
    config = sdk.async_inference.AsyncInferenceConfig(
        output_path=output, max_concurrent_invocations_per_instance=2
    )
    predictor = _deploy(workbench, model, async_inference_config=config)

    assert predictor.predict([["a", "b"]], waiter_config=PATIENCE) == [["A", "B"]]

    response = predictor.predict_async([["c", "d"]], initial_args={"CustomAttributes": "trace=1"})
    assert response.output_path.startswith(output)
    assert response.get_result(PATIENCE) == [["C", "D"]]
    predictor.delete_endpoint()


def test_an_asynchronous_predictor_that_fails(workbench: Workbench, model: Any) -> None:
    paths = {f"{kind}_path": f"s3://{workbench.bucket}/{kind}" for kind in ("output", "failure")}
    config = sdk.async_inference.AsyncInferenceConfig(**paths)
    predictor = _deploy(workbench, model, async_inference_config=config)

    response = predictor.predict_async([["raise"]])
    with pytest.raises(sdk.exceptions.AsyncInferenceModelError, match="the model cannot do that"):
        response.get_result(PATIENCE)

    predictor.delete_endpoint()
    # The SDK goes on polling for the output, in a thread that would outlive the test.
    key = response.output_path.removeprefix(f"s3://{workbench.bucket}/")
    workbench.s3.put_object(Bucket=workbench.bucket, Key=key, Body=b"")
    for thread in threading.enumerate():
        if "check_output_file" in thread.name:
            thread.join()


def test_a_transformer(
    workbench: Workbench, session: Any, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    workbench.s3.put_object(Bucket=workbench.bucket, Key="in/a.csv", Body=b"id1,a\nid2,b\n")
    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        strategy="MultiRecord",
        assemble_with="Line",
        accept="text/csv",
        output_path=f"s3://{workbench.bucket}/out",
        max_payload=1,
    )
    transformer.transform(
        f"s3://{workbench.bucket}/in",
        content_type="text/csv",
        split_type="Line",
        input_filter="$[1:]",
        join_source="Input",
        wait=False,
    )
    workbench.transformed(transformer.latest_transform_job.job_name)

    session.logs_for_transform_job(transformer.latest_transform_job.job_name, poll=0)

    assert workbench.read("out/a.csv.out") == "id1,a,A\nid2,b,B\n"
    assert (
        "MaxConcurrentTransforms=1, MaxPayloadInMB=1, BatchStrategy=MULTI_RECORD" in capsys.readouterr().out
    )


@pytest.fixture
def automl_job(workbench: Workbench) -> str:
    """Run an AutoML job on a table whose label is whether the first number is the larger one."""
    lines = ["left,right,larger"]
    for number in range(ROWS):
        left, right = number * 37 % 101, number * 53 % 97
        lines.append(f"{left},{right},{'yes' if left > right else 'no'}")
    workbench.s3.put_object(Bucket=workbench.bucket, Key="train/t.csv", Body="\n".join(lines).encode())
    job = unique("sdk")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{workbench.bucket}/train"}
    client: Any = workbench.sagemaker
    client.create_auto_ml_job(
        AutoMLJobName=job,
        InputDataConfig=[{"DataSource": {"S3DataSource": source}, "TargetAttributeName": "larger"}],
        OutputDataConfig={"S3OutputPath": f"s3://{workbench.bucket}/automl"},
        ProblemType="BinaryClassification",
        AutoMLJobObjective={"MetricName": "Accuracy"},
        AutoMLJobConfig={"CompletionCriteria": {"MaxCandidates": 2}},
        RoleArn=ROLE,
    )
    while (status := client.describe_auto_ml_job(AutoMLJobName=job)["AutoMLJobStatus"]) == "InProgress":
        time.sleep(0.2)
    assert status == "Completed"
    return job


def test_an_autopilot_model_with_response_keys(
    workbench: Workbench,
    session: Any,
    automl_job: str,
) -> None:
    automl = sdk.automl.automl.AutoML.attach(automl_job, sagemaker_session=session)
    assert automl.best_candidate()["CandidateStatus"] == "Completed"
    assert automl.list_candidates()

    keys = ["predicted_label", "probability", "probabilities", "labels"]
    model = automl.create_model(
        unique("sdk"),
        sagemaker_session=session,
        inference_response_keys=keys,
        predictor_cls=_csv_predictor,
    )
    predictor = _deploy(workbench, model)

    answered = predictor.predict([["90", "10"], ["5", "80"]])
    assert [row[0] for row in answered] == ["yes", "no"]
    for row in answered:
        assert len(row) == len(keys)
        assert 0 <= float(row[1]) <= 1
        assert "yes" in row[3]
    predictor.delete_endpoint()


def test_an_autopilot_model_transforms(workbench: Workbench, session: Any, automl_job: str) -> None:
    workbench.s3.put_object(Bucket=workbench.bucket, Key="in/a.csv", Body=b"90,10\n5,80\n")
    automl = sdk.automl.automl.AutoML.attach(automl_job, sagemaker_session=session)
    model = automl.create_model(unique("sdk"), sagemaker_session=session, inference_response_keys=["labels"])

    transformer = model.transformer(
        instance_count=1,
        instance_type="ml.m5.large",
        assemble_with="Line",
        output_path=f"s3://{workbench.bucket}/out",
    )
    transformer.transform(
        f"s3://{workbench.bucket}/in", content_type="text/csv", split_type="Line", wait=False
    )
    workbench.transformed(transformer.latest_transform_job.job_name)

    assert workbench.read("out/a.csv.out").count("\n") == 2


def test_the_steps_of_an_autopilot_candidate(workbench: Workbench, session: Any, automl_job: str) -> None:
    automl = sdk.automl.automl.AutoML.attach(automl_job, sagemaker_session=session)
    found = automl.list_candidates()
    assert len(found) == 2
    for candidate in found:
        steps = sdk.automl.candidate_estimator.CandidateEstimator(candidate, session).get_steps()
        assert [step.name for step in steps] == [
            step["CandidateStepName"]
            for step in candidate["CandidateSteps"]
            if not step["CandidateStepType"].endswith("ProcessingJob")
        ]
        assert {step.type for step in steps} <= {"TrainingJob", "TransformJob"}
        artefact = steps[-1].description["ModelArtifacts"]["S3ModelArtifacts"]
        assert workbench.s3.head_object(
            Bucket=workbench.bucket, Key=artefact.removeprefix(f"s3://{workbench.bucket}/")
        )["ContentLength"]


def test_the_experiment_of_an_autopilot_job_can_be_deleted(workbench: Workbench, automl_job: str) -> None:
    name = f"{automl_job}-aws-auto-ml-job"
    assert workbench.sagemaker.list_trials(ExperimentName=name)["TrialSummaries"] == []
    workbench.sagemaker.delete_experiment(ExperimentName=name)


def test_an_estimator_is_refused_instead_of_pretending(workbench: Workbench, session: Any) -> None:
    estimator = sdk.estimator.Estimator(
        IMAGE, ROLE, 1, "ml.m5.large", sagemaker_session=session, output_path=f"s3://{workbench.bucket}/out"
    )
    with pytest.raises(ClientError, match="does not run training jobs"):
        estimator.fit(wait=False)
