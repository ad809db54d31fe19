"""CreateModel: the request, its content-derived name, the comparison with an existing model, and refusals as errors."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.core.names import check_name, content_name, digest
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    ExecutionRoleNotAssumable,
    ImageNotAccessible,
    InvalidRequest,
    ModelCreationRefused,
    ModelDataNotAccessible,
    ModelDataNotFound,
)
from airflow_sm_plugin.resources.tags import as_tags, check_tags

MAX_CONTAINERS = 15
MAX_ENVIRONMENT_ENTRIES = 100
MAX_ENVIRONMENT_TEXT = 1_024
MAX_ENVIRONMENT_BYTES = 32 * 1_024
CONTENT_TAG = "airflow-sm-plugin:content"
"""On every model we create: digests of its content and of each artefact's ETag, which DescribeModel does not show."""
_UNREAD = "-"
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/(?:[^/]+/)*[\w+=,.@-]+", re.ASCII)
_ENVIRONMENT_KEY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_ADDED_BY_DEFAULT: Mapping[str, object] = {
    "Mode": "SingleModel",
    "MultiModelConfig": {"ModelCacheSetting": "Enabled"},
}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A wanted model. Containers are spelled as SageMaker spells them, in pipeline order.

    :param name: None derives one from ``stem`` and the content
    :param tags: no part of the content: they may change without a new model
    :param artefact_etags: of the containers' artefacts, in their order; None where there is none or it is unreadable
    :param made_for: part of the content: each value gets a model of its own, also under a given ``name``; None reuses
        an existing model of the same content
    """

    containers: Sequence[Mapping[str, Any]] = field(repr=False)
    execution_role_arn: str
    name: str | None = None
    stem: str = "model"
    vpc_config: Mapping[str, Any] | None = None
    enable_network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    artefact_etags: Sequence[str | None] = ()
    made_for: str | None = None

    def checked(self) -> ModelSpec:
        """Return the spec itself, or raise InvalidRequest naming value, limit and remedy, but no environment value."""
        if self.name is not None:
            check_name(self.name, "model name")
        if not 1 <= len(self.containers) <= MAX_CONTAINERS:
            raise InvalidRequest(f"a model has 1 to {MAX_CONTAINERS} containers, not {len(self.containers)}")
        if not self.execution_role_arn:
            raise InvalidRequest(
                "execution_role is empty: SageMaker needs a role that may read the model's artefacts"
            )
        if not _ROLE_ARN.fullmatch(self.execution_role_arn):
            raise InvalidRequest(
                f"execution_role {self.execution_role_arn!r} is no role's ARN: give "
                f"arn:aws:iam::<account>:role/<name>, or the role's name alone"
            )
        for index, container in enumerate(self.containers, start=1):
            if not container.get("Image") and not container.get("ModelPackageName"):
                raise InvalidRequest(
                    f"container {index} has neither Image nor ModelPackageName: give one of them"
                )
            _check_environment(container.get("Environment") or {}, index)
        _check_environment_bytes(self.containers)
        check_tags(self.tags, "model", ours=1)
        return self

    @property
    def has_given_name(self) -> bool:
        """Check whether the model's name is independent of its content."""
        return self.name is not None and self.made_for is None

    def resolved_name(self) -> str:
        """Return the given name, or ``<stem>-<digest>`` of content and artefacts' ETags."""
        content = [_content_of(self._members()), list(self.artefact_etags)]
        if self.made_for is not None:
            return content_name(self.name or self.stem, [*content, self.made_for])
        return self.name if self.name is not None else content_name(self.stem, content)

    def parameters(self) -> dict[str, Any]:
        """Build the parameters of CreateModel."""
        tags = as_tags({**self.tags, CONTENT_TAG: self.content_tag()})
        return {"ModelName": self.resolved_name(), **self._members(), "Tags": tags}

    def _members(self) -> dict[str, Any]:
        containers = [without_empty(container) for container in self.containers]
        pipeline = {"PrimaryContainer": containers[0]} if len(containers) == 1 else {"Containers": containers}
        return without_empty(
            {
                "ExecutionRoleArn": self.execution_role_arn,
                **pipeline,
                "VpcConfig": dict(self.vpc_config or {}),
                "EnableNetworkIsolation": self.enable_network_isolation or None,
            }
        )

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Name the fields in which a described model differs from this; of environments only the variables' names."""
        there, wanted = _content_of(description), _content_of(self._members())
        differing = [key for key in wanted if key != "Containers" and there[key] != wanted[key]]
        have, want = there["Containers"], wanted["Containers"]
        if len(have) != len(want):
            return [*differing, f"number of containers ({len(have)} there, {len(want)} wanted)"]
        for index, (described, new) in enumerate(zip(have, want, strict=True), start=1):
            old = _without_the_packages_own(described, new) if "ModelPackageName" in new else described
            differing += [
                f"container {index} {key}{_environment_keys(key, old, new)}"
                for key in sorted({*old, *new})
                if old.get(key) != new.get(key)
            ]
        return differing

    def content_tag(self) -> str:
        """Build :data:`CONTENT_TAG`'s value: ``<content>/<artefact 1>/<artefact 2>…``, at most 207 characters."""
        etags = (digest(etag) if etag else _UNREAD for etag in self.artefact_etags)
        return "/".join([digest(_content_of(self._members())), *etags])

    def tag_differences(self, tags: Mapping[str, str]) -> list[str]:
        """Name differences that only :data:`CONTENT_TAG` shows; an unread artefact or a missing tag counts as equal."""
        tag = tags.get(CONTENT_TAG)
        if tag is None:
            return []
        (old_content, *old), (new_content, *new) = tag.split("/"), self.content_tag().split("/")
        changed = [
            f"container {index} artefact (its ETag)"
            for index, (before, now) in enumerate(zip(old, new, strict=False), start=1)
            if before != now and _UNREAD not in (before, now)
        ]
        packaged = any(container.get("ModelPackageName") for container in self.containers)
        if packaged and old_content != new_content:  # DescribeModel may show more than CreateModel was given
            return ["the settings beside the model package", *changed]
        return changed


