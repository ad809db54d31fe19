"""The training, processing and transform jobs that are a candidate's steps: records, and their operations.

The training process does their work; the records have its times, inputs and outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.automl.jobs.layout import CandidateLayout, Container, JobLayout
from airflow_sm_plugin.local.automl.jobs.request import JobRequest
from airflow_sm_plugin.local.models import models
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.transform import operations as transform
from airflow_sm_plugin.local.transform.operations import step_of_automl

TRAINING = "training-job"
PROCESSING = "processing-job"
PREFIXES = {TRAINING: "Training", PROCESSING: "Processing", transform.JOBS: "Transform"}
"""The prefix of the member names, by kind of job."""

_INSTANCES = {"InstanceType": "ml.m5.4xlarge", "InstanceCount": 1}
"""The instances of Autopilot's steps."""
_VOLUME = {"VolumeSizeInGB": 50}
_STOPPING = {"MaxRuntimeInSeconds": 86_400}

_MISSING = {
    TRAINING: "Requested resource not found.",
    PROCESSING: "Could not find requested job with name: {name}",
}
"""The service's messages for a missing job."""


def begin(region: Region, request: JobRequest, job: JobLayout, candidate: CandidateLayout) -> None:
    """Record the steps of a candidate whose training begins; steps shared with other candidates exist already."""
    for _, kind, name in candidate.steps:
        prefix, moment = PREFIXES[kind], now()
        record: Record = {
            f"{prefix}JobName": name,
            f"{prefix}JobArn": region.arn(kind, name),
            f"{prefix}JobStatus": "InProgress",
            "AutoMLJobArn": region.arn("automl-job", request.name),
            "CreationTime": moment,
            f"{prefix}StartTime": moment,
            "LastModifiedTime": moment,
            "_tags": [],
        }
        if kind == TRAINING:
            record |= _training(request, job, candidate, name)
        elif kind == PROCESSING:
            record |= _processing(request, job)
        else:
            record |= _transform(request, candidate)
        with region.table(kind) as jobs:
            jobs.setdefault(name, record)


def complete(
    region: Region,
    request: JobRequest,
    candidate: CandidateLayout,
    containers: list[Container],
    metrics: Mapping[str, float],
) -> None:
    """Complete the steps of a candidate with stored archives; the transform step's model has the first container."""
    with region.lock:
        for kind, name, record in _running(region, candidate):
            _end(record, kind, "Completed")
            if kind == TRAINING:
                record["ModelArtifacts"] = {"S3ModelArtifacts": candidate.artefact(name)}
            elif kind == transform.JOBS:
                _create_model(region, request, record["ModelName"], containers[0])
            if name == candidate.steps[-1][2]:  # the last step trains the model
                ended = record["TrainingEndTime"]
                record["FinalMetricDataList"] = [
                    {"MetricName": f"validation:{metric}", "Value": value, "Timestamp": ended}
                    for metric, value in metrics.items()
                ]


def _running(region: Region, candidate: CandidateLayout) -> Iterator[tuple[str, str, Record]]:
    for _, kind, name in candidate.steps:
        with region.table(kind) as jobs:
            record = jobs[name]
        if record[f"{PREFIXES[kind]}JobStatus"] == "InProgress":
            yield kind, name, record


def stop(region: Region, automl_job_arn: str) -> None:
    """Record the uncompleted steps of an ended AutoML job as stopped."""
    for kind, prefix in PREFIXES.items():
        running = (automl_job_arn, "InProgress")
        with region.table(kind) as jobs:
            steps = [
                job
                for job in jobs.values()
                if (job.get("AutoMLJobArn"), job[f"{prefix}JobStatus"]) == running
            ]
        for step in steps:
            _end(step, kind, "Stopped")


def _training(request: JobRequest, job: JobLayout, candidate: CandidateLayout, name: str) -> Record:
    folder = candidate.artefact(name).removesuffix("/model.tar.gz").removesuffix("/output")
    channels = [("train", request.training), ("validation", request.validation)]
    return {
        "SecondaryStatus": "Training",
        "AlgorithmSpecification": {
            "TrainingImage": job.training_image(candidate, name),
            "TrainingInputMode": "File",
        },
        "RoleArn": request.role,
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": source.kind,
                        "S3Uri": source.uri,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
                "ContentType": "text/csv",
                "CompressionType": "Gzip" if source.gzipped else "None",
            }
            for channel, source in channels
            if source
        ],
        "OutputDataConfig": {"S3OutputPath": folder.rpartition("/")[0]},
        "ResourceConfig": {**_INSTANCES, **_VOLUME},
        "StoppingCondition": _STOPPING,
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    }


