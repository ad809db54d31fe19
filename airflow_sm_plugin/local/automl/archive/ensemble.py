"""Inference code of an ensembling candidate: a single container, from CSV rows to the selected response keys."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TypedDict

import joblib
import numpy as np
import numpy.typing as npt

from airflow_sm_plugin.local.automl.archive.algorithm import Estimator, spread
from airflow_sm_plugin.local.automl.archive.responses import (
    Answer,
    RejectedRequest,
    accepted,
    csv_rows,
    encode,
    keys_of,
)
from airflow_sm_plugin.local.automl.archive.tabular import Processor, transform


class Member(TypedDict):
    """A model of the ensemble and its share of the vote."""

    processor: Processor
    estimator: Estimator
    weight: float


class Ensemble(TypedDict):
    """The members (the sum of their weights is 1); ``labels`` are the target's classes, None for a regression."""

    members: list[Member]
    labels: list[str] | None


def model_fn(model_dir: str) -> Ensemble:
    ensemble: Ensemble = joblib.load(Path(model_dir) / "model.joblib")
    return ensemble


input_fn = csv_rows


def predict_fn(rows: list[list[str]], ensemble: Ensemble) -> Answer:
    """Let the members vote; 400 for a row of the wrong length."""
    try:
        votes = sum(
            member["weight"] * _vote(member, rows, ensemble["labels"]) for member in ensemble["members"]
        )
    except ValueError as error:
        raise RejectedRequest(str(error), 400) from error
    keys = keys_of("SAGEMAKER_INFERENCE_OUTPUT") or ("predicted_label",)
    return [_selected(vote, keys, ensemble["labels"]) for vote in np.asarray(votes).tolist()]


def output_fn(prediction: Answer, accept: str | None) -> tuple[bytes, str]:
    """Write CSV, JSON or JSON Lines; 406 for other types."""
    return encode(prediction, keys_of("SAGEMAKER_INFERENCE_OUTPUT"), accepted(accept))


def _vote(member: Member, rows: list[list[str]], labels: list[str] | None) -> npt.NDArray[np.float64]:
    features = transform(member["processor"], rows)
    if labels is None:
        return member["estimator"].predict(features).reshape(-1, 1)
    return spread(member["estimator"], features, len(labels))


def _selected(vote: list[float], keys: tuple[str, ...], labels: list[str] | None) -> list[object]:
    content: dict[str, object] = {"predicted_label": vote[0]}
    if labels is not None:
        best = int(np.argmax(vote))
        content = {
            "predicted_label": labels[best],
            "probability": vote[best],
            "probabilities": vote,
            "labels": labels,
        }
    return [content.get(key, math.nan) for key in keys]
