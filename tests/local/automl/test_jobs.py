"""AutoML jobs that really train: every mode, problem type and version of the API, and the endpoints behind them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from airflow_sm_plugin.local.account.state import Region
from airflow_sm_plugin.local.automl.jobs.request import from_v1
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import REGION, ROLE, Clients, changed_settings, unique

Record = dict[str, Any]
ALL_KEYS = "predicted_label,labels,probabilities,probability"
_HELD_OUT = 5
"""Every fifth row is kept from the job."""


@dataclass(frozen=True)
class Data:
    """A data set: what a job trains on, and what it never saw."""

    training: str
    held_out: str
    expected: list[str]


def _csv(rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _data(bunch: Mapping[str, Any], labels: Sequence[str] | None = None) -> Data:
    """Shuffle a data set, name its classes, give it a categorical column and gaps."""
    order = np.random.default_rng(0).permutation(len(bunch["target"]))
    header = [*(f"feature {column}" for column in range(bunch["data"].shape[1])), "kind", "y"]
    rows: list[list[object]] = []
    for index, row_number in enumerate(order):
        fields: list[object] = [round(value, 6) for value in bunch["data"][row_number].tolist()]
        fields[index % 3] = "" if index % 17 == 0 else fields[index % 3]
        target = bunch["target"][row_number]
        rows.append(
            [*fields, "odd" if index % 2 else "even", labels[int(target)] if labels else float(target)]
        )
    kept = [row for index, row in enumerate(rows) if index % _HELD_OUT]
    held_out = [row for index, row in enumerate(rows) if index % _HELD_OUT == 0]
    return Data(
        _csv([header, *kept]), _csv([row[:-1] for row in held_out]), [str(row[-1]) for row in held_out]
    )


DATA = {
    "binary": _data(load_breast_cancer(), ["malignant", "benign"]),
    "multiclass": _data(load_wine(), ["1", "2", "3"]),
    "regression": _data(load_diabetes()),
}
JOBS = [(kind, mode) for kind in DATA for mode in ("ENSEMBLING", "HYPERPARAMETER_TUNING")]


def job_v1(name: str, source: str, output: str, **others: object) -> Record:
    return {
        "AutoMLJobName": name,
        "InputDataConfig": [
            {
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}},
                "TargetAttributeName": "y",
            }
        ],
        "OutputDataConfig": {"S3OutputPath": output},
        "RoleArn": ROLE,
        **others,
    }


def job_v2(name: str, source: str, output: str, **tabular: object) -> Record:
    return {
        "AutoMLJobName": name,
        "AutoMLJobInputDataConfig": [
            {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": source}}}
        ],
        "OutputDataConfig": {"S3OutputPath": output},
        "RoleArn": ROLE,
        "AutoMLProblemTypeConfig": {"TabularJobConfig": {"TargetAttributeName": "y", **tabular}},
    }


def put(clients: Clients, text: str | bytes, *, name: str = "train.csv") -> str:
    """Store one object in a folder of its own, return the folder."""
    folder = unique("data")
    clients.s3.put_object(
        Bucket=clients.bucket, Key=f"{folder}/{name}", Body=text if isinstance(text, bytes) else text.encode()
    )
    return f"s3://{clients.bucket}/{folder}/"


def ended(clients: Clients, name: str) -> Record:
    """Wait for the end of a job and return its description."""
    while True:
        described = _described(clients, name)
        if described["AutoMLJobStatus"] in {"Completed", "Failed", "Stopped"}:
            return described
        time.sleep(0.2)


def run(clients: Clients, request: Record) -> Record:
    """Create a job (of whichever API) and return the description of its end."""
    create = getattr(
        clients.sagemaker,
        "create_auto_ml_job" if "InputDataConfig" in request else "create_auto_ml_job_v2",
    )
    create(**request)
    return ended(clients, request["AutoMLJobName"])


@pytest.fixture(scope="module")
def jobs(session_clients: Clients) -> dict[tuple[str, str], Record]:
    """Run a job of each mode on each problem; ensembling ones by V1 of the API, tuning ones by V2."""
    output = f"s3://{session_clients.bucket}/models"

    def one(job: tuple[str, str]) -> tuple[tuple[str, str], Record]:
        kind, mode = job
        source, name = put(session_clients, DATA[kind].training), f"{kind}-{mode[:4]}".lower()
        if mode == "ENSEMBLING":
            return job, run(session_clients, job_v1(name, source, output, AutoMLJobConfig={"Mode": mode}))
        few = {"CompletionCriteria": {"MaxCandidates": 3}}
        return job, run(session_clients, job_v2(name, source, output, Mode=mode, **few))

    with ThreadPoolExecutor(2) as pool:
        return dict(pool.map(one, JOBS))


@pytest.mark.parametrize("job", JOBS, ids="-".join)
def test_every_job_completes_with_its_problem_type_and_metric(
    jobs: dict[tuple[str, str], Record], job: tuple[str, str]
) -> None:
    described = jobs[job]
    assert (described["AutoMLJobStatus"], described["AutoMLJobSecondaryStatus"]) == ("Completed", "Completed")
    types = {"binary": "BinaryClassification", "multiclass": "MulticlassClassification"}
    metrics = {"binary": "F1", "multiclass": "Accuracy", "regression": "MSE"}
    resolved = described["ResolvedAttributes"]
    assert resolved["AutoMLProblemTypeResolvedAttributes"]["TabularResolvedAttributes"] == {
        "ProblemType": types.get(job[0], "Regression")
    }
    assert resolved["AutoMLJobObjective"] == {"MetricName": metrics[job[0]]}
    metric = described["BestCandidate"]["FinalAutoMLJobObjectiveMetric"]
    assert metric["MetricName"] == metric["StandardMetricName"] == metrics[job[0]]
    assert metric["Type"] == ("Minimize" if job[0] == "regression" else "Maximize")
    assert described["EndTime"] >= described["BestCandidate"]["EndTime"] >= described["CreationTime"]
    if job[0] != "regression":
        assert metric["Value"] > 0.9


def test_a_tuned_classification_has_three_containers_and_a_regression_two(
    jobs: dict[tuple[str, str], Record],
) -> None:
    program = {"SAGEMAKER_PROGRAM": "sagemaker_serve", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
    features = {
        "AUTOML_SPARSE_ENCODE_RECORDIO_PROTOBUF": "1",
        "AUTOML_TRANSFORM_MODE": "feature-transform",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "application/x-recordio-protobuf",
        **program,
    }
    algorithm = {"MAX_CONTENT_LENGTH": "20971520", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv"}
    for kind in ("binary", "multiclass"):
        first, second, third = jobs[kind, "HYPERPARAMETER_TUNING"]["BestCandidate"]["InferenceContainers"]
        assert first["Environment"] == features
        assert second["Environment"] == {
            **algorithm,
            "SAGEMAKER_INFERENCE_OUTPUT": "predicted_label",
            "SAGEMAKER_INFERENCE_SUPPORTED": "predicted_label,probability,probabilities",
        }
        assert third["Environment"] == {
            "AUTOML_TRANSFORM_MODE": "inverse-label-transform",
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
            "SAGEMAKER_INFERENCE_INPUT": "predicted_label",
            "SAGEMAKER_INFERENCE_OUTPUT": "predicted_label",
            "SAGEMAKER_INFERENCE_SUPPORTED": "predicted_label,probability,labels,probabilities",
            **program,
        }
        assert (first["Image"], first["ModelDataUrl"]) == (third["Image"], third["ModelDataUrl"])
        assert f".{REGION}.amazonaws.com/sagemaker-xgboost:" in second["Image"]
    two = jobs["regression", "HYPERPARAMETER_TUNING"]["BestCandidate"]["InferenceContainers"]
    assert [container["Environment"] for container in two] == [features, algorithm]


@pytest.mark.parametrize("kind", DATA)
def test_an_ensemble_has_one_container(jobs: dict[tuple[str, str], Record], kind: str) -> None:
    candidate = jobs[kind, "ENSEMBLING"]["BestCandidate"]
    (container,) = candidate["InferenceContainers"]
    assert candidate["CandidateName"] == "WeightedEnsemble-L2-FULL-t7"
    assert container["Environment"]["MODEL_NAME"] == "WeightedEnsemble_L2_FULL"
    assert container["Environment"]["SAGEMAKER_INFERENCE_OUTPUT"] == "predicted_label"
    supported = set(container["Environment"]["SAGEMAKER_INFERENCE_SUPPORTED"].split(","))
    assert supported == ({"predicted_label"} if kind == "regression" else set(ALL_KEYS.split(",")))


def test_version_one_describes_only_its_own_jobs(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    described = clients.sagemaker.describe_auto_ml_job(AutoMLJobName="binary-ense")
    assert described["InputDataConfig"][0]["TargetAttributeName"] == "y"
    assert described["AutoMLJobConfig"] == {"Mode": "ENSEMBLING"}
    assert described["ResolvedAttributes"]["ProblemType"] == "BinaryClassification"
    assert described["GenerateCandidateDefinitionsOnly"] is False
    assert described.get("ProblemType") is None
    assert (
        described["BestCandidate"]["CandidateName"]
        == jobs["binary", "ENSEMBLING"]["BestCandidate"]["CandidateName"]
    )
    by_two = jobs["binary", "ENSEMBLING"]
    assert by_two["AutoMLProblemTypeConfigName"] == "Tabular"
    assert by_two["AutoMLProblemTypeConfig"]["TabularJobConfig"]["TargetAttributeName"] == "y"
    assert "TargetAttributeName" not in by_two["AutoMLJobInputDataConfig"][0]
    with pytest.raises(clients.sagemaker.exceptions.ClientError, match="Use DescribeAutoMLJobV2"):
        clients.sagemaker.describe_auto_ml_job(AutoMLJobName="binary-hype")


def test_candidates_come_in_pages_filtered_and_sorted(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    paginator = clients.sagemaker.get_paginator("list_candidates_for_auto_ml_job")
    pages = list(paginator.paginate(AutoMLJobName="regression-ense", PaginationConfig={"PageSize": 3}))
    assert [len(page["Candidates"]) for page in pages] == [3, 3, 1]
    names = [candidate["CandidateName"] for page in pages for candidate in page["Candidates"]]
    assert [name[-3:] for name in names] == [f"-t{number}" for number in range(1, 8)]
    by_value = clients.sagemaker.list_candidates_for_auto_ml_job(
        AutoMLJobName="regression-ense", SortBy="FinalObjectiveMetricValue", StatusEquals="Completed"
    )["Candidates"]
    values = [candidate["FinalAutoMLJobObjectiveMetric"]["Value"] for candidate in by_value]
    assert values == sorted(values)
    assert (
        by_value[0]["FinalAutoMLJobObjectiveMetric"]
        == jobs["regression", "ENSEMBLING"]["BestCandidate"]["FinalAutoMLJobObjectiveMetric"]
    )
    (one,) = clients.sagemaker.list_candidates_for_auto_ml_job(
        AutoMLJobName="regression-ense", CandidateNameEquals=names[2]
    )["Candidates"]
    assert one["CandidateName"] == names[2]
    none = clients.sagemaker.list_candidates_for_auto_ml_job(
        AutoMLJobName="regression-ense", StatusEquals="Failed"
    )
    assert none["Candidates"] == []


def test_metrics_steps_and_reports_of_a_candidate(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    candidate = jobs["binary", "HYPERPARAMETER_TUNING"]["BestCandidate"]
    properties = candidate["CandidateProperties"]
    metrics = {metric["StandardMetricName"]: metric["Value"] for metric in properties["CandidateMetrics"]}
    assert metrics["F1"] == candidate["FinalAutoMLJobObjectiveMetric"]["Value"]
    assert {"Accuracy", "AUC", "BalancedAccuracy", "LogLoss", "Precision", "Recall"} < set(metrics)
    kinds = [step["CandidateStepType"].rpartition("::")[2] for step in candidate["CandidateSteps"]]
    assert kinds == ["ProcessingJob", "TrainingJob", "TransformJob", "TrainingJob"]
    assert candidate["CandidateSteps"][-1]["CandidateStepName"] == candidate["CandidateName"]
    report = properties["CandidateArtifactLocations"]["Explainability"] + "/analysis.json"
    importances = json.loads(_read(clients, report))["importances"]
    assert len(importances) == 31
    assert max(importances.values()) > 0
    artifacts = jobs["binary", "HYPERPARAMETER_TUNING"]["AutoMLJobArtifacts"]
    notebook = json.loads(_read(clients, artifacts["DataExplorationNotebookLocation"]))
    assert "classes benign, malignant" in notebook["cells"][0]["source"][1]


def _read(clients: Clients, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return clients.s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def test_jobs_are_listed_and_tagged(clients: Clients, jobs: dict[tuple[str, str], Record]) -> None:
    described = clients.sagemaker.list_auto_ml_jobs(NameContains="-hype", StatusEquals="Completed")
    names = [job["AutoMLJobName"] for job in described["AutoMLJobSummaries"]]
    assert names == ["regression-hype", "multiclass-hype", "binary-hype"]
    arn = jobs["binary", "ENSEMBLING"]["AutoMLJobArn"]
    clients.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "a"}])
    assert clients.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "a"}]


def _deploy(clients: Clients, containers: Sequence[Record]) -> str:
    name, config, endpoint = unique("model"), unique("config"), unique("endpoint")
    clients.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        Containers=containers,  # type: ignore[arg-type] # plain dicts
    )
    clients.create_config(name, name=config)
    clients.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    clients.wait_for_endpoint(endpoint)
    return endpoint


def _invoke(clients: Clients, endpoint: str, body: str, accept: str = "text/csv") -> str:
    answer = clients.runtime.invoke_endpoint(
        EndpointName=endpoint, ContentType="text/csv", Accept=accept, Body=body.encode()
    )
    return answer["Body"].read().decode()


def _selecting(containers: Sequence[Record]) -> list[Record]:
    """Return the containers as key selection leaves them for all four keys, in the order of the facts."""
    changed = cast("list[Record]", json.loads(json.dumps(containers)))
    changed[-1]["Environment"]["SAGEMAKER_INFERENCE_OUTPUT"] = ALL_KEYS
    if len(changed) == 3:
        between = "predicted_label,probabilities,probability"
        changed[1]["Environment"]["SAGEMAKER_INFERENCE_OUTPUT"] = between
        changed[2]["Environment"]["SAGEMAKER_INFERENCE_INPUT"] = between
    return changed


def test_a_tuned_binary_model_answers_all_four_keys_for_rows_it_never_saw(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    containers = jobs["binary", "HYPERPARAMETER_TUNING"]["BestCandidate"]["InferenceContainers"]
    endpoint = _deploy(clients, _selecting(containers))
    rows = list(csv.reader(io.StringIO(_invoke(clients, endpoint, DATA["binary"].held_out))))
    _expect(rows, ["benign", "malignant"], DATA["binary"].expected)
    for row in rows:  # `benign` comes first, so `malignant` is the True class
        assert float(row[3]) == json.loads(row[2])[1]
    as_json = json.loads(_invoke(clients, endpoint, _first_line("binary"), "application/json"))
    (prediction,) = as_json["predictions"]
    assert list(prediction) == ALL_KEYS.split(",")
    assert prediction["predicted_label"] == rows[0][0]


def _first_line(kind: str) -> str:
    return DATA[kind].held_out.splitlines()[0] + "\n"


def _expect(rows: Sequence[Sequence[str]], labels: list[str], expected: Sequence[str]) -> None:
    right = sum(row[0] == label for row, label in zip(rows, expected, strict=True))
    assert right / len(expected) >= 0.9
    for row in rows:
        assert row[1] == str(labels)
        probabilities = json.loads(row[2])
        assert sum(probabilities) == pytest.approx(1.0)
        assert row[0] == labels[probabilities.index(max(probabilities))]


def test_an_ensemble_answers_all_four_keys_for_rows_it_never_saw(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    containers = jobs["multiclass", "ENSEMBLING"]["BestCandidate"]["InferenceContainers"]
    endpoint = _deploy(clients, _selecting(containers))
    rows = list(csv.reader(io.StringIO(_invoke(clients, endpoint, DATA["multiclass"].held_out))))
    _expect(rows, ["1", "2", "3"], DATA["multiclass"].expected)
    assert all(float(row[3]) == max(json.loads(row[2])) for row in rows)
    lines = _invoke(clients, endpoint, _first_line("multiclass"), "application/jsonlines")
    assert json.loads(lines)["labels"] == ["1", "2", "3"]


def test_keys_asked_of_the_last_container_alone_are_nan(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    wired = json.loads(
        json.dumps(jobs["multiclass", "HYPERPARAMETER_TUNING"]["BestCandidate"]["InferenceContainers"])
    )
    wired[2]["Environment"]["SAGEMAKER_INFERENCE_OUTPUT"] = "predicted_label,probability"
    endpoint = _deploy(clients, wired)
    rows = list(csv.reader(io.StringIO(_invoke(clients, endpoint, DATA["multiclass"].held_out))))
    assert {row[1] for row in rows} == {"nan"}
    right = sum(row[0] == label for row, label in zip(rows, DATA["multiclass"].expected, strict=True))
    assert right / len(rows) >= 0.9


def test_a_tuned_regression_answers_values_better_than_the_mean(
    clients: Clients, jobs: dict[tuple[str, str], Record]
) -> None:
    endpoint = _deploy(
        clients, jobs["regression", "HYPERPARAMETER_TUNING"]["BestCandidate"]["InferenceContainers"]
    )
    values = np.array(
        [float(line) for line in _invoke(clients, endpoint, DATA["regression"].held_out).split()]
    )
    truth = np.array([float(value) for value in DATA["regression"].expected])
    assert np.mean((values - truth) ** 2) < 0.75 * np.var(truth)
    with pytest.raises(clients.runtime.exceptions.ModelError) as refused:
        _invoke(clients, endpoint, "1,2\n")
    assert refused.value.response["OriginalStatusCode"] == 400  # type: ignore[typeddict-item] # ModelError's own
    assert "the model was trained on 11" in refused.value.response["OriginalMessage"]  # type: ignore[typeddict-item] # as above


def test_an_archive_runs_without_this_package(
    clients: Clients, jobs: dict[tuple[str, str], Record], tmp_path: Path
) -> None:
    (container,) = jobs["regression", "ENSEMBLING"]["BestCandidate"]["InferenceContainers"]
    with tarfile.open(fileobj=io.BytesIO(_read(clients, container["ModelDataUrl"]))) as archive:
        archive.extractall(tmp_path, filter="data")
    script = (
        "import sys; sys.modules['airflow_sm_plugin'] = None; sys.path.insert(0, sys.argv[1] + '/code'); "
        "import inference as i; model = i.model_fn(sys.argv[1]); "
        "print(i.output_fn(i.predict_fn(i.input_fn(sys.stdin.read(), 'text/csv'), model), None)[0].decode())"
    )
    answered = subprocess.run(
        [sys.executable, "-I", "-c", script, str(tmp_path)],
        input=_first_line("regression"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert math.isfinite(float(answered.stdout))


@pytest.fixture
def tiny() -> str:
    """Return thirty rows that are learned in no time."""
    return "x,y\n" + "".join(f"{number},{'high' if number > 14 else 'low'}\n" for number in range(30))


@pytest.fixture
def never_trained() -> str:
    """Return thirty rows that no job has trained on, so that a process really trains."""
    salt = uuid.uuid4().int % 1_000_000
    return "x,salt,y\n" + "".join(
        f"{number},{salt},{'high' if number > 14 else 'low'}\n" for number in range(30)
    )


def _tiny_job(clients: Clients, text: str | bytes, **others: object) -> Record:
    config = {"CompletionCriteria": {"MaxCandidates": 1}}
    request = job_v1(unique("j"), put(clients, text), f"s3://{clients.bucket}/models", AutoMLJobConfig=config)
    return request | others


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x,z\n1,2\n" * 30, "The target column 'y' was not found; the columns are x, z"),
        ("x,y\n1,a\n2,b\n", "has 2 rows with a value for 'y'; at least 20 are required"),
        ("x,y\n" + "1,a\n1,b,3\n" * 20, "00000-train.csv row 3 has 3 columns; its header has 2"),
    ],
)
def test_bad_data_fails_the_job_and_says_why(clients: Clients, text: str | bytes, reason: str) -> None:
    described = run(clients, _tiny_job(clients, text))
    assert (described["AutoMLJobStatus"], described["AutoMLJobSecondaryStatus"]) == ("Failed", "Failed")
    assert reason in described["FailureReason"]
    assert "BestCandidate" not in described


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("s3://{bucket}/nothing-here/", "No object was found at the S3 location s3://"),
        ("s3://there-is-no-such-bucket/", "NoSuchBucket"),
    ],
)
def test_missing_input_fails_the_job(clients: Clients, source: str, reason: str) -> None:
    described = run(clients, job_v1(unique("j"), source.format(bucket=clients.bucket), "s3://out/x"))
    assert described["AutoMLJobStatus"] == "Failed"
    assert reason in described["FailureReason"]


def test_a_missing_output_bucket_fails_the_job(clients: Clients, tiny: str) -> None:
    described = run(clients, job_v1(unique("j"), put(clients, tiny), "s3://there-is-no-such-bucket/x"))
    assert described["AutoMLJobStatus"] == "Failed"
    assert "NoSuchBucket" in described["FailureReason"]


def test_manifest_gzip_and_validation_channel_are_read(clients: Clients, tiny: str) -> None:
    folder = put(clients, gzip.compress(tiny.encode()), name="part-1.csv.gz")
    prefix = folder.removeprefix(f"s3://{clients.bucket}/")
    clients.s3.put_object(
        Bucket=clients.bucket,
        Key=f"{prefix}list",
        Body=json.dumps([{"prefix": folder}, "part-1.csv.gz"]).encode(),
    )
    request = _tiny_job(clients, tiny)
    training = {
        "DataSource": {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": f"{folder}list"}},
        "CompressionType": "Gzip",
        "TargetAttributeName": "y",
    }
    validation = {**request["InputDataConfig"][0], "ChannelType": "validation"}
    described = run(clients, request | {"InputDataConfig": [training, validation]})
    assert described["AutoMLJobStatus"] == "Completed"
    assert described["BestCandidate"]["FinalAutoMLJobObjectiveMetric"]["Value"] == 1.0


def test_objective_algorithms_and_weights_are_honoured(clients: Clients) -> None:
    text = "x,w,y\n" + "".join(f"{number},{number % 3},{number * 2.5}\n" for number in range(40))
    request = job_v2(
        unique("j"),
        put(clients, text),
        f"s3://{clients.bucket}/models",
        Mode="HYPERPARAMETER_TUNING",
        ProblemType="Regression",
        SampleWeightAttributeName="w",
        CandidateGenerationConfig={"AlgorithmsConfig": [{"AutoMLAlgorithms": ["linear-learner"]}]},
    )
    described = run(clients, request | {"AutoMLJobObjective": {"MetricName": "R2"}})
    metric = described["BestCandidate"]["FinalAutoMLJobObjectiveMetric"]
    assert (metric["MetricName"], metric["Type"]) == ("R2", "Maximize")
    assert metric["Value"] > 0.99
    listed = clients.sagemaker.list_candidates_for_auto_ml_job(AutoMLJobName=request["AutoMLJobName"])
    assert len(listed["Candidates"]) == 2


def test_markers_beside_the_data_are_passed_over(clients: Clients, tiny: str) -> None:
    folder = put(clients, tiny, name="part-0.csv").removeprefix(f"s3://{clients.bucket}/")
    for name in ("_SUCCESS", ".part-0.csv.crc", "_temporary/0/part-0.csv", ".DS_Store"):
        clients.s3.put_object(Bucket=clients.bucket, Key=f"{folder}{name}", Body=b"")
    request = job_v1(
        unique("j"),
        f"s3://{clients.bucket}/{folder}",
        f"s3://{clients.bucket}/models",
        GenerateCandidateDefinitionsOnly=True,
    )
    assert run(clients, request)["AutoMLJobStatus"] == "Completed"


@pytest.mark.parametrize("manifest", ["nonsense", "[]", '["train.csv"]', '[{"prefix": "nowhere"}, "a"]'])
def test_a_manifest_that_is_none_fails_the_job(clients: Clients, manifest: str) -> None:
    uri = f"{put(clients, manifest, name='list')}list"
    request = job_v1(unique("j"), uri, f"s3://{clients.bucket}/models")
    request["InputDataConfig"][0]["DataSource"]["S3DataSource"]["S3DataType"] = "ManifestFile"
    described = run(clients, request)
    assert described["AutoMLJobStatus"] == "Failed"
    assert f"The manifest file {uri} cannot be read: " in described["FailureReason"]


def test_definitions_only_trains_nothing(clients: Clients, tiny: str) -> None:
    described = run(clients, _tiny_job(clients, tiny, GenerateCandidateDefinitionsOnly=True))
    assert described["AutoMLJobStatus"] == "Completed"
    assert described["AutoMLJobSecondaryStatus"] == "CandidateDefinitionsGenerated"
    assert "BestCandidate" not in described
    assert described["AutoMLJobArtifacts"]["CandidateDefinitionNotebookLocation"].startswith("s3://")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """A semaphore that a job waits for before each further phase, unless it is stopped, instead of for time to pass."""
    permitted = threading.Semaphore(0)
    wait = Region.wait

    def stepwise(region: Region, seconds: Callable[[], float], *, since: float | None = None) -> None:
        if not threading.current_thread().name.startswith("automl-"):
            wait(region, seconds, since=since)
            return
        while seconds() > 0 and not permitted.acquire(timeout=0.02):
            continue

    monkeypatch.setattr(Region, "wait", stepwise)
    return permitted


def test_a_running_job_goes_through_its_phases_and_can_be_stopped(
    clients: Clients, never_trained: str, steps: threading.Semaphore
) -> None:
    request = _tiny_job(clients, never_trained)
    name = request["AutoMLJobName"]
    clients.sagemaker.create_auto_ml_job(**request)
    for before, after in pairwise(["Starting", "AnalyzingData", "PreTraining", "TrainingModels"]):
        assert _described(clients, name)["AutoMLJobSecondaryStatus"] == before
        steps.release()
        while (seen := _described(clients, name)["AutoMLJobSecondaryStatus"]) == before:
            time.sleep(0.02)
        assert seen == after
    clients.sagemaker.stop_auto_ml_job(AutoMLJobName=name)
    stopped = ended(clients, name)
    assert (stopped["AutoMLJobStatus"], stopped["AutoMLJobSecondaryStatus"]) == ("Stopped", "Stopped")
    clients.sagemaker.stop_auto_ml_job(AutoMLJobName=name)  # has ended: nothing happens
    assert ended(clients, name)["AutoMLJobStatus"] == "Stopped"


def test_the_best_candidate_shows_while_the_job_still_runs(
    clients: Clients, never_trained: str, steps: threading.Semaphore
) -> None:
    steps.release(3)  # to where models are trained, and no further
    request = _tiny_job(clients, never_trained)
    name = request["AutoMLJobName"]
    clients.sagemaker.create_auto_ml_job(**request)
    try:
        while "BestCandidate" not in (described := _described(clients, name)):
            assert described["AutoMLJobStatus"] == "InProgress"
            time.sleep(0.02)
    finally:
        clients.sagemaker.stop_auto_ml_job(AutoMLJobName=name)
    assert described["AutoMLJobStatus"] == "InProgress"
    assert described["BestCandidate"]["CandidateStatus"] == "Completed"
    assert "BestCandidate" in ended(clients, name)


def _described(clients: Clients, name: str) -> Record:
    return cast("Record", clients.sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name))


def test_the_runtime_limit_ends_a_job(
    clients: Clients, tiny: str, sagemaker_server: EmbeddedSageMaker
) -> None:
    criteria = {"CompletionCriteria": {"MaxAutoMLJobRuntimeInSeconds": 1}}
    with changed_settings(sagemaker_server, automl_seconds=36_000):
        described = run(clients, _tiny_job(clients, tiny, AutoMLJobConfig=criteria))
    assert described["AutoMLJobStatus"] == "Failed"
    assert described["AutoMLJobSecondaryStatus"] == "MaxAutoMLJobRuntimeReached"
    assert "before any candidate was ready" in described["FailureReason"]


def test_the_best_candidate_is_deployed_when_asked(clients: Clients, tiny: str) -> None:
    endpoint = unique("auto")
    described = run(clients, _tiny_job(clients, tiny, ModelDeployConfig={"EndpointName": endpoint}))
    assert described["ModelDeployResult"] == {"EndpointName": endpoint}
    assert _invoke(clients, endpoint, "3\n27\n") == "low\nhigh\n"


def test_unknown_and_taken_names(clients: Clients, tiny: str) -> None:
    exceptions = clients.sagemaker.exceptions
    for call in ("describe_auto_ml_job", "describe_auto_ml_job_v2", "stop_auto_ml_job"):
        with pytest.raises(exceptions.ResourceNotFound, match="can't find an AutoML job called missing"):
            getattr(clients.sagemaker, call)(AutoMLJobName="missing")
    with pytest.raises(exceptions.ResourceNotFound):
        clients.sagemaker.list_candidates_for_auto_ml_job(AutoMLJobName="missing")
    request = _tiny_job(clients, tiny)
    run(clients, request)
    with pytest.raises(exceptions.ResourceInUse, match=request["AutoMLJobName"]):
        clients.sagemaker.create_auto_ml_job(**request)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"ProblemType": "Regression"}, "both ProblemType and AutoMLJobObjective"),
        ({"AutoMLJobObjective": {"MetricName": "F1"}}, "both ProblemType and AutoMLJobObjective"),
        (
            {"ProblemType": "Regression", "AutoMLJobObjective": {"MetricName": "F1"}},
            "F1 is not supported for problem type Regression. Supported: MSE, MAE, R2, RMSE",
        ),
        ({"ModelDeployConfig": {"AutoGenerateEndpointName": False}}, "EndpointName if and only if"),
        ({"AutoMLJobConfig": {"DataSplitConfig": {"ValidationFraction": 1.0}}}, "less than 1"),
        ({"AutoMLJobName": "n" * 33}, "length less than or equal to 32"),
    ],
)
def test_requests_that_are_refused(clients: Clients, others: Record, message: str) -> None:
    request = job_v1("refused", "s3://in/x", "s3://out/x") | others
    with pytest.raises(clients.sagemaker.exceptions.ClientError, match=message) as refused:
        clients.sagemaker.create_auto_ml_job(**request)
    assert refused.value.response["Error"]["Code"] == "ValidationException"


def test_other_problem_types_are_refused(clients: Clients) -> None:
    request = job_v2("refused", "s3://in/x", "s3://out/x")
    request["AutoMLProblemTypeConfig"] = {"ImageClassificationJobConfig": {}}
    with pytest.raises(clients.sagemaker.exceptions.ClientError, match="tabular jobs only"):
        clients.sagemaker.create_auto_ml_job_v2(**request)


def test_a_job_without_a_mode_chooses_by_size() -> None:
    assert from_v1(job_v1("job", "s3://in/x", "s3://out/x/")).mode == "AUTO"


def test_the_training_process_ends_with_its_server(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text("{}")
    process = subprocess.Popen(
        [sys.executable, "-m", "airflow_sm_plugin.local.automl.training.worker", str(plan)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.communicate(timeout=600)
    assert process.returncode == 1
