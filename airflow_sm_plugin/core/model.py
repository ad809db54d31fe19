"""CreateModel: the request, its content-derived name, and the comparison with a model that has the name already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.core.names import check_name, content_name
from airflow_sm_plugin.exceptions import InvalidRequest

MAX_CONTAINERS = 15
MAX_ENVIRONMENT_ENTRIES = 100
MAX_ENVIRONMENT_TEXT = 1_024
MAX_ENVIRONMENT_BYTES = 32 * 1_024
_ENVIRONMENT_KEY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a model is to be. Containers are spelled as SageMaker spells them; the order is the pipeline's.

    ``name`` None derives one from ``stem`` and the content. ``tags`` are no content: they may change without a new
    model.
    """

    containers: Sequence[Mapping[str, Any]] = field(repr=False)
    execution_role_arn: str
    name: str | None = None
    stem: str = "model"
    vpc_config: Mapping[str, Any] | None = None
    enable_network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    artefact_etags: Sequence[str | None] = ()

    def checked(self) -> ModelSpec:
        """Return the spec itself when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy; never an environment value
        """
        if self.name is not None:
            check_name(self.name, "model name")
        if not 1 <= len(self.containers) <= MAX_CONTAINERS:
            raise InvalidRequest(f"a model has 1 to {MAX_CONTAINERS} containers, not {len(self.containers)}")
        if not self.execution_role_arn:
            raise InvalidRequest(
                "execution_role is empty: SageMaker needs a role that may read the model's artefacts"
            )
        for number, container in enumerate(self.containers, start=1):
            if not container.get("Image") and not container.get("ModelPackageName"):
                raise InvalidRequest(
                    f"container {number} has neither Image nor ModelPackageName: give one of them"
                )
            _check_environment(container.get("Environment") or {}, number)
        _check_environment_bytes(self.containers)
        return self

    def resolved_name(self) -> str:
        """Return the name: the given one, or ``<stem>-<digest>`` of content and artefacts' ETags."""
        if self.name is not None:
            return self.name
        return content_name(self.stem, [self._content(), list(self.artefact_etags)])

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``create_model``: one container is the PrimaryContainer, several are Containers."""
        containers = [_without_empty(container) for container in self.containers]
        request: dict[str, Any] = {
            "ModelName": self.resolved_name(),
            "ExecutionRoleArn": self.execution_role_arn,
        }
        if len(containers) == 1:
            request["PrimaryContainer"] = containers[0]
        else:
            request["Containers"] = containers
        if self.vpc_config:
            request["VpcConfig"] = dict(self.vpc_config)
        if self.enable_network_isolation:
            request["EnableNetworkIsolation"] = True
        if self.tags:
            request["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags.items()]
        return request

    def _content(self) -> dict[str, Any]:
        return _content(
            self.containers,
            self.execution_role_arn,
            self.vpc_config,
            isolated=self.enable_network_isolation,
        )

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Name the fields in which a described model differs from this; never a value of an environment."""
        there = _content(
            description.get("Containers") or [description.get("PrimaryContainer") or {}],
            description.get("ExecutionRoleArn", ""),
            description.get("VpcConfig"),
            isolated=bool(description.get("EnableNetworkIsolation")),
        )
        return _differences(there, self._content())


def _check_environment(environment: Mapping[str, str], number: int) -> None:
    if len(environment) > MAX_ENVIRONMENT_ENTRIES:
        raise InvalidRequest(
            f"container {number} has {len(environment)} environment entries, SageMaker takes {MAX_ENVIRONMENT_ENTRIES}"
        )
    for key, value in environment.items():
        for text in (key, value):
            if not isinstance(text, str):
                raise InvalidRequest(
                    f"container {number}: environment {key!r} is {type(text).__name__}, not text: put it in quotes"
                )
            if len(text.encode()) > MAX_ENVIRONMENT_TEXT:
                raise InvalidRequest(
                    f"container {number}: environment {key[:64]!r} is longer than the {MAX_ENVIRONMENT_TEXT} bytes "
                    f"that SageMaker takes for a key or a value"
                )
        if not _ENVIRONMENT_KEY.fullmatch(key):
            raise InvalidRequest(
                f"container {number}: environment {key!r} is not a name that SageMaker takes: letters, digits and "
                f"underscores, no digit first"
            )


def _check_environment_bytes(containers: Sequence[Mapping[str, Any]]) -> None:
    """Check the one limit that SageMaker sets for all containers together (API reference, ContainerDefinition)."""
    environments: list[Mapping[str, str]] = [container.get("Environment") or {} for container in containers]
    size = sum(len(key.encode()) + len(text.encode()) for env in environments for key, text in env.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(
            f"the environments of all containers have {size} bytes, SageMaker takes {MAX_ENVIRONMENT_BYTES} together: "
            f"put long values into the model's archive or into S3"
        )


def _content(
    containers: Sequence[Mapping[str, Any]],
    role: str,
    vpc_config: Mapping[str, Any] | None,
    *,
    isolated: bool,
) -> dict[str, Any]:
    return {
        "Containers": [_comparable(container) for container in containers],
        "ExecutionRoleArn": role,
        "VpcConfig": dict(vpc_config or {}),
        "EnableNetworkIsolation": isolated,
    }


def _comparable(container: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what SageMaker adds by itself, so that a described container equals the one it was made from."""
    added_by_default = {"Mode": "SingleModel"}
    content = {
        key: value for key, value in _without_empty(container).items() if added_by_default.get(key) != value
    }
    source = content.pop("ModelDataSource", None)
    if source and "ModelDataUrl" not in content:
        content["ModelDataSource"] = source
    return content


def _without_empty(container: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in container.items() if value not in (None, {}, [])}


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    found = [key for key in wanted if key != "Containers" and there[key] != wanted[key]]
    have, want = there["Containers"], wanted["Containers"]
    if len(have) != len(want):
        return [*found, f"number of containers ({len(have)} there, {len(want)} wanted)"]
    for number, (old, new) in enumerate(zip(have, want, strict=True), start=1):
        found += [
            f"container {number} {key}{_environment_keys(key, old, new)}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    return found


def _environment_keys(field_name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if field_name != "Environment":
        return ""
    left, right = old.get(field_name) or {}, new.get(field_name) or {}
    return f" ({', '.join(sorted(key for key in {*left, *right} if left.get(key) != right.get(key)))})"
