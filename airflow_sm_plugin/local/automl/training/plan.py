"""The plan that the server gives the training process (JSON), and the events it reads back (JSON lines)."""

from __future__ import annotations

from typing import Literal, TypedDict

ENSEMBLING = "ENSEMBLING"
TUNING = "HYPERPARAMETER_TUNING"


class ChannelFiles(TypedDict):
    """The files of one channel, in order."""

    files: list[str]
    gzipped: bool


class TrainingPlan(TypedDict):
    """A job as the training process needs it; ``mode`` is ENSEMBLING or HYPERPARAMETER_TUNING."""

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
    """The data is understood; training begins."""

    event: Literal["analyzed"]
    problem_type: str
    objective: str
    report: str


class Started(TypedDict):
    """A candidate's training begins; ``processor`` numbers the feature processor of a tuned one."""

    event: Literal["started"]
    number: int
    algorithm: str
    processor: int


class Trained(TypedDict):
    """A candidate is ready; ``archives`` are paths by role: ``model``, or those of a tuned one's steps."""

    event: Literal["trained"]
    number: int
    algorithm: str
    scores: dict[str, float]
    archives: dict[str, str]


class Explained(TypedDict):
    """How much the best candidate relies on each column."""

    event: Literal["explained"]
    number: int
    importances: dict[str, float]


class Failed(TypedDict):
    """The job cannot go on."""

    event: Literal["failed"]
    reason: str


TrainingEvent = Analyzed | Started | Trained | Explained | Failed
