"""Write results down: about once a second, one object with their bytes and one part of the journal.

What is written down is never invoked again. What an input needs for its output goes from memory as soon as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from airflow_sm_plugin.multi_model.engine.settings import FLUSH_BYTES, OVERHEAD
from airflow_sm_plugin.multi_model.state.error_rows import FailedRecords
from airflow_sm_plugin.multi_model.state.records import Ended, Failure, JournalPart, Run
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import OpenInput, Result
    from airflow_sm_plugin.multi_model.state.store import JournalStore
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics


_ROW = 300
"""Bytes of a row of errors without its message, about."""


class ResultRecorder:
    """Collect results, and write them down.

    :param recorded: called with each input whose last results were just written down
    :param written: called after every part
    """

    def __init__(
        self,
        store: JournalStore,
        statistics: Statistics,
        *,
        seconds: float,
        recorded: Callable[[OpenInput], None],
        written: Callable[[], None],
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._seconds = seconds
        self._recorded = recorded
        self._written = written
        self._fresh: dict[int, OpenInput] = {}
        self._complete: list[OpenInput] = []
        self._ended: list[Ended] = []
        self._etags: dict[int, str] = {}
        self._wake = asyncio.Event()
        self._fresh_bytes = 0
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""
        self.unwritten_bytes = 0
        """Of results that are in memory only."""

    # What comes in

    def result(self, one: OpenInput, result: Result) -> None:
        """Keep a payload's result."""
        one.results.append(result)
        self._fresh[one.number] = one
        self._count(_size(result))

    def failure(self, one: OpenInput, failed: FailedRecords) -> None:
        """Keep records that failed."""
        self._fresh[one.number] = one
        if one.failures and failed.follows(one.failures[-1]):
            one.failures[-1] = one.failures[-1].joined(failed)
            return
        one.failures.append(failed)
        self._count(len(failed.message) + _ROW)

    def _count(self, size: int) -> None:
        self.unwritten_bytes += size
        self._fresh_bytes += size
        if self._fresh_bytes >= FLUSH_BYTES:
            self._wake.set()

    def withdraw(self, one: OpenInput) -> None:
        """Leave an input's results to its writer: they are not written down here."""
        self._fresh.pop(one.number, None)
        self._fresh_bytes -= sum(map(_size, one.results))

    def released(self, results: Iterable[Result]) -> None:
        """Take note that withdrawn results have left memory."""
        self.unwritten_bytes -= sum(map(_size, results))

    def complete(self, one: OpenInput) -> None:
        """Write an input's last results down, then say so."""
        self._complete.append(one)

    def bound(self, one: OpenInput, etag: str) -> None:
        """Write down which object an input is that the plan knows no ETag of."""
        self._etags[one.number] = etag

    def ended(self, ended: Ended) -> None:
        """Write down that an input's outputs are written."""
        self._ended.append(ended)

    # What goes out

    async def run(self, *, is_over: Callable[[], bool]) -> None:
        """Write down what there is, until it is over and all is written.

        :raises FencedOff: another process has taken over
        """
        while not is_over() or self._has_any():
            if not is_over():
                await self._until_due()
            await self.flush()

    def hurry(self) -> None:
        """Do not wait for the next checkpoint."""
        self._wake.set()

    async def _until_due(self) -> None:
        try:
            async with asyncio.timeout(self._seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _has_any(self) -> bool:
        return bool(self._fresh or self._complete or self._ended)

    async def flush(self, *, finished: bool = False) -> None:
        """Write down what there is now.

        :param finished: all inputs have ended
        """
        if not self._has_any() and not finished:
            return
        fresh, complete, ended = list(self._fresh.values()), self._complete, self._ended
        size, self._fresh_bytes = self._fresh_bytes, 0
        etags, self._etags = self._etags, {}
        self._fresh, self._complete, self._ended = {}, [], []
        laid_out = _LaidOut()
        for one in sorted(fresh, key=lambda one: one.number):
            laid_out.add(one)
            one.results, one.failures, one.is_recorded = [], [], True
        number = self._store.journal.parts
        part = JournalPart(
            token=self._store.token,
            at=time.time(),
            data=f"{number:08d}-{self._store.token}" if laid_out.size else None,
            runs=tuple(laid_out.runs),
            failures=tuple(laid_out.failures),
            ended=tuple(ended),
            etags=etags,
            finished=finished,
            statistics=self._statistics.take(),
        )
        await self._store.append(part, b"".join(laid_out.chunks))
        self.rows += laid_out.rows[: MOST_FAILURES - len(self.rows)]
        self.unwritten_bytes -= size
        for one in complete:
            self._recorded(one)
        self._written()


class _LaidOut:
    """Results and rows of errors in one object: each input's in its order, and where they are."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""

    def add(self, one: OpenInput) -> None:
        """Add what is fresh of an input."""
        one.results.sort()
        for stretch in _contiguous(one.results):
            self._add_run(one.number, stretch)
        for failed in _joined(sorted(one.failures, key=lambda each: (each.start, each.first_record))):
            self._add_failure(one, failed)

    def _add_run(self, number: int, stretch: list[Result]) -> None:
        first, last = stretch[0], stretch[-1]
        records = last.first_record + last.records - first.first_record
        at, size = self._lay([each.body for each in stretch])
        notes_at, notes_size = self._lay([each.note for each in stretch if each.note])
        run = Run(number, first.start, last.end, first.first_record, records, at, size, notes_at, notes_size)
        self.runs.append(run)

    def _add_failure(self, one: OpenInput, failed: FailedRecords) -> None:
        at, size = self._lay([failed.line(one.one)])
        if len(self.rows) < MOST_FAILURES:
            self.rows.append(failed.row(one.one))
        kind = failed.error
        failure = Failure(
            one.number,
            failed.start,
            failed.end,
            failed.first_record,
            failed.records,
            kind.__name__,
            kind.retryable,
            at,
            size,
        )
        if self.failures and failure.follows(self.failures[-1]):
            self.failures[-1] = self.failures[-1].joined(failure)
        else:
            self.failures.append(failure)

    def _lay(self, chunks: list[bytes]) -> tuple[int, int]:
        """Add bytes; return where they begin and how many they are."""
        at = self.size
        self.chunks += chunks
        self.size += sum(map(len, chunks))
        return at, self.size - at


def _joined(failures: Iterable[FailedRecords]) -> Iterator[FailedRecords]:
    last: FailedRecords | None = None
    for failed in failures:
        if last is not None and failed.follows(last):
            last = last.joined(failed)
            continue
        if last is not None:
            yield last
        last = failed
    if last is not None:
        yield last


def _contiguous(results: list[Result]) -> Iterator[list[Result]]:
    stretch: list[Result] = []
    for result in results:
        if stretch and stretch[-1].end != result.start:
            yield stretch
            stretch = []
        stretch.append(result)
    if stretch:
        yield stretch


def _size(result: Result) -> int:
    return len(result.body) + len(result.note) + OVERHEAD
