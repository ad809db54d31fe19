"""SageMaker's own manifest, a JSON array that begins with a prefix: ``[{"prefix": "s3://bucket/in/"}, "a.csv", …]``.

Batch Transform, training and Autopilot read it (API reference, TransformS3DataSource). An object's location is the
prefix with the name behind it, nothing between them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

from airflow_sm_plugin.exceptions import InvalidRequest

LARGEST_ARRAY = 67_108_864
"""Bytes of such a manifest: it is read into memory at once, and takes about four times as much there."""

_EXAMPLE = '[{"prefix": "s3://bucket/folder/"}, "a.csv"]'


def parse_array(text: str | bytes) -> tuple[str, Sequence[str]]:
    """Split the manifest into its prefix and the names that follow.

    :raises InvalidRequest: it is no such manifest; the message names the wrong element
    """
    try:
        given = json.loads(text, object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        # Not chained: a JSONDecodeError keeps the whole text.
        where = f" in line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise InvalidRequest(
            f"the manifest is not JSON ({reason}{where}); it must look like {_EXAMPLE}"
        ) from None
    if not isinstance(given, list) or not given:
        raise InvalidRequest(f"the manifest is no JSON array with a prefix; it must look like {_EXAMPLE}")
    head, *names = given
    members: Sequence[tuple[str, object]] = head if isinstance(head, tuple) else ()
    prefix = dict(members).get("prefix")
    if len(members) != 1 or not isinstance(prefix, str) or not prefix:
        raise InvalidRequest(
            f'element 1 of the manifest must be {{"prefix": "s3://bucket/folder/"}} and no more, as in {_EXAMPLE}; an '
            f"augmented manifest has one JSON object a line, without brackets and commas around"
        )
    for number, name in enumerate(names, start=2):
        if not isinstance(name, str) or not name:
            kind = "empty" if name == "" else _json_type(name)
            raise InvalidRequest(
                f"element {number} of the manifest must be a key below the prefix, not {kind}; a manifest has one "
                f"prefix"
            )
    return prefix, cast("list[str]", names)


def _json_type(value: object) -> str:
    return "an object" if isinstance(value, tuple) else f"a JSON {type(value).__name__}"
