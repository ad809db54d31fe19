"""Search over what is here, and over the records that moto keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from airflow_sm_plugin.local.account.listing import page_of
from airflow_sm_plugin.local.account.moto_operations import moto_sagemaker
from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.state import Record, Region, public
from airflow_sm_plugin.local.automl.jobs.step_jobs import TRAINING
from airflow_sm_plugin.local.catalogue.search_expression import matches, sort_key
from airflow_sm_plugin.local.endpoints import endpoints
from airflow_sm_plugin.local.endpoints.endpoint_descriptions import describe
from airflow_sm_plugin.local.models import models
from airflow_sm_plugin.local.models.model_package_groups import GROUPS, PACKAGES
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, service_model

if TYPE_CHECKING:
    from botocore.model import StructureShape

_OURS: dict[str, tuple[str, Callable[[Record], Record]]] = {
    "Endpoint": (endpoints.KIND, describe),
    "Model": (models.KIND, public),
    "ModelPackage": (PACKAGES, public),
    "ModelPackageGroup": (GROUPS, public),
    "TrainingJob": (TRAINING, public),
}
"""The kind of records of a Resource, and how one is described."""
_MOTOS = {
    "Experiment": "Experiment",
    "ExperimentTrial": "Trial",
    "ExperimentTrialComponent": "TrialComponent",
    "Pipeline": "Pipeline",
}
"""The result member of a Resource that moto keeps."""


@operation("Search")
def search(region: Region, params: Params) -> Record:
    """Find resources by an expression; the last modified comes first unless told otherwise."""
    resource = params["Resource"]
    if params.get("VisibilityConditions"):
        raise ValidationFailure("The embedded SageMaker does not support VisibilityConditions in Search.")
    member = _member(resource)
    shape = _shape(member)
    expression = params.get("SearchExpression") or {}
    matches(
        {}, expression, shape
    )  # an expression that is wrong is refused also where there is nothing to find
    with region.lock:
        found = [one for one in _descriptions(region, resource) if matches(one, expression, shape)]
    if params.get("CrossAccountFilterOption") == "CrossAccount":
        found = []
    found.sort(key=_order(params.get("SortBy"), shape), reverse=params.get("SortOrder") != "Ascending")
    page, token = page_of(found, params)
    results = [{member: {"Model": one, "Endpoints": _serving(region, one)} if member == "Model" else one}
               for one in page]  # fmt: skip
    return {
        "Results": results,
        "TotalHits": {"Value": len(found), "Relation": "EqualTo"},
        **({"NextToken": token} if token else {}),
    }


def _member(resource: str) -> str:
    if resource in _OURS:
        return resource
    if resource not in _MOTOS:
        raise ValidationFailure(
            f"The embedded SageMaker does not search resources of type {resource}: it has none. It searches "
            f"{', '.join([*_OURS, *_MOTOS])}."
        )
    return _MOTOS[resource]


def _shape(member: str) -> StructureShape:
    return cast("StructureShape", service_model(CONTROL_PLANE).shape_for(member))


def _order(by: str | None, shape: StructureShape) -> Callable[[Record], Any]:
    if by is None:
        return lambda one: (one.get("LastModifiedTime") or one["CreationTime"]).timestamp()
    sort_key({}, by, shape)  # refused also where there is nothing to sort
    return lambda one: sort_key(one, by, shape)


def _descriptions(region: Region, resource: str) -> Iterator[Record]:
    """Yield the descriptions, of the members that Search has, with their tags."""
    if resource in _OURS:
        kind, described = _OURS[resource]
        with region.table(kind) as records:
            found = [{**described(one), "Tags": list(one.get("_tags") or [])} for one in records.values()]
    else:
        member = _MOTOS[resource]
        answered = moto_sagemaker(region.name).search(resource=resource)["Results"]
        found = [{f"{member}Arn": one[member].get("Arn"), **one[member]} for one in answered]
        if member == "TrialComponent":
            found = [{**one, "Parents": _parents(region, one)} for one in found]
    members = _shape(_member(resource)).members
    for one in found:
        yield {name: value for name, value in one.items() if name in members and value is not None}


def _parents(region: Region, component: Record) -> list[Record]:
    """Return the trials of a trial component."""
    return [
        {"TrialName": trial.trial_name, "ExperimentName": trial.experiment_name}
        for trial in moto_sagemaker(region.name).trials.values()
        if component["TrialComponentName"] in trial.trial_components
    ]


def _serving(region: Region, model: Record) -> list[Record]:
    """Return the endpoints that run a model, as the model dashboard shows them."""
    shown = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    with region.table(endpoints.KIND) as table:
        return [
            {name: record[name] for name in shown}
            for record in table.values()
            if (live := record.get("_live"))
            and any(variant.model["ModelName"] == model["ModelName"] for variant in live.variants.values())
        ]
