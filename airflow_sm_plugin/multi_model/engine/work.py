"""What moves through the engine: models with work left, their open inputs, and payloads on their way to a model."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, Judgement
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue
from airflow_sm_plugin.multi_model.engine.settings import OVERHEAD
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.state.journal import InputProgress
from airflow_sm_plugin.multi_model.state.records import FailedRecords, Result

_ISOLATED = 32
"""Bad records of a model to search for, whatever the share of its good ones. Each costs about two invocations a
halving of its payload; with a model that refuses nearly all records the search ends after so many."""


@dataclass(slots=True, eq=False)
class OpenModel:
    """A model with work left."""

    queue: ModelQueue[Job]
    lost: Judgement | None = None
    """Why the model was given up: none of its payloads can be invoked any more."""
    inputs: int = 0
    """Inputs that are read, invoked or written."""
    is_read: bool = False
    """Whether all payloads were put into the queue."""
    waiting_bytes: int = 0
    """Size of the payloads in the queue."""
    outstanding: int = 0
    """Payloads that were put into the queue and have neither a result nor failed."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there may be room for further payloads."""
    worked_from: float | None = None
    """Since when the model's work is missing in the statistics, epoch seconds; None until the model is loaded."""
    probes: int = 0
    """Probes in a row that found the model not loaded."""
    isolated_bad: int = 0
    isolated_good: int = 0
    """Halves of payloads that failed, and that succeeded, in the search for bad records."""
    evidence: Evidence = field(default_factory=Evidence)
    """Failures that suggest that the model does not serve."""

    @property
    def may_isolate(self) -> bool:
        """Decide whether to search for bad records: not for those of a model that refuses nearly all."""
        return self.lost is None and (
            self.isolated_bad < _ISOLATED or self.isolated_bad <= self.isolated_good
        )


@dataclass(slots=True, eq=False)
class OpenInput:
    """An input in work.

    :param entry: position in the shard
    :param progress: its results and failures in the journal
    :param output: format of its output
    """

    entry: int
    batch_input: BatchInput
    model: OpenModel
    progress: InputProgress
    output: OutputOptions
    fields: dict[str, str] | None = None
    """The fields of a template of custom attributes."""
    unfit: InvalidRequest | None = None
    """Why none of its payloads can be sent."""
    read_to: tuple[int, int] = (0, 0)
    """Byte and record that come next."""
    offered: int = 0
    """Records read so far."""

    # Of the recorder
    results: list[Result] = field(default_factory=list)
    failures: list[FailedRecords] = field(default_factory=list)
    """Results and failures that are not in the journal yet."""
    settled: int = 0
    """Records with a result, or failed."""
    is_read: bool = False
    is_recorded: bool = False
    """Whether this process has written results or failures into the journal, or is writing them."""

    @property
    def is_complete(self) -> bool:
        return self.is_read and self.settled == self.offered

    @property
    def is_in_memory(self) -> bool:
        """Decide whether the output can be written from memory: all results are here, and nothing failed."""
        return not (self.is_recorded or self.failures) and self.progress.is_new


class Job:
    """A payload to send to its model, with its input and what became of its attempts so far."""

    __slots__ = (
        "attempts",
        "began",
        "evictions",
        "is_half",
        "model",
        "open_input",
        "payload",
        "size",
        "throttled",
        "was_unready",
    )

    def __init__(
        self, open_input: OpenInput, payload: Payload, *, is_half: bool = False, evictions: int = 0
    ) -> None:
        self.open_input = open_input
        self.model = open_input.model
        self.payload = payload
        self.is_half = is_half
        """Whether it was cut from another payload to find bad records."""
        self.attempts = 0
        """Failed attempts that count."""
        self.throttled = 0
        """Attempts that were throttled while other payloads succeeded."""
        self.was_unready = False
        """Whether it ever found its model not loaded."""
        self.evictions = evictions
        """How often it found its model evicted."""
        self.size = len(payload.body) + OVERHEAD
        """Bytes it takes in memory."""
        self.began = 0.0
        """When it was first sent, by the loop's clock; 0 before."""

    @property
    def was_tried(self) -> bool:
        return self.attempts > 0 or self.throttled > 0


def failed_records(payload: Payload, judgement: Judgement, *, attempts: int) -> FailedRecords:
    position = (payload.start, payload.end, payload.first_record, payload.records)
    return FailedRecords(*position, judgement.error, judgement.status, judgement.message, attempts)
