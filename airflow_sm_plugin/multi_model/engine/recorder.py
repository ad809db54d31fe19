"""Write results down: a few times a second one object with their bytes and one part of the journal.

A result in the journal is never invoked again. Results leave memory as soon as they are written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.multi_model.engine.result_queue import Bound, Item, ReadToEnd
from airflow_sm_plugin.multi_model.engine.settings import FLUSH_BYTES, OVERHEAD
from airflow_sm_plugin.multi_model.state.data_object import DataObject, append_failure
from airflow_sm_plugin.multi_model.state.records import Ended, FailedRecords, JournalPart, Result
from airflow_sm_plugin.multi_model.statistics.shard_report import MOST_FAILURES

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
    from airflow_sm_plugin.multi_model.engine.work import OpenInput
    from airflow_sm_plugin.multi_model.state.store import JournalStore
    from airflow_sm_plugin.multi_model.statistics.counters import Statistics
    from airflow_sm_plugin.multi_model.statistics.progress import BatchProgress

_ROW = 300
"""Approximate bytes of a row of errors without its message."""


@dataclass(eq=False, repr=False)
class Recorder:
    """Take results and failures from the queue, write them into the journal, and pass on each complete input.

    :param complete: inputs whose outputs can be written: from memory, or else from the journal
    :param seconds: interval between parts of the journal
    """

    store: JournalStore
    results: ResultQueue
    complete: asyncio.Queue[OpenInput | None]
    statistics: Statistics
    progress: BatchProgress
    seconds: float

    def __post_init__(self) -> None:
        self._fresh: dict[int, OpenInput] = {}
        """Inputs with results or failures that are not in the journal, by entry."""
        self._fresh_bytes = 0
        self._passed_on: dict[int, OpenInput] = {}
        """Inputs whose outputs are being written from memory."""
        self._complete: list[OpenInput] = []
        """Inputs whose outputs can be written after the next part."""
        self._ended: list[Ended] = []
        self._etags: dict[int, str] = {}
        self._due = asyncio.Event()
        self._is_over = False
        self.rows: list[Mapping[str, object]] = []
        """The first rows of errors."""

    async def run(self) -> None:
        """Work until all inputs have ended, or the queue was stopped; then everything that came is in the journal.

        :raises FencedOff: another process has taken over
        :raises SageMakerInferenceError: S3 did not serve
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._checkpoints())
            while (items := await self.results.take()) is not None:
                self._collect(items)
                if self._fresh_bytes >= FLUSH_BYTES or self.results.is_closed:
                    self._due.set()
            if self.results.is_stopped:
                self._fresh |= self._passed_on
            else:
                self.complete.put_nowait(None)
            self._is_over = True
            self._due.set()

    # What came

    def _collect(self, items: Sequence[tuple[OpenInput, Item]]) -> None:
        for open_input, item in items:
            if type(item) is Result:
                self._add_result(open_input, item)
            elif type(item) is FailedRecords:
                self._add_failure(open_input, item)
            elif type(item) is Ended:
                self._end(open_input, item)
                continue
            elif type(item) is Bound:
                self._etags[open_input.entry] = item.etag
                continue
            elif type(item) is ReadToEnd:
                open_input.is_read = True
            if open_input.is_read and open_input.is_complete:
                self._pass_on(open_input)

    def _add_result(self, open_input: OpenInput, result: Result) -> None:
        open_input.results.append(result)
        open_input.settled += result.records
        self._fresh[open_input.entry] = open_input
        self._hold(len(result.body) + len(result.note) + OVERHEAD)
        self.progress.records += result.records
        self.progress.bytes += result.end - result.start

    def _add_failure(self, open_input: OpenInput, failed: FailedRecords) -> None:
        records = failed.records or 0
        open_input.settled += records
        self._fresh[open_input.entry] = open_input
        if append_failure(open_input.failures, failed):
            self._hold(len(failed.message) + _ROW)
        model = open_input.model.queue.model
        self.statistics.failed(model, failed.error.__name__, records=records)
        self.statistics.explained(model, failed.row(open_input.batch_input), epoch_seconds=time.time())
        self.progress.records_failed += records
        self.progress.bytes += failed.end - failed.start

    def _hold(self, size: int) -> None:
        self._fresh_bytes += size
        self.results.hold(size)

    def _pass_on(self, open_input: OpenInput) -> None:
        if open_input.is_in_memory:
            self._fresh.pop(open_input.entry, None)
            self._fresh_bytes -= sum(map(_size, open_input.results))
            self._passed_on[open_input.entry] = open_input
            self.complete.put_nowait(open_input)
        else:
            self._complete.append(open_input)

    def _end(self, open_input: OpenInput, ended: Ended) -> None:
        if self._passed_on.pop(open_input.entry, None) is not None:
            self.results.written(sum(map(_size, open_input.results)))
            open_input.results = []
        self._ended.append(ended)
        self.progress.inputs += 1
        self.results.ended(open_input)

    # The journal

    async def _checkpoints(self) -> None:
        while self._has_any() or not self._is_over:
            await self._until_due()
            self._collect(self.results.take_now())  # the statistics have counted these
            if self._has_any():
                await self._flush()
        if not self.results.is_stopped:
            await self._flush(finished=True)

    async def _until_due(self) -> None:
        """Wait for the next checkpoint; the last ones, for which nothing else waits, come at once."""
        if not self._is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.seconds):
                    await self._due.wait()
            self._due.clear()

    def _has_any(self) -> bool:
        return bool(self._fresh or self._complete or self._ended)

    async def _flush(self, *, finished: bool = False) -> None:
        """Write a part of the journal.

        :param finished: all inputs have ended
        """
        fresh, complete, ended = list(self._fresh.values()), self._complete, self._ended
        size, self._fresh_bytes = self._fresh_bytes, 0
        etags, self._etags = self._etags, {}
        self._fresh, self._complete, self._ended = {}, [], []
        data = DataObject()
        for open_input in sorted(fresh, key=lambda open_input: open_input.entry):
            data.add(open_input.entry, open_input.batch_input, open_input.results, open_input.failures)
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
        await self.store.append(part, data.body())
        self.rows += data.rows[: MOST_FAILURES - len(self.rows)]
        self.results.written(size)
        for open_input in complete:
            self.complete.put_nowait(open_input)


def _size(result: Result) -> int:
    return len(result.body) + len(result.note) + OVERHEAD
