"""Write the outputs of complete inputs, small ones many at the same time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.multi_model.state.records import Ended

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
    from airflow_sm_plugin.multi_model.engine.work import OpenInput
    from airflow_sm_plugin.multi_model.state.outputs import OutputWriter

_WRITES = 24
"""Outputs written at the same time: as many as small inputs are read (``SMALL_READERS``), for the same reasons."""

_LARGE, _LARGE_WRITES = 262_144, 4
"""Size above which an output is large, in bytes, and how many large outputs are written at the same time: each is in
memory up to a part of an upload of 5 MB and more, with the reads for it."""


@dataclass(eq=False, repr=False)
class OutputWriting:
    """Take complete inputs, write their outputs, and report each end to the recorder's queue."""

    writer: OutputWriter
    complete: asyncio.Queue[OpenInput | None]
    results: ResultQueue

    def __post_init__(self) -> None:
        self._writes = asyncio.Semaphore(_WRITES)
        self._large = asyncio.Semaphore(_LARGE_WRITES)

    async def run(self) -> None:
        """Work until the queue ends.

        :raises FencedOff: another process has taken over
        :raises SageMakerInferenceError: S3 did not serve
        """
        async with asyncio.TaskGroup() as group:
            while (open_input := await self.complete.get()) is not None:
                write = self._write if open_input.is_in_memory else self._assemble
                group.create_task(write(open_input))

    async def _write(self, open_input: OpenInput) -> None:
        async with self._writes:
            results = sorted(open_input.results)
            body = b"".join(result.body for result in results)
            notes = b"".join(result.note for result in results)
            await self.writer.write(open_input.batch_input, body, notes)
        records = sum(result.records for result in results)
        self.results.put(open_input, Ended(open_input.entry, records, 0))

    async def _assemble(self, open_input: OpenInput) -> None:
        progress = open_input.progress
        async with self._large if progress.bytes > _LARGE else self._writes:
            await self.writer.assemble(open_input.batch_input, progress.in_order(), progress.failures)
        failures = [failure for failure, _ in progress.failures]
        failed = sum(failure.records or 0 for failure in failures)
        is_unreadable = any(failure.records is None for failure in failures)
        retryable = any(failure.retryable for failure in failures)
        ended = Ended(open_input.entry, progress.records + failed, failed, is_unreadable, retryable)
        self.results.put(open_input, ended)
