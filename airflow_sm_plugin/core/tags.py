"""Tags of SageMaker resources, checked before they are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest

MAX_TAGS = 50
MAX_TAG_KEY = 128
MAX_TAG_VALUE = 256
_RESERVED = "aws:"
"""Begins the keys that only AWS itself sets, in upper or lower case."""


def check_tags(tags: Mapping[Any, object], kind: str, *, ours: int) -> None:
    """Check a user's tags.

    :param kind: what they are for, e.g. ``"model"``
    :param ours: how many more tags we add
    :raises InvalidRequest: naming the value, the limit and the remedy
    """
    if len(tags) + ours > MAX_TAGS:
        share = "one of them is ours" if ours == 1 else f"{ours} of them are ours"
        raise InvalidRequest(
            f"the {kind} has {len(tags)} tags, SageMaker takes {MAX_TAGS}, and {share}: use fewer"
        )
    for key, value in tags.items():
        if not isinstance(key, str) or not isinstance(value, str):
            odd = value if isinstance(key, str) else key
            raise InvalidRequest(f"tag {key!r} is {type(odd).__name__}, not text: put it in quotes")
        if not 1 <= len(key) <= MAX_TAG_KEY or len(value) > MAX_TAG_VALUE:
            raise InvalidRequest(
                f"tag {key[:64]!r} is too long or has no key: SageMaker takes keys of up to {MAX_TAG_KEY} and values "
                f"of up to {MAX_TAG_VALUE} characters"
            )
        if key.lower().startswith(_RESERVED):
            raise InvalidRequest(f"tag {key[:64]!r} begins with {_RESERVED!r}, which AWS reserves: rename it")
