"""The journal of a shard: which parts of which inputs have a result, and where its bytes lie.

A part tells what one process found out in about a second. Results are told by byte ranges of the input, so that a
resume knows exactly what to do yet: the gaps between them. Entries are inputs by their place in the shard.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_sm_plugin.batches.state_writer import StateWriter
from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_WIDTH = 9
_RECORDS, _SIZE = 3, 5
"""Columns of a story: those of a run but the input, and the data object."""


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

    :param records: None where nobody could count them: the rest of an input that cannot be read
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
        """What a part says when it is tried again."""
        return Reopened(self.entry, self.start)

    def follows(self, other: Failure) -> bool:
        """Say whether it is kept together with another: the next records, of one class, the next bytes."""
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
        """Whether nothing of it failed."""
        return not (self.failed or self.unreadable)


class Reopened(NamedTuple):
    """A failure that is tried again, told by where it began."""

    entry: int
    start: int


@dataclass(frozen=True, kw_only=True)
class Part:
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
    etags: Mapping[int, str] = field(default_factory=dict)
    finished: bool = False
    statistics: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Return the content of a part's object, as :meth:`from_json` reads it."""
        given = {
            "token": self.token,
            "at": self.at,
            "claim": self.claim,
            "writer": self.writer and self.writer.as_json(),
            "restart": self.is_restart,
            "data": self.data,
            "runs": self.runs,
            "failures": self.failures,
            "ended": self.ended,
            "reopened": self.reopened,
            "etags": {str(entry): etag for entry, etag in self.etags.items()},
            "finished": self.finished,
            "statistics": self.statistics,
        }
        return json.dumps(
            {name: value for name, value in given.items() if value or (value == 0 and value is not False)},
            separators=(",", ":"),
        ).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Part:
        """Read what :meth:`as_json` wrote."""
        given = json.loads(body)
        return cls(
            token=given["token"],
            at=given["at"],
            claim=given.get("claim"),
            writer=StateWriter.from_json(given["writer"]) if "writer" in given else None,
            is_restart=given.get("restart", False),
            data=given.get("data"),
            runs=tuple(Run(*one) for one in given.get("runs", ())),
            failures=tuple(Failure(*one) for one in given.get("failures", ())),
            ended=tuple(Ended(*one) for one in given.get("ended", ())),
            reopened=tuple(Reopened(*one) for one in given.get("reopened", ())),
            etags={int(entry): etag for entry, etag in given.get("etags", {}).items()},
            finished=given.get("finished", False),
            statistics=given.get("statistics", {}),
        )


class Placed(NamedTuple):
    """A run, and the name of the data object that holds its bytes."""

    run: Run
    data: str


class PlacedFailure(NamedTuple):
    """A failure, and the name of the data object that holds its rows."""

    failure: Failure
    data: str


class Gap(NamedTuple):
    """A range of an input without a result.

    :param start: byte of the input
    :param end: None is the input's end
    :param first_record: number of the record that begins at ``start``
    """

    start: int
    end: int | None
    first_record: int


class Story:
    """What is known of one input that has not ended, or not well.

    :param entry: the input
    :param names: of all data objects; runs tell theirs by its place here
    """

    __slots__ = ("_columns", "_names", "entry", "failures")

    def __init__(self, entry: int, names: list[str]) -> None:
        self.entry = entry
        self._names = names
        self._columns = array("q")  # 72 bytes a run: an input of gigabytes may have a hundred thousand
        self.failures: list[PlacedFailure] = []

    @property
    def is_new(self) -> bool:
        """Whether nothing is known at all."""
        return not (self._columns or self.failures)

    def add(self, run: Run) -> None:
        """Take up a run whose bytes lie in the latest data object."""
        self._columns.extend((*run[1:], len(self._names) - 1))

    @property
    def records(self) -> int:
        """Records with a result."""
        return sum(self._columns[_RECORDS::_WIDTH])

    @property
    def bytes(self) -> int:
        """Bytes of the results."""
        return sum(self._columns[_SIZE::_WIDTH])

    def in_order(self) -> Iterator[Placed]:
        """Yield the runs in the order of the input."""
        columns = self._columns
        for place in sorted(range(0, len(columns), _WIDTH), key=columns.__getitem__):
            *run, data = columns[place : place + _WIDTH]
            yield Placed(Run(self.entry, *run), self._names[data])

    def gaps(self) -> Iterator[Gap]:
        """Yield what has no result yet, in order; the last one goes to the input's end, which nobody knows before.

        There is no last one where the rest of the input has failed as a whole.
        """
        runs = ((run.start, run.end, run.first_record, run.records, False) for run, _ in self.in_order())
        failures = sorted(
            (one.start, one.end, one.first_record, one.records or 0, one.records is None)
            for one, _ in self.failures
        )
        at, record, is_rest = 0, 0, False
        for start, end, first_record, records, is_rest in heapq.merge(runs, failures):  # noqa: B007 - the last one's
            if first_record > record:  # else only blank lines lie between
                yield Gap(at, start, record)
            at, record = end, first_record + records
        if not is_rest:  # else the rest has failed already
            yield Gap(at, None, record)


