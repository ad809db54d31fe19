"""Score predictions by every metric of the problem type."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn import metrics

from airflow_sm_plugin.local.automl.training import problems

Array = npt.NDArray[np.float64]


def scores(problem_type: str, truth: Array, predicted: Array) -> dict[str, float]:
    """Return the metrics by the API's names.

    :param predicted: a column for every class (probabilities), or one column of values
    """
    if problem_type == problems.REGRESSION:
        return _regression(truth, predicted[:, 0])
    labels = np.argmax(predicted, axis=1)
    found = {
        "Accuracy": metrics.accuracy_score(truth, labels),
        "BalancedAccuracy": _balanced_accuracy(truth, labels),
        "LogLoss": metrics.log_loss(truth, predicted, labels=list(range(predicted.shape[1]))),
    }
    if problem_type == problems.BINARY:
        found |= _averaged(truth, labels, "binary", "")
        # Undefined when only one class was seen: then nothing was told apart, and nothing was better than chance.
        seen = len(np.unique(truth))
        found["AUC"] = metrics.roc_auc_score(truth, predicted[:, 1]) if seen == 2 else 0.5
    else:
        found |= _averaged(truth, labels, "macro", "Macro")
        found["F1macro"] = found.pop("F1Macro")
    return {name: float(value) for name, value in found.items()}


def better(metric: str, value: float, than: float) -> bool:
    """Say whether ``value`` beats ``than`` by this metric."""
    return value < than if metric in problems.MINIMIZED else value > than


def _averaged(truth: Array, labels: npt.NDArray[np.int64], average: str, suffix: str) -> dict[str, float]:
    functions = {
        "F1": metrics.f1_score,
        "Precision": metrics.precision_score,
        "Recall": metrics.recall_score,
    }
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
