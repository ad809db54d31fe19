"""Data capture: what endpoints and transform jobs write for Model Monitor."""

from __future__ import annotations

import base64
import datetime
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_sm_plugin.links import captured_data
from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.containers.containers import ContainerInput, ContainerReply
from airflow_sm_plugin.local.endpoints.data_capture import CaptureConfig, captured
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from airflow_sm_plugin.local.transform.data_processing import (
    ProcessingFailed,
    output_format,
    with_inference_ids,
)
from airflow_sm_plugin.local.transform.transform_job import manifests
from tests.local.conftest import Clients, clients_of, unique

MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_000, datetime.UTC)
KEY = re.compile(r"/AllTraffic/(\d{4}/\d\d/\d\d/\d\d)/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl")


def config(*modes: str, **others: object) -> dict[str, Any]:
    return {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://bucket/captured",
        "CaptureOptions": [{"CaptureMode": mode} for mode in modes or ("Input", "Output")],
        **others,
    }


def line(
    capture: dict[str, Any], payload: ContainerInput, reply: ContainerReply, inference_id: str | None = None
) -> dict[str, Any]:
    parsed = CaptureConfig.of({"DataCaptureConfig": capture})
    assert parsed is not None
    written = captured(parsed, payload, reply, inference_id=inference_id, moment=MOMENT)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    record: dict[str, Any] = json.loads(written)
    return record


CSV = ContainerInput(b"1,\xe2\x80\xa8\n", "text/csv", None)
ANSWER = ContainerReply(b"0.5", "text/csv; charset=utf-8", None)
TYPES = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}


def test_a_line_has_the_form_that_model_monitor_reads() -> None:
    payload = ContainerInput(b"1,2\n", "text/csv", None, custom_attributes="Trace ID: 1")
    record = line(config(CaptureContentTypeHeader=TYPES), payload, ANSWER, "my-id")
    identity = record["eventMetadata"].pop("eventId")
    assert re.fullmatch(r"[0-9a-f-]{36}", identity)
    assert record == {
        "captureData": {
            "endpointInput": {
                "observedContentType": "text/csv",
                "mode": "INPUT",
                "data": "1,2\n",
                "encoding": "CSV",
            },
            "endpointOutput": {
                "observedContentType": "text/csv; charset=utf-8",
                "mode": "OUTPUT",
                "data": "0.5",
                "encoding": "CSV",
            },
        },
        "eventMetadata": {
            "customAttributes": ["Trace ID: 1"],
            "inferenceId": "my-id",
            "inferenceTime": "2026-01-02T03:04:05Z",
        },
        "eventVersion": "0",
    }


def test_without_inference_id_and_attributes_they_are_left_out() -> None:
    assert set(line(config(), CSV, ANSWER)["eventMetadata"]) == {"eventId", "inferenceTime"}


@pytest.mark.parametrize(
    ("payload", "encoding"),
    [
        (ContainerInput(b"{}", "application/json", None), "JSON"),
        (ContainerInput(b"1", "TEXT/CSV; header=absent", None), "CSV"),
        (ContainerInput(b"\xff", "text/csv", None), "BASE64"),
        (ContainerInput(b"1", "application/jsonlines", None), "BASE64"),
    ],
)
def test_the_content_type_decides_on_the_encoding(payload: ContainerInput, encoding: str) -> None:
    record = line(config(CaptureContentTypeHeader=TYPES), payload, ANSWER)["captureData"]["endpointInput"]
    plain = base64.b64encode(payload.body).decode() if encoding == "BASE64" else payload.body.decode()
    assert (record["encoding"], record["data"]) == (encoding, plain)


def test_without_content_types_everything_is_base64() -> None:
    data = line(config(), CSV, ANSWER)["captureData"]
    assert {part["encoding"] for part in data.values()} == {"BASE64"}


@pytest.mark.parametrize(
    ("modes", "parts"),
    [
        (("Input",), ["endpointInput"]),
        (("Output",), ["endpointOutput"]),
        (("InputAndOutput",), ["endpointInput", "endpointOutput"]),
    ],
)
def test_only_what_is_asked_for_is_captured(modes: tuple[str, ...], parts: list[str]) -> None:
    assert sorted(line(config(*modes), CSV, ANSWER)["captureData"]) == parts


def test_it_is_enabled_unless_it_says_otherwise() -> None:
    assert CaptureConfig.of({}) is None
    assert CaptureConfig.of({"DataCaptureConfig": config(EnableCapture=False)}) is None
    assert CaptureConfig.of({"DataCaptureConfig": config()}) is not None


def _captured(clients: Clients, prefix: str) -> dict[str, bytes]:
    listing = clients.s3.list_objects_v2(Bucket=clients.bucket, Prefix=prefix).get("Contents", [])
    return {
        listed_object["Key"]: clients.s3.get_object(Bucket=clients.bucket, Key=listed_object["Key"])[
            "Body"
        ].read()
        for listed_object in listing
    }


