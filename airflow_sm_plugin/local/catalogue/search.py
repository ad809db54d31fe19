"""Search over the records of this service, and over those that moto stores.

Properties are paths (``ProductionVariants.VariantName``) in botocore's model of the resource; an unknown property is
refused. Source: API reference, Search, Filter, NestedFilters, SearchExpression.
"""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from botocore.model import ListShape, MapShape, Shape, StructureShape

from airflow_sm_plugin.local.account.operations import Params, moto_sagemaker, operation, page_of
from airflow_sm_plugin.local.account.state import Record, Region, public
from airflow_sm_plugin.local.automl.jobs.step_jobs import TRAINING
from airflow_sm_plugin.local.endpoints import endpoints
from airflow_sm_plugin.local.endpoints.endpoint_operations import describe
from airflow_sm_plugin.local.models import models
from airflow_sm_plugin.local.models.model_packages import GROUPS, PACKAGES
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, service_model

_OWN: dict[str, tuple[str, Callable[[Record], Record]]] = {
    "Endpoint": (endpoints.KIND, describe),
    "Model": (models.KIND, public),
    "ModelPackage": (PACKAGES, public),
    "ModelPackageGroup": (GROUPS, public),
    "TrainingJob": (TRAINING, public),
}
"""The kind of a Resource's records, and the function that describes a record."""
_OF_MOTO = {
    "Experiment": "Experiment",
    "ExperimentTrial": "Trial",
    "ExperimentTrialComponent": "TrialComponent",
    "Pipeline": "Pipeline",
}
"""The result member of a Resource that moto stores."""

