"""Create, describe, stop and list transform jobs.

Error texts were observed at the service: a missing job is a ValidationException, not the ResourceNotFound of its API
model.
"""

from __future__ import annotations

from airflow_sm_plugin.local.account import s3_objects
from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.containers.containers import is_direct
from airflow_sm_plugin.local.models.models import model_called
from airflow_sm_plugin.local.protocol.errors import ResourceInUseFailure, ValidationFailure
from airflow_sm_plugin.local.transform.data_processing import UnsupportedPath, format_of, parse_path
from airflow_sm_plugin.local.transform.transform_job import TransformJob

JOBS = "transform-job"

_MAX_PAYLOAD_MB = 100
"""Batch Transform's limit of MaxPayloadInMB, and of its product with MaxConcurrentTransforms."""
_SUMMARY = """
    TransformJobName TransformJobArn CreationTime TransformEndTime LastModifiedTime TransformJobStatus FailureReason
"""


@operation("CreateTransformJob")
def create_transform_job(region: Region, params: Params) -> Record:
    name = params["TransformJobName"]
    arn = region.arn(JOBS, name)
    _check_payload_limits(params)
    _check_data_processing(params)
    model = model_called(region, params["ModelName"])
    if is_direct(model):
        raise ValidationFailure(
            "Transform jobs cannot name a container: a model with InferenceExecutionConfig Mode Direct does not "
            "support them."
        )
    _check_input_exists(region, params["TransformInput"]["DataSource"]["S3DataSource"])
    record: Record = {
        **params,
        "Tags": None,
        "TransformJobArn": arn,
        "TransformJobStatus": "InProgress",
        "CreationTime": now(),
        "LastModifiedTime": now(),
        "_tags": params.get("Tags", []),
    }
    job = record["_job"] = TransformJob(region, record, model)
    with region.table(JOBS) as jobs:
        if name in jobs:
            raise ResourceInUseFailure(
                "Job name must be unique within an AWS account and region, "
                f"and a job with this name already exists ({arn})"
            )
        jobs[name] = record
    region.in_background(f"transform-{name}", job.run)
    return {"TransformJobArn": arn}


@operation("DescribeTransformJob")
def describe_transform_job(region: Region, params: Params) -> Record:
    name = params["TransformJobName"]
    with region.table(JOBS) as jobs:
        if name not in jobs:
            raise ValidationFailure(f"Could not find requested job with name: {name}")
        described = public(jobs[name])
    described.pop("LastModifiedTime")
    return described


@operation("StopTransformJob")
def stop_transform_job(region: Region, params: Params) -> Record:
    """Stop a running job: Stopping, then Stopped; written outputs stay."""
    name = params["TransformJobName"]
    with region.table(JOBS) as jobs:
        if name not in jobs:
            raise ValidationFailure(f"Could not find job to update with name: {name}")
        record = jobs[name]
        if (status := record["TransformJobStatus"]) != "InProgress":
            raise ValidationFailure(
                f"The request was rejected because the transform job is in status {status}"
            )
        if "_job" not in record:
            raise ValidationFailure(step_of_automl(record["AutoMLJobArn"]))
        record |= {"TransformJobStatus": "Stopping", "LastModifiedTime": now()}
        record["_job"].stop()
    return {}


@operation("ListTransformJobs")
def list_transform_jobs(region: Region, params: Params) -> Record:
    with region.table(JOBS) as jobs:
        return listed("TransformJobSummaries", jobs.values(), params, kind="TransformJob", members=_SUMMARY)


def step_of_automl(job_arn: str) -> str:
    return f"The job is a step of {job_arn}. Use StopAutoMLJob to stop it."


def _check_payload_limits(params: Params) -> None:
    megabytes = params.get("MaxPayloadInMB", 0)
    concurrent = params.get("MaxConcurrentTransforms", 0)
    if megabytes > _MAX_PAYLOAD_MB or megabytes * max(concurrent, 1) > _MAX_PAYLOAD_MB:
        raise ValidationFailure(
            "MaxPayloadInMB, and its product with MaxConcurrentTransforms, cannot exceed "
            f"{_MAX_PAYLOAD_MB} MB: MaxPayloadInMB={megabytes}, MaxConcurrentTransforms={concurrent}"
        )


def _check_data_processing(params: Params) -> None:
    processing = params.get("DataProcessing", {})
    filters = [processing.get("InputFilter", "$"), processing.get("OutputFilter", "$")]
    for expression in filters:
        try:
            parse_path(expression)
        except UnsupportedPath as error:
            raise ValidationFailure(str(error)) from error
    if filters == ["$", "$"] and processing.get("JoinSource", "None") == "None":
        return
    content_type = params["TransformInput"].get("ContentType")
    if format_of(content_type) is None:
        raise ValidationFailure(
            "DataProcessing needs ContentType text/csv, application/json or application/jsonlines, "
            f"not {content_type}"
        )
    accept = params["TransformOutput"].get("Accept")
    if accept and format_of(accept) != format_of(content_type):
        raise ValidationFailure(f"DataProcessing needs Accept {accept} to be the ContentType {content_type}")


def _check_input_exists(region: Region, source: Record) -> None:
    if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise ValidationFailure(f"S3DataType {source['S3DataType']} is not supported in transform jobs")
    try:
        is_empty = next(s3_objects.keys_below(region, Location.parse(source["S3Uri"])), None) is None
    except ObjectFailure:
        is_empty = True
    if is_empty:
        bucket = Location.parse(source["S3Uri"]).bucket
        raise ValidationFailure(
            f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. Please ensure '
            f"that the bucket exists in the selected region ({region.name}), that objects exist under that "
            f'S3 prefix, and that the role has "s3:ListBucket" permissions on bucket "{bucket}".'
        )
