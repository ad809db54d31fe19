"""The plan for the training process (JSON), its events (JSON lines), and the problem types with their metrics.

Source of the metrics: ``AutoMLJobObjective.MetricName`` in botocore's service model.
"""

from __future__ import annotations

from typing import Literal, TypedDict

ENSEMBLING = "ENSEMBLING"
TUNING = "HYPERPARAMETER_TUNING"

BINARY = "BinaryClassification"
MULTICLASS = "MulticlassClassification"
REGRESSION = "Regression"

METRICS: dict[str, tuple[str, ...]] = {
    BINARY: ("F1", "Accuracy", "AUC", "BalancedAccuracy", "Precision", "Recall"),
    MULTICLASS: ("Accuracy", "BalancedAccuracy", "F1macro", "PrecisionMacro", "RecallMacro"),
    REGRESSION: ("MSE", "MAE", "R2", "RMSE"),
}
"""The objective metrics of a problem type, the default first."""

MINIMIZED = frozenset({"MSE", "MAE", "RMSE", "LogLoss"})


def default_metric(problem_type: str) -> str:
    return METRICS[problem_type][0]


class ChannelFiles(TypedDict):
    """The files of a channel, in order."""

    files: list[str]
    gzipped: bool


class TrainingPlan(TypedDict):
    """A job's parameters for the training process; ``mode`` is ENSEMBLING or HYPERPARAMETER_TUNING."""

    training: ChannelFiles
    validation: ChannelFiles | None
    target: str
    weight: str | None
    problem_type: str | None
    objective: str | None
    mode: str
    max_candidates: int | None
    algorithms: list[str]
    validation_fraction: float | None
    definitions_only: bool
    output: str


class Analyzed(TypedDict):
    """The data are read; training begins."""

    event: Literal["analyzed"]
    problem_type: str
    objective: str
    report: str


class Started(TypedDict):
    """A candidate's training begins; ``processor`` is the number of its feature processor, for tuning."""

    event: Literal["started"]
    number: int
    algorithm: str
    processor: int


class Trained(TypedDict):
    """A candidate is ready; ``archives`` are paths by role: ``model``, or for tuning the roles of its steps."""

    event: Literal["trained"]
    number: int
    algorithm: str
    scores: dict[str, float]
    archives: dict[str, str]


class Explained(TypedDict):
    """The importance of each column for the best candidate."""

    event: Literal["explained"]
    number: int
    importances: dict[str, float]


class Failed(TypedDict):
    """The job cannot go on."""

    event: Literal["failed"]
    reason: str


TrainingEvent = Analyzed | Started | Trained | Explained | Failed
