"""The records of a shard's journal: one part is what one process found out in about a second.

Results are recorded by byte ranges of the input, so that a resume knows exactly what is left: the gaps between them.
Entries are inputs by their place in the shard.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from airflow_sm_plugin.batches.task_try import StateWriter


class Run(NamedTuple):
    """Results of one input that follow each other, in the input and in the data object of their part.

    :param entry: the input
    :param start: byte of the input where the first record begins
    :param end: byte where the next one would
    :param first_record: number of the first record
    :param records: how many
    :param at: where its bytes begin in the data object
    :param size: how many they are
    :param notes_at: where the rows of response attributes begin in the data object
    :param notes_size: how many bytes they are
    """

    entry: int
    start: int
    end: int
    first_record: int
    records: int
    at: int
    size: int
    notes_at: int = 0
    notes_size: int = 0


class Failure(NamedTuple):
    """Records of one input that ended in errors, one after the other; their rows lie in the data object of their part.

    :param records: None where they could not be counted: the rest of an input that cannot be read
    :param error: name of our class for it
    :param retryable: whether a retry of the task may fare better
    :param at: where the rows begin in the data object
    :param size: how many bytes they are
    """

    entry: int
    start: int
    end: int
    first_record: int
    records: int | None
    error: str
    retryable: bool
    at: int
    size: int

    @property
    def reopened(self) -> Reopened:
        """The record that it is tried again."""
        return Reopened(self.entry, self.start)

    def follows(self, other: Failure) -> bool:
        """Return whether it is kept together with another: the next records, of one class, the next bytes."""
        return (
            (self.entry, self.start, self.at) == (other.entry, other.end, other.at + other.size)
            and (self.error, self.retryable) == (other.error, other.retryable)
            and self.records is not None
            and other.records is not None
        )

    def joined(self, more: Failure) -> Failure:
        """Return both as one; ``more`` follows."""
        records = (self.records or 0) + (more.records or 0)
        return self._replace(end=more.end, records=records, size=self.size + more.size)


class Ended(NamedTuple):
    """An input whose outputs are written.

    :param records: in all
    :param failed: how many of them have no output
    :param unreadable: whether its rest could not be read
    :param retryable: whether a retry may fare better with some of what failed
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
    """A failure that is tried again, identified by where it began."""

    entry: int
    start: int


class JournalPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One part of a journal.

    :param token: which process wrote it
    :param at: epoch seconds
    :param claim: its claim, in the first part it writes
    :param writer: which try of the task it works for, in the same part
    :param is_restart: whether nothing before it counts any more, in the same part
    :param data: name of the object with the results' bytes; None when there are none
    :param etags: by input, of those that the plan knows none of: what was read is this object and no other
    :param finished: whether all inputs have ended
    :param statistics: what was counted since the part before
    """

    token: str
    at: float
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
