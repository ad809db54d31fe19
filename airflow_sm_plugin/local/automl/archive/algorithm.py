"""Inference code of the algorithm container: the contract of XGBoost's container, with a scikit-learn estimator.

Reads RecordIO-protobuf or CSV; answers the keys in SAGEMAKER_INFERENCE_OUTPUT, or without it only the prediction.
Classes are numbers here; the next container, for labels, has their names.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Protocol, TypedDict

import joblib
import numpy as np
import numpy.typing as npt

from airflow_sm_plugin.local.automl.archive.recordio import decode
from airflow_sm_plugin.local.automl.archive.responses import (
    CSV,
    RECORDIO,
    Answer,
    RejectedRequest,
    accepted,
    encode,
    keys_of,
    media_type,
    refuse_content_type,
)
from airflow_sm_plugin.local.automl.archive.tabular import Floats, read_rows


class Estimator(Protocol):
    """The used members of a fitted scikit-learn estimator."""

    n_features_in_: int
    classes_: npt.NDArray[np.int64]

    def predict(self, features: Floats) -> npt.NDArray[np.float64]:
        """Predict a value per row."""

    def predict_proba(self, features: Floats) -> npt.NDArray[np.float64]:
        """Predict a probability per row for each of ``classes_``."""


class Algorithm(TypedDict):
    """A fitted algorithm; ``classes`` is the number of classes, 0 for a regression."""

    estimator: Estimator
    classes: int


def model_fn(model_dir: str) -> Algorithm:
    algorithm: Algorithm = joblib.load(Path(model_dir) / "model.joblib")
    return algorithm


def input_fn(body: str | bytes, content_type: str | None) -> Floats:
    """Read RecordIO-protobuf or CSV of numbers; 415 for other types and unreadable bodies, as from XGBoost."""
    kind = media_type(content_type)
    raw = body.encode() if isinstance(body, str) else body
    if kind not in (RECORDIO, CSV):
        raise refuse_content_type(content_type)
    try:
        if kind == RECORDIO:
            return decode(raw)
        return np.array(read_rows(raw.decode()), dtype=np.float32)
    except ValueError as error:
        raise RejectedRequest(str(error), 415) from error


def predict_fn(features: Floats, algorithm: Algorithm) -> Answer:
    """Predict; 400 for a wrong number of features."""
    estimator = algorithm["estimator"]
    if features.ndim != 2 or features.shape[1] != estimator.n_features_in_:
        raise RejectedRequest(
            f"Unable to evaluate payload provided: {features.shape[-1]} features are not consistent with the "
            f"{estimator.n_features_in_} features of the trained model.",
            400,
        )
    keys = keys_of("SAGEMAKER_INFERENCE_OUTPUT")
    if not algorithm["classes"]:
        return [_score(value, keys) for value in estimator.predict(features).tolist()]
    probabilities = spread(estimator, features, algorithm["classes"])
    return [_selected(row, keys) for row in probabilities.tolist()]


def output_fn(prediction: Answer, accept: str | None) -> tuple[bytes, str]:
    """Write CSV; JSON and JSON Lines only for selected keys; 406 for other types."""
    return encode(prediction, keys_of("SAGEMAKER_INFERENCE_OUTPUT"), accepted(accept))


def spread(estimator: Estimator, features: Floats, classes: int) -> npt.NDArray[np.float64]:
    """Predict a probability for every class, 0 for a class without training rows; the sum of a row is 1."""
    probabilities: npt.NDArray[np.float64] = np.zeros((len(features), classes))
    probabilities[:, np.asarray(estimator.classes_, dtype=int)] = estimator.predict_proba(features)
    # Linear models compute in float32, so that the sum of a row is only nearly 1.
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return probabilities


def _score(value: float, keys: tuple[str, ...] | None) -> list[object]:
    return [value] if keys is None else [value if key == "predicted_score" else math.nan for key in keys]


def _selected(probabilities: list[float], keys: tuple[str, ...] | None) -> list[object]:
    binary = len(probabilities) == 2
    if keys is None:
        return [probabilities[1]] if binary else list(probabilities)
    content: dict[str, object] = {
        "predicted_label": int(np.argmax(probabilities)),
        "probability": probabilities[1] if binary else max(probabilities),
        "probabilities": probabilities,
        "labels": list(range(len(probabilities))),
    }
    return [content.get(key, math.nan) for key in keys]
