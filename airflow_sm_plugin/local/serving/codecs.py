"""The default input_fn and output_fn, which read and write as those of SageMaker's inference toolkit.

Sources: aws/sagemaker-inference-toolkit, ``decoder`` and ``encoder``; RFC 9110 for Accept lists. NumPy is imported when
first needed.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

csv.field_size_limit(2**31 - 1)  # a value can be as large as a payload; Python's default is 131,072

CSV = "text/csv"
JSON = "application/json"
NPY = "application/x-npy"
BYTES = "application/octet-stream"
ANY = "*/*"
_WRITTEN = (JSON, CSV, NPY)
"""The types that output_fn can write, the preferred first."""
TEXT_TYPES = frozenset({CSV, JSON})
"""Handlers get these types as ``str``, all others as ``bytes``, as in the toolkit."""


class HandlerError(Exception):
    """A handler refuses the request; ``status_code`` is the HTTP status of the answer."""

    status_code: ClassVar[int] = 500


class UnsupportedContentType(HandlerError):
    """The default input_fn cannot read this content type."""

    status_code = 415

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"Content type {content_type} is not supported by the default input_fn; write an input_fn"
        )


class UnsupportedAccept(HandlerError):
    """The default output_fn cannot write this content type."""

    status_code = 406

    def __init__(self, accept: str) -> None:
        super().__init__(
            f"Accept type {accept} is not supported by the default output_fn; write an output_fn"
        )


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def preferred(accept: str, default: str) -> str:
    """Choose the content type of an answer whose handler names none: the first type of *accept*.

    A single type is repeated with its params. Without a type, or with types of ``q=0`` only, it is the *default*,
    also for ``*/*``; octet-stream when the default has ``q=0`` as well.
    """
    weights = _weights(accept)
    if not {",", "*"} & set(accept) and any(weights.values()):
        return accept.strip()
    fallback = media_type(default) or JSON
    if _quality(fallback, weights) == 0:
        fallback = BYTES
    return next((kind for kind in _accepted(weights, default) if "*" not in kind), fallback)


def decode(body: str | bytes, content_type: str) -> NDArray[np.generic] | bytes:
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
    """Encode a prediction as the first type of *accept* that can be written; return it and the type.

    Text and bytes are not changed.
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
        kind, *params = (part.strip().lower() for part in entry.split(";"))
        quality = next((param.removeprefix("q=") for param in params if param.startswith("q=")), "1")
        if kind:
            weights[kind] = max(_number(quality), weights.get(kind, 0))
    return weights


def _quality(kind: str, weights: Mapping[str, float]) -> float | None:
    """Choose the quality of a media type: that of the most specific matching range, None without a match."""
    ranges = (kind, f"{kind.partition('/')[0]}/*", ANY)
    return next((weights[kind] for kind in ranges if kind in weights), None)


def _accepted(weights: Mapping[str, float], default: str) -> list[str]:
    """Sort the media types and ranges by quality, without those of q=0. ``*/*`` is the default, unless that has q=0."""
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
    """Parse CSV into an array of numbers, or of objects when a column has text, which then stays text.

    A single line or column gives an array of one dimension, as by NumPy's genfromtxt. An empty value is NaN in a column
    of numbers. Raises ValueError when lines differ in length.
    """
    import numpy as np

    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
    for position, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(f"record {position} has {len(row)} values, the first has {len(rows[0])}")
    columns = [_column(values) for values in zip(*rows, strict=True)]
    is_text = any(isinstance(value, str) for column in columns for value in column[:1])
    table = np.empty((len(rows), len(columns)), dtype=object if is_text else float)
    for position, column in enumerate(columns):
        table[:, position] = column
    return table.squeeze()


def _column(values: Sequence[str]) -> list[float] | list[str]:
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
