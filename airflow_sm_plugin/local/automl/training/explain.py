"""Tell which columns a model relies on: how much its metric loses when a column's values are shuffled."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from airflow_sm_plugin.local.automl.archive.tabular import Numbers, Texts, apply
from airflow_sm_plugin.local.automl.training import problems
from airflow_sm_plugin.local.automl.training.metrics import scores
from airflow_sm_plugin.local.automl.training.training import Array, Fitted, Material, predictions

_MOST_ROWS = 200
_MOST_COLUMNS = 60
_SEED = 7


def importances(
    members: Sequence[Fitted], weights: Sequence[float], material: Material, metric: str
) -> dict[str, float]:
    """Return each column's permutation importance by ``metric``, on at most 200 rows, for the first 60 columns."""
    places = material.seen[:_MOST_ROWS]
    truth = material.target[places]
    numbers, texts = material.numbers[places], material.texts[places]

    def score(numbers: Numbers, texts: Texts) -> float:
        votes = _votes(members, weights, numbers, texts, len(material.labels))
        return scores(material.problem_type, truth, votes).get(metric, 0.0)

    whole = score(numbers, texts)
    sign = -1.0 if metric in problems.MINIMIZED else 1.0
    shuffled = np.random.default_rng(_SEED).permutation(len(places))
    found: dict[str, float] = {}
    for place, name in enumerate(material.layout["columns"][:_MOST_COLUMNS]):
        without = _shuffle(material, place, shuffled, numbers, texts)
        found[name] = sign * (whole - score(*without))
    return found


def _votes(
    members: Sequence[Fitted], weights: Sequence[float], numbers: Numbers, texts: Texts, classes: int
) -> Array:
    votes = [
        weight * predictions(member.estimator, apply(member.processor, numbers, texts), classes)
        for member, weight in zip(members, weights, strict=True)
        if weight
    ]
    return np.asarray(sum(votes), dtype=np.float64)


def _shuffle(
    material: Material, place: int, order: np.typing.NDArray[np.int64], numbers: Numbers, texts: Texts
) -> tuple[Numbers, Texts]:
    if place in material.layout["numeric"]:
        numbers = numbers.copy()
        column = material.layout["numeric"].index(place)
        numbers[:, column] = numbers[order, column]
    elif place in material.layout["categorical"]:
        texts = texts.copy()
        column = material.layout["categorical"].index(place)
        texts[:, column] = texts[order, column]
    return numbers, texts
