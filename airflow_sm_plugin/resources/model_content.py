"""What a model is made of, and how one that SageMaker describes differs from it; never a value of an environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


def without_empty(container: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container definition without what is None or empty."""
    return {key: value for key, value in container.items() if value not in (None, {}, [])}


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