Description = Mapping[str, Any]
_ORDERED: dict[str, Callable[[float, float], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_NUMBERS = frozenset({"integer", "long", "float", "double"})
_SIMPLE = _NUMBERS | {"string", "boolean", "timestamp"}


@operation("Search")
def search(region: Region, params: Params) -> Record:
    """Find resources by an expression; by default, the last modified one comes first."""
    resource = params["Resource"]
    if params.get("VisibilityConditions"):
        raise ValidationFailure("The embedded SageMaker does not support VisibilityConditions in Search.")
    member = _member(resource)
    shape = _shape(member)
    expression = params.get("SearchExpression") or {}
    matches({}, expression, shape)  # refuses a wrong expression, also without records
    with region.lock:
        everything = _descriptions(region, resource)
        hits = [description for description in everything if matches(description, expression, shape)]
    if params.get("CrossAccountFilterOption") == "CrossAccount":
        hits = []
    hits.sort(key=_order(params.get("SortBy"), shape), reverse=params.get("SortOrder") != "Ascending")
    page, token = page_of(hits, params)
    if member == "Model":
        page = [{"Model": model, "Endpoints": _serving(region, model)} for model in page]
    return {
        "Results": [{member: description} for description in page],
        "TotalHits": {"Value": len(hits), "Relation": "EqualTo"},
        **({"NextToken": token} if token else {}),
    }


def _member(resource: str) -> str:
    if resource in _OWN:
        return resource
    if resource not in _OF_MOTO:
        raise ValidationFailure(
            f"The embedded SageMaker does not search resources of type {resource}: it has none. It searches "
            f"{', '.join([*_OWN, *_OF_MOTO])}."
        )
    return _OF_MOTO[resource]


def _shape(member: str) -> StructureShape:
    return cast("StructureShape", service_model(CONTROL_PLANE).shape_for(member))


def _order(by: str | None, shape: StructureShape) -> Callable[[Record], Any]:
    if by is None:
        return lambda shown: (shown.get("LastModifiedTime") or shown["CreationTime"]).timestamp()
    sort_key({}, by, shape)  # refuses a wrong name, also without records
    return lambda description: sort_key(description, by, shape)


def _descriptions(region: Region, resource: str) -> Iterator[Record]:
    if resource in _OWN:
        kind, described = _OWN[resource]
        with region.table(kind) as records:
            descriptions = [
                {**described(record), "Tags": list(record.get("_tags") or [])} for record in records.values()
            ]
    else:
        member = _OF_MOTO[resource]
        answered = moto_sagemaker(region.name).search(resource=resource)["Results"]
        descriptions = [{f"{member}Arn": result[member].get("Arn"), **result[member]} for result in answered]
        if member == "TrialComponent":
            descriptions = [{**result, "Parents": _parents(region, result)} for result in descriptions]
    members = _shape(_member(resource)).members
    for description in descriptions:
        yield {name: value for name, value in description.items() if name in members and value is not None}


def _parents(region: Region, component: Record) -> list[Record]:
    return [
        {"TrialName": trial.trial_name, "ExperimentName": trial.experiment_name}
        for trial in moto_sagemaker(region.name).trials.values()
        if component["TrialComponentName"] in trial.trial_components
    ]


def _serving(region: Region, model: Record) -> list[Record]:
    """List the endpoints that run a model, with the members of the model dashboard."""
    shown = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
    with region.table(endpoints.KIND) as table:
        return [
            {name: record[name] for name in shown}
            for record in table.values()
            if (live := record.get("_live"))
            and any(variant.model["ModelName"] == model["ModelName"] for variant in live.variants.values())
        ]


def matches(description: Description, expression: Mapping[str, Any], shape: StructureShape) -> bool:
    """Decide whether a description satisfies an expression. Raises ValidationFailure for a wrong expression."""
    results = [
        *(_holds(description, condition, shape) for condition in expression.get("Filters", ())),
        *(_nested(description, nested, shape) for nested in expression.get("NestedFilters", ())),
        *(matches(description, inner, shape) for inner in expression.get("SubExpressions", ())),
    ]
    if not results:
        return True
    return any(results) if expression.get("Operator") == "Or" else all(results)


def sort_key(description: Description, name: str, shape: StructureShape) -> tuple[bool, Any]:
    """Make the sort key of a description; descriptions without the property come first."""
    kind = _kind(shape, name)
    if kind not in _SIMPLE:
        raise ValidationFailure(f"Cannot sort by property: {name}")
    value = next(_values(description, name.split(".")), None)
    return value is not None, _comparable(value) if value is not None else 0


def _nested(description: Description, nested: Mapping[str, Any], shape: StructureShape) -> bool:
    """Decide whether any single element of a list satisfies all filters."""
    name = nested["NestedPropertyName"]
    inner = _shape_at(shape, name)
    if inner is None:
        raise ValidationFailure(f"Unknown property name: {name}")
    if not isinstance(inner, StructureShape):
        raise ValidationFailure(f"Property {name} has no nested properties.")
    prefixes = (f"{name}.", f"{name.rpartition('.')[2]}.")
    filters = [
        {**condition, "Name": condition["Name"].removeprefix(prefixes[0]).removeprefix(prefixes[1])}
        for condition in nested["Filters"]
    ]
    elements = [element for element in _values(description, name.split(".")) if isinstance(element, Mapping)]
    held = [[_holds(element, condition, inner) for condition in filters] for element in (elements or [{}])]
    return any(map(all, held))


def _holds(description: Description, condition: Mapping[str, Any], shape: StructureShape) -> bool:
    name: str = condition["Name"]
    relation: str = condition.get("Operator", "Equals")
    text: str | None = condition.get("Value")
    kind = _kind(shape, name)
    if kind is None:
        raise ValidationFailure(f"Unknown property name: {name}")
    values = list(_values(description, name.split(".")))
    if relation in ("Exists", "NotExists"):
        if text is not None:
            raise ValidationFailure(f"Operator {relation} on {name} takes no Value.")
        return bool(values) is (relation == "Exists")
    if text is None:
        raise ValidationFailure(f"Operator {relation} on {name} needs a Value.")
    if kind not in _SIMPLE:
        raise ValidationFailure(f"Operator {relation} is for values, not for {name}, which is a {kind}.")
    accepts = _test(relation, text, kind, name)
    return all(map(accepts, values)) if relation == "NotEquals" else any(map(accepts, values))


def _test(relation: str, text: str, kind: str, name: str) -> Callable[[Any], bool]:
    """Make the test of a value. Raises ValidationFailure for a Value that the property cannot have."""
    if relation == "Contains":
        if kind != "string":
            raise ValidationFailure(f"Operator Contains is for text, not for {name}.")
        return lambda value: text in str(value)
    if relation in _ORDERED:
        if kind not in _NUMBERS and kind != "timestamp":
            raise ValidationFailure(f"Operator {relation} is for numbers and times, not for {name}.")
        compare, limit = _ORDERED[relation], _parsed(text, kind, name)
        return lambda value: compare(_comparable(value), limit)
    wanted = [_parsed(part.strip(), kind, name) for part in (text.split(",") if relation == "In" else [text])]
    negated = relation == "NotEquals"
    return lambda value: (_comparable(value) in wanted) is not negated


def _parsed(text: str, kind: str, name: str) -> Any:  # noqa: ANN401 - as the property's type
    try:
        if kind in _NUMBERS:
            return float(text)
        if kind == "timestamp":
            moment = datetime.datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except ValueError:
        raise ValidationFailure(f"Invalid value for property {name} of type {kind}: {text}") from None
    return text.lower() == "true" if kind == "boolean" else text


def _comparable(value: Any) -> Any:  # noqa: ANN401 - a description's value
    return value.timestamp() if isinstance(value, datetime.datetime) else value


def _kind(shape: StructureShape, name: str) -> str | None:
    property_shape = _shape_at(shape, name)
    return None if property_shape is None else str(property_shape.type_name)


def _shape_at(shape: Shape, name: str) -> Shape | None:
    """Find the shape at a path, of a list the shape of its elements; None for an unknown property."""
    current: Shape | None = shape
    for part in name.split("."):
        if isinstance(current, MapShape):
            return current.value
        if not isinstance(current, StructureShape):
            return None
        if set(current.members) == {"Key", "Value"}:
            return current.members["Value"]
        current = current.members.get(part)
        while isinstance(current, ListShape):
            current = current.member
    return current


def _values(value: Any, path: Sequence[str]) -> Iterator[Any]:  # noqa: ANN401 - a part of a description
    """Yield the values at a path, of every element of a list. The rest of a path is a tag's or a map's key."""
    if not path:
        yield from value if isinstance(value, list) else [] if value is None else [value]
    elif isinstance(value, list):
        key = ".".join(path)
        for element in value:
            if isinstance(element, Mapping) and element.keys() <= {"Key", "Value"}:
                yield from [element["Value"]] if element["Key"] == key else []
            else:
                yield from _values(element, path)
    elif isinstance(value, Mapping):
        rest = ".".join(path)
        yield from _values(value[rest], ()) if rest in value else _values(value.get(path[0]), path[1:])
