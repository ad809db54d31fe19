"""What CreateModel checks at once: that its members go together, the execution role's ARN, and the model data in S3."""

from __future__ import annotations

import re

from airflow_sm_plugin.local.account.s3_objects import Location, ObjectFailure, check_object, check_prefix
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.containers.containers import (
    ContainerSpec,
    container_specs,
    containers_of,
    is_direct,
)
from airflow_sm_plugin.local.faults.recorded import recorded

_ENVIRONMENT_BYTES = 32 * 1024
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/(?:[^/]+/)*[\w+=,.@-]{1,64}")
"""Stricter than the service model, whose pattern takes ``role/`` without a name."""


def check_request(model: Record) -> None:
    """Check what the request alone tells. Raises RecordedError."""
    if bool(model.get("PrimaryContainer")) == bool(model.get("Containers")):
        raise recorded("neither PrimaryContainer nor Containers, or both")
    definitions = containers_of(model)
    hostnames = [one["ContainerHostname"] for one in definitions if one.get("ContainerHostname")]
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
    """Check that the containers' model data are in S3; target models are looked for by request only.

    Raises RecordedError. Which role may read them is not known here: all that can be told is whether S3 has them.
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
