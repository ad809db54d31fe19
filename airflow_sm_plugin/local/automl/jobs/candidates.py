"""Records of candidates, as in the answers of Describe and ListCandidates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Record, now
from airflow_sm_plugin.local.automl.jobs.layout import CandidateLayout, JobLayout
from airflow_sm_plugin.local.automl.training.plan import MINIMIZED

MEMBERS = """
    CandidateName FinalAutoMLJobObjectiveMetric ObjectiveStatus CandidateSteps CandidateStatus InferenceContainers
    CreationTime EndTime LastModifiedTime FailureReason CandidateProperties
"""
_ONLY_STANDARD = frozenset({"LogLoss"})
"""Metrics missing in the older of the API's two enumerations: they have only a StandardMetricName."""


def started(job: JobLayout, candidate: CandidateLayout) -> Record:
    moment = now()
    return {
        "CandidateName": candidate.name,
        "ObjectiveStatus": "Pending",
        "CandidateSteps": [
            {
                "CandidateStepType": f"AWS::SageMaker::{kind}",
                "CandidateStepArn": f"arn:aws:sagemaker:{job.region}:{ACCOUNT_ID}:{arn}/{name.lower()}",
                "CandidateStepName": name,
            }
            for kind, arn, name in candidate.steps
        ],
        "CandidateStatus": "InProgress",
        "CreationTime": moment,
        "LastModifiedTime": moment,
    }


def trained(
    job: JobLayout, candidate: CandidateLayout, problem_type: str, objective: str, scores: Mapping[str, float]
) -> Record:
    moment = now()
    return {
        "FinalAutoMLJobObjectiveMetric": {
            "Type": "Minimize" if objective in MINIMIZED else "Maximize",
            "MetricName": objective,
            "Value": scores[objective],
            "StandardMetricName": objective,
        },
        "ObjectiveStatus": "Succeeded",
        "CandidateStatus": "Completed",
        "InferenceContainers": job.containers(candidate, problem_type),
        "EndTime": moment,
        "LastModifiedTime": moment,
        "CandidateProperties": {
            "CandidateArtifactLocations": {
                "Explainability": job.explainability(candidate.name),
                "ModelInsights": job.insights(candidate.name),
            },
            "CandidateMetrics": [_metric(name, value) for name, value in scores.items()],
        },
    }


def best(candidates: Iterable[Record]) -> Record | None:
    """Choose the completed candidate with the best objective, the latest of several; None without any."""
    completed = [candidate for candidate in candidates if candidate["CandidateStatus"] == "Completed"]
    return max(reversed(completed), key=_value, default=None)


def sortable(candidate: Record) -> Record:
    """Add the key of ``SortBy=FinalObjectiveMetricValue`` to a record; unfinished candidates come last."""
    metric = candidate.get("FinalAutoMLJobObjectiveMetric")
    return {**candidate, "CandidateFinalObjectiveMetricValue": metric["Value"] if metric else math.inf}


def _value(candidate: Record) -> float:
    metric = candidate["FinalAutoMLJobObjectiveMetric"]
    return float(metric["Value"]) * (-1 if metric["Type"] == "Minimize" else 1)


def _metric(name: str, value: float) -> Record:
    older = {} if name in _ONLY_STANDARD else {"MetricName": name}
    return {**older, "StandardMetricName": name, "Value": value, "Set": "Validation"}
