"""CreateModel, DescribeModel, DeleteModel, ListModels."""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.listing import list_page, with_token
from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.containers.containers import containers_of
from airflow_sm_plugin.local.faults.recorded import recorded
from airflow_sm_plugin.local.models.model_checks import check_model_data, check_request
from airflow_sm_plugin.local.models.model_packages import containers_in

KIND = "model"


@operation("CreateModel")
def create_model(region: Region, params: Params) -> Record:
    """Store a model whose data are there. What becomes of them afterwards shows when something runs it."""
    name = params["ModelName"]
    record: Record = copy.deepcopy(dict(params))
    check_request(record)
    for container in containers_of(record):
        container.setdefault("Mode", "SingleModel")  # DescribeModel answers it whoever left it out
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
    """Return a model's record. Raises RecordedError."""
    with region.table(KIND) as models:
        if name not in models:
            raise recorded("no such model", arn=region.arn(KIND, name))
        return models[name]


def _check_name(region: Region, name: str) -> None:
    with region.table(KIND) as models:
        if name in models:
            raise recorded("the model's name is taken", arn=models[name]["ModelArn"])


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
