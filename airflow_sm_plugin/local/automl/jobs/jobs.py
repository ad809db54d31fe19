"""CreateAutoMLJob (V1, V2), both Describes, ListAutoMLJobs, ListCandidatesForAutoMLJob, StopAutoMLJob."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.operations import Params, listed, moto_sagemaker, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.automl.jobs import candidates
from airflow_sm_plugin.local.automl.jobs.request import JobRequest, from_v1, from_v2
from airflow_sm_plugin.local.automl.jobs.run import AutoMLRun
from airflow_sm_plugin.local.protocol.errors import (
    ResourceInUseFailure,
    ResourceNotFoundFailure,
    ValidationFailure,
)

KIND = "automl-job"
_SUMMARY = """
    AutoMLJobName AutoMLJobArn AutoMLJobStatus AutoMLJobSecondaryStatus CreationTime EndTime LastModifiedTime
    FailureReason
"""

_DEFAULT_CANDIDATES = 250
"""The service's default of MaxCandidates."""
_V1_ONLY = ("TargetAttributeName", "SampleWeightAttributeName")


@operation("CreateAutoMLJob")
def create_auto_ml_job(region: Region, params: Params) -> Record:
    return _create(region, params, from_v1(params), version=1)


@operation("CreateAutoMLJobV2")
def create_auto_ml_job_v2(region: Region, params: Params) -> Record:
    return _create(region, params, from_v2(params), version=2)


@operation("DescribeAutoMLJob")
def describe_auto_ml_job(region: Region, params: Params) -> Record:
    with region.lock:
        record = _job(region, params)
        if record["_version"] == 2:
            raise ValidationFailure(
                f"AutoML job {record['AutoMLJobName']} was created by CreateAutoMLJobV2 and cannot be described by "
                "DescribeAutoMLJob. Use DescribeAutoMLJobV2."
            )
        return as_v1(record)


@operation("DescribeAutoMLJobV2")
def describe_auto_ml_job_v2(region: Region, params: Params) -> Record:
    with region.lock:
        return as_v2(_job(region, params))


@operation("ListAutoMLJobs")
def list_auto_ml_jobs(region: Region, params: Params) -> Record:
    """List jobs, by default in descending order of their names, as the service does."""
    order = {"SortBy": "Name", **params}
    with region.table(KIND) as jobs:
        return listed("AutoMLJobSummaries", jobs.values(), order, kind="AutoMLJob", members=_SUMMARY)


@operation("ListCandidatesForAutoMLJob")
def list_candidates_for_auto_ml_job(region: Region, params: Params) -> Record:
    wanted = params.get("CandidateNameEquals")
    with region.lock:
        chosen = [
            candidates.sortable(candidate)
            for name, candidate in _job(region, params)["_candidates"].items()
            if wanted in {None, name}
        ]
        order = {"SortOrder": "Ascending", **params}
        answer = listed("Candidates", chosen, order, kind="Candidate", members=candidates.MEMBERS)
        return copy.deepcopy(answer)


@operation("StopAutoMLJob")
def stop_auto_ml_job(region: Region, params: Params) -> Record:
    """Stop a running job; an ended one does not change."""
    with region.lock:
        record = _job(region, params)
        if record["AutoMLJobStatus"] == "InProgress":
            record["AutoMLJobStatus"] = record["AutoMLJobSecondaryStatus"] = "Stopping"
            record["LastModifiedTime"] = now()
            record["_run"].stop()
    return {}


def _create(region: Region, params: Params, request: JobRequest, *, version: int) -> Record:
    moment = now()
    record: Record = {
        "AutoMLJobName": request.name,
        "AutoMLJobArn": region.arn(KIND, request.name),
        "OutputDataConfig": params["OutputDataConfig"],
        "RoleArn": request.role,
        "AutoMLJobObjective": params.get("AutoMLJobObjective"),
        "ModelDeployConfig": params.get("ModelDeployConfig"),
        "CreationTime": moment,
        "LastModifiedTime": moment,
        "AutoMLJobStatus": "InProgress",
        "AutoMLJobSecondaryStatus": "Starting",
        "_version": version,
        "_params": params,
        "_request": request,
        "_candidates": {},
        "_resolved": None,
        "_tags": list(params.get("Tags") or []),
    }
    run = record["_run"] = AutoMLRun(region, record, request)
    with region.table(KIND) as jobs:
        if request.name in jobs:
            raise ResourceInUseFailure(f"An AutoML job called {request.name} already exists.")
        jobs[request.name] = record
    moto_sagemaker(region.name).create_experiment(f"{request.name}-aws-auto-ml-job")
    region.at_close(run.stop)
    region.in_background(f"automl-{request.name}", run.run)
    return {"AutoMLJobArn": record["AutoMLJobArn"]}


def request_of(record: Record) -> JobRequest:
    """Build the request of a job's record from the parameters with which the job was created."""
    params: Params = record["_params"]
    return from_v2(params) if record["_version"] == 2 else from_v1(params)


def _job(region: Region, params: Params) -> Record:
    name = params["AutoMLJobName"]
    with region.table(KIND) as jobs:
        if name not in jobs:
            raise ResourceNotFoundFailure(f"Amazon SageMaker can't find an AutoML job called {name}.")
        return jobs[name]


def as_v1(record: Record) -> Record:
    params: Params = record["_params"]
    return _described(
        record,
        {"ProblemType": (record["_resolved"] or {}).get("ProblemType")},
        InputDataConfig=params["InputDataConfig"],
        ProblemType=params.get("ProblemType"),
        AutoMLJobConfig=params.get("AutoMLJobConfig"),
        GenerateCandidateDefinitionsOnly=bool(params.get("GenerateCandidateDefinitionsOnly")),
    )


def as_v2(record: Record) -> Record:
    params: Params = record["_params"]
    settings = params.get("AutoMLJobConfig") or {}
    tabular = {"TabularJobConfig": public(record["_request"].tabular)}
    resolved: Record = {}
    if record["_resolved"]:
        problem_type = {"ProblemType": record["_resolved"]["ProblemType"]}
        resolved = {"AutoMLProblemTypeResolvedAttributes": {"TabularResolvedAttributes": problem_type}}
    return _described(
        record,
        resolved,
        AutoMLJobInputDataConfig=_channels(params),
        AutoMLProblemTypeConfig=params.get("AutoMLProblemTypeConfig") or tabular,
        AutoMLProblemTypeConfigName="Tabular",
        DataSplitConfig=params.get("DataSplitConfig") or settings.get("DataSplitConfig"),
        SecurityConfig=params.get("SecurityConfig") or settings.get("SecurityConfig"),
    )


def _described(record: Record, resolved: Record, **members: object) -> Record:
    request: JobRequest = record["_request"]
    limit = request.most_seconds
    completion = {
        "MaxCandidates": request.max_candidates or _DEFAULT_CANDIDATES,
        "MaxAutoMLJobRuntimeInSeconds": int(limit) if limit else None,
    }
    if record["_resolved"]:
        resolved = {**resolved, "AutoMLJobObjective": {"MetricName": record["_resolved"]["MetricName"]}}
    attributes = public({**resolved, "CompletionCriteria": public(completion)})
    return copy.deepcopy(public({**record, **members, "ResolvedAttributes": attributes}))


def _channels(params: Params) -> list[Record]:
    given = params.get("AutoMLJobInputDataConfig") or params["InputDataConfig"]
    return [{name: value for name, value in channel.items() if name not in _V1_ONLY} for channel in given]
