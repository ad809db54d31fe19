"""Inference code of the feature container, in one of two modes, AUTOML_TRANSFORM_MODE.

``feature-transform`` converts CSV rows to the algorithm's matrix. ``inverse-label-transform`` reads the algorithm's
CSV, whose columns are named by SAGEMAKER_INFERENCE_INPUT, and writes the keys of SAGEMAKER_INFERENCE_OUTPUT. A key that
is not among the input is NaN, which reveals a wrong environment.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import joblib

from airflow_sm_plugin.local.automl.archive.recordio import encode as encode_recordio
from airflow_sm_plugin.local.automl.archive.responses import (
    CSV,
    RECORDIO,
    Answer,
    RejectedRequest,
    accepted,
    csv_rows,
    encode,
    keys_of,
    refuse_accept,
)
from airflow_sm_plugin.local.automl.archive.tabular import Floats, Processor, transform

Rows = list[list[str]]


def model_fn(model_dir: str) -> Processor:
    processor: Processor = joblib.load(Path(model_dir) / "model.joblib")
    return processor


input_fn = csv_rows


def predict_fn(rows: Rows, processor: Processor) -> Floats | Answer:
    """Transform features or labels; 400 for a row of the wrong length."""
    if _inverse():
        return _labelled(rows, processor["labels"] or [])
    try:
        return transform(processor, rows)
    except ValueError as error:
        raise RejectedRequest(str(error), 400) from error


def output_fn(prediction: Floats | Answer, accept: str | None) -> tuple[bytes, str]:
    """Write RecordIO-protobuf or CSV for the algorithm, the selected keys for the caller; 406 for other types."""
    wanted = accepted(accept)
    if isinstance(prediction, list):
        return encode(prediction, keys_of("SAGEMAKER_INFERENCE_OUTPUT"), wanted)
    if wanted == RECORDIO:
        sparse = os.environ.get("AUTOML_SPARSE_ENCODERECORDIO_PROTOBUF") == "1"
        return encode_recordio(prediction, sparse=sparse), wanted
    if wanted == CSV:
        return encode(prediction.tolist(), None, wanted)
    raise refuse_accept(wanted)


def _inverse() -> bool:
    return os.environ.get("AUTOML_TRANSFORM_MODE") == "inverse-label-transform"


def _labelled(rows: Rows, labels: list[str]) -> Answer:
    inputs, outputs = keys_of("SAGEMAKER_INFERENCE_INPUT"), keys_of("SAGEMAKER_INFERENCE_OUTPUT")
    if inputs is None or outputs is None:
        return [[_label(row[0], labels)] for row in rows]
    return [[_content(key, row, inputs, labels) for key in outputs] for row in rows]


def _content(key: str, row: Sequence[str], inputs: Sequence[str], labels: list[str]) -> object:
    if key == "labels":
        return str(labels)
    if key not in inputs:
        return math.nan
    field = row[inputs.index(key)]
    if key == "predicted_label":
        return _label(field, labels)
    try:
        return float(field)
    except ValueError:
        return field


def _label(field: str, labels: list[str]) -> str:
    class_number = int(float(field))
    if not 0 <= class_number < len(labels):
        raise ValueError(f"{field!r} is not the number of one of {len(labels)} labels")
    return labels[class_number]
