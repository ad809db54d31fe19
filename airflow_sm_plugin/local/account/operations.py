"""The registry of operations answered here, or passed on to moto; and the answers of List operations.

A module registers its handlers with ``@operation("CreateModel")``; ``load()`` imports all such modules.

moto answers a training job ``Completed`` without training anything. So an operation is passed on only in two cases: it
does nothing but keep records in the real service either, or it reads or deletes records of a kind that cannot be
created here, so that "none" is true. Every other operation is refused, also one that a later moto adds.

Filters, order and pages of the List operations are the same for every kind of resource.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.protocol.errors import (
    ResourceNotFoundFailure,
    ServiceFailure,
    UnknownOperationFailure,
    ValidationFailure,
)
from airflow_sm_plugin.local.protocol.protocol import RUNTIME, service_model

_EXPERIMENTS = """
    CreateExperiment DeleteExperiment DescribeExperiment ListExperiments
    CreateTrial DeleteTrial DescribeTrial ListTrials
    CreateTrialComponent DeleteTrialComponent DescribeTrialComponent ListTrialComponents UpdateTrialComponent
    AssociateTrialComponent DisassociateTrialComponent
"""
_MODEL_CARDS = """
    CreateModelCard DeleteModelCard DescribeModelCard ListModelCards ListModelCardVersions UpdateModelCard
"""
_DEFINITIONS = """
    CreateDataQualityJobDefinition DeleteDataQualityJobDefinition DescribeDataQualityJobDefinition
    ListDataQualityJobDefinitions
    CreateModelBiasJobDefinition DeleteModelBiasJobDefinition DescribeModelBiasJobDefinition
    ListModelBiasJobDefinitions
    CreateModelExplainabilityJobDefinition DeleteModelExplainabilityJobDefinition
    DescribeModelExplainabilityJobDefinition ListModelExplainabilityJobDefinitions
    CreateModelQualityJobDefinition DeleteModelQualityJobDefinition DescribeModelQualityJobDefinition
    ListModelQualityJobDefinitions
    CreateNotebookInstanceLifecycleConfig DeleteNotebookInstanceLifecycleConfig
    DescribeNotebookInstanceLifecycleConfig
    CreatePipeline DeletePipeline DescribePipeline ListPipelines UpdatePipeline
"""
"""Definitions of jobs; the operations that run them are refused."""
_NEVER_CREATED = """
    DeleteHyperParameterTuningJob DescribeHyperParameterTuningJob ListHyperParameterTuningJobs
    DeleteCompilationJob DescribeCompilationJob ListCompilationJobs
    DeleteNotebookInstance DescribeNotebookInstance ListNotebookInstances
    DeleteCluster DescribeCluster ListClusters
    DeleteDomain DescribeDomain ListDomains
    DescribePipelineExecution ListPipelineExecutions
"""
"""Operations on kinds that only a refused operation creates: an empty list, or not found."""

PASSED_ON = frozenset(f"{_EXPERIMENTS} {_MODEL_CARDS} {_DEFINITIONS} {_NEVER_CREATED}".split())
"""The operations that moto answers."""

NOT_AVAILABLE = {
    "CreateTrainingJob": "run training jobs",
    "CreateProcessingJob": "run processing jobs",
    "CreateHyperParameterTuningJob": "run hyperparameter tuning jobs",
    "CreateCompilationJob": "compile models",
    "CreateNotebookInstance": "run notebook instances",
    "StartNotebookInstance": "run notebook instances",
    "StopNotebookInstance": "run notebook instances",
    "CreateCluster": "run clusters",
    "DescribeClusterNode": "run clusters",
    "ListClusterNodes": "run clusters",
    "CreateDomain": "run Studio domains",
    "CreateFeatureGroup": "have a feature store",
    "DescribeFeatureGroup": "have a feature store",
    "StartPipelineExecution": "run pipelines",
    "DescribePipelineDefinitionForExecution": "run pipelines",
    "ListPipelineParametersForExecution": "run pipelines",
}
"""Operations that moto would only pretend to carry out, or crash at, and the reason of their refusal."""

Params = Mapping[str, Any]
Handler = Callable[[Region, Params], Record]
_MODULES = (
    "models.model_packages",
    "models.models",
    "endpoints.endpoint_configs",
    "endpoints.endpoint_operations",
    "catalogue.tags",
    "endpoints.runtime",
    "async_inference.requests",
    "transform.operations",
    "automl.jobs.jobs",
    "automl.jobs.step_jobs",
    "catalogue.search",
)
_HANDLERS: dict[str, Handler] = {}


def refusal(operation: str) -> str:
    activity = NOT_AVAILABLE.get(operation)
    if activity is None:
        return f"The embedded SageMaker does not answer this: {operation}"
    return f"The embedded SageMaker does not {activity}: {operation} is not available"


def moto_failure(crash: Exception, operation: str, params: Mapping[str, object]) -> ServiceFailure:
    """Convert a crash of moto into an error. moto crashes where the service would refuse.

    A KeyError of a name is a missing resource; any other crash comes from a parameter that the service model permits
    and moto does not expect. A retry would not help, so neither is a 500.
    """
    if isinstance(crash, KeyError) and crash.args[0] in params.values():
        return ResourceNotFoundFailure(f"{operation} could not find {crash.args[0]}.")
    reason = f"{type(crash).__name__}: {crash}"
    return ValidationFailure(f"moto, which keeps these records, does not support {operation} so ({reason}).")


def moto_sagemaker(region: str) -> Any:  # noqa: ANN401 - moto's backend; importing its type takes a second
    from moto.sagemaker.models import sagemaker_backends

    return sagemaker_backends[ACCOUNT_ID][region]


def operation(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler. It gets the region and the validated parameters, and returns the output's members."""

    def register(handler: Handler) -> Handler:
        _HANDLERS.update(dict.fromkeys(names, handler))
        return handler

    return register


