"""CreateModel, DescribeModel, DeleteModel, ListModels."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.containers import containers_of, is_direct
from airflow_sm_plugin.local.errors import ValidationFailure
from airflow_sm_plugin.local.listing import list_page, with_token
from airflow_sm_plugin.local.model_packages import containers_in
from airflow_sm_plugin.local.operations import Params, operation
from airflow_sm_plugin.local.state import Record, Region, now, public

KIND = "model"
_ENVIRONMENT_BYTES = 32 * 1024


@operation("CreateModel")
def create_model(region: Region, params: Params) -> Record:
    """Store a model. Whether its data is there shows when something runs it, as in SageMaker."""
    name = params["ModelName"]
    record: Record = copy.deepcopy(dict(params))
    _check(record)
    for container in containers_of(record):
        container.setdefault("Mode", "SingleModel")  # DescribeModel answers it whoever left it out
    runs = _resolved(region, record)
    with region.table(KIND) as models:
        if name in models:
            raise ValidationFailure(f'Cannot create already existing model "{models[name]["ModelArn"]}".')
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
    """Answer what CreateModel was told."""
    return public(model_called(region, params["ModelName"]))


@operation("DeleteModel")
def delete_model(region: Region, params: Params) -> Record:
    """Forget a model; endpoints that run it go on."""
    with region.table(KIND) as models:
        model_called(region, params["ModelName"])
        del models[params["ModelName"]]
    return {}


@operation("ListModels")
def list_models(region: Region, params: Params) -> Record:
    """List models."""
    with region.table(KIND) as models:
        page = list_page(
            models.values(), params, kind="Model", members=("ModelName", "ModelArn", "CreationTime")
        )
    return with_token("Models", page)


def model_called(region: Region, name: str) -> Record:
    """Return a model's record. Raises ValidationFailure in the service's words."""
    with region.table(KIND) as models:
        if name not in models:
            raise ValidationFailure(f'Could not find model "{region.arn(KIND, name)}".')
        return models[name]


def _resolved(region: Region, model: Record) -> list[Record]:
    """Return the containers to run: a model package's own in the place of one that names it."""
    found: list[Record] = []
    for container in containers_of(model):
        package = container.get("ModelPackageName")
        if not package:
            found.append(container)
            continue
        for inner in containers_in(region, package):
            environment = {**inner.get("Environment", {}), **container.get("Environment", {})}
            found.append({"Mode": container["Mode"], **inner, "Environment": environment})
    return found


def _check(model: Record) -> None:
    if bool(model.get("PrimaryContainer")) == bool(model.get("Containers")):
        raise ValidationFailure("You must provide either a PrimaryContainer or Containers, and not both.")
    hostnames = [one["ContainerHostname"] for one in containers_of(model) if one.get("ContainerHostname")]
    if len(hostnames) != len(set(hostnames)):
        raise ValidationFailure("Each ContainerHostname must be unique within a model.")
    if is_direct(model) and not (len(hostnames) == len(containers_of(model)) > 1):
        raise ValidationFailure(
            "InferenceExecutionConfig Mode Direct needs more than one container, each with a ContainerHostname."
        )
    for container in containers_of(model):
        if not container.get("Image") and not container.get("ModelPackageName"):
            raise ValidationFailure("Each container needs an Image or a ModelPackageName.")
        if container.get("ModelDataUrl") and container.get("ModelDataSource"):
            raise ValidationFailure("A container takes either ModelDataUrl or ModelDataSource, not both.")
        size = sum(len(key) + len(value) for key, value in container.get("Environment", {}).items())
        if size > _ENVIRONMENT_BYTES:
            raise ValidationFailure(
                f"A container's Environment is at most {_ENVIRONMENT_BYTES} bytes, not {size}."
            )
