"""Transform jobs over HTTP: what they store, how they fail, how they stop."""

from __future__ import annotations

import gzip
import json
import threading
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from airflow_sm_plugin.core.names import TRANSFORM_JOBS_LOG_GROUP
from airflow_sm_plugin.local.transform.transform_job import ALGORITHM_ERROR, CLIENT_ERROR, NO_PING

if TYPE_CHECKING:
    from tests.local.conftest import Clients

TELLTALE = """
import json, os, pathlib, time

def model_fn(model_dir):
    print("loading")
    return None

def transform_fn(model, data, content_type, accept):
    text = data if isinstance(data, str) else data.decode()
    if "client-error" in text:
        raise BadRequest("no such thing")
    if "server-error" in text:
        raise ValueError("broken")
    if "once" in text and not pathlib.Path("once").exists():
        pathlib.Path("once").touch()
        raise ValueError("broken, this time")
    if text.startswith("wait "):
        gate = pathlib.Path(text.strip().removeprefix("wait "))
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            time.sleep(0.01)
    if "environment" in text:
        return json.dumps({key: value for key, value in os.environ.items() if key.isupper()}), "application/json"
    lines = text.splitlines()
    return "\\n".join(f"{len(lines)}:{line.upper()}" for line in lines), accept

class BadRequest(Exception):
    status_code = 400
"""
"""Answers each line in capitals behind the number of lines it came with; fails on demand."""


@pytest.fixture(scope="module")
def model(session_clients: Clients) -> str:
    return session_clients.create_model(TELLTALE, environment={"OWN": "model", "BOTH": "model"})


class Job:
    """A transform job with an input and an output folder of its own."""

    def __init__(self, clients: Clients, model: str) -> None:
        self._clients = clients
        self._model = model
        self.name = f"job-{uuid.uuid4().hex[:12]}"

    def create(
        self,
        files: Mapping[str, str | bytes],
        *,
        source: Mapping[str, object] | None = None,
        transform_input: Mapping[str, object] | None = None,
        output: Mapping[str, object] | None = None,
        **others: object,
    ) -> None:
        """Upload the input and create the job; the arguments go into the request's parts."""
        bucket = self._clients.bucket
        for name, content in files.items():
            self._clients.s3.put_object(Bucket=bucket, Key=f"{self.name}/in/{name}", Body=content)
        request: dict[str, Any] = {
            "TransformJobName": self.name,
            "ModelName": self._model,
            "TransformInput": {
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": f"s3://{bucket}/{self.name}/in/",
                        **(source or {}),
                    }
                },
                "ContentType": "text/csv",
                **(transform_input or {}),
            },
            "TransformOutput": {
                "S3OutputPath": f"s3://{bucket}/{self.name}/out",
                "Accept": "text/csv",
                **(output or {}),
            },
            "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
            "ModelClientConfig": {"InvocationsMaxRetries": 0},
            **others,
        }
        self._clients.sagemaker.create_transform_job(**request)

    def describe(self) -> Any:  # noqa: ANN401 - boto3's answer
        """Describe the job."""
        return self._clients.sagemaker.describe_transform_job(TransformJobName=self.name)

    def finished(self) -> Any:  # noqa: ANN401 - boto3's answer
        """Wait for the end and return the last description."""
        while (description := self.describe())["TransformJobStatus"] in {"InProgress", "Stopping"}:
            threading.Event().wait(0.02)
        return description

    def outputs(self) -> dict[str, str]:
        """Return every output object by its name below the output path."""
        prefix = f"{self.name}/out/"
        listed = self._clients.s3.list_objects_v2(Bucket=self._clients.bucket, Prefix=prefix)
        return {
            item["Key"].removeprefix(prefix): self._clients.s3.get_object(
                Bucket=self._clients.bucket, Key=item["Key"]
            )["Body"]
            .read()
            .decode()
            for item in listed.get("Contents", [])
        }

    def log_lines(self) -> dict[str, list[str]]:
        """Return what the job's log streams hold, by their last part."""
        logs = self._clients.logs
        streams = logs.describe_log_streams(
            logGroupName=TRANSFORM_JOBS_LOG_GROUP, logStreamNamePrefix=f"{self.name}/"
        )
        return {
            stream["logStreamName"].rpartition("/")[2]: [
                event["message"]
                for event in logs.get_log_events(
                    logGroupName=TRANSFORM_JOBS_LOG_GROUP, logStreamName=stream["logStreamName"]
                )["events"]
            ]
            for stream in streams["logStreams"]
        }


@pytest.fixture
def job(clients: Clients, model: str) -> Job:
    return Job(clients, model)


_LINES: dict[str, Any] = {"transform_input": {"SplitType": "Line"}, "output": {"AssembleWith": "Line"}}


