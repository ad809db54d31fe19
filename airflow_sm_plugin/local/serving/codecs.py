"""The default input_fn and output_fn: as SageMaker's inference toolkit reads and writes without any code.

Source: aws/sagemaker-inference-toolkit, ``decoder`` and ``encoder``; Accept lists as RFC 9110 reads them. NumPy is
imported when first needed.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.local.serving.errors import UnsupportedAccept, UnsupportedContentType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

csv.field_size_limit(2**31 - 1)  # a value can be as large as a payload; Python's 131,072 characters are less

CSV = "text/csv"
JSON = "application/json"
NPY = "application/x-npy"
BYTES = "application/octet-stream"
ANY = "*/*"
_WRITTEN = (JSON, CSV, NPY)
"""The types that output_fn writes, the preferred first."""
TEXT_TYPES = frozenset({CSV, JSON})
"""Handlers get these as ``str``, everything else as ``bytes``, as in the toolkit."""


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def preferred(accept: str, default: str) -> str:
    """Return the content type of an answer whose handler names none: the first that *accept* names.

    One type alone stays as it is, with its parameters. When none is named, or those that are have ``q=0``, it is the
    *default*, for which ``*/*`` stands, and octet-stream when that has ``q=0`` as well.
    """
    weights = _weights(accept)
    if not {",", "*"} & set(accept) and any(weights.values()):
        return accept.strip()
    fallback = media_type(default) or JSON
    if _quality(fallback, weights) == 0:
        fallback = BYTES
    return next((kind for kind in _accepted(weights, default) if "*" not in kind), fallback)


def decode(body: str | bytes, content_type: str) -> NDArray[np.generic] | bytes:
    """Read a request body: CSV, JSON and NPY become an array, octet-stream stays bytes."""
    kind = media_type(content_type)
    if kind == BYTES:
        return body.encode() if isinstance(body, str) else body
    if kind not in {CSV, JSON, NPY}:
        raise UnsupportedContentType(content_type)
    import numpy as np

    if kind == NPY:
        array: NDArray[np.generic] = np.load(io.BytesIO(body if isinstance(body, bytes) else body.encode()))
        return array
    text = body if isinstance(body, str) else body.decode()
    if kind == CSV:
        return _from_csv(text)
    return np.array(json.loads(text))


def encode(prediction: object, accept: str, *, default: str = JSON) -> tuple[str | bytes, str]:
    """Write a prediction as the first type that *accept* names and can be written; return it with that type.

    Text and bytes stay what they are.
    """
    if isinstance(prediction, str | bytes):
        return prediction, preferred(accept, default)
    weights = _weights(accept)
    writable = (
        kind
        for wanted in _accepted(weights, default)
        for kind in _WRITTEN
        if _matches(wanted, kind) and _quality(kind, weights) != 0
    )
    kind = next(writable, None)
    if kind is None:
        raise UnsupportedAccept(accept)
    if kind == JSON:
        return json.dumps(prediction, default=_plain), kind
    if kind == CSV:
        return _as_csv(prediction), kind
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.asarray(prediction), allow_pickle=False)
    return buffer.getvalue(), kind


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for entry in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in entry.split(";"))
        quality = next(
            (parameter.removeprefix("q=") for parameter in parameters if parameter.startswith("q=")), "1"
        )
        if kind:
            weights[kind] = max(_number(quality), weights.get(kind, 0))
    return weights


def _quality(kind: str, weights: Mapping[str, float]) -> float | None:
    """Return the quality of a media type: that of the most specific range that has it, None when none has."""
    ranges = (kind, f"{kind.partition('/')[0]}/*", ANY)
    return next((weights[kind] for kind in ranges if kind in weights), None)


def _accepted(weights: Mapping[str, float], default: str) -> list[str]:
    """Return the media types and ranges, the most wanted first; those with q=0 are left out.

    ``*/*`` is the default, unless that has q=0.
    """
    own = media_type(default)
    anything = ANY if _quality(own, weights) == 0 else own
    wanted = sorted((kind for kind in weights if weights[kind] > 0), key=lambda kind: -weights[kind])
    return [anything if kind == ANY else kind for kind in wanted]


def _number(quality: str) -> float:
    try:
        return float(quality)
    except ValueError:
        return 1.0


def _matches(wanted: str, kind: str) -> bool:
    return wanted in (kind, ANY) or (wanted.endswith("/*") and kind.startswith(wanted[:-1]))


def _from_csv(text: str) -> NDArray[np.generic]:
    """Return an array of numbers; when a column holds text, of objects, in which that column stays text.

    One line or one column gives an array of one dimension, as NumPy's genfromtxt has it. An empty value is NaN in a
    column of numbers. Raises ValueError when lines differ in length.
    """
    import numpy as np

    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(f"record {number} has {len(row)} values, the first has {len(rows[0])}")
    columns = [_column(values) for values in zip(*rows, strict=True)]
    is_text = any(isinstance(value, str) for column in columns for value in column[:1])
    table = np.empty((len(rows), len(columns)), dtype=object if is_text else float)
    for number, column in enumerate(columns):
        table[:, number] = column
    return table.squeeze()


def _column(values: Sequence[str]) -> list[float] | list[str]:
    """Return the numbers of a column, its texts if one of them is no number."""
    try:
        return [_float(value) for value in values]
    except ValueError:
        return list(values)


def _float(value: str) -> float:
    if "_" in value:  # Python's own notation
        raise ValueError(value)
    return float(value) if value.strip() else math.nan


def _plain(value: object) -> object:
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
    return to_list()


def _as_csv(prediction: object) -> str:
    rows = _plain(prediction) if hasattr(prediction, "tolist") else prediction
    rows = rows if isinstance(rows, list | tuple) else [rows]
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerows(row if isinstance(row, list | tuple) else [row] for row in rows)
    return written.getvalue()
