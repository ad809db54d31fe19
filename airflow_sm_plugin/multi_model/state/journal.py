"""The sum of a shard's journal: which parts of which inputs have a result, where its bytes are, and what is left."""

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
"""Columns of an input's progress: the fields of a run without the entry, and the index of the data object."""


class StoredFailure(NamedTuple):
    """A failure, and the name of the data object that holds its rows."""

    failure: Failure
    data: str


class Gap(NamedTuple):
    """A byte range of an input without a result.

    :param end: None is the input's end
    :param first_record: number of the record that begins at ``start``
    """

    start: int
    end: int | None
    first_record: int


class InputProgress:
    """Runs and failures of an input that has not ended, or has ended with failures; ``bytes`` are of the results.

    :param names: of all data objects of the journal, a list that grows with it
    """

    __slots__ = ("_columns", "_names", "entry", "failures")

    def __init__(self, entry: int, names: list[str]) -> None:
        self.entry = entry
        self._names = names
        self._columns = array("q")  # 72 bytes a run: an input of gigabytes can have a hundred thousand
        self.failures: list[StoredFailure] = []

    @property
    def is_new(self) -> bool:
        return not (self._columns or self.failures)

    def add(self, run: Run) -> None:
        """Add a run with bytes in the latest data object."""
        self._columns.extend((*run[1:], len(self._names) - 1))

    @property
    def records(self) -> int:
        return sum(self._columns[_RECORDS::_WIDTH])

    @property
    def bytes(self) -> int:
        return sum(self._columns[_SIZE::_WIDTH])

    def in_order(self) -> Iterator[tuple[Run, str]]:
        """Yield the runs in the order of the input, and the names of their data objects."""
        columns = self._columns
        for row in sorted(range(0, len(columns), _WIDTH), key=columns.__getitem__):
            *run, data = columns[row : row + _WIDTH]
            yield Run(self.entry, *run), self._names[data]

    def gaps(self) -> Iterator[Gap]:
        """Yield the gaps in order.

        The last gap extends to the input's end, whose position is not known before it is read. It is missing if the
        rest of the input cannot be read.
        """
        runs = ((run.start, run.end, run.first_record, run.records, False) for run, _ in self.in_order())
        failures = sorted(
            (failure.start, failure.end, failure.first_record, failure.records or 0, failure.records is None)
            for failure, _ in self.failures
        )
        position, record, is_rest = 0, 0, False
        for start, end, first_record, records, is_rest in heapq.merge(runs, failures):  # noqa: B007 - of the last item
            if first_record > record:  # otherwise there are only blank lines between
                yield Gap(position, start, record)
            position, record = end, first_record + records
        if not is_rest:
            yield Gap(position, None, record)


class Journal:
    """The sum of all parts of a journal that were read or written.

    Mutable, because a shard can have a hundred thousand inputs: of those that ended only counts are kept.

    :param group_of: maps an entry to the group that it is counted in, e.g. the number of its model
    :param keep: keep the progress of inputs that ended with failures, so that these can be tried again
    """

    def __init__(self, group_of: Callable[[int], int], *, keep: bool) -> None:
        self.parts = 0
        self.claim = -1
        self.first_writer: StateWriter | None = None
        self.writer: StateWriter | None = None
        """The try of the task that works on the shard, or was the last to."""
        self._group_of = group_of
        self._keep = keep
        self._reset()

    def _reset(self) -> None:
        self.began_at: float | None = None
        """Epoch seconds of the first part since a restart."""
        self.written_at: float | None = None
        """Epoch seconds of the last part."""
        self.is_finished = False
        self.clean = 0
        """Number set of the inputs that ended without a failure; the next two count them, and records, by group."""
        self.clean_inputs: Counter[int] = Counter()
        self.clean_records: Counter[int] = Counter()
        self.failed: dict[int, Ended] = {}
        self.progress: dict[int, InputProgress] = {}
        self.etags: dict[int, str] = {}
        self.statistics = Statistics()
        self._names: list[str] = []

    def add(self, part: JournalPart) -> None:
        self.parts += 1
        if part.is_restart:
            self._reset()
        if self.began_at is None:
            self.began_at = part.written_at
        self.written_at = part.written_at
        if part.claim is not None:
            self.claim, self.writer, self.is_finished = part.claim, part.writer or StateWriter(), False
            self.first_writer = self.first_writer or self.writer
        if part.data is not None:
            self._names.append(part.data)
        self.is_finished = self.is_finished or part.finished
        self.statistics.add(part.statistics)
        self.etags.update(part.etags)
        for reopened in part.reopened:
            self._reopen(reopened)
        for run in part.runs:
            self.progress_of(run.entry).add(run)
        for failure in part.failures:
            self.progress_of(failure.entry).failures.append(StoredFailure(failure, part.data or ""))
        for ended in part.ended:
            self._end(ended)
        self.clean |= from_numbers(ended.entry for ended in part.ended if ended.is_clean)

    def progress_of(self, entry: int) -> InputProgress:
        """Get the progress of an input; create it for a new input."""
        progress = self.progress.get(entry)
        if progress is None:
            progress = self.progress[entry] = InputProgress(entry, self._names)
        return progress

    def _reopen(self, reopened: Reopened) -> None:
        self.failed.pop(reopened.entry, None)
        progress = self.progress_of(reopened.entry)
        progress.failures = [stored for stored in progress.failures if stored.failure.start != reopened.start]

    def _end(self, ended: Ended) -> None:
        if ended.is_clean:
            group = self._group_of(ended.entry)
            self.clean_inputs[group] += 1
            self.clean_records[group] += ended.records
        else:
            self.failed[ended.entry] = ended
        if ended.is_clean or not self._keep:
            self.progress.pop(ended.entry, None)

    def failures(self) -> Iterator[StoredFailure]:
        """Yield the failures of all inputs whose progress is kept."""
        for progress in self.progress.values():
            yield from progress.failures

    def to_retry(self, *, everything: bool) -> list[Failure]:
        """List the failures to try again.

        :param everything: include those that are not retryable, because the task was cleared
        """
        return [failure for failure, _ in self.failures() if everything or failure.retryable]

    def forget_failed(self) -> None:
        """Drop the progress of inputs that ended with failures and are not tried again."""
        self._keep = False
        for entry in self.failed:
            self.progress.pop(entry, None)

    def left(self, first: int, count: int) -> list[int]:
        """List the entries that have not ended, of *count* entries from *first* on."""
        not_clean = below(count) & ~window(self.clean, first, count)
        return [first + number for number in numbers_of(not_clean) if first + number not in self.failed]