# --- what is stored


def test_every_object_below_the_prefix_has_an_output_of_its_name(job: Job) -> None:
    job.create({"a.csv": "x\ny\n", "deep/b.csv": "z", "folder/": b""}, **_LINES)

    description = job.finished()

    assert description["TransformJobStatus"] == "Completed"
    assert description["CreationTime"] <= description["TransformStartTime"] <= description["TransformEndTime"]
    assert job.outputs() == {"a.csv.out": "2:X\n2:Y\n", "deep/b.csv.out": "1:Z\n"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, "2:X\n2:Y"),
        (_LINES, "2:X\n2:Y\n"),
        ({**_LINES, "BatchStrategy": "SingleRecord"}, "1:X\n1:Y\n"),
        ({"transform_input": {"SplitType": "Line"}, "BatchStrategy": "SingleRecord"}, "1:X1:Y"),
        ({**_LINES, "BatchStrategy": "MultiRecord", "MaxConcurrentTransforms": 3}, "2:X\n2:Y\n"),
    ],
)
def test_input_is_split_and_batched_as_asked(job: Job, arguments: dict[str, Any], expected: str) -> None:
    job.create({"a.csv": "x\ny\n"}, **arguments)

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.csv.out": expected}


def test_batches_fill_the_payload_and_keep_the_order(job: Job) -> None:
    lines = [f"{number:0>99}" for number in range(20_000)]

    job.create(
        {"a.csv": "".join(f"{line}\n" for line in lines)},
        **_LINES,
        MaxPayloadInMB=1,
        MaxConcurrentTransforms=4,
    )

    assert job.finished()["TransformJobStatus"] == "Completed"
    answered = [line.partition(":") for line in job.outputs()["a.csv.out"].splitlines()]
    assert [line for _, _, line in answered] == lines
    assert {int(count) for count, _, _ in answered} == {10_485, 9_515}


def test_gzip_input_is_unpacked(job: Job) -> None:
    job.create({"a.csv.gz": gzip.compress(b"x\n")}, transform_input={"CompressionType": "Gzip"})

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.csv.gz.out": "1:X"}


def test_a_manifest_names_the_objects(job: Job, clients: Clients) -> None:
    prefix = f"s3://{clients.bucket}/{job.name}/in/"
    manifest = json.dumps([{"prefix": prefix}, "a.csv", "deep/b.csv"])

    job.create(
        {"a.csv": "a", "deep/b.csv": "b", "c.csv": "c", "manifest.json": manifest},
        source={"S3DataType": "ManifestFile", "S3Uri": f"{prefix}manifest.json"},
    )

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.csv.out": "1:A", "deep/b.csv.out": "1:B"}


@pytest.mark.parametrize(("slash", "behind"), [("/", ""), ("", "/")])
def test_markers_are_no_objects_to_transform(
    job: Job, clients: Clients, model: str, slash: str, behind: str
) -> None:
    """The service's own treatment of markers is not proven; an object that a manifest lists is transformed."""
    files: dict[str, str | bytes] = {"a.csv": "a", "_b=1.csv": "b", "in-c.csv": "c"}
    markers = dict.fromkeys(("_SUCCESS", ".a.csv.crc", "_temporary/a.csv", "x_$folder$", ".DS_Store"), b"")
    prefix = f"s3://{clients.bucket}/{job.name}/in"
    manifest = json.dumps([{"prefix": f"{prefix}{slash}"}, f"{behind}a.csv", f"{behind}_temporary/a.csv"])

    job.create(
        {**files, **markers, "_temporary/a.csv": "t"},
        source={"S3DataType": "S3Prefix", "S3Uri": f"{prefix}{slash}"},
    )

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.csv.out": "1:A", "_b=1.csv.out": "1:B", "in-c.csv.out": "1:C"}

    other = Job(clients, model)
    other.create(
        {"m.json": manifest},
        source={"S3DataType": "ManifestFile", "S3Uri": f"s3://{clients.bucket}/{other.name}/in/m.json"},
    )
    assert other.finished()["TransformJobStatus"] == "Completed"
    assert other.outputs() == {"a.csv.out": "1:A", "_temporary/a.csv.out": "1:T"}


