"""Write results down: about once a second one object with their bytes and one part of the journal; then outputs.

A result in the journal is never invoked again. Results leave memory as soon as they are written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from airflow_sm_plugin.multi_model.engine.settings import FLUSH_BYTES, OVERHEAD
from airflow_sm_plugin.multi_model.state.records import Ended, FailedRecords, Failure, JournalPart, Run
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import OpenInput, Result
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter
    from airflow_sm_plugin.multi_model.state.store import JournalStore
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics

_ROW = 300
"""Approximate bytes of a row of errors without its message."""

_WRITES = 64
"""Outputs written at the same time."""

_LARGE, _LARGE_WRITES = 262_144, 4
"""Size above which an output is large, in bytes, and how many large outputs are written at the same time: each is in
memory up to a part of an upload."""

_Records = TypeVar("_Records", FailedRecords, Failure)


@dataclass(eq=False, repr=False)
class ResultRecorder:
    """Collect results and failures, write them into the journal, and each input's outputs once it is complete.

    An output is written from memory, or from the journal when results or failures of the input are there.

    :param seconds: interval between parts of the journal
    :param spawn: starts a task of the engine, or drops it when the engine has stopped
    :param ended: called after the outputs of each input are written
    :param written: called after every part of the journal
    """

    store: JournalStore
    writer: OutputWriter
    statistics: Statistics
    seconds: float
    spawn: Callable[..., object]
    ended: Callable[[], None]
    written: Callable[[], None]

    def __post_init__(self) -> None:
        self._fresh: dict[int, OpenInput] = {}
        self._complete: list[OpenInput] = []
        self._ended: list[Ended] = []
        self._etags: dict[int, str] = {}
        self._wake = asyncio.Event()
        self._writes = asyncio.Semaphore(_WRITES)
        self._large = asyncio.Semaphore(_LARGE_WRITES)
        self._fresh_bytes = 0
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""
        self.unwritten_bytes = 0
        """Size of the results that are only in memory."""

    def result(self, open_input: OpenInput, result: Result) -> None:
        open_input.results.append(result)
        self._fresh[open_input.entry] = open_input
        self._count(_size(result))

    def failure(self, open_input: OpenInput, failed: FailedRecords) -> None:
        self._fresh[open_input.entry] = open_input
        if _append(open_input.failures, failed):
            self._count(len(failed.message) + _ROW)

    def _count(self, size: int) -> None:
        self.unwritten_bytes += size
        self._fresh_bytes += size
        if self._fresh_bytes >= FLUSH_BYTES:
            self._wake.set()

    def etag(self, open_input: OpenInput, etag: str) -> None:
        """Bind an input without an ETag in the plan to the object that this process reads."""
        self._etags[open_input.entry] = etag

    def complete(self, open_input: OpenInput) -> None:
        """Begin to write the outputs of an input all of whose payloads are settled."""
        if open_input.is_in_memory:
            self._fresh.pop(open_input.entry, None)
            self._fresh_bytes -= sum(map(_size, open_input.results))
            self.spawn(self._write(open_input))
        else:
            self._complete.append(open_input)

    async def run(self, *, is_over: Callable[[], bool]) -> None:
        """Write the journal at each checkpoint, until the work is over and everything is written.

        :raises FencedOff: another process has taken over
        """
        while not is_over() or self._has_any():
            if not is_over():
                await self._until_due()
            await self.flush()

    def hurry(self) -> None:
        """Write what is due now instead of at the next checkpoint."""
        self._wake.set()

    async def _until_due(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self._wake.wait()
        self._wake.clear()

    def _has_any(self) -> bool:
        return bool(self._fresh or self._complete or self._ended)

    async def flush(self, *, finished: bool = False) -> None:
        """Write a part of the journal now, if there is anything to write.

        :param finished: all inputs have ended
        """
        if not self._has_any() and not finished:
            return
        fresh, complete, ended = list(self._fresh.values()), self._complete, self._ended
        size, self._fresh_bytes = self._fresh_bytes, 0
        etags, self._etags = self._etags, {}
        self._fresh, self._complete, self._ended = {}, [], []
        data = _DataObject()
        for open_input in sorted(fresh, key=lambda open_input: open_input.entry):
            data.add(open_input)
            open_input.results, open_input.failures, open_input.is_recorded = [], [], True
        part = JournalPart(
            token=self.store.token,
            written_at=time.time(),
            data=f"{self.store.journal.parts:08d}-{self.store.token}" if data.size else None,
            runs=tuple(data.runs),
            failures=tuple(data.failures),
            ended=tuple(ended),
            etags=etags,
            finished=finished,
            statistics=self.statistics.take(),
        )
        await self.store.append(part, b"".join(data.chunks))
        self.rows += data.rows[: MOST_FAILURES - len(self.rows)]
        self.unwritten_bytes -= size
        for open_input in complete:
            self.spawn(self._assemble(open_input))
        self.written()

    async def _write(self, open_input: OpenInput) -> None:
        async with self._writes:
            results = sorted(open_input.results)
            body = b"".join(result.body for result in results)
            notes = b"".join(result.note for result in results)
            await self.writer.write(open_input.batch_input, body, notes)
        self.unwritten_bytes -= sum(map(_size, results))
        open_input.results = []
        self._end(Ended(open_input.entry, sum(result.records for result in results), 0))

    async def _assemble(self, open_input: OpenInput) -> None:
        progress = open_input.progress
        async with self._large if progress.bytes > _LARGE else self._writes:
            await self.writer.assemble(open_input.batch_input, progress.in_order(), progress.failures)
        failures = [failure for failure, _ in progress.failures]
        failed = sum(failure.records or 0 for failure in failures)
        is_unreadable = any(failure.records is None for failure in failures)
        retryable = any(failure.retryable for failure in failures)
        self._end(Ended(open_input.entry, progress.records + failed, failed, is_unreadable, retryable))

    def _end(self, ended: Ended) -> None:
        self._ended.append(ended)
        self.ended()


class _DataObject:
    """Results and rows of errors in one object, in the order of each input, and their positions in it."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.failures: list[Failure] = []
        self.chunks: list[bytes] = []
        self.size = 0
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""

    def add(self, open_input: OpenInput) -> None:
        open_input.results.sort()
        for results in _contiguous(open_input.results):
            self._add_run(open_input.entry, results)
        failures: list[FailedRecords] = []
        for failed in sorted(open_input.failures, key=lambda records: (records.start, records.first_record)):
            _append(failures, failed)
        for failed in failures:
            self._add_failure(open_input, failed)

    def _add_run(self, entry: int, results: list[Result]) -> None:
        first, last = results[0], results[-1]
        records = last.first_record + last.records - first.first_record
        bodies = self._append_bytes([result.body for result in results])
        notes = self._append_bytes([result.note for result in results if result.note])
        self.runs.append(Run(entry, first.start, last.end, first.first_record, records, *bodies, *notes))

    def _add_failure(self, open_input: OpenInput, failed: FailedRecords) -> None:
        position = self._append_bytes([failed.line(open_input.batch_input)])
        if len(self.rows) < MOST_FAILURES:
            self.rows.append(failed.row(open_input.batch_input))
        start, end, first_record, records, error, *_ = failed
        failure = Failure(
            open_input.entry, start, end, first_record, records, error.__name__, error.retryable, *position
        )
        _append(self.failures, failure)

    def _append_bytes(self, chunks: list[bytes]) -> tuple[int, int]:
        """Append bytes; return their offset and size."""
        offset = self.size
        self.chunks += chunks
        self.size += sum(map(len, chunks))
        return offset, self.size - offset


def _append(group: list[_Records], records: _Records) -> bool:
    """Add failed records, to the last ones if they follow these; report whether they are separate."""
    if group and records.follows(group[-1]):
        group[-1] = group[-1].joined(records)
        return False
    group.append(records)
    return True


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