def _check_environment(environment: Mapping[str, str], index: int) -> None:
    if len(environment) > MAX_ENVIRONMENT_ENTRIES:
        raise InvalidRequest(
            f"container {index} has {len(environment)} environment entries, SageMaker takes {MAX_ENVIRONMENT_ENTRIES}"
        )
    for key, value in environment.items():
        for text in (key, value):
            if not isinstance(text, str):
                raise InvalidRequest(
                    f"container {index}: environment {key!r} is {type(text).__name__}, not text: put it in quotes"
                )
            if len(as_utf8(text)) > MAX_ENVIRONMENT_TEXT:
                raise InvalidRequest(
                    f"container {index}: environment {key[:64]!r} is longer than the {MAX_ENVIRONMENT_TEXT} bytes "
                    f"that SageMaker takes for a key or a value"
                )
        if not _ENVIRONMENT_KEY.fullmatch(key):
            raise InvalidRequest(
                f"container {index}: environment {key!r} is not a name that SageMaker takes: letters, digits and "
                f"underscores, no digit first"
            )


def _check_environment_bytes(containers: Sequence[Mapping[str, Any]]) -> None:
    """Check the one limit that SageMaker sets for all containers together (API reference, ContainerDefinition)."""
    environments: list[Mapping[str, str]] = [container.get("Environment") or {} for container in containers]
    size = sum(len(as_utf8(key)) + len(as_utf8(text)) for env in environments for key, text in env.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(
            f"the environments of all containers have {size} bytes, SageMaker takes {MAX_ENVIRONMENT_BYTES} together: "
            f"put long values into the model's archive or into S3"
        )


def _content_of(model: Mapping[str, Any]) -> dict[str, Any]:
    """Reduce CreateModel's parameters, or DescribeModel's answer, to JSON-able content without SageMaker's defaults."""
    containers = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    return {
        "Containers": [_comparable(container) for container in containers],
        "ExecutionRoleArn": model.get("ExecutionRoleArn", ""),
        "VpcConfig": dict(model.get("VpcConfig") or {}),
        "EnableNetworkIsolation": bool(model.get("EnableNetworkIsolation")),
    }


def without_empty(members: Mapping[str, Any]) -> dict[str, Any]:
    """Drop the members of a request that are None or empty."""
    return {key: value for key, value in members.items() if value not in (None, {}, [])}


def _comparable(container: Mapping[str, Any]) -> dict[str, Any]:
    """Drop SageMaker's additions, so that a described container equals its definition."""
    content = {
        key: value for key, value in without_empty(container).items() if _ADDED_BY_DEFAULT.get(key) != value
    }
    source = content.pop("ModelDataSource", None)
    if source and "ModelDataUrl" not in content:
        content["ModelDataSource"] = source
    return content


def _without_the_packages_own(described: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what the model package brought: AWS does not document how much of it DescribeModel shows."""
    left = {key: value for key, value in described.items() if key in wanted}
    if "Environment" in left:
        left["Environment"] = {
            key: value for key, value in left["Environment"].items() if key in wanted["Environment"]
        }
    return left


def _environment_keys(field_name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if field_name != "Environment":
        return ""
    left, right = old.get(field_name) or {}, new.get(field_name) or {}
    return f" ({', '.join(sorted(key for key in {*left, *right} if left.get(key) != right.get(key)))})"


ROLE_SECONDS = 60.0
"""Seconds for which a role that cannot be assumed is taken for a new one: IAM is consistent within a minute."""


class _Refusal(NamedTuple):
    error: type[ModelCreationRefused]
    remedy: str


_REFUSALS: Mapping[Meaning, _Refusal] = {
    Meaning.MODEL_DATA_MISSING: _Refusal(
        ModelDataNotFound, "upload the artefact, or correct its location in model_data_url or the container"
    ),
    Meaning.MODEL_DATA_UNREADABLE: _Refusal(
        ModelDataNotAccessible,
        "see that the bucket exists and lies in region {region}, and allow role {role} to s3:GetObject and "
        "s3:ListBucket there (and to kms:Decrypt, if a key of yours encrypts the artefact)",
    ),
    Meaning.IMAGE_UNREADABLE: _Refusal(
        ImageNotAccessible,
        "see that the image and its tag exist in region {region}, allow role {role} to pull from ECR, and, if the "
        "repository is another account's, have its policy admit this one",
    ),
    Meaning.ROLE_NOT_ASSUMABLE: _Refusal(
        ExecutionRoleNotAssumable,
        "see that role {role} exists and that its trust policy lets sagemaker.amazonaws.com assume it; the request was "
        "repeated for {waited:.0f} s, since a new role is not seen at once",
    ),
}


def may_pass(meaning: Meaning, *, waited: float) -> bool:
    """Decide whether to repeat CreateModel, ``waited`` seconds after the first refusal: only a role becomes usable."""
    return meaning is Meaning.ROLE_NOT_ASSUMABLE and waited < ROLE_SECONDS


def refusal(
    meaning: Meaning, message: str, *, model_name: str, role: str, region: str, waited: float
) -> ModelCreationRefused | None:
    """Build the error of a refused CreateModel; None for a reason other than artefact, image and role."""
    if meaning not in _REFUSALS:
        return None
    error, remedy = _REFUSALS[meaning]
    remedy = remedy.format(region=region, role=role, waited=waited)
    return error(f"model {model_name} is not created", reason=message, do=remedy)