def test_predictions_are_joined_with_their_input(job: Job) -> None:
    job.create(
        {"a.csv": "id1,x\nid2,y\n"},
        **_LINES,
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.csv.out": "id1,2:X\nid2,2:Y\n"}


def test_the_jobs_environment_is_added_to_the_models(job: Job) -> None:
    job.create({"a": "environment"}, Environment={"BOTH": "job", "MORE": "job"}, MaxPayloadInMB=2)

    assert job.finished()["TransformJobStatus"] == "Completed"
    environment = json.loads(job.outputs()["a.out"])
    expected = {
        "OWN": "model",
        "BOTH": "job",
        "MORE": "job",
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "2",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "1",
    }
    assert {key: environment.get(key) for key in expected} == expected


def test_describe_answers_what_was_asked(job: Job) -> None:
    job.create({"a": "x"}, MaxPayloadInMB=1, BatchStrategy="MultiRecord", Tags=[{"Key": "k", "Value": "v"}])

    description = job.finished()
    assert description["TransformJobArn"].endswith(f":transform-job/{job.name}")
    assert description["MaxPayloadInMB"] == 1
    assert description["BatchStrategy"] == "MultiRecord"
    assert description["TransformResources"] == {"InstanceType": "ml.m5.large", "InstanceCount": 1}
    assert "FailureReason" not in description
    assert "Tags" not in description


def test_tags_are_kept(job: Job, clients: Clients) -> None:
    job.create({"a": "x"}, Tags=[{"Key": "k", "Value": "v"}])

    arn = job.finished()["TransformJobArn"]
    assert clients.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def test_several_instances_share_the_work(job: Job) -> None:
    job.create(
        {f"{number}.csv": "x" for number in range(4)},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert set(job.outputs().values()) == {"1:X"}
    assert len(job.outputs()) == 4


# --- failures


@pytest.mark.parametrize(
    ("bad", "reason", "logged"),
    [
        ("client-error", CLIENT_ERROR, "ClientError: 400"),
        ("server-error", ALGORITHM_ERROR, "Bad HTTP status received from algorithm: 500"),
    ],
)
def test_a_bad_object_fails_the_job_and_has_no_output_while_others_have(
    job: Job, clients: Clients, bad: str, reason: str, logged: str
) -> None:
    job.create({"good.csv": "x", "bad.csv": bad})

    description = job.finished()

    assert description["TransformJobStatus"] == "Failed"
    assert description["FailureReason"] == reason
    assert job.outputs() == {"good.csv.out": "1:X"}
    log_text = "\n".join(job.log_lines()["data-log"])
    assert f"[sagemaker logs]: {clients.bucket}/{job.name}/in/bad.csv: {logged}" in log_text
    assert "good.csv" not in log_text


def test_a_request_that_fails_once_is_sent_again(job: Job) -> None:
    job.create({"a": "once"}, ModelClientConfig={"InvocationsMaxRetries": 1})

    assert job.finished()["TransformJobStatus"] == "Completed"
    assert job.outputs() == {"a.out": "1:ONCE"}


def test_a_model_that_does_not_answer_in_time_fails_the_job(job: Job, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job.create(
        {"a": f"wait {gate}"},
        ModelClientConfig={"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0},
    )

    assert job.finished()["FailureReason"] == ALGORITHM_ERROR
    assert "Unable to get response from algorithm" in "\n".join(job.log_lines()["data-log"])


@pytest.mark.parametrize(
    ("files", "arguments", "logged"),
    [
        ({"a": "x" * 1_048_577}, {"MaxPayloadInMB": 1}, "exceeds MaxPayloadInMB=1"),
        ({"a": "plain"}, {"transform_input": {"CompressionType": "Gzip"}}, "gzip"),
        ({"a": "no frame"}, {"transform_input": {"SplitType": "RecordIO"}}, "RecordIO"),
        ({"a": "x,y"}, {"DataProcessing": {"InputFilter": "$[7]"}}, "Index 7"),
    ],
)
def test_input_that_cannot_be_read_is_the_clients_error(
    job: Job, files: dict[str, str], arguments: dict[str, Any], logged: str
) -> None:
    job.create(files, **arguments)

    assert job.finished()["FailureReason"] == CLIENT_ERROR
    assert logged in "\n".join(job.log_lines()["data-log"])


def test_a_manifest_that_is_none_fails_the_job(job: Job, clients: Clients) -> None:
    uri = f"s3://{clients.bucket}/{job.name}/in/manifest"

    job.create({"manifest": "not json"}, source={"S3DataType": "ManifestFile", "S3Uri": uri})

    assert "manifest" in job.finished()["FailureReason"]


def test_a_container_that_does_not_come_up_fails_the_job(clients: Clients) -> None:
    job = Job(clients, clients.create_model("raise SystemExit('no')"))
    job.create({"a": "x"})

    assert job.finished()["FailureReason"] == NO_PING
    assert job.outputs() == {}


def test_a_model_without_its_archive_fails_the_job(clients: Clients) -> None:
    model = f"gone-{uuid.uuid4().hex[:12]}"
    key = "nowhere/model.tar.gz"
    container: Any = {"Image": "image:1", "ModelDataUrl": clients.upload_archive({}, key=key)}
    clients.sagemaker.create_model(
        ModelName=model, ExecutionRoleArn="arn:aws:iam::123456789012:role/r", PrimaryContainer=container
    )
    clients.s3.delete_object(Bucket=clients.bucket, Key=key)
    job = Job(clients, model)
    job.create({"a": "x"})

    assert "nowhere/model.tar.gz" in job.finished()["FailureReason"]


def test_the_containers_output_is_logged(job: Job) -> None:
    job.create({"a": "x"})

    job.finished()

    lines = job.log_lines()
    assert any("loading" in line for stream in lines if stream != "data-log" for line in lines[stream])
    assert lines["data-log"][0].endswith(
        "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD"
    )


# --- refusals


def _refused(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call()
    error = refused.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"MaxPayloadInMB": 101}, "cannot exceed 100 MB"),
        ({"MaxPayloadInMB": 26, "MaxConcurrentTransforms": 4}, "cannot exceed 100 MB"),
        ({"DataProcessing": {"InputFilter": "$..x"}}, "Unsupported JSONPath"),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "transform_input": {"ContentType": "image/png"}},
            "needs ContentType",
        ),
        (
            {"DataProcessing": {"JoinSource": "Input"}, "output": {"Accept": "application/json"}},
            "Accept application/json",
        ),
        ({"source": {"S3DataType": "AugmentedManifestFile"}}, "AugmentedManifestFile is not supported"),
        ({"ModelName": "nowhere"}, 'Could not find model "arn:aws:sagemaker:us-east-1'),
        ({"BatchStrategy": "Some"}, "enum value set"),
    ],
)
def test_a_bad_request_is_refused_and_leaves_no_job(job: Job, arguments: dict[str, Any], text: str) -> None:
    code, message = _refused(lambda: job.create({"a": "x"}, **arguments))

    assert code == "ValidationException"
    assert text in message
    assert _refused(job.describe) == (
        "ValidationException",
        f"Could not find requested job with name: {job.name}",
    )


