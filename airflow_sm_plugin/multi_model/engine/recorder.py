"""Write results down: about once a second, one object with their bytes and one part of the journal; then outputs.

What is written down is never invoked again. What an input needs for its output goes from memory as soon as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from airflow_sm_plugin.multi_model.engine.settings import FLUSH_BYTES, OVERHEAD
from airflow_sm_plugin.multi_model.state.records import Ended, FailedRecords, Failure, JournalPart, Run
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import OpenInput, Result
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
    from airflow_sm_plugin.multi_model.state.store import JournalStore
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_ROW = 300
"""Bytes of a row of errors without its message, about."""

_WRITES = 64
"""Outputs written at the same time."""

_LARGE, _LARGE_WRITES = 262_144, 4
"""Bytes from which on so many are put together at the same time: each is in memory up to a part of an upload."""


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

    def result(self, open_input: OpenInput, result: Result) -> None:
        """Keep a payload's result."""
        open_input.results.append(result)
        self._fresh[open_input.number] = open_input
        self._count(_size(result))

    def failure(self, open_input: OpenInput, failed: FailedRecords) -> None:
        """Keep records that failed."""
        self._fresh[open_input.number] = open_input
        failures = open_input.failures
        if failures and failed.follows(failures[-1]):
            failures[-1] = failures[-1].joined(failed)
            return
        failures.append(failed)
        self._count(len(failed.message) + _ROW)

    def _count(self, size: int) -> None:
        self.unwritten_bytes += size
        self._fresh_bytes += size
        if self._fresh_bytes >= FLUSH_BYTES:
            self._wake.set()

    def withdraw(self, open_input: OpenInput) -> None:
        """Leave an input's results to its writer: they are not written down here."""
        self._fresh.pop(open_input.number, None)
        self._fresh_bytes -= sum(map(_size, open_input.results))

    def released(self, results: Iterable[Result]) -> None:
        """Note that withdrawn results have left memory."""
        self.unwritten_bytes -= sum(map(_size, results))

    def complete(self, open_input: OpenInput) -> None:
        """Write an input's last results down, then call ``recorded``."""
        self._complete.append(open_input)

    def etag(self, open_input: OpenInput, etag: str) -> None:
        """Write down which object an input is whose ETag the plan does not know."""
        self._etags[open_input.number] = etag

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
        for open_input in sorted(fresh, key=lambda open_input: open_input.number):
            laid_out.add(open_input)
            open_input.results, open_input.failures, open_input.is_recorded = [], [], True
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
        for open_input in complete:
            self._recorded(open_input)
        self._written()


class OutputFinisher:
    """Write the outputs of inputs all of whose payloads are settled, then have the recorder write that they ended.

    An output is written from memory, or from the journal once the last results are there.

    :param spawn: starts a task of the engine
    :param ended: called after the outputs of each input are written
    """

    recorder: ResultRecorder

    def __init__(
        self, writer: OutputWriter, *, spawn: Callable[..., object], ended: Callable[[], None]
    ) -> None:
        self._writer = writer
        self._spawn = spawn
        self._ended = ended
        self._writes = asyncio.Semaphore(_WRITES)
        self._large = asyncio.Semaphore(_LARGE_WRITES)
        self._stopped = False

    def stop(self) -> None:
        """Begin with no further output."""
        self._stopped = True

    def complete(self, open_input: OpenInput) -> None:
        """Begin to write the outputs of an input all of whose payloads are settled."""
        if open_input.is_in_memory:
            self.recorder.withdraw(open_input)
            self._spawn(self._write(open_input))
        else:
            self.recorder.complete(open_input)

    def recorded(self, open_input: OpenInput) -> None:
        """Go on with an input whose last results were just written down."""
        if not self._stopped:
            self._spawn(self._assemble(open_input))

    async def _write(self, open_input: OpenInput) -> None:
        async with self._writes:
            results = sorted(open_input.results)
            body, notes = b"".join(each.body for each in results), b"".join(each.note for each in results)
            await self._writer.write(open_input.batch_input, body, notes)
        self.recorder.released(results)
        open_input.results = []
        self._end(Ended(open_input.number, sum(each.records for each in results), 0))

    async def _assemble(self, open_input: OpenInput) -> None:
        progress = open_input.progress
        async with self._large if progress.bytes > _LARGE else self._writes:
            await self._writer.assemble(open_input.batch_input, progress.in_order(), progress.failures)
        failures = [failure for failure, _ in progress.failures]
        failed = sum(failure.records or 0 for failure in failures)
        ended = Ended(
            open_input.number,
            progress.records + failed,
            failed,
            any(failure.records is None for failure in failures),
            any(failure.retryable for failure in failures),
        )
        self._end(ended)

    def _end(self, ended: Ended) -> None:
        self.recorder.ended(ended)
        self._ended()


class _LaidOut:
    """Results and rows of errors in one object: each input's in its order, and where they are."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""

    def add(self, open_input: OpenInput) -> None:
        """Add what is fresh of an input."""
        open_input.results.sort()
        for run in _contiguous(open_input.results):
            self._add_run(open_input.number, run)
        failures = sorted(open_input.failures, key=lambda each: (each.start, each.first_record))
        for failed in _joined(failures):
            self._add_failure(open_input, failed)

    def _add_run(self, number: int, results: list[Result]) -> None:
        first, last = results[0], results[-1]
        records = last.first_record + last.records - first.first_record
        at, size = self._lay([each.body for each in results])
        notes_at, notes_size = self._lay([each.note for each in results if each.note])
        run = Run(number, first.start, last.end, first.first_record, records, at, size, notes_at, notes_size)
        self.runs.append(run)

    def _add_failure(self, open_input: OpenInput, failed: FailedRecords) -> None:
        at, size = self._lay([failed.line(open_input.batch_input)])
        if len(self.rows) < MOST_FAILURES:
            self.rows.append(failed.row(open_input.batch_input))
        failure = Failure(
            open_input.number,
            failed.start,
            failed.end,
            failed.first_record,
            failed.records,
            failed.error.__name__,
            failed.error.retryable,
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


def _joined(failures: Iterable[FailedRecords]) -> list[FailedRecords]:
    joined: list[FailedRecords] = []
    for failed in failures:
        if joined and failed.follows(joined[-1]):
            joined[-1] = joined[-1].joined(failed)
        else:
            joined.append(failed)
    return joined


def _contiguous(results: Iterable[Result]) -> list[list[Result]]:
    runs: list[list[Result]] = []
    for result in results:
        if runs and runs[-1][-1].end == result.start:
            runs[-1].append(result)
        else:
            runs.append([result])
    return runs


def _size(result: Result) -> int:
    return len(result.body) + len(result.note) + OVERHEAD
