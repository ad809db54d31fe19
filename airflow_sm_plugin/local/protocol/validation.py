"""Check a call against botocore's service model: lengths, ranges, patterns, enumerations and required members.

Errors have the service's own words. botocore itself checks only minimums and types (measured with 1.43.117). Members
without an effect in the embedded SageMaker are refused, too (``request_members``).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from botocore.model import ListShape, MapShape, Shape, StructureShape

from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import Request, service_model
from airflow_sm_plugin.local.protocol.request_members import check_members

_SHOWN = 256
"""Characters of a refused value in the message: enough to know it; the value itself can be a whole document."""
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "string": ((str,), "a string"),
    "integer": ((int,), "an integer"),
    "long": ((int,), "an integer"),
    "float": ((int, float), "a number"),
    "double": ((int, float), "a number"),
    "timestamp": ((int, float), "a number, in seconds since 1970"),
    "boolean": ((bool,), "a boolean"),
    "blob": ((bytes, str), "a blob"),
}
"""The JSON types of the service model's types, and their names in messages."""
_ANY = ((object, bool), "anything")

_CHECKED_LATER = frozenset({"BodyBlob"})
"""The runtime takes larger bodies than its service model permits; ``endpoints/runtime`` checks their sizes."""


def validate(request: Request) -> None:
    """Raise ValidationFailure naming each broken constraint, or each member without an effect here."""
    shape = service_model(request.service).operation_model(request.operation).input_shape
    broken = list(_broken(shape, request.params, "")) if shape else []
    if broken:
        plural = "error" if len(broken) == 1 else "errors"
        raise ValidationFailure(f"{len(broken)} validation {plural} detected: {'; '.join(broken)}")
    check_members(request.operation, request.params)
    if shape and getattr(shape.members.get("Tags"), "name", "") == "TagList":
        check_tags(cast("list[dict[str, str]]", request.params.get("Tags") or []))


def _broken(shape: Shape, value: object, path: str) -> Iterator[str]:
    if isinstance(shape, StructureShape):
        yield from _broken_structure(shape, value, path)
    elif isinstance(shape, ListShape):
        yield from _broken_list(shape, value, path)
    elif isinstance(shape, MapShape):
        yield from _broken_map(shape, value, path)
    else:
        yield from _broken_scalar(shape, value, path)


def _broken_structure(shape: StructureShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _message(value, path, "Member must be a structure", shape)
        return
    for name in shape.required_members:
        if value.get(name) is None:
            yield _message(None, _join(path, name), "Member must not be null", shape.members[name])
    for name, member in shape.members.items():
        if value.get(name) is not None:
            yield from _broken(member, value[name], _join(path, name))


def _broken_list(shape: ListShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield _message(value, path, "Member must be a list", shape)
        return
    yield from _broken_length(shape, len(value), value, path)
    for position, item in enumerate(value, start=1):
        yield from _broken(shape.member, item, f"{path}.{position}.member")


def _broken_map(shape: MapShape, value: object, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield _message(value, path, "Member must be a map", shape)
        return
    yield from _broken_length(shape, len(value), "(map)", path)
    for key, item in value.items():
        yield from _broken(shape.key, key, f"{path}.{key}.key")
        yield from _broken(shape.value, item, f"{path}.{key}.member")


def _broken_scalar(shape: Shape, value: object, path: str) -> Iterator[str]:
    types, noun = _TYPES.get(shape.type_name, _ANY)
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        yield _message(value, path, f"Member must be {noun}", shape)
    elif isinstance(value, bytes):
        if shape.name not in _CHECKED_LATER:
            yield from _broken_length(shape, len(value), "(blob)", path)
    elif isinstance(value, str):
        yield from _broken_length(shape, len(value), value, path)
        pattern = shape.metadata.get("pattern")
        if pattern and not satisfies(value, pattern):
            yield _message(value, path, f"Member must satisfy regular expression pattern: {pattern}", shape)
        allowed = shape.metadata.get("enum")
        if allowed and value not in allowed:
            yield _message(value, path, f"Member must satisfy enum value set: [{', '.join(allowed)}]", shape)
    elif isinstance(value, float) and not math.isfinite(value):
        yield _message(value, path, "Member must be a finite number", shape)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _broken_range(shape, value, path)


def _broken_length(shape: Shape, length: int, value: object, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and length < least:
        yield _message(value, path, f"Member must have length greater than or equal to {least}", shape)
    if most is not None and length > most:
        yield _message(value, path, f"Member must have length less than or equal to {most}", shape)


def _broken_range(shape: Shape, value: float, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and value < least:
        yield _message(value, path, f"Member must have value greater than or equal to {least}", shape)
    if most is not None and value > most:
        yield _message(value, path, f"Member must have value less than or equal to {most}", shape)


def _message(value: object, path: str, constraint: str, shape: Shape) -> str:
    sensitive = shape.metadata.get("sensitive") or "nvironment" in path
    shown = "null" if value is None else "***" if sensitive else str(value)[:_SHOWN]
    return f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    member = name[0].lower() + name[1:]
    return f"{path}.{member}" if path else member


def satisfies(value: str, pattern: str) -> bool:
    """Match a text against a pattern of the service model, which is a Java pattern."""
    return _compiled(pattern).fullmatch(value) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    translated = (
        pattern.replace(r"[\p{Print}]", r"[\x20-\x7e]")
        .replace(r"\p{ASCII}", r"[\x00-\x7f]")
        .replace(r"\p{L}", r"\w")
        .replace(r"\p{Z}", r"\s")
        .replace(r"\p{N}", r"\d")
        .replace(r"\z", r"\Z")
    )
    try:
        return re.compile(translated, re.DOTALL)
    except re.error:
        return re.compile(".*", re.DOTALL)


def check_tags(tags: Iterable[dict[str, str]]) -> None:
    seen: set[str] = set()
    for tag in tags:
        check_tag_key(tag["Key"])
        if tag["Key"] in seen:
            raise ValidationFailure(f"Duplicate tag key: {tag['Key']}. Give each tag key once.")
        seen.add(tag["Key"])


def check_tag_key(key: str) -> None:
    if key.lower().startswith("aws:"):
        raise ValidationFailure(f"System prefix 'aws:' reserved for AWS usage in tag key: {key}")
