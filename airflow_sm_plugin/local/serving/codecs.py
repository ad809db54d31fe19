"""The default input_fn and output_fn: what SageMaker's inference toolkit reads and writes without any code.

Source: aws/sagemaker-inference-toolkit, ``decoder`` and ``encoder``. NumPy is imported when first needed.
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING

from airflow_sm_plugin.local.serving.errors import UnsupportedAccept, UnsupportedContentType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CSV = "text/csv"
JSON = "application/json"
NPY = "application/x-npy"
BYTES = "application/octet-stream"
ANY = "*/*"
TEXT_TYPES = frozenset({CSV, JSON})
"""Handlers get these as ``str``, everything else as ``bytes``, as in the toolkit."""


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


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
        return np.genfromtxt(io.StringIO(text), delimiter=",")
    return np.array(json.loads(text))


def encode(prediction: object, accept: str) -> str | bytes:
    """Write a prediction as ``accept`` asks; text and bytes stay what they are."""
    if isinstance(prediction, str | bytes):
        return prediction
    kind = media_type(accept)
    if kind == JSON:
        return json.dumps(prediction, default=_plain)
    if kind == CSV:
        return _as_csv(prediction)
    if kind != NPY:
        raise UnsupportedAccept(accept)
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, np.asarray(prediction), allow_pickle=False)
    return buffer.getvalue()


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