def _lines(clients: Clients, prefix: str) -> list[dict[str, Any]]:
    return [json.loads(line) for body in _captured(clients, prefix).values() for line in body.splitlines()]


def _until(clients: Clients, prefix: str, count: int) -> list[dict[str, Any]]:
    """Return the captured lines once there are as many."""
    deadline = time.monotonic() + 600
    while len(records := _lines(clients, prefix)) < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return records


@pytest.fixture(scope="module")
def slow() -> Iterator[Clients]:
    """A service that keeps captured data for longer than the tests run."""
    with EmbeddedSageMaker(settings=Settings(data_capture_seconds=3600)) as embedded:
        yield clients_of(embedded.url)


class TestEndpoints:
    """Real-time and asynchronous endpoints."""

    def _deploy(self, clients: Clients, *modes: str, **others: object) -> tuple[str, str, dict[str, Any]]:
        prefix = unique("captured")
        capture = config(*modes, DestinationS3Uri=f"s3://{clients.bucket}/{prefix}", **others)
        return clients.deploy(DataCaptureConfig=capture), prefix, capture

    def test_invocations_are_written_after_a_while_where_the_operators_link_points(
        self, clients: Clients
    ) -> None:
        endpoint, prefix, capture = self._deploy(clients, EnableCapture=True, CaptureContentTypeHeader=TYPES)
        for number in range(5):
            clients.runtime.invoke_endpoint(
                EndpointName=endpoint,
                Body=f"{number}".encode(),
                ContentType="text/csv",
                InferenceId=f"i{number}",
            )
        lines = _until(clients, prefix, 5)
        assert sorted(record["eventMetadata"]["inferenceId"] for record in lines) == [
            f"i{n}" for n in range(5)
        ]
        assert sorted(record["captureData"]["endpointOutput"]["data"] for record in lines) == list("01234")
        folder = captured_data(capture, endpoint_name=endpoint)
        assert folder is not None
        for key in _captured(clients, prefix):
            assert key.startswith(folder.key)
            match = KEY.fullmatch(key.removeprefix(folder.key.rstrip("/")))
            assert match
            assert match[1] in {
                record["eventMetadata"]["inferenceTime"][:13].replace("-", "/").replace("T", "/")
                for record in lines
            }

    def test_what_waits_is_written_when_the_endpoint_is_updated_or_deleted(self, slow: Clients) -> None:
        endpoint, prefix, _ = self._deploy(slow)
        slow.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1", ContentType="text/csv")
        assert _lines(slow, prefix) == []
        plain = slow.create_config(slow.create_model())
        slow.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=plain)
        slow.wait_for_endpoint(endpoint)
        assert len(_until(slow, prefix, 1)) == 1
        assert "DataCaptureConfig" not in slow.sagemaker.describe_endpoint(EndpointName=endpoint)

        endpoint, prefix, _ = self._deploy(slow, "Input")
        slow.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1", ContentType="text/csv")
        slow.sagemaker.delete_endpoint(EndpointName=endpoint)
        slow.wait_until_deleted(endpoint)
        assert [list(record["captureData"]) for record in _lines(slow, prefix)] == [["endpointInput"]]

    @pytest.mark.parametrize("others", [{"EnableCapture": False}, {"InitialSamplingPercentage": 0}])
    def test_what_is_off_captures_nothing(self, slow: Clients, others: dict[str, object]) -> None:
        endpoint, prefix, _ = self._deploy(slow, **others)
        slow.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1", ContentType="text/csv")
        slow.sagemaker.delete_endpoint(EndpointName=endpoint)
        slow.wait_until_deleted(endpoint)
        assert _lines(slow, prefix) == []

    def test_the_description_says_whether_it_captures(self, clients: Clients) -> None:
        for others, status in (({}, "Started"), ({"EnableCapture": False}, "Stopped")):
            endpoint, _, capture = self._deploy(clients, KmsKeyId="alias/key", **others)
            assert clients.sagemaker.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"] == {
                "EnableCapture": status == "Started",
                "CaptureStatus": status,
                "CurrentSamplingPercentage": 100,
                "DestinationS3Uri": capture["DestinationS3Uri"],
                "KmsKeyId": "alias/key",
            }

    def test_a_bucket_that_is_not_there_fails_no_invocation_and_no_deletion(self, slow: Clients) -> None:
        endpoint = slow.deploy(DataCaptureConfig=config(DestinationS3Uri="s3://nowhere/x"))
        answer = slow.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"1", ContentType="text/csv")
        assert answer["Body"].read() == b"1"
        slow.sagemaker.delete_endpoint(EndpointName=endpoint)
        slow.wait_until_deleted(endpoint)

    def test_an_asynchronous_endpoint_captures_too(self, clients: Clients) -> None:
        prefix = unique("captured")
        capture = config(DestinationS3Uri=f"s3://{clients.bucket}/{prefix}")
        output = {"OutputConfig": {"S3OutputPath": f"s3://{clients.bucket}/out"}}
        endpoint = clients.deploy(DataCaptureConfig=capture, AsyncInferenceConfig=output)
        clients.s3.put_object(Bucket=clients.bucket, Key=f"{prefix}-in", Body=b"1,2")
        accepted = clients.runtime.invoke_endpoint_async(
            EndpointName=endpoint, InputLocation=f"s3://{clients.bucket}/{prefix}-in", ContentType="text/csv"
        )
        (record,) = _until(clients, f"{prefix}/", 1)
        assert record["eventMetadata"]["inferenceId"] == accepted["InferenceId"]
        assert base64.b64decode(record["captureData"]["endpointInput"]["data"]) == b"1,2"


