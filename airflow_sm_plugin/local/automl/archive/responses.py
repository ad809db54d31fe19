"""Read the headers of requests to Autopilot's containers, and write the selected keys as CSV, JSON or JSON Lines.

Keys and encodings follow the serving code that Autopilot generates: names are stripped and lower-cased, CSV is the
default, JSON and JSON Lines exist only where the content of the response can be selected.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence

from airflow_sm_plugin.local.automl.archive.tabular import read_rows

CSV = "text/csv"
JSON = "application/json"
JSON_LINES = "application/jsonlines"
RECORDIO = "application/x-recordio-protobuf"

Answer = list[list[object]]
"""The values of the selected keys, a list per row."""


class RejectedRequest(ValueError):
    """A request that the container answers with ``status_code`` and the message."""

    def __init__(self, message: str, status_code: int) -> None:
        super().__init__(message)
        self.status_code = status_code


def media_type(value: str | None, default: str = CSV) -> str:
    return (value or default).split(";")[0].strip().lower() or default


def accepted(value: str | None) -> str:
    """Choose the media type of the answer: the container's default without a type, and for ``*/*``."""
    default = os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or CSV
    wanted = media_type(value, default)
    return media_type(default) if wanted == "*/*" else wanted


def csv_rows(body: str | bytes, content_type: str | None) -> list[list[str]]:
    """Read CSV without a header; 415 for other types."""
    if media_type(content_type) != CSV:
        raise refuse_content_type(content_type)
    try:
        return read_rows(body.decode() if isinstance(body, bytes) else body)
    except ValueError as error:
        raise RejectedRequest(f"The body is not CSV in UTF-8: {error}", 400) from error


def keys_of(variable: str) -> tuple[str, ...] | None:
    """Read the response keys in an environment variable; None when the content cannot be selected."""
    value = os.environ.get(variable)
    return None if value is None else tuple(key.strip().lower() for key in value.split(","))


def refuse_content_type(value: str | None) -> RejectedRequest:
    return RejectedRequest(f"'{value}' is an unsupported content type.", 415)


def refuse_accept(value: str) -> RejectedRequest:
    return RejectedRequest(f"Accept type '{value}' is not supported.", 406)


def encode(rows: Sequence[Sequence[object]], keys: Sequence[str] | None, accept: str) -> tuple[bytes, str]:
    """Write the body; return it and its content type. Without ``keys`` only CSV is possible (406 otherwise)."""
    if accept == CSV:
        return _as_csv(rows), CSV
    if keys is None or accept not in (JSON, JSON_LINES):
        raise refuse_accept(accept)
    named = [dict(zip(keys, row, strict=True)) for row in rows]
    if accept == JSON:
        return json.dumps({"predictions": named}).encode(), JSON
    return "".join(json.dumps(row) + "\n" for row in named).encode(), JSON_LINES


def _as_csv(rows: Sequence[Sequence[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
