"""Candidates of an Autopilot (AutoML) job, as DescribeAutoMLJobV2 and ListCandidatesForAutoMLJob answer them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.template_values import choice, is_given, number, whole_number
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import CandidateNotFound, InvalidRequest, ObjectiveNotMet

CPU = "CPU"
PROCESSING_UNITS = (CPU, "GPU")
JOB_TAG = "airflow-sm-plugin:auto-ml-job"
CANDIDATE_TAG = "airflow-sm-plugin:candidate"
_MINIMISED = frozenset(
    {
        *("mse", "rmse", "mae", "mape", "mase", "wape", "averageweightedquantileloss", "logloss"),
        *("perplexity", "validationloss", "trainingloss", "inferencelatency"),
    }
)
"""The metrics of SageMaker's ``AutoMLMetricExtendedEnum`` of which less is better, in lower case."""


def best_candidate(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Get a completed job's best candidate; raise CandidateNotFound when none was trained, or all failed."""
    candidate: Mapping[str, Any] | None = job.get("BestCandidate")
    if not candidate:
        raise CandidateNotFound(
            f"AutoML job {job['AutoMLJobName']} has no best candidate: it generated candidate definitions only, or "
            f"every candidate failed",
            do="run a job that trains, or name a candidate",
        )
    return candidate


def ranked(candidates: Iterable[Mapping[str, Any]], *, best: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rank the completed candidates: the job's ``BestCandidate``, then the others by their objective.

    The job's choice stays first whatever the figures: Autopilot chooses among equal ones, and an ensemble may share its
    figure with another candidate. Candidates without an objective are left out.
    """
    others = [
        (objective, candidate)
        for candidate in candidates
        if candidate.get("CandidateStatus") == "Completed"
        and candidate["CandidateName"] != best["CandidateName"]
        and (objective := objective_of(candidate)) is not None
        and not math.isnan(objective["value"])
    ]
    others.sort(key=lambda pair: pair[0]["value"] if is_minimised(pair[0]) else -pair[0]["value"])
    return [best, *(candidate for _, candidate in others)]


def candidate_at(
    rank: int, candidates: Iterable[Mapping[str, Any]], *, best: Mapping[str, Any], job_name: str
) -> Mapping[str, Any]:
    """Get the candidate of a rank, 1 being the best; raise CandidateNotFound when fewer have an objective."""
    order = ranked(candidates, best=best)
    if rank > len(order):
        raise CandidateNotFound(
            f"AutoML job {job_name} has {plural(len(order), 'completed candidate')} with an objective, none of rank "
            f"{rank}",
            do=f"ask for a rank up to {len(order)}",
        )
    return order[rank - 1]


def containers_of(
    candidate: Mapping[str, Any], *, job_name: str, processing_unit: str = CPU
) -> list[Mapping[str, Any]]:
    """Get the candidate's inference containers, in pipeline order; raise CandidateNotFound without any.

    :param processing_unit: ``CPU`` or ``GPU``; only candidates of text and image jobs have containers for GPUs
    """
    name = candidate.get("CandidateName")
    by_unit: Mapping[str, Any] = candidate.get("InferenceContainerDefinitions") or {}
    if by_unit:
        containers = {unit.upper(): definitions for unit, definitions in by_unit.items()}.get(processing_unit)
        if not containers:
            raise CandidateNotFound(
                f"candidate {name} of AutoML job {job_name} has no containers for {processing_unit}: it has them for "
                f"{', '.join(sorted(by_unit))}",
                do="choose processing_unit accordingly",
            )
        return list(containers)
    containers = candidate.get("InferenceContainers")
    if not containers:
        raise CandidateNotFound(
            f"candidate {name} of AutoML job {job_name} has no InferenceContainers "
            f"(candidate status {candidate.get('CandidateStatus', 'unknown')})",
            do="choose a completed candidate",
        )
    if processing_unit != CPU:
        raise CandidateNotFound(
            f"candidate {name} of AutoML job {job_name} has no containers for {processing_unit}: only those of text "
            f"and image jobs have",
            do="leave processing_unit out",
        )
    return list(containers)


def objective_of(candidate: Mapping[str, Any]) -> dict[str, Any] | None:
    """Get the final objective as ``{"name", "type", "value"}``, the name without ``validation:``; None without one."""
    metric = candidate.get("FinalAutoMLJobObjectiveMetric")
    if not metric:
        return None
    return {
        "name": str(metric["MetricName"]).removeprefix("validation:"),
        "type": metric.get("Type"),
        "value": float(metric["Value"]),
    }


def is_minimised(objective: Mapping[str, Any]) -> bool:
    """Decide whether less of an objective (of :func:`objective_of`) is better; by its name where it has no type."""
    if objective["type"] is not None:
        return bool(objective["type"] == "Minimize")
    return str(objective["name"]).lower() in _MINIMISED


def check_objective(candidate: Mapping[str, Any], required: float, *, job_name: str) -> None:
    """Check that the candidate's final objective is as good as required or better.

    :param required: the least value of a metric to be maximised, the greatest of one to be minimised
    :raises ObjectiveNotMet: it is worse, or the candidate reports none
    """
    objective, name = objective_of(candidate), candidate.get("CandidateName")
    if objective is None:
        raise ObjectiveNotMet(
            f"candidate {name} of AutoML job {job_name} reports no objective metric, {required:g} is required",
            do="choose another candidate, or leave required_objective out",
        )
    minimised, value = is_minimised(objective), objective["value"]
    if value <= required if minimised else value >= required:
        return
    raise ObjectiveNotMet(
        f"candidate {name} of AutoML job {job_name} has {objective['name']} {value:g}, required is {required:g} or "
        f"{'less' if minimised else 'more'}",
        do="train on other data or for longer, or relax required_objective",
    )


def tags_of(candidate: Mapping[str, Any], *, job_name: str) -> dict[str, str]:
    """Build the tags that link a model to its candidate and job."""
    return {JOB_TAG: job_name, CANDIDATE_TAG: str(candidate["CandidateName"])}


_WHEN_UNMET = ("fail", "skip")


@dataclass(frozen=True, kw_only=True)
class CandidateChoice:
    """A choice among a job's candidates.

    :param name: an exact candidate name; None goes by ``rank``
    :param rank: 1 is the job's best candidate
    :param processing_unit: ``CPU`` or ``GPU``
    :param required_objective: as ``required`` of :func:`check_objective`; None requires nothing
    :param skips: skip instead of failing when the objective is not met
    """

    name: str | None = None
    rank: int = 1
    processing_unit: str = CPU
    required_objective: float | None = None
    skips: bool = False

    @classmethod
    def read(
        cls,
        *,
        name: object = None,
        rank: object = None,
        processing_unit: object = CPU,
        required_objective: object = None,
        on_unmet_objective: object = "fail",
    ) -> CandidateChoice:
        """Read an operator's arguments; raise InvalidRequest for a value not permitted, or both name and rank."""
        if is_given(name) and is_given(rank):
            raise InvalidRequest("give either candidate_name or candidate_rank, not both")
        required = number(required_objective, "required_objective") if is_given(required_objective) else None
        return cls(
            name=str(name) if is_given(name) else None,
            rank=whole_number(rank, "candidate_rank", at_least=1) if is_given(rank) else 1,
            processing_unit=choice(processing_unit, "processing_unit", PROCESSING_UNITS),
            required_objective=required,
            skips=choice(on_unmet_objective, "on_unmet_objective", _WHEN_UNMET) == "skip",
        )
