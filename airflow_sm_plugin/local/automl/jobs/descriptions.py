"""What DescribeAutoMLJob and DescribeAutoMLJobV2 answer about one record, whichever API made the job."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.operations import Params
from airflow_sm_plugin.local.account.state import Record, public
from airflow_sm_plugin.local.automl.jobs.request import JobRequest

_DEFAULT_CANDIDATES = 250
"""What the service resolves MaxCandidates to."""
_V1_ONLY = ("TargetAttributeName", "SampleWeightAttributeName")


def as_v1(record: Record) -> Record:
    """Describe a job of CreateAutoMLJob."""
    params: Params = record["_params"]
    resolved = record["_resolved"]
    attributes: Record = {**_objective(record), "CompletionCriteria": _completion(record["_request"])}
    if resolved:
        attributes["ProblemType"] = resolved["ProblemType"]
    return copy.deepcopy(
        public(
            {
                **record,
                "InputDataConfig": params["InputDataConfig"],
                "ProblemType": params.get("ProblemType"),
                "AutoMLJobConfig": params.get("AutoMLJobConfig"),
                "GenerateCandidateDefinitionsOnly": bool(params.get("GenerateCandidateDefinitionsOnly")),
                "ResolvedAttributes": attributes,
            }
        )
    )


def as_v2(record: Record) -> Record:
    """Describe a job of either API."""
    params: Params = record["_params"]
    resolved = record["_resolved"]
    attributes: Record = {**_objective(record), "CompletionCriteria": _completion(record["_request"])}
    if resolved:
        attributes["AutoMLProblemTypeResolvedAttributes"] = {
            "TabularResolvedAttributes": {"ProblemType": resolved["ProblemType"]}
        }
    settings = params.get("AutoMLJobConfig") or {}
    return copy.deepcopy(
        public(
            {
                **record,
                "AutoMLJobInputDataConfig": _channels(params),
                "AutoMLProblemTypeConfig": params.get("AutoMLProblemTypeConfig")
                or {"TabularJobConfig": _tabular(record)},
                "AutoMLProblemTypeConfigName": "Tabular",
                "ResolvedAttributes": attributes,
                "DataSplitConfig": params.get("DataSplitConfig") or settings.get("DataSplitConfig"),
                "SecurityConfig": params.get("SecurityConfig") or settings.get("SecurityConfig"),
            }
        )
    )


def _objective(record: Record) -> Record:
    resolved = record["_resolved"]
    return {"AutoMLJobObjective": {"MetricName": resolved["MetricName"]}} if resolved else {}


def _completion(request: JobRequest) -> Record:
    limit = request.most_seconds
    return {
        "MaxCandidates": request.max_candidates or _DEFAULT_CANDIDATES,
        **({"MaxAutoMLJobRuntimeInSeconds": int(limit)} if limit else {}),
    }


def _channels(params: Params) -> list[Record]:
    given = params.get("AutoMLJobInputDataConfig") or params["InputDataConfig"]
    return [{name: value for name, value in channel.items() if name not in _V1_ONLY} for channel in given]


def _tabular(record: Record) -> Record:
    """Return a V1 job's settings as a TabularJobConfig."""
    params: Params = record["_params"]
    request: JobRequest = record["_request"]
    settings = params.get("AutoMLJobConfig") or {}
    return public(
        {
            "CandidateGenerationConfig": settings.get("CandidateGenerationConfig"),
            "CompletionCriteria": settings.get("CompletionCriteria"),
            "Mode": settings.get("Mode"),
            "GenerateCandidateDefinitionsOnly": request.definitions_only,
            "ProblemType": request.problem_type,
            "TargetAttributeName": request.target,
            "SampleWeightAttributeName": request.weight,
        }
    )