class Journal:
    """All parts of a journal, read or written so far.

    Mutable, since a shard may have a hundred thousand inputs: of those that ended only numbers are kept.

    :param group_of: says which group an input is counted in, e.g. its model
    :param keep: keep the whole story of inputs that ended with failures, so that these can be tried again
    """

    def __init__(self, group_of: Callable[[int], int], *, keep: bool) -> None:
        self.parts = 0
        self.claim = -1
        self.writer: StateWriter | None = None
        """Which try of the task works on it, or was the last to."""
        self.first_writer: StateWriter | None = None
        """Which try began it."""
        self._group_of = group_of
        self._keep = keep
        self._begin()

    def _begin(self) -> None:
        """Know of nothing, or forget it all."""
        self.began_at: float | None = None
        """When the first part that counts was written, epoch seconds."""
        self.is_finished = False
        self.clean = 0
        """Set of the inputs that ended without a failure."""
        self.clean_inputs: Counter[int] = Counter()
        """How many those are, by group."""
        self.clean_records: Counter[int] = Counter()
        """How many records they have, by group."""
        self.failed: dict[int, Ended] = {}
        """Inputs that ended with failures."""
        self.stories: dict[int, Story] = {}
        self.etags: dict[int, str] = {}
        """Of inputs that the plan knows no ETag of."""
        self.statistics = Statistics()
        """All that the parts counted."""
        self._names: list[str] = []

    def add(self, part: Part) -> None:
        """Take a part up."""
        self.parts += 1
        if part.is_restart:
            self._begin()
        if self.began_at is None:
            self.began_at = part.at
        if part.claim is not None:
            self.claim, self.writer, self.is_finished = part.claim, part.writer or StateWriter(), False
            self.first_writer = self.first_writer or self.writer
        if part.data is not None:
            self._names.append(part.data)
        self.is_finished = self.is_finished or part.finished
        if part.statistics:
            self.statistics.add(part.statistics)
        self.etags.update(part.etags)
        for one in part.reopened:
            self._reopen(one)
        for run in part.runs:
            self.story(run.entry).add(run)
        for failure in part.failures:
            self.story(failure.entry).failures.append(PlacedFailure(failure, part.data or ""))
        self._end(part.ended)

    def story(self, entry: int) -> Story:
        """Return what is known of an input; it begins to exist."""
        story = self.stories.get(entry)
        if story is None:
            story = self.stories[entry] = Story(entry, self._names)
        return story

    def _reopen(self, one: Reopened) -> None:
        self.failed.pop(one.entry, None)
        story = self.story(one.entry)
        story.failures = [each for each in story.failures if each.failure.start != one.start]

    def _end(self, ended: Iterable[Ended]) -> None:
        clean = bytearray()
        for one in ended:
            if one.is_clean:
                self.stories.pop(one.entry, None)
                group = self._group_of(one.entry)
                self.clean_inputs[group] += 1
                self.clean_records[group] += one.records
                place = one.entry >> 3
                if place >= len(clean):
                    clean.extend(bytes(place + 1 - len(clean)))
                clean[place] |= 1 << (one.entry & 7)
            else:
                self.failed[one.entry] = one
                if not self._keep:
                    self.stories.pop(one.entry, None)
        self.clean |= int.from_bytes(clean, "little")

    def failures(self) -> Iterator[PlacedFailure]:
        """Yield all failures that are known."""
        for story in self.stories.values():
            yield from story.failures

    def to_retry(self, *, everything: bool) -> list[Failure]:
        """Return the failures to try again: what may pass, or all.

        :param everything: also what no retry can mend, for the task was cleared
        """
        return [failure for failure, _ in self.failures() if everything or failure.retryable]

    def forget_failed(self) -> None:
        """Keep only the numbers of inputs that ended with failures: nobody will try them again now."""
        self._keep = False
        for entry in self.failed:
            self.stories.pop(entry, None)

    def left(self, first: int, count: int) -> list[int]:
        """Return which inputs, from ``first`` on, have not ended."""
        clean = (self.clean >> first & (1 << count) - 1).to_bytes(-(-count // 8), "little")
        return [
            first + place
            for place in range(count)
            if not clean[place >> 3] >> (place & 7) & 1 and first + place not in self.failed
        ]
