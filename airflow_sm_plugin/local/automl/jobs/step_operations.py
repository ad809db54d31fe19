"""Describe, list and stop training and processing jobs: here, those are the steps of Autopilot's candidates."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.listing import list_page, with_token
from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.state import Record, Region, public
from airflow_sm_plugin.local.automl.jobs.step_jobs import PREFIXES, PROCESSING, TRAINING
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.transform.operations import step_of_automl

_MISSING = {
    TRAINING: "Requested resource not found.",
    PROCESSING: "Could not find requested job with name: {name}",
}
"""The service's texts."""


@operation("DescribeTrainingJob")
def describe_training_job(region: Region, params: Params) -> Record:
    """Describe the training step of a candidate."""
    return _described(region, TRAINING, params)


@operation("ListTrainingJobs")
def list_training_jobs(region: Region, params: Params) -> Record:
    """List training steps."""
    return _listed(region, TRAINING, params, ("SecondaryStatus",))


@operation("StopTrainingJob")
def stop_training_job(region: Region, params: Params) -> Record:
    """Refuse to stop a step alone."""
    return _stopped(region, TRAINING, params)


@operation("DescribeProcessingJob")
def describe_processing_job(region: Region, params: Params) -> Record:
    """Describe the processing step of candidates."""
    return _described(region, PROCESSING, params)


@operation("ListProcessingJobs")
def list_processing_jobs(region: Region, params: Params) -> Record:
    """List processing steps."""
    return _listed(region, PROCESSING, params, ("FailureReason",))


@operation("StopProcessingJob")
def stop_processing_job(region: Region, params: Params) -> Record:
    """Refuse to stop a step alone."""
    return _stopped(region, PROCESSING, params)


def _described(region: Region, kind: str, params: Params) -> Record:
    with region.lock:
        return copy.deepcopy(public(_job(region, kind, params)))


def _listed(region: Region, kind: str, params: Params, more: tuple[str, ...]) -> Record:
    prefix = PREFIXES[kind]
    members = (f"{prefix}JobName", f"{prefix}JobArn", "CreationTime", f"{prefix}EndTime", "LastModifiedTime",
               f"{prefix}JobStatus", *more)  # fmt: skip
    with region.table(kind) as jobs:
        page = list_page(jobs.values(), params, kind=f"{prefix}Job", members=members)
    return with_token(f"{prefix}JobSummaries", page)


def _stopped(region: Region, kind: str, params: Params) -> Record:
    with region.lock:
        record = _job(region, kind, params)
        status = record[f"{PREFIXES[kind]}JobStatus"]
        if status == "InProgress":
            raise ValidationFailure(step_of_automl(record["AutoMLJobArn"]))
        raise ValidationFailure(
            f"The request was rejected because the {PREFIXES[kind].lower()} job is in status {status}."
        )


def _job(region: Region, kind: str, params: Params) -> Record:
    name = params[f"{PREFIXES[kind]}JobName"]
    with region.table(kind) as jobs:
        if name not in jobs:
            raise ValidationFailure(_MISSING[kind].format(name=name))
        return jobs[name]