STARTED = datetime.datetime(2022, 8, 30, 0, 49, 15, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("answer", "kind", "written"),
    [
        (b"0\n1,x\n", "csv", ["0,ID,2022-08-30T00:49:15Z", "1,x,ID,2022-08-30T00:49:15Z"]),
        (
            b'{"output": 0}\n{"output": "\xe2\x80\xa8"}\n',
            "jsonlines",
            [
                '{"output": 0, "SageMakerInferenceId": "ID", "SageMakerInferenceTime": "2022-08-30T00:49:15Z"}',
                '{"output": "\u2028", "SageMakerInferenceId": "ID", "SageMakerInferenceTime": "2022-08-30T00:49:15Z"}',
            ],
        ),
    ],
)
def test_each_output_record_gets_an_inference_id(answer: bytes, kind: str, written: list[str]) -> None:
    record = with_inference_ids(answer, kind, started=STARTED).decode()
    identities = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", record)
    assert len(set(identities)) == 2
    assert re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", record).split("\n") == [*written, ""]


def test_output_that_cannot_carry_an_id_is_refused() -> None:
    with pytest.raises(ProcessingFailed, match="not image/png"):
        output_format("image/png", "None")
    with pytest.raises(ProcessingFailed, match="objects or lists"):
        with_inference_ids(b"5", "json", started=STARTED)


def test_there_is_a_manifest_for_each_prefix() -> None:
    entries = [("s3://b/p/", "a"), ("s3://b/q/", "c"), ("s3://b/p/", "b/d")]
    assert manifests(entries) == [[{"prefix": "s3://b/p/"}, "a", "b/d"], [{"prefix": "s3://b/q/"}, "c"]]


class TestTransformJobs:
    """A transform job's DataCaptureConfig."""

    def _run(
        self, clients: Clients, inputs: dict[str, bytes], **capture: object
    ) -> tuple[dict[str, Any], str]:
        name, prefix = unique("job"), unique("transform")
        for key, body in inputs.items():
            clients.s3.put_object(Bucket=clients.bucket, Key=f"{prefix}/in/{key}", Body=body)
        where = f"s3://{clients.bucket}/{prefix}"
        source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{where}/in"}}
        clients.sagemaker.create_transform_job(
            TransformJobName=name,
            ModelName=clients.create_model(),
            TransformInput={"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},  # type: ignore[typeddict-item] # a plain dict
            TransformOutput={"S3OutputPath": f"{where}/out", "AssembleWith": "Line", "Accept": "text/csv"},
            TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
            DataCaptureConfig={"DestinationS3Uri": f"{where}/captured", **capture},  # type: ignore[typeddict-item] # whatever the test wants
        )
        waiter = clients.sagemaker.get_waiter("transform_job_completed_or_stopped")
        waiter.wait(TransformJobName=name, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
        return dict(clients.sagemaker.describe_transform_job(TransformJobName=name)), prefix

    def test_it_writes_manifests_of_its_inputs_and_outputs(self, clients: Clients) -> None:
        job, prefix = self._run(clients, {"a.csv": b"1\n", "below/b.csv": b"2\n"})
        hour = f"{job['TransformStartTime'].astimezone(datetime.UTC):%Y/%m/%d/%H}"
        result = _captured(clients, f"{prefix}/captured/")
        assert {
            key.removeprefix(f"{prefix}/captured/").rpartition("/")[0]: json.loads(body)
            for key, body in result.items()
        } == {
            f"input/{hour}": [{"prefix": f"s3://{clients.bucket}/{prefix}/in/"}, "a.csv", "below/b.csv"],
            f"output/{hour}": [
                {"prefix": f"s3://{clients.bucket}/{prefix}/out/"},
                "a.csv.out",
                "below/b.csv.out",
            ],
        }
        assert all(key.endswith(".jsonl") for key in result)
        assert job["DataCaptureConfig"]["DestinationS3Uri"].endswith("/captured")

    def test_it_appends_inference_ids_when_asked_to(self, clients: Clients) -> None:
        job, prefix = self._run(clients, {"a.csv": b"1,x\n2,y\n"}, GenerateInferenceId=True)
        started = f"{job['TransformStartTime'].astimezone(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
        (output,) = _captured(clients, f"{prefix}/out/").values()
        rows = [row.split(",") for row in output.decode().splitlines()]
        assert [[*row[:2], row[3]] for row in rows] == [["1", "x", started], ["2", "y", started]]
        assert len({row[2] for row in rows}) == 2
