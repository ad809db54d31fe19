"""CreateModel: the request, its content-derived name, and the comparison with a model that has the name already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.core.names import check_name, content_name, digest
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.tags import as_tags, check_tags

MAX_CONTAINERS = 15
MAX_ENVIRONMENT_ENTRIES = 100
MAX_ENVIRONMENT_TEXT = 1_024
MAX_ENVIRONMENT_BYTES = 32 * 1_024
CONTENT_TAG = "airflow-sm-plugin:content"
"""On every model we create: digests of its content and of each artefact's ETag, which DescribeModel does not tell."""
_UNREAD = "-"
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/(?:[^/]+/)*[\w+=,.@-]+", re.ASCII)
_ENVIRONMENT_KEY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """What a model is to be. Containers are spelled as SageMaker spells them; the order is the pipeline's.

    :param name: None derives one from ``stem`` and the content
    :param tags: no content: they may change without a new model
    :param artefact_etags: of the containers' artefacts, in their order; None where there is none or it is unreadable
    :param made_for: a new model is made for whatever this names, under a name derived from it, the content, and
        ``name`` or ``stem``; None reuses one of the same content
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
        if not _ROLE_ARN.fullmatch(self.execution_role_arn):
            raise InvalidRequest(
                f"execution_role {self.execution_role_arn!r} is no role's ARN: give "
                f"arn:aws:iam::<account>:role/<name>, or the role's name alone"
            )
        for number, container in enumerate(self.containers, start=1):
            if not container.get("Image") and not container.get("ModelPackageName"):
                raise InvalidRequest(
                    f"container {number} has neither Image nor ModelPackageName: give one of them"
                )
            _check_environment(container.get("Environment") or {}, number)
        _check_environment_bytes(self.containers)
        check_tags(self.tags, "model", ours=1)
        return self

    @property
    def has_given_name(self) -> bool:
        """Whether the model's name says nothing of its content."""
        return self.name is not None and self.made_for is None

    def resolved_name(self) -> str:
        """Return the name: the given one, or ``<stem>-<digest>`` of content and artefacts' ETags."""
        content = [self._content(), list(self.artefact_etags)]
        if self.made_for is not None:
            return content_name(self.name or self.stem, [*content, self.made_for])
        return self.name if self.name is not None else content_name(self.stem, content)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of ``create_model``: one container is the PrimaryContainer, several are Containers."""
        containers = [without_empty(container) for container in self.containers]
        pipeline = {"PrimaryContainer": containers[0]} if len(containers) == 1 else {"Containers": containers}
        return without_empty(
            {
                "ModelName": self.resolved_name(),
                "ExecutionRoleArn": self.execution_role_arn,
                **pipeline,
                "VpcConfig": dict(self.vpc_config or {}),
                "EnableNetworkIsolation": self.enable_network_isolation or None,
                "Tags": as_tags({**self.tags, CONTENT_TAG: self.content_tag()}),
            }
        )

    def differences(self, description: Mapping[str, Any]) -> list[str]:
        """Name the fields in which a described model differs from this; never a value of an environment."""
        return differences(described_content(description), self._content())

    def content_tag(self) -> str:
        """Return the value of :data:`CONTENT_TAG`: ``<content>/<artefact 1>/<artefact 2>…``, at most 207 characters."""
        etags = (digest(etag) if etag else _UNREAD for etag in self.artefact_etags)
        return "/".join([digest(self._content()), *etags])

    def tag_differences(self, tags: Mapping[str, str]) -> list[str]:
        """Name what an existing model's tags tell to differ, where its description does not.

        A model without our tag, or an artefact that could not be read then or now, tells nothing.
        """
        tag = tags.get(CONTENT_TAG)
        if tag is None:
            return []
        (old_content, *old), (new_content, *new) = tag.split("/"), self.content_tag().split("/")
        changed = [
            f"container {number} artefact (its ETag)"
            for number, (before, now) in enumerate(zip(old, new, strict=False), start=1)
            if before != now and _UNREAD not in (before, now)
        ]
        packaged = any(container.get("ModelPackageName") for container in self.containers)
        if packaged and old_content != new_content:  # DescribeModel may show more than what was asked for
            return ["what is set beside the model package", *changed]
        return changed

    def _content(self) -> dict[str, Any]:
        return content_of(
            self.containers, self.execution_role_arn, self.vpc_config, isolated=self.enable_network_isolation
        )


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
            if len(as_utf8(text)) > MAX_ENVIRONMENT_TEXT:
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
    size = sum(len(as_utf8(key)) + len(as_utf8(text)) for env in environments for key, text in env.items())
    if size > MAX_ENVIRONMENT_BYTES:
        raise InvalidRequest(
            f"the environments of all containers have {size} bytes, SageMaker takes {MAX_ENVIRONMENT_BYTES} together: "
            f"put long values into the model's archive or into S3"
        )


_ADDED_BY_DEFAULT: Mapping[str, object] = {
    "Mode": "SingleModel",
    "MultiModelConfig": {"ModelCacheSetting": "Enabled"},
}


def content_of(
    containers: Sequence[Mapping[str, Any]],
    role: str,
    vpc_config: Mapping[str, Any] | None,
    *,
    isolated: bool,
) -> dict[str, Any]:
    """Return what makes a model what it is, JSON-able, without what SageMaker adds by itself."""
    return {
        "Containers": [_comparable(container) for container in containers],
        "ExecutionRoleArn": role,
        "VpcConfig": dict(vpc_config or {}),
        "EnableNetworkIsolation": isolated,
    }


def described_content(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a model as ``DescribeModel`` answers it."""
    return content_of(
        description.get("Containers") or [description.get("PrimaryContainer") or {}],
        description.get("ExecutionRoleArn", ""),
        description.get("VpcConfig"),
        isolated=bool(description.get("EnableNetworkIsolation")),
    )


def differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Name the fields in which two contents differ; of environments the names of the variables, never their values."""
    found = [key for key in wanted if key != "Containers" and there[key] != wanted[key]]
    have, want = there["Containers"], wanted["Containers"]
    if len(have) != len(want):
        return [*found, f"number of containers ({len(have)} there, {len(want)} wanted)"]
    for number, (described, new) in enumerate(zip(have, want, strict=True), start=1):
        old = _without_the_packages_own(described, new) if "ModelPackageName" in new else described
        found += [
            f"container {number} {key}{_environment_keys(key, old, new)}"
            for key in sorted({*old, *new})
            if old.get(key) != new.get(key)
        ]
    return found


def without_empty(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a request that are neither None nor empty."""
    return {key: value for key, value in members.items() if value not in (None, {}, [])}


def _comparable(container: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what SageMaker adds by itself, so that a described container equals the one it was made from."""
    content = {
        key: value for key, value in without_empty(container).items() if _ADDED_BY_DEFAULT.get(key) != value
    }
    source = content.pop("ModelDataSource", None)
    if source and "ModelDataUrl" not in content:
        content["ModelDataSource"] = source
    return content


def _without_the_packages_own(described: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what the model package brought: how much of it DescribeModel shows is not documented."""
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