def _processing(request: JobRequest, job: JobLayout) -> Record:
    source = {"S3DataType": request.training.kind, "S3InputMode": "File", "S3Uri": request.training.uri}
    result = {"S3Uri": job.notebooks, "LocalPath": "/opt/ml/processing/output", "S3UploadMode": "EndOfJob"}
    return {
        "RoleArn": request.role,
        "ProcessingInputs": [
            {"InputName": "train", "S3Input": {**source, "LocalPath": "/opt/ml/processing/input"}}
        ],
        "ProcessingOutputConfig": {"Outputs": [{"OutputName": "notebooks", "S3Output": result}]},
        "ProcessingResources": {"ClusterConfig": {**_INSTANCES, **_VOLUME}},
        "StoppingCondition": _STOPPING,
        "AppSpecification": {"ImageUri": job.processor_image},
    }


def _transform(request: JobRequest, candidate: CandidateLayout) -> Record:
    return {
        "ModelName": candidate.processor_model,
        "TransformInput": {
            "DataSource": {
                "S3DataSource": {"S3DataType": request.training.kind, "S3Uri": request.training.uri}
            },
            "ContentType": "text/csv",
            "CompressionType": "Gzip" if request.training.gzipped else "None",
            "SplitType": "Line",
        },
        "TransformOutput": {
            "S3OutputPath": candidate.archives["transformed"].rpartition("/")[0],
            "AssembleWith": "Line",
        },
        "TransformResources": _INSTANCES,
        "BatchStrategy": "MultiRecord",
        "DataProcessing": {"InputFilter": "$", "OutputFilter": "$", "JoinSource": "None"},
    }


def _end(record: Record, kind: str, status: str) -> None:
    prefix, moment = PREFIXES[kind], now()
    record |= {f"{prefix}JobStatus": status, f"{prefix}EndTime": moment, "LastModifiedTime": moment}
    if kind == TRAINING:
        seconds = max(1, round((moment - record["TrainingStartTime"]).total_seconds()))
        record |= {
            "SecondaryStatus": status,
            "TrainingTimeInSeconds": seconds,
            "BillableTimeInSeconds": seconds,
        }


def _create_model(region: Region, request: JobRequest, name: str, container: Container) -> None:
    with region.table(models.KIND) as table:
        if name not in table:
            params = {"ModelName": name, "ExecutionRoleArn": request.role, "PrimaryContainer": container}
            models.create_model(region, params)


@operation("DescribeTrainingJob", "DescribeProcessingJob")
def describe_step(region: Region, params: Params) -> Record:
    with region.lock:
        return copy.deepcopy(public(_job(region, params)))


@operation("ListTrainingJobs")
def list_training_jobs(region: Region, params: Params) -> Record:
    return _listed(region, TRAINING, params, "SecondaryStatus")


@operation("ListProcessingJobs")
def list_processing_jobs(region: Region, params: Params) -> Record:
    return _listed(region, PROCESSING, params, "FailureReason")


@operation("StopTrainingJob", "StopProcessingJob")
def stop_step(region: Region, params: Params) -> Record:
    """Refuse to stop a step: only its AutoML job can be stopped."""
    with region.lock:
        record = _job(region, params)
        kind = _kind_of(params)
        status = record[f"{PREFIXES[kind]}JobStatus"]
        if status == "InProgress":
            raise ValidationFailure(step_of_automl(record["AutoMLJobArn"]))
        raise ValidationFailure(
            f"The request was rejected because the {PREFIXES[kind].lower()} job is in status {status}."
        )


def _listed(region: Region, kind: str, params: Params, *members: str) -> Record:
    prefix = PREFIXES[kind]
    names = f"{prefix}JobName {prefix}JobArn CreationTime {prefix}EndTime LastModifiedTime {prefix}JobStatus"
    with region.table(kind) as jobs:
        return listed(
            f"{prefix}JobSummaries",
            jobs.values(),
            params,
            kind=f"{prefix}Job",
            members=" ".join([names, *members]),
        )


def _kind_of(params: Params) -> str:
    return TRAINING if "TrainingJobName" in params else PROCESSING


def _job(region: Region, params: Params) -> Record:
    kind = _kind_of(params)
    name = params[f"{PREFIXES[kind]}JobName"]
    with region.table(kind) as jobs:
        if name not in jobs:
            raise ValidationFailure(_MISSING[kind].format(name=name))
        return jobs[name]
