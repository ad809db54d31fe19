"""A transform job's parameters; how it splits an input into payloads and joins the answers. Pure.

Terms, defaults and rules are those of ``CreateTransformJob`` in the SageMaker API reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.account.state import Record
from airflow_sm_plugin.local.transform.data_processing import Processing, format_of

MEGABYTE = 1024 * 1024
DEFAULT_MAX_PAYLOAD_MB = 6
"""Batch Transform's default of MaxPayloadInMB."""
_RECORDIO_MAGIC = 0xCED7230A
_LENGTH_MASK = (1 << 29) - 1

_LengthOf = Callable[[bytes, int], int]

DEFAULT_TIMEOUT_SECONDS = 600
"""Batch Transform's default of InvocationsTimeoutInSeconds."""
DEFAULT_RETRIES = 3
"""Batch Transform's default of InvocationsMaxRetries."""
MOST_INSTANCES = 4
"""Instances that are really started, since each costs processes of this machine, whatever the job asks for."""
MOST_CONCURRENT = 16
"""Requests in flight per instance, whatever the job asks for."""


class BadInput(Exception):
    """The input cannot be split: a frame is damaged, or a record is too large."""


def records(data: bytes, split_type: str) -> Iterator[bytes]:
    """Split an object into records: lines with their end, frames with their header; empty lines are skipped.

    :param split_type: ``None`` (the object is the record), ``Line``, ``RecordIO`` or ``TFRecord``
    """
    if split_type == "Line":
        return (line for line in _lines(data) if line.strip(b"\r\n"))
    if split_type == "RecordIO":
        return _frames(data, header=8, trailer=0, length=_recordio_length, padded=True)
    if split_type == "TFRecord":
        return _frames(data, header=12, trailer=4, length=_tfrecord_length, padded=False)
    return iter((data,))


def payloads(
    data: bytes, *, split_type: str, batch_strategy: str, max_payload_bytes: int
) -> Iterator[tuple[bytes, ...]]:
    """Group an object's records into the payloads of requests.

    ``SingleRecord`` sends a record per request, binary records without their frames; ``MultiRecord`` fills each request
    up to the limit. Raises BadInput when a single record exceeds the limit.

    :param max_payload_bytes: 0 means no limit
    """
    if split_type == "None" or batch_strategy == "SingleRecord":
        for record in records(data, split_type):
            _check_size(record, max_payload_bytes)
            yield (_unframed(record, split_type),)
        return
    batch: list[bytes] = []
    size = 0
    for record in records(data, split_type):
        _check_size(record, max_payload_bytes)
        if batch and max_payload_bytes and size + len(record) > max_payload_bytes:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield tuple(batch)


def assemble(answers: Iterable[bytes], assemble_with: str) -> bytes:
    """Join the answers to an object's payloads; ``Line`` ends each with a newline."""
    if assemble_with == "Line":
        return b"".join(answer if answer.endswith(b"\n") else answer + b"\n" for answer in answers)
    return b"".join(answers)


def _check_size(record: bytes, limit: int) -> None:
    if limit and len(record) > limit:
        raise BadInput(f"A record of {len(record)} bytes exceeds MaxPayloadInMB={limit // MEGABYTE}")


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)  # a lone carriage return does not end a record
        yield data[start:end]
        start = end


def _frames(data: bytes, *, header: int, trailer: int, length: _LengthOf, padded: bool) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        if position + header > len(data):
            raise BadInput(f"The record at byte {position} is cut off")
        size = length(data, position)
        end = position + header + size + trailer
        if padded:
            end += -size % 4
        if end > len(data):
            raise BadInput(f"The record at byte {position} is cut off")
        yield data[position:end]
        position = end


def _recordio_length(data: bytes, position: int) -> int:
    magic, flags_and_length = struct.unpack_from("<II", data, position)
    if magic != _RECORDIO_MAGIC:
        raise BadInput(f"There is no RecordIO record at byte {position}")
    return int(flags_and_length & _LENGTH_MASK)


def _tfrecord_length(data: bytes, position: int) -> int:
    return int(struct.unpack_from("<Q", data, position)[0])


