"""The queue before the recorder: results and failures, within budgets of open inputs and of bytes in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin.multi_model.engine.settings import OPEN_INPUTS, UNWRITTEN_BYTES
from airflow_sm_plugin.multi_model.state.records import Ended, FailedRecords, Result

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.work import OpenInput, OpenModel


class Bound(NamedTuple):
    """An input without an ETag in the plan, and the ETag of the object that this process reads."""

    etag: str


class ReadToEnd(NamedTuple):
    """No further record of an input comes."""


Item = Result | FailedRecords | Bound | ReadToEnd | Ended


class ResultQueue:
    """What becomes of the open inputs.

    :meth:`admit`, :meth:`put` and :meth:`until_room` are for the stages before; :meth:`take`, :meth:`hold`,
    :meth:`written` and :meth:`ended` for the recorder.
    """

    def __init__(self) -> None:
        self._items: list[tuple[OpenInput, Item]] = []
        self._filled = asyncio.Event()
        self._emptied = asyncio.Event()
        self._inputs = 0
        self._unwritten_bytes = 0
        self.is_closed = False
        """Whether no further result or failure comes."""
        self.is_stopped = False
        """Whether the work has ended before all inputs have."""

    async def admit(self, model: OpenModel) -> None:
        """Wait until another input may be open: any model may have one, whatever the others have."""
        while model.inputs and self._inputs >= OPEN_INPUTS:
            await self._until_emptied()
        model.inputs += 1
        self._inputs += 1

    def put(self, open_input: OpenInput, item: Item) -> None:
        self._items.append((open_input, item))
        if not self._filled.is_set():
            self._filled.set()

    @property
    def is_full(self) -> bool:
        return self._unwritten_bytes > UNWRITTEN_BYTES

    async def until_room(self) -> None:
        """Wait while too many results are only in memory."""
        while self.is_full:
            await self._until_emptied()

    async def _until_emptied(self) -> None:
        self._emptied.clear()
        await self._emptied.wait()

    def close(self) -> None:
        """Note that all payloads are settled, and all inputs read."""
        self.is_closed = True
        self._filled.set()

    def stop(self) -> None:
        """Note that no more work is done: :meth:`take` ends with what is there."""
        self.is_stopped = self._inputs > 0 or not self.is_closed
        self.is_closed = True
        self._filled.set()

    # The recorder's end

    async def take(self) -> list[tuple[OpenInput, Item]] | None:
        """Take all that has come, as soon as there is anything; None when all inputs have ended.

        The list is empty when the queue was closed.
        """
        if not self._items and self._is_over:
            return None
        await self._filled.wait()
        return self.take_now()

    def take_now(self) -> list[tuple[OpenInput, Item]]:
        """Take all that has come."""
        items, self._items = self._items, []
        self._filled.clear()
        return items

    @property
    def _is_over(self) -> bool:
        return self.is_stopped or (self.is_closed and not self._inputs)

    def hold(self, size: int) -> None:
        """Count bytes that are only in memory."""
        self._unwritten_bytes += size

    def written(self, size: int) -> None:
        """Count bytes of these that are in S3."""
        self._unwritten_bytes -= size
        self._emptied.set()

    def ended(self, open_input: OpenInput) -> None:
        """Note that an input's outputs are written."""
        open_input.model.inputs -= 1
        self._inputs -= 1
        self._emptied.set()
