"""Write results down: about once a second, one object with their bytes and one part of the journal.

What is written down is never invoked again. What an input needs for its output goes from memory as soon as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from airflow_sm_plugin.batch.engine_settings import FLUSH_BYTES
from airflow_sm_plugin.core.batch_journal import Ended, Failure, Part, Run

if TYPE_CHECKING:
    from airflow_sm_plugin.batch.journal_store import JournalStore
    from airflow_sm_plugin.batch.open_input import OpenInput, Result
    from airflow_sm_plugin.core.batch_statistics import Statistics


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
        self._wake = asyncio.Event()
        self._fresh_bytes = 0
        self.unwritten_bytes = 0
        """Of results that are in memory only."""

    # What comes in

    def result(self, one: OpenInput, result: Result) -> None:
        """Keep a payload's result."""
        one.results.append(result)
        self._fresh[one.number] = one
        size = len(result.body) + len(result.note)
        self.unwritten_bytes += size
        self._fresh_bytes += size
        if self._fresh_bytes >= FLUSH_BYTES:
            self._wake.set()

    def failure(self, one: OpenInput, failure: Failure) -> None:
        """Keep records that failed."""
        if one.failures and failure.follows(one.failures[-1]):
            one.failures[-1] = one.failures[-1].joined(failure)
        else:
            one.failures.append(failure)
        self._fresh[one.number] = one

    def withdraw(self, one: OpenInput) -> None:
        """Leave an input's results to its writer: they are not written down here."""
        self._fresh.pop(one.number, None)
        self._fresh_bytes -= _size(one.results)

    def released(self, size: int) -> None:
        """Take note that withdrawn results have left memory."""
        self.unwritten_bytes -= size

    def complete(self, one: OpenInput) -> None:
        """Write an input's last results down, then say so."""
        self._complete.append(one)

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
        self._fresh, self._complete, self._ended, self._fresh_bytes = {}, [], [], 0
        taken = [(one, one.results, one.failures) for one in sorted(fresh, key=lambda one: one.number)]
        for one, _, _ in taken:
            one.results, one.failures, one.is_recorded = [], [], True
        runs, chunks = _laid_out(taken)
        size = sum(map(len, chunks))
        number = self._store.journal.parts
        part = Part(
            token=self._store.token,
            at=time.time(),
            data=f"{number:08d}-{self._store.token}" if runs else None,
            runs=tuple(runs),
            failures=tuple(failure for _, _, failures in taken for failure in failures),
            ended=tuple(ended),
            finished=finished,
            statistics=self._statistics.take(),
        )
        await self._store.append(part, b"".join(chunks))
        self.unwritten_bytes -= size
        for one in complete:
            self._recorded(one)
        self._written()


def _laid_out(
    taken: list[tuple[OpenInput, list[Result], list[Failure]]],
) -> tuple[list[Run], list[bytes]]:
    """Lay results out in one object, each input's in its order, and return where they are."""
    runs: list[Run] = []
    chunks: list[bytes] = []
    at = 0
    for one, results, _ in taken:
        results.sort()
        for stretch in _contiguous(results):
            bodies, notes = [each.body for each in stretch], [each.note for each in stretch if each.note]
            size, notes_size = sum(map(len, bodies)), sum(map(len, notes))
            first, last = stretch[0], stretch[-1]
            records = last.first_record + last.records - first.first_record
            runs.append(
                Run(
                    one.number,
                    first.start,
                    last.end,
                    first.first_record,
                    records,
                    at,
                    size,
                    at + size,
                    notes_size,
                )
            )
            chunks += bodies
            chunks += notes
            at += size + notes_size
    return runs, chunks


def _contiguous(results: list[Result]) -> Iterator[list[Result]]:
    stretch: list[Result] = []
    for result in results:
        if stretch and stretch[-1].end != result.start:
            yield stretch
            stretch = []
        stretch.append(result)
    if stretch:
        yield stretch


def _size(results: list[Result]) -> int:
    return sum(len(result.body) + len(result.note) for result in results)