def load() -> None:
    for module in _MODULES:
        importlib.import_module(f"airflow_sm_plugin.local.{module}")


def handler_of(name: str) -> Handler | None:
    """Find the handler of an operation; None for those passed on, and for operations of the runtime without a handler.

    Raises UnknownOperationFailure for an operation of the control plane that is not answered.
    """
    if name in _HANDLERS:
        return _HANDLERS[name]
    if name in PASSED_ON or name in service_model(RUNTIME).operation_names:
        return None
    raise UnknownOperationFailure(refusal(name))


_PAGE = 10
"""Entries of a page without MaxResults."""


def listed(result: str, records: Iterable[Record], params: Params, *, kind: str, members: str) -> Record:
    """Build the output of a List operation: a page of summaries under *result*, and NextToken when more follow.

    :param kind: the prefix of the records' keys: ``<kind>Name``, ``<kind>Status``
    :param members: keys of a summary, separated by blanks
    """
    chosen = [record for record in records if _matches(record, params, kind)]
    chosen.sort(key=_order(params, kind), reverse=params.get("SortOrder", "Descending") == "Descending")
    page, token = page_of(chosen, params)
    names = members.split()
    entries = [{name: record[name] for name in names if record.get(name) is not None} for record in page]
    return {result: entries, **({"NextToken": token} if token else {})}


def page_of(chosen: Sequence[Record], params: Params) -> tuple[Sequence[Record], str | None]:
    """Cut out the page of NextToken and MaxResults; return it and the token of the next."""
    start = _start(params.get("NextToken"))
    end = start + int(str(params.get("MaxResults") or _PAGE))
    return chosen[start:end], str(end) if end < len(chosen) else None


def _matches(record: Record, params: Params, kind: str) -> bool:
    part = params.get("NameContains")
    status = params.get("StatusEquals")
    if part is not None and str(part).lower() not in str(record[f"{kind}Name"]).lower():
        return False
    if status is not None and record.get(f"{kind}Status") != status:
        return False
    return all(
        _in_time(record.get(moment), params.get(f"{moment}After"), params.get(f"{moment}Before"))
        for moment in ("CreationTime", "LastModifiedTime")
    )


def _in_time(moment: datetime.datetime | None, after: object, before: object) -> bool:
    if moment is None:
        return True
    seconds = moment.timestamp()
    return (after is None or seconds > float(str(after))) and (before is None or seconds < float(str(before)))


def _order(params: Params, kind: str) -> Callable[[Record], tuple[object, str]]:
    by = str(params.get("SortBy") or "CreationTime")
    key = by if by.endswith("Time") else f"{kind}{by}"
    return lambda record: (record[key], record[f"{kind}Name"])


def _start(token: object) -> int:
    if token is None:
        return 0
    if not str(token).isdigit():
        raise ValidationFailure("Invalid NextToken.")
    return int(str(token))