@pytest.mark.parametrize("uri", ["s3://{bucket}/nothing-here/", "s3://no-such-bucket/in"])
def test_a_prefix_without_objects_is_refused(job: Job, clients: Clients, uri: str) -> None:
    uri = uri.format(bucket=clients.bucket)

    code, message = _refused(lambda: job.create({}, source={"S3Uri": uri}))

    assert code == "ValidationException"
    assert f'No S3 objects found under S3 URL "{uri}" given in input data source.' in message


def test_a_job_name_can_be_used_once(job: Job) -> None:
    job.create({"a": "x"})

    code, message = _refused(lambda: job.create({"a": "x"}))

    assert code == "ResourceInUse"
    assert "Job name must be unique within an AWS account and region" in message
    job.finished()


# --- stopping and listing


def test_a_running_job_stops_and_keeps_what_is_written(job: Job, clients: Clients, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job.create({"1.csv": "x", "2.csv": f"wait {gate}", "3.csv": "y"})
    while not gate.with_suffix(".reached").exists():
        threading.Event().wait(0.01)

    clients.sagemaker.stop_transform_job(TransformJobName=job.name)

    assert job.describe()["TransformJobStatus"] in {"Stopping", "Stopped"}
    assert job.finished()["TransformJobStatus"] == "Stopped"
    assert job.outputs() == {"1.csv.out": "1:X"}


def test_only_a_running_job_can_be_stopped(job: Job, clients: Clients) -> None:
    job.create({"a": "x"})
    job.finished()

    assert _refused(lambda: clients.sagemaker.stop_transform_job(TransformJobName=job.name)) == (
        "ValidationException",
        "The request was rejected because the transform job is in status Completed",
    )
    assert _refused(lambda: clients.sagemaker.stop_transform_job(TransformJobName="nowhere")) == (
        "ValidationException",
        "Could not find job to update with name: nowhere",
    )


def test_jobs_are_listed_by_name_status_and_page(clients: Clients, model: str) -> None:
    good, bad = Job(clients, model), Job(clients, model)
    good.create({"a": "x"})
    bad.create({"a": "server-error"})
    good.finished()
    bad.finished()

    def listed(**arguments: Any) -> list[str]:  # noqa: ANN401 - boto3's arguments
        pages = clients.sagemaker.get_paginator("list_transform_jobs").paginate(
            SortBy="CreationTime", SortOrder="Ascending", **arguments
        )
        names = {good.name, bad.name}
        summaries = [summary for page in pages for summary in page["TransformJobSummaries"]]
        return [name for summary in summaries if (name := summary["TransformJobName"]) in names]

    assert listed() == [good.name, bad.name]
    assert listed(MaxResults=1) == [good.name, bad.name]
    assert listed(StatusEquals="Failed") == [bad.name]
    assert listed(NameContains=good.name.upper()) == [good.name]
