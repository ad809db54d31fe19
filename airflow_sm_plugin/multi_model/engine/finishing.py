"""What becomes of an input all of whose payloads are settled: its outputs are written, then the journal says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_sm_plugin.multi_model.state.records import Ended

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.feed import OpenInput
    from airflow_sm_plugin.multi_model.engine.recorder import ResultRecorder
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter

_WRITES = 64
"""Outputs written at the same time."""

_LARGE, _LARGE_WRITES = 262_144, 4
"""Bytes from which on so many are put together at the same time: each is in memory up to a part of an upload."""


class InputEnds:
    """Write outputs: from memory, or from the journal once the last results are there.

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

    def complete(self, one: OpenInput) -> None:
        """Begin to write the outputs of an input all of whose payloads are settled."""
        if one.is_in_memory:
            self.recorder.withdraw(one)
            self._spawn(self._write(one))
        else:
            self.recorder.complete(one)

    def recorded(self, one: OpenInput) -> None:
        """Go on with an input whose last results were just written down."""
        if not self._stopped:
            self._spawn(self._assemble(one))

    async def _write(self, one: OpenInput) -> None:
        async with self._writes:
            results = sorted(one.results)
            body, notes = b"".join(each.body for each in results), b"".join(each.note for each in results)
            await self._writer.write(one.one, body, notes)
        self.recorder.released(results)
        one.results = []
        self._end(Ended(one.number, sum(each.records for each in results), 0))

    async def _assemble(self, one: OpenInput) -> None:
        story = one.story
        async with self._large if story.bytes > _LARGE else self._writes:
            await self._writer.assemble(one.one, story.in_order(), story.failures)
        failures = [failure for failure, _ in story.failures]
        failed = sum(failure.records or 0 for failure in failures)
        ended = Ended(
            one.number,
            story.records + failed,
            failed,
            any(failure.records is None for failure in failures),
            any(failure.retryable for failure in failures),
        )
        self._end(ended)

    def _end(self, ended: Ended) -> None:
        self.recorder.ended(ended)
        self._ended()
