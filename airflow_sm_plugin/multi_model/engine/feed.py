"""Read one model's inputs into its lane, as far ahead as memory allows: small ones side by side, large ones in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.judgement import Evidence
from airflow_sm_plugin.multi_model.engine.settings import OVERHEAD, READERS
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.plan.plan import ModelWork
from airflow_sm_plugin.multi_model.state.error_rows import FailedRecords
from airflow_sm_plugin.multi_model.state.journal import InputProgress

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.judgement import Judgement
    from airflow_sm_plugin.multi_model.engine.model_queue import Lane


class Result(NamedTuple):
    """What one payload came to: bytes for the output, and a row of the response's attributes."""

    start: int
    end: int
    first_record: int
    records: int
    body: bytes
    note: bytes


class OpenInput:
    """An input at work, with what of it is not written down yet.

    :param number: its place in the shard
    :param feed: its model's
    :param story: what was written down of it before
    :param output: what becomes of its model's answers
    """

    __slots__ = (
        "failures",
        "feed",
        "fields",
        "is_read",
        "is_recorded",
        "number",
        "one",
        "output",
        "read_to",
        "results",
        "story",
        "unfit",
        "unsettled",
    )

    def __init__(
        self, number: int, one: BatchInput, feed: ModelFeed, story: InputProgress, output: OutputOptions
    ) -> None:
        self.number = number
        self.one = one
        self.feed = feed
        self.story = story
        self.output = output
        self.results: list[Result] = []
        self.failures: list[FailedRecords] = []
        self.unsettled = 0
        """Payloads that have neither a result nor failed."""
        self.is_read = False
        self.read_to = (0, 0)
        """Byte and record that come next."""
        self.is_recorded = not story.is_new
        """Whether something of it is in the journal, or on its way there."""
        self.unfit: InvalidRequest | None = None
        """Why none of its payloads can be sent."""
        self.fields: dict[str, str] | None = None
        """What a template of custom attributes may say about it."""

    @property
    def is_complete(self) -> bool:
        """Whether every payload has a result or failed."""
        return self.is_read and not self.unsettled

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it is in the journal, and nothing failed: its output can be written from here."""
        return not (self.is_recorded or self.failures)


class Job:
    """A payload on its way."""

    __slots__ = ("attempts", "began", "evictions", "input", "is_half", "payload", "size", "was_unready")

    def __init__(
        self, one: OpenInput, payload: Payload, *, is_half: bool = False, evictions: int = 0
    ) -> None:
        self.input = one
        self.payload = payload
        self.is_half = is_half
        """Whether it was cut from another to find bad records."""
        self.attempts = 0
        self.was_unready = False
        """Whether it was told that its model is not loaded."""
        self.evictions = evictions
        """Times that its model had been loaded, and was not any more when it came."""
        self.size = len(payload.body) + OVERHEAD
        """Bytes it takes in memory."""
        self.began = 0.0
        """When it was sent first, by the loop's clock; 0 before."""


_UNKNOWN_SIZE = 65_536
_ISOLATED = 32
"""Bad records of a model that are looked for whatever the others are."""


class ModelFeed:
    """One model's way from its inputs to its lane.

    :param numbers: the inputs to read
    """

    def __init__(self, work: ModelWork, lane: Lane[Job], numbers: list[int]) -> None:
        self.work = work
        self.lane = lane
        self.dead: tuple[Judgement, str] | None = None
        """Why none of its payloads can be invoked any more, with a text."""
        self.outstanding = 0
        """Payloads that were read and are not settled."""
        self.waiting_bytes = 0
        """Of payloads in the lane."""
        self.is_read = False
        self.is_closed = False
        self.worked_from: float | None = None
        """Since when the model has answered, as far as the statistics do not know; epoch seconds."""
        self.probes = 0
        """Probes in a row that found the model not loaded."""
        self.isolated_bad = self.isolated_good = 0
        """Parts of payloads that were refused, and that were not, when bad records were looked for."""
        self.evidence = Evidence()
        """What speaks for it that the model does not serve."""
        self._numbers = numbers
        self._on_order = 0
        self._reading = 0
        self._moved = asyncio.Event()

    async def run(
        self,
        opened: Callable[[int], Awaitable[OpenInput]],
        read: Callable[[OpenInput], Awaitable[None]],
        *,
        budget: Callable[[], int],
        has_room: Callable[[], bool],
    ) -> None:
        """Read every input.

        :param opened: begins with an input
        :param read: reads it into the lane; never raises for what is the input's own fault
        :param budget: how many bytes may be waiting or on order
        :param has_room: whether more inputs may be open
        """
        async with asyncio.TaskGroup() as readers:
            for number in self._numbers:
                while not self._is_hungry(budget(), has_room=has_room()):
                    await self._until_moved()
                one = await opened(number)
                size = _UNKNOWN_SIZE if one.one.size is None else one.one.size
                self._on_order += size
                self._reading += 1
                readers.create_task(self._read(read, one, size))
        self.is_read = True

    async def _read(self, read: Callable[[OpenInput], Awaitable[None]], one: OpenInput, size: int) -> None:
        try:
            await read(one)
        finally:
            self._on_order -= size
            self._reading -= 1
            self.moved()

    def _is_hungry(self, budget: int, *, has_room: bool) -> bool:
        if not self._reading and not self.waiting_bytes:
            return True
        return has_room and self._reading < READERS and self.waiting_bytes + self._on_order < budget

    async def until_room(self, budget: Callable[[], int]) -> None:
        """Wait until less than the budget is waiting in the lane; nothing waits for a model that is dead."""
        while self.waiting_bytes > budget() and self.dead is None:
            await self._until_moved()

    async def _until_moved(self) -> None:
        self._moved.clear()
        await self._moved.wait()

    def taken(self, size: int) -> None:
        """Take note that a payload has left the lane."""
        self.waiting_bytes -= size
        if not self._moved.is_set():
            self._moved.set()

    @property
    def may_isolate(self) -> bool:
        """Whether it is worth looking for bad records: not of a model that refuses nearly all."""
        return self.dead is None and (
            self.isolated_bad < _ISOLATED or self.isolated_bad <= self.isolated_good
        )

    def moved(self) -> None:
        """Have whoever waits look again."""
        self._moved.set()
