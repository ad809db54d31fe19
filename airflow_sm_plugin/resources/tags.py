"""Tags of SageMaker resources, checked before they are sent."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from airflow_sm_plugin.core.names import OUR_PREFIX
from airflow_sm_plugin.core.template_values import as_text, parsed, texts_by_name
from airflow_sm_plugin.exceptions import InvalidRequest

MAX_TAGS = 50
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
_RESERVED = "aws:"
"""Begins the keys that only AWS sets, in upper or lower case."""
_SIGNS = "_.:/=+-@"


class _Tag(TypedDict):
    Key: str
    Value: str


def as_tags(tags: Mapping[str, str]) -> list[_Tag]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def check_tags(tags: Mapping[Any, object], kind: str, *, ours: int) -> None:
    """Raise InvalidRequest for a bad tag, or for too many with ``ours``, the number of tags that this package adds."""
    if len(tags) + ours > MAX_TAGS:
        share = "one of them is ours" if ours == 1 else f"{ours} of them are ours"
        raise InvalidRequest(
            f"the {kind} has {len(tags)} tags, SageMaker takes {MAX_TAGS}, and {share}: use fewer"
        )
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            odd = value if isinstance(key, str) else key
            raise InvalidRequest(f"tag {key!r} is {type(odd).__name__}, not text: put it in quotes")
        _check_key(key)
        if len(value) > MAX_TAG_VALUE:
            raise InvalidRequest(
                f"the value of tag {key!r} has {len(value)} characters, SageMaker takes up to {MAX_TAG_VALUE}: shorten "
                f"it"
            )
        _check_characters(value, f"the value of tag {key!r}")


def read_tags(value: object, name: str) -> dict[str, str] | None:
    """Read a user's tags: ``{key: value}``, boto3's ``[{"Key": …, "Value": …}]``, or text of either (JSON or Python).

    Raise InvalidRequest for anything else, a key that is given twice, or one that begins as this package's tags do.
    """
    tags_value = parsed(value)
    if isinstance(tags_value, Sequence) and not isinstance(tags_value, str | bytes | bytearray):
        tags: dict[str, str] | None = _of_list(tags_value, name)
    else:
        tags = texts_by_name(value, name)
    for key in tags or ():
        if key.startswith(OUR_PREFIX):
            raise InvalidRequest(
                f"tag {key!r} begins with {OUR_PREFIX!r}, as the tags that these operators set themselves: rename it"
            )
    return tags


def _of_list(tags_value: Sequence[Any], name: str) -> dict[str, str]:
    pairs = [tag for tag in tags_value if isinstance(tag, Mapping) and set(tag) == {"Key", "Value"}]
    tags = {
        as_text(tag["Key"], f"{name}, a Key"): as_text(tag["Value"], f"{name}[{tag['Key']!r:.80}]")
        for tag in pairs
    }
    if len(tags) != len(tags_value):
        raise InvalidRequest(
            f'{name} must be a mapping, {{"team": "risk"}}, or a list as boto3 spells it, [{{"Key": "team", "Value": '
            f'"risk"}}], with each key once'
        )
    return tags


def _check_key(key: str) -> None:
    if not key:
        raise InvalidRequest(f"a tag has an empty key: give it one of 1 to {MAX_TAG_KEY} characters")
    if len(key) > MAX_TAG_KEY:
        raise InvalidRequest(
            f"the key of tag {key[:64]!r}… has {len(key)} characters, SageMaker takes up to {MAX_TAG_KEY}: shorten it"
        )
    if key.lower().startswith(_RESERVED):
        raise InvalidRequest(f"tag {key!r} begins with {_RESERVED!r}, which AWS reserves: rename it")
    _check_characters(key, f"the key of tag {key!r}")


def _check_characters(text: str, subject: str) -> None:
    r"""Check the service model's pattern of keys and values: ``[\p{L}\p{Z}\p{N}_.:/=+\-@]*``."""
    odd = next(
        (each for each in text if each not in _SIGNS and unicodedata.category(each)[0] not in "LZN"), None
    )
    if odd is not None:
        raise InvalidRequest(
            f"{subject} has the character {odd!r}; SageMaker takes letters, digits, spaces and {' '.join(_SIGNS)}"
        )
