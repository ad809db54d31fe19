"""Problem types, their objective metrics and defaults, as the API reference lists them. Pure decisions.

Source: ``AutoMLJobObjective.MetricName`` in botocore's service model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BINARY = "BinaryClassification"
MULTICLASS = "MulticlassClassification"
REGRESSION = "Regression"

METRICS: dict[str, tuple[str, ...]] = {
    BINARY: ("F1", "Accuracy", "AUC", "BalancedAccuracy", "Precision", "Recall"),
    MULTICLASS: ("Accuracy", "BalancedAccuracy", "F1macro", "PrecisionMacro", "RecallMacro"),
    REGRESSION: ("MSE", "MAE", "R2", "RMSE"),
}
"""The metrics a problem type can be optimised for, its default first."""

MINIMIZED = frozenset({"MSE", "MAE", "RMSE", "LogLoss"})
_MOST_INTEGER_CLASSES = 30
"""A target of more distinct whole numbers is a quantity, not a set of classes."""


def default_metric(problem_type: str) -> str:
    return METRICS[problem_type][0]


def resolve_problem_type(values: Sequence[str]) -> str:
    """Derive the problem type from the target's values: two distinct ones are binary, many numbers a regression."""
    distinct = set(values)
    if len(distinct) == 2:
        return BINARY
    numbers = [_number(value) for value in distinct]
    if any(math.isnan(number) for number in numbers):
        return MULTICLASS
    fractions = any(number != int(number) for number in numbers)
    return REGRESSION if fractions or len(distinct) > _MOST_INTEGER_CLASSES else MULTICLASS


def ordered_labels(values: Sequence[str]) -> list[str]:
    """Return the distinct labels, numbers by value, else by text; in a binary problem the last is the True class."""
    distinct = set(values)
    if any(math.isnan(_number(value)) for value in distinct):
        return sorted(distinct)
    return sorted(distinct, key=lambda value: (_number(value), value))


def _number(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        return math.nan
    return found if math.isfinite(found) else math.nan
