"""What a transform job is to do, read from its record with the service's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.local.account.s3_objects import Location
from airflow_sm_plugin.local.account.state import Record
from airflow_sm_plugin.local.transform.data_processing import Processing, format_of
from airflow_sm_plugin.local.transform.transform_io import DEFAULT_MAX_PAYLOAD_MB, MEGABYTE

DEFAULT_TIMEOUT_SECONDS = 600
DEFAULT_RETRIES = 3
MOST_INSTANCES = 4
"""Each instance is a process or more on this machine: of a job that asks for more, so many run."""
MOST_CONCURRENT = 16
"""Requests in flight an instance; a job that asks for more gets so many."""


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
    """How to cut, send and store. Sizes in bytes (0: no limit), times in seconds.

    :param retries: further tries of a request that the model answered with a 5xx, or not in time
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
    def in_words(self) -> str:
        """The line with which a job's data log begins."""
        megabytes = self.max_payload_bytes // MEGABYTE
        return (
            f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={megabytes}, "
            f"BatchStrategy={_shouted(self.batch_strategy)}"
        )

    @property
    def environment(self) -> Mapping[str, str]:
        """What the service adds to a container's environment (Use your own inference code with batch)."""
        return {
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_BATCH_STRATEGY": _shouted(self.batch_strategy),
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


def _shouted(batch_strategy: str) -> str:
    return {"SingleRecord": "SINGLE_RECORD"}.get(batch_strategy, "MULTI_RECORD")