def _unframed(record: bytes, split_type: str) -> bytes:
    if split_type == "RecordIO":
        return record[8 : 8 + _recordio_length(record, 0)]
    if split_type == "TFRecord":
        return record[12 : 12 + _tfrecord_length(record, 0)]
    return record


@dataclass(frozen=True)
class Capture:
    """A job's DataCaptureConfig.

    :param generates_ids: each output record gets an inference id and the job's start time
    """

    destination: Location
    kms_key_id: str | None
    generates_ids: bool

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Capture:
        return cls(
            destination=Location.parse(config["DestinationS3Uri"]),
            kms_key_id=config.get("KmsKeyId") or None,
            generates_ids=bool(config.get("GenerateInferenceId")),
        )


@dataclass(frozen=True)
class TransformPlan:
    """A job's parameters. Sizes in bytes (0: no limit), times in seconds.

    :param retries: further attempts for a request without an answer in time, or with a 5xx
    """

    source: Location
    is_manifest: bool
    gzip: bool
    content_type: str
    accept: str | None
    split_type: str
    batch_strategy: str
    assemble_with: str
    max_payload_bytes: int
    concurrent: int
    instances: int
    timeout: float
    retries: int
    processing: Processing | None
    output: Location
    kms_key_id: str | None
    capture: Capture | None

    @classmethod
    def of(cls, record: Record) -> TransformPlan:
        job_input, output = record["TransformInput"], record["TransformOutput"]
        source, client = job_input["DataSource"]["S3DataSource"], record.get("ModelClientConfig", {})
        split_type = job_input.get("SplitType", "None")
        return cls(
            source=Location.parse(source["S3Uri"]),
            is_manifest=source["S3DataType"] == "ManifestFile",
            gzip=job_input.get("CompressionType") == "Gzip",
            content_type=job_input.get("ContentType") or "application/octet-stream",
            accept=output.get("Accept") or None,
            split_type=split_type,
            batch_strategy=record.get("BatchStrategy", "MultiRecord"),
            assemble_with=output.get("AssembleWith", "None"),
            max_payload_bytes=record.get("MaxPayloadInMB", DEFAULT_MAX_PAYLOAD_MB) * MEGABYTE,
            concurrent=min(record.get("MaxConcurrentTransforms") or 1, MOST_CONCURRENT),
            instances=min(record["TransformResources"]["InstanceCount"], MOST_INSTANCES),
            timeout=client.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT_SECONDS),
            retries=client.get("InvocationsMaxRetries", DEFAULT_RETRIES),
            processing=_processing(
                record.get("DataProcessing", {}), job_input.get("ContentType"), split_type
            ),
            output=Location.parse(output["S3OutputPath"]),
            kms_key_id=output.get("KmsKeyId") or None,
            capture=Capture.of(record["DataCaptureConfig"]) if record.get("DataCaptureConfig") else None,
        )

    @property
    def log_line(self) -> str:
        megabytes = self.max_payload_bytes // MEGABYTE
        return (
            f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={megabytes}, "
            f"BatchStrategy={_in_capitals(self.batch_strategy)}"
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables that the service adds (Developer Guide, "Use your own inference code with batch transform")."""
        return {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_BATCH_STRATEGY": _in_capitals(self.batch_strategy),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(self.concurrent),
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self.max_payload_bytes // MEGABYTE),
        }


def _processing(config: Mapping[str, str], content_type: str | None, split_type: str) -> Processing | None:
    kind = format_of(content_type)
    processing = Processing(
        format="jsonlines" if kind == "json" and split_type == "Line" else kind or "",
        input_filter=config.get("InputFilter") or "$",
        output_filter=config.get("OutputFilter") or "$",
        join_input=config.get("JoinSource") == "Input",
    )
    changes_nothing = processing.input_filter == processing.output_filter == "$" and not processing.join_input
    return None if changes_nothing else processing


def _in_capitals(batch_strategy: str) -> str:
    return {"SingleRecord": "SINGLE_RECORD"}.get(batch_strategy, "MULTI_RECORD")
