"""Fit candidates, and score them on rows that they were not fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from sklearn import metrics
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from airflow_sm_plugin.local.automl.archive.algorithm import spread
from airflow_sm_plugin.local.automl.archive.tabular import (
    Floats,
    Layout,
    Numbers,
    Processor,
    Texts,
    apply,
    fit,
)
from airflow_sm_plugin.local.automl.training.plan import BINARY, MINIMIZED, REGRESSION
from airflow_sm_plugin.local.automl.training.recipes import Recipe, Trainable

RowIndices = npt.NDArray[np.int64]
Array = npt.NDArray[np.float64]
Fold = tuple[RowIndices, RowIndices]
DEFAULT_FRACTION = 0.2
"""Share of rows for validation: Autopilot's own default of 80 to 20."""
_SEED = 7
"""Any fixed number: the same data give the same split and the same scores."""
_ENOUGH_FOR_ONE_SPLIT = 1000
"""With fewer rows, a fifth of them is too small a sample: candidates are cross-validated instead."""
_FOLDS = 3
"""Each fold trains every candidate once more. Two would train on half of the rows; five cost almost twice the time."""
_VOTING_ROUNDS = 10
"""Weights of an ensemble are tenths at the finest; each round scores all candidates once more."""
_MOST_ROWS = 200
"""Rows for permutation importance, which predicts all of them again for each column."""
_MOST_COLUMNS = 60
"""Columns with an importance, so at most 12,000 predictions a model; later columns get none."""


def scores(problem_type: str, truth: Array, predicted: Array) -> dict[str, float]:
    """Compute the metrics, by the API's names.

    :param predicted: a column of probabilities for every class, or a single column of values
    """
    if problem_type == REGRESSION:
        return _regression(truth, predicted[:, 0])
    labels = np.argmax(predicted, axis=1)
    by_name = {
        "Accuracy": metrics.accuracy_score(truth, labels),
        "BalancedAccuracy": _balanced_accuracy(truth, labels),
        "LogLoss": metrics.log_loss(truth, predicted, labels=list(range(predicted.shape[1]))),
    }
    if problem_type == BINARY:
        by_name |= _averaged(truth, labels, "binary", "")
        # AUC is undefined for rows of a single class; 0.5 is its value for random predictions.
        classes = len(np.unique(truth))
        by_name["AUC"] = metrics.roc_auc_score(truth, predicted[:, 1]) if classes == 2 else 0.5
    else:
        by_name |= _averaged(truth, labels, "macro", "Macro")
        by_name["F1macro"] = by_name.pop("F1Macro")
    return {name: float(value) for name, value in by_name.items()}


def better(metric: str, value: float, than: float) -> bool:
    return value < than if metric in MINIMIZED else value > than


def _averaged(truth: Array, labels: npt.NDArray[np.int64], average: str, suffix: str) -> dict[str, float]:
    functions = {"F1": metrics.f1_score, "Precision": metrics.precision_score, "Recall": metrics.recall_score}
    return {
        f"{name}{suffix}": score(truth, labels, average=average, zero_division=0.0)
        for name, score in functions.items()
    }


def _balanced_accuracy(truth: Array, labels: npt.NDArray[np.int64]) -> float:
    present = np.unique(truth)
    return float(np.mean([np.mean(labels[truth == value] == value) for value in present]))


def _regression(truth: Array, values: Array) -> dict[str, float]:
    mse = float(metrics.mean_squared_error(truth, values))
    return {
        "MSE": mse,
        "RMSE": mse**0.5,
        "MAE": float(metrics.mean_absolute_error(truth, values)),
        "R2": float(metrics.r2_score(truth, values)),
    }


@dataclass(frozen=True)
class Material:
    """The data to train on; the rows of a validation channel come after those of the training channel."""

    layout: Layout
    numbers: Numbers
    texts: Texts
    target: Array
    labels: list[str]
    problem_type: str
    weights: Array | None
    folds: list[Fold]
    fit_on: RowIndices
    _features: dict[tuple[int, bool], tuple[Floats, Floats]] = field(default_factory=dict)
    _processors: dict[bool, Processor] = field(default_factory=dict)

    @property
    def seen(self) -> RowIndices:
        return np.concatenate([valid for _, valid in self.folds])

    def processor(self, *, scaled: bool) -> Processor:
        """Fit the feature processor that all candidates with (or without) scaled features share, once."""
        if scaled not in self._processors:
            self._processors[scaled] = self._fit(self.fit_on, scaled=scaled)
        return self._processors[scaled]

    def fold_features(self, fold: int, *, scaled: bool) -> tuple[Floats, Floats]:
        """Compute a fold's features once, with a processor that was fitted on the fold's training rows only."""
        if (fold, scaled) not in self._features:
            train, valid = self.folds[fold]
            is_shared = np.array_equal(train, self.fit_on)
            processor = self.processor(scaled=scaled) if is_shared else self._fit(train, scaled=scaled)
            self._features[fold, scaled] = (
                self.features(processor, train),
                self.features(processor, valid),
            )
        return self._features[fold, scaled]

    def features(self, processor: Processor, rows: RowIndices) -> Floats:
        return apply(processor, self.numbers[rows], self.texts[rows])

    def _fit(self, rows: RowIndices, *, scaled: bool) -> Processor:
        return fit(
            self.layout, self.numbers[rows], self.texts[rows], scaled=scaled, labels=self.labels or None
        )


