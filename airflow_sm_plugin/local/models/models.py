"""CreateModel, DescribeModel, DeleteModel, ListModels."""

from __future__ import annotations

import copy
import re

from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure, check_object, check_prefix
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.containers.containers import (
    ContainerSpec,
    container_specs,
    containers_of,
    is_direct,
)
from airflow_sm_plugin.local.faults.recorded import recorded
from airflow_sm_plugin.local.models.model_packages import containers_in

KIND = "model"

_ENVIRONMENT_BYTES = 32 * 1024
"""SageMaker's limit of a container's environment."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/(?:[^/]+/)*[\w+=,.@-]{1,64}")
"""Stricter than the service model, whose pattern permits ``role/`` without a name."""


@operation("CreateModel")
def create_model(region: Region, params: Params) -> Record:
    """Store a model whose data are in S3. They are read when something runs the model."""
    name = params["ModelName"]
    record: Record = copy.deepcopy(dict(params))
    check_request(record)
    for container in containers_of(record):
        container.setdefault("Mode", "SingleModel")  # DescribeModel answers the default
    runs = _resolved(region, record)
    _check_name(region, name)
    check_model_data(region, {**record, "_containers": runs})
    with region.table(KIND) as models:
        _check_name(region, name)
        models[name] = {
            "EnableNetworkIsolation": False,
            **record,
            "Tags": None,
            "_tags": record.get("Tags", []),
            "_containers": runs,
            "ModelArn": region.arn(KIND, name),
            "CreationTime": now(),
        }
        return {"ModelArn": models[name]["ModelArn"]}


@operation("DescribeModel")
def describe_model(region: Region, params: Params) -> Record:
    return public(model_called(region, params["ModelName"]))


@operation("DeleteModel")
def delete_model(region: Region, params: Params) -> Record:
    """Delete a model; endpoints that run it go on."""
    with region.table(KIND) as models:
        model_called(region, params["ModelName"])
        del models[params["ModelName"]]
    return {}


@operation("ListModels")
def list_models(region: Region, params: Params) -> Record:
    members = "ModelName ModelArn CreationTime"
    with region.table(KIND) as models:
        return listed("Models", models.values(), params, kind="Model", members=members)


def model_called(region: Region, name: str) -> Record:
    with region.table(KIND) as models:
        if name not in models:
            raise recorded("no such model", arn=region.arn(KIND, name))
        return models[name]


def _check_name(region: Region, name: str) -> None:
    with region.table(KIND) as models:
        if name in models:
            raise recorded("the model's name is taken", arn=models[name]["ModelArn"])


def _resolved(region: Region, model: Record) -> list[Record]:
    """List the containers to run; a container that names a model package is replaced by the package's containers."""
    containers: list[Record] = []
    for container in containers_of(model):
        package = container.get("ModelPackageName")
        if not package:
            containers.append(container)
            continue
        for inner in containers_in(region, package):
            environment = {**inner.get("Environment", {}), **container.get("Environment", {})}
            containers.append({"Mode": container["Mode"], **inner, "Environment": environment})
    return containers


def check_request(model: Record) -> None:
    if bool(model.get("PrimaryContainer")) == bool(model.get("Containers")):
        raise recorded("neither PrimaryContainer nor Containers, or both")
    definitions = containers_of(model)
    hostnames = [name for definition in definitions if (name := definition.get("ContainerHostname"))]
    if len(hostnames) != len(set(hostnames)):
        raise recorded("containers share a host name")
    if is_direct(model) and not (len(hostnames) == len(definitions) > 1):
        raise recorded("direct invocation without several named containers")
    for number, definition in enumerate(definitions, start=1):
        _check_container(definition, number)
    role = model.get("ExecutionRoleArn")
    if role is not None and not _ROLE.fullmatch(role):
        raise recorded("the execution role cannot be assumed", role=role)


def check_model_data(region: Region, model: Record) -> None:
    """Check that the containers' model data are in S3. Target models are checked when a request names them.

    Raises RecordedFailure. Only their existence is checked, not the role's permission to read them.
    """
    for spec in container_specs(model):
        if spec.model_data_url is not None and not spec.multi_model:
            _check_model_data(region, spec, spec.model_data_url, model.get("ExecutionRoleArn", ""))


def _check_container(definition: Record, number: int) -> None:
    if not definition.get("Image") and not definition.get("ModelPackageName"):
        raise recorded("neither image nor model package")
    if definition.get("ModelDataUrl") and definition.get("ModelDataSource"):
        raise recorded("model data given in two ways")
    if definition.get("ModelDataSource") and definition.get("Mode") == "MultiModel":
        raise recorded("a multi-model container with a ModelDataSource", number=number)
    size = sum(len(key) + len(value) for key, value in definition.get("Environment", {}).items())
    if size > _ENVIRONMENT_BYTES:
        raise recorded("a container's environment is too large", limit=_ENVIRONMENT_BYTES, size=size)


def _check_model_data(region: Region, spec: ContainerSpec, url: str, role: str) -> None:
    check = check_prefix if spec.unpacked and not spec.is_object else check_object
    location = Location.parse(url)
    try:
        check(region, location)
    except ObjectFailure as failure:
        if failure.reason == "NoSuchKey":
            raise recorded("the model's artefact is missing", uri=location.uri) from failure
        raise recorded(
            "the model's artefact cannot be read", uri=location.uri, role=role, region=region.name
        ) from failure
