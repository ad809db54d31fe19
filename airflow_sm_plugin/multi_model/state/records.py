"""The content of a shard's journal: one part is the results of one process in less than a second.

Results are recorded as byte ranges of the input, so a resumed shard knows exactly the gaps between them. In all records

- ``entry`` is the number of an input in the shard,
- ``start`` and ``end`` are bytes of the input: where the first record begins, and after the last record,
- ``records`` is their number, and None for the rest of an input that cannot be read,
- ``offset`` and ``size`` are bytes of the part's data object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from airflow_sm_plugin._safe_text import json_line
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.exceptions import SageMakerInferenceError


class Run(NamedTuple):
    """Results of consecutive records of one input. The notes are rows of response attributes."""

    entry: int
    start: int
    end: int
    first_record: int
    records: int
    offset: int
    size: int
    notes_offset: int = 0
    notes_size: int = 0


class Failure(NamedTuple):
    """Consecutive records of one input that ended in errors of one class; the bytes are rows of ``.errors.jsonl``.

    :param error: name of the exception class
    :param retryable: whether a retry of the task can succeed
    """

    entry: int
    start: int
    end: int
    first_record: int
    records: int | None
    error: str
    retryable: bool
    offset: int
    size: int

    @property
    def reopened(self) -> Reopened:
        return Reopened(self.entry, self.start)

    def follows(self, other: Failure) -> bool:
        """Decide whether both are kept as one: consecutive records and bytes, the same class."""
        return (
            (self.entry, self.start, self.offset) == (other.entry, other.end, other.offset + other.size)
            and (self.error, self.retryable) == (other.error, other.retryable)
            and self.records is not None
            and other.records is not None
        )

    def joined(self, more: Failure) -> Failure:
        """Append *more*, which follows."""
        records = (self.records or 0) + (more.records or 0)
        return self._replace(end=more.end, records=records, size=self.size + more.size)


class Result(NamedTuple):
    """The result of one payload in memory: bytes for the output, and a row with the response's attributes."""

    start: int
    end: int
    first_record: int
    records: int
    body: bytes
    note: bytes


class FailedRecords(NamedTuple):
    """A failure in memory, and its row of ``.errors.jsonl``; all rows have the same keys.

    :param status: of HTTP, or the container's; None without a response
    :param message: shortened as the user asked; can hold text of a container
    :param attempts: number of invocations
    """

    start: int
    end: int
    first_record: int
    records: int | None
    error: type[SageMakerInferenceError]
    status: int | None
    message: str
    attempts: int

    def follows(self, other: FailedRecords) -> bool:
        """Decide whether both are one row: consecutive records that were never sent, for the same reason."""
        return (
            self.start == other.end
            and self.attempts == other.attempts == 0
            and (self.error, self.status, self.message) == (other.error, other.status, other.message)
            and self.records is not None
            and other.records is not None
        )

    def joined(self, more: FailedRecords) -> FailedRecords:
        """Append *more*, which follows."""
        return self._replace(end=more.end, records=(self.records or 0) + (more.records or 0))

    def row(self, batch_input: BatchInput) -> dict[str, object]:
        return {
            "source": batch_input.source,
            "target_model": batch_input.target_model,
            "first_record": self.first_record,
            "record_count": self.records,
            "error": self.error.__name__,
            "status": self.status,
            "message": self.message,
            "attempts": self.attempts,
        }

    def line(self, batch_input: BatchInput) -> bytes:
        return json_line(self.row(batch_input)) + b"\n"


class Ended(NamedTuple):
    """An input whose outputs are written.

    :param records: with and without an output
    :param failed: records without an output
    :param unreadable: whether the rest of the input could not be read
    :param retryable: whether a retry of the task can succeed with some of the failures
    """

    entry: int
    records: int
    failed: int
    unreadable: bool = False
    retryable: bool = False

    @property
    def is_clean(self) -> bool:
        return not (self.failed or self.unreadable)


class Reopened(NamedTuple):
    """A failure that is tried again, identified by its start."""

    entry: int
    start: int


class JournalPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a journal.

    :param token: unique to the process that wrote the part
    :param written_at: epoch seconds
    :param claim: in the first part of a process: its claim
    :param writer: in the same part: the task's try
    :param is_restart: in the same part: whether all earlier parts are void
    :param data: name of the data object; None without one
    :param etags: by entry, of inputs without an ETag in the plan: the results are of this version of the input
    :param finished: whether all inputs have ended
    :param statistics: counts since the part before
    """

    token: str
    written_at: float
    claim: int | None = None
    writer: StateWriter | None = None
    is_restart: bool = False
    data: str | None = None
    runs: tuple[Run, ...] = ()
    failures: tuple[Failure, ...] = ()
    ended: tuple[Ended, ...] = ()
    reopened: tuple[Reopened, ...] = ()
    etags: dict[int, str] = msgspec.field(default_factory=dict)
    finished: bool = False
    statistics: Mapping[str, Any] = msgspec.field(default_factory=dict)

    def as_json(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, body: bytes) -> JournalPart:
        return msgspec.json.decode(body, type=cls)