@dataclass(frozen=True)
class Fitted:
    """A candidate's model, its predictions for :attr:`Material.seen`, and their scores."""

    recipe: Recipe
    processor: Processor
    estimator: Trainable
    predicted: Array
    scores: dict[str, float]


def folds_of(target: Array, *, training: int, classes: int, fraction: float | None) -> list[Fold]:
    """Split by channel when there are validation rows; else split a large set once, a small one into folds.

    :param training: number of rows of the training channel, which come first
    :param fraction: requested share of validation rows; None for the default
    """
    rows = np.arange(len(target))
    if training < len(target):
        return [(rows[:training], rows[training:])]
    rarest = min(np.unique(target, return_counts=True)[1]) if classes else 0
    stratify = target if rarest >= _FOLDS else None
    if fraction is not None or training >= _ENOUGH_FOR_ONE_SPLIT:
        train, valid = train_test_split(
            rows, test_size=fraction or DEFAULT_FRACTION, stratify=stratify, random_state=_SEED
        )
        return [(np.sort(train), np.sort(valid))]
    splitter = (KFold if stratify is None else StratifiedKFold)(_FOLDS, shuffle=True, random_state=_SEED)
    return list(splitter.split(rows, target))


def train(recipe: Recipe, material: Material) -> Fitted:
    """Score a candidate on every fold, then fit it on all training rows (a single split's fit is kept)."""
    parts = []
    estimator = recipe.make()
    for fold, (rows, _) in enumerate(material.folds):
        estimator = recipe.make()
        features, unseen = material.fold_features(fold, scaled=recipe.scaled)
        _fit(estimator, features, rows, material)
        parts.append(predictions(estimator, unseen, len(material.labels)))
    processor = material.processor(scaled=recipe.scaled)
    if len(material.folds) > 1:
        estimator = recipe.make()
        _fit(estimator, material.features(processor, material.fit_on), material.fit_on, material)
    predicted = np.concatenate(parts)
    measured = scores(material.problem_type, material.target[material.seen], predicted)
    return Fitted(recipe, processor, estimator, predicted, measured)


def predictions(estimator: Trainable, features: Floats, classes: int) -> Array:
    if classes:
        return spread(estimator, features, classes)
    return np.asarray(estimator.predict(features), dtype=np.float64).reshape(-1, 1)


def vote(fitted: Sequence[Fitted], material: Material, metric: str) -> tuple[list[float], dict[str, float]]:
    """Weigh the candidates by greedy ensemble selection: ten rounds, each of which adds the best model for the metric.

    Returns a weight for each candidate (their sum is 1) and the ensemble's scores, as of the best round. The first
    round chooses the best single model, so the ensemble is never worse.
    """
    truth = material.target[material.seen]
    counts = [0] * len(fitted)
    total = np.zeros_like(fitted[0].predicted)
    weights: list[float] = []
    measured: dict[str, float] = {}
    for rounds in range(1, _VOTING_ROUNDS + 1):
        tried = [scores(material.problem_type, truth, (total + model.predicted) / rounds) for model in fitted]
        best = 0
        for index, candidate_scores in enumerate(tried):
            if better(metric, candidate_scores[metric], tried[best][metric]):
                best = index
        counts[best] += 1
        total = total + fitted[best].predicted
        if not measured or not better(metric, measured[metric], tried[best][metric]):
            weights, measured = [count / rounds for count in counts], tried[best]
    return weights, measured


def _fit(estimator: Trainable, features: Floats, rows: RowIndices, material: Material) -> None:
    values = material.target[rows]
    if material.weights is None:
        estimator.fit(features, values)
    else:
        estimator.fit(features, values, sample_weight=material.weights[rows])


def importances(
    members: Sequence[Fitted], weights: Sequence[float], material: Material, metric: str
) -> dict[str, float]:
    """Compute each column's permutation importance by ``metric``, on at most 200 rows, for the first 60 columns."""
    rows = material.seen[:_MOST_ROWS]
    truth = material.target[rows]
    numbers, texts = material.numbers[rows], material.texts[rows]

    def score(numbers: Numbers, texts: Texts) -> float:
        votes = _votes(members, weights, numbers, texts, len(material.labels))
        return scores(material.problem_type, truth, votes).get(metric, 0.0)

    unshuffled = score(numbers, texts)
    sign = -1.0 if metric in MINIMIZED else 1.0
    shuffled = np.random.default_rng(_SEED).permutation(len(rows))
    by_column: dict[str, float] = {}
    for column, name in enumerate(material.layout["columns"][:_MOST_COLUMNS]):
        without = _shuffle(material, column, shuffled, numbers, texts)
        by_column[name] = sign * (unshuffled - score(*without))
    return by_column


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
    material: Material, column: int, order: np.typing.NDArray[np.int64], numbers: Numbers, texts: Texts
) -> tuple[Numbers, Texts]:
    if column in material.layout["numeric"]:
        numbers = numbers.copy()
        position = material.layout["numeric"].index(column)
        numbers[:, position] = numbers[order, position]
    elif column in material.layout["categorical"]:
        texts = texts.copy()
        position = material.layout["categorical"].index(column)
        texts[:, position] = texts[order, position]
    return numbers, texts
