"""What a shard's journal comes to: which parts of which inputs have a result, where its bytes lie, and what is left."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.core.number_sets import below, from_numbers, numbers_of, window
from airflow_sm_plugin.multi_model.state.records import Ended, Failure, JournalPart, Reopened, Run
from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_WIDTH = 9
_RECORDS, _SIZE = 3, 5
"""Columns of an input's progress: those of a run but the input, and the data object."""


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


class InputProgress:
    """What is known of one input that has not ended, or ended with failures.

    :param entry: the input
    :param names: of all data objects; a run has the place of its object's name in this list
    """

    __slots__ = ("_columns", "_names", "entry", "failures")

    def __init__(self, entry: int, names: list[str]) -> None:
        self.entry = entry
        self._names = names
        self._columns = array("q")  # 72 bytes a run: an input of gigabytes may have a hundred thousand
        self.failures: list[PlacedFailure] = []

    @property
    def is_new(self) -> bool:
        return not (self._columns or self.failures)

    def add(self, run: Run) -> None:
        """Add a run whose bytes lie in the latest data object."""
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
        """Yield what has no result yet, in order; the last gap goes to the input's end, which is not known before.

        There is no last one where the rest of the input has failed as a whole.
        """
        runs = ((run.start, run.end, run.first_record, run.records, False) for run, _ in self.in_order())
        failures = sorted(
            (failure.start, failure.end, failure.first_record, failure.records or 0, failure.records is None)
            for failure, _ in self.failures
        )
        at, record, is_rest = 0, 0, False
        for start, end, first_record, records, is_rest in heapq.merge(runs, failures):  # noqa: B007 - the last one's
            if first_record > record:  # else only blank lines lie between
                yield Gap(at, start, record)
            at, record = end, first_record + records
        if not is_rest:
            yield Gap(at, None, record)


class Journal:
    """All parts of a journal, read or written so far.

    Mutable, since a shard may have a hundred thousand inputs: of those that ended only numbers are kept.

    :param group_of: returns the group that an input is counted in, e.g. its model's number
    :param keep: keep the progress of inputs that ended with failures, so that these can be tried again
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
        self._reset()

    def _reset(self) -> None:
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
        self.progress: dict[int, InputProgress] = {}
        self.etags: dict[int, str] = {}
        """Of inputs that the plan knows no ETag of."""
        self.statistics = Statistics()
        """All that the parts counted."""
        self._names: list[str] = []

    def add(self, part: JournalPart) -> None:
        """Add the next part."""
        self.parts += 1
        if part.is_restart:
            self._reset()
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
        for reopened in part.reopened:
            self._reopen(reopened)
        for run in part.runs:
            self.progress_of(run.entry).add(run)
        for failure in part.failures:
            self.progress_of(failure.entry).failures.append(PlacedFailure(failure, part.data or ""))
        for ended in part.ended:
            self._end(ended)
        self.clean |= from_numbers(ended.entry for ended in part.ended if ended.is_clean)

    def progress_of(self, entry: int) -> InputProgress:
        """Return what is known of an input, from now on also where that is nothing."""
        progress = self.progress.get(entry)
        if progress is None:
            progress = self.progress[entry] = InputProgress(entry, self._names)
        return progress

    def _reopen(self, reopened: Reopened) -> None:
        self.failed.pop(reopened.entry, None)
        progress = self.progress_of(reopened.entry)
        progress.failures = [placed for placed in progress.failures if placed.failure.start != reopened.start]

    def _end(self, ended: Ended) -> None:
        if ended.is_clean:
            group = self._group_of(ended.entry)
            self.clean_inputs[group] += 1
            self.clean_records[group] += ended.records
        else:
            self.failed[ended.entry] = ended
        if ended.is_clean or not self._keep:
            self.progress.pop(ended.entry, None)

    def failures(self) -> Iterator[PlacedFailure]:
        """Yield all failures that are known."""
        for progress in self.progress.values():
            yield from progress.failures

    def to_retry(self, *, everything: bool) -> list[Failure]:
        """Return the failures to try again.

        :param everything: also those that no retry can mend, for the task was cleared
        """
        return [failure for failure, _ in self.failures() if everything or failure.retryable]

    def forget_failed(self) -> None:
        """Keep only the numbers of inputs that ended with failures: they are not tried again now."""
        self._keep = False
        for entry in self.failed:
            self.progress.pop(entry, None)

    def left(self, first: int, count: int) -> list[int]:
        """Return which of *count* inputs, from ``first`` on, have not ended."""
        not_clean = below(count) & ~window(self.clean, first, count)
        return [first + place for place in numbers_of(not_clean) if first + place not in self.failed]
