"""Read one model's inputs into its queue, as far ahead as memory allows; small ones side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest, SageMakerInferenceError
from airflow_sm_plugin.multi_model.engine.judgement import Evidence
from airflow_sm_plugin.multi_model.engine.settings import OVERHEAD, READERS
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.plan.plan import ModelWork
from airflow_sm_plugin.multi_model.state.journal import InputProgress
from airflow_sm_plugin.multi_model.state.records import FailedRecords

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.engine.judgement import Judgement
    from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue

_UNKNOWN_SIZE = 65_536
_ISOLATED = 32
"""Bad records of a model that are searched for whatever the others are."""


class Result(NamedTuple):
    """The result of one payload: bytes for the output, and a row of the response's attributes."""

    start: int
    end: int
    first_record: int
    records: int
    body: bytes
    note: bytes


@dataclass(slots=True, eq=False)
class OpenInput:
    """An input at work, with what of it is not written down yet.

    :param number: its place in the shard
    :param progress: what was written down of it before
    :param output: what becomes of its model's answers
    """

    number: int
    batch_input: BatchInput
    feed: ModelFeed
    progress: InputProgress
    output: OutputOptions
    results: list[Result] = field(default_factory=list)
    failures: list[FailedRecords] = field(default_factory=list)
    unsettled: int = 0
    """Payloads that have neither a result nor failed."""
    is_read: bool = False
    read_to: tuple[int, int] = (0, 0)
    """Byte and record that come next."""
    is_recorded: bool = field(init=False)
    """Whether any of it is in the journal, or being written there."""
    unfit: InvalidRequest | None = None
    """Why none of its payloads can be sent."""
    fields: dict[str, str] | None = None
    """The fields of a template of custom attributes."""

    def __post_init__(self) -> None:
        self.is_recorded = not self.progress.is_new

    @property
    def is_complete(self) -> bool:
        """Whether every payload has a result or failed."""
        return self.is_read and not self.unsettled

    @property
    def is_in_memory(self) -> bool:
        """Whether nothing of it is in the journal, and nothing failed: its output can be written from here."""
        return not (self.is_recorded or self.failures)


class Job:
    """A payload to invoke."""

    __slots__ = ("attempts", "began", "evictions", "is_half", "open_input", "payload", "size", "was_unready")

    def __init__(
        self, open_input: OpenInput, payload: Payload, *, is_half: bool = False, evictions: int = 0
    ) -> None:
        self.open_input = open_input
        self.payload = payload
        self.is_half = is_half
        """Whether it was cut from another to find bad records."""
        self.attempts = 0
        self.was_unready = False
        """Whether it ever found its model not loaded."""
        self.evictions = evictions
        """Times that its model had been loaded, and was not any more when it came."""
        self.size = len(payload.body) + OVERHEAD
        """Bytes it takes in memory."""
        self.began = 0.0
        """When it was sent first, by the loop's clock; 0 before."""


class ModelFeed:
    """The way from one model's inputs to its queue.

    :param numbers: the inputs to read
    """

    def __init__(self, work: ModelWork, queue: ModelQueue[Job], numbers: list[int]) -> None:
        self.work = work
        self.queue = queue
        self.lost: tuple[Judgement, str] | None = None
        """Why none of its payloads can be invoked any more, with a text."""
        self.outstanding = 0
        """Payloads that were read and are not settled."""
        self.waiting_bytes = 0
        """Of payloads in the queue."""
        self.is_read = False
        self.is_closed = False
        self.worked_from: float | None = None
        """Since when the model has answered, as far as the statistics do not know; epoch seconds."""
        self.probes = 0
        """Probes in a row that found the model not loaded."""
        self.isolated_bad = self.isolated_good = 0
        """Parts of payloads that were refused, and that were not, when bad records were searched for."""
        self.evidence = Evidence()
        """Of that the model does not serve."""
        self._numbers = numbers
        self._on_order = 0
        self._reading = 0
        self._awake = asyncio.Event()

    def failed_with_it(self, payload: Payload, *, attempts: int) -> FailedRecords:
        """Return the records of a payload that cannot be invoked because the model is lost."""
        if self.lost is None:
            raise LookupError("only a lost model's payloads fail with it")
        judgement, message = self.lost
        return failed_records(
            payload, judgement.error, status=judgement.status, message=message, attempts=attempts
        )

    async def run(
        self,
        open_input: Callable[[int], Awaitable[OpenInput]],
        read: Callable[[OpenInput], Awaitable[None]],
        *,
        budget: Callable[[], int],
        has_room: Callable[[], bool],
    ) -> None:
        """Read every input.

        :param read: reads an input into the queue; never raises for what is the input's own fault
        :param budget: how many bytes may be waiting or on order
        :param has_room: whether more inputs may be open
        """
        async with asyncio.TaskGroup() as readers:
            for number in self._numbers:
                while not self._is_hungry(budget(), has_room=has_room()):
                    await self._until_woken()
                opened = await open_input(number)
                size = _UNKNOWN_SIZE if opened.batch_input.size is None else opened.batch_input.size
                self._on_order += size
                self._reading += 1
                readers.create_task(self._read(read, opened, size))
        self.is_read = True

    async def _read(
        self, read: Callable[[OpenInput], Awaitable[None]], open_input: OpenInput, size: int
    ) -> None:
        try:
            await read(open_input)
        finally:
            self._on_order -= size
            self._reading -= 1
            self.wake()

    def _is_hungry(self, budget: int, *, has_room: bool) -> bool:
        if not self._reading and not self.waiting_bytes:
            return True
        return has_room and self._reading < READERS and self.waiting_bytes + self._on_order < budget

    async def until_room(self, budget: Callable[[], int]) -> None:
        """Wait until less than the budget is waiting in the queue; nothing waits for a model that is lost."""
        while self.waiting_bytes > budget() and self.lost is None:
            await self._until_woken()

    async def _until_woken(self) -> None:
        self._awake.clear()
        await self._awake.wait()

    def taken(self, size: int) -> None:
        """Note that a payload has left the queue."""
        self.waiting_bytes -= size
        if not self._awake.is_set():
            self._awake.set()

    @property
    def may_isolate(self) -> bool:
        """Whether bad records are worth a search: not those of a model that refuses nearly all."""
        return self.lost is None and (
            self.isolated_bad < _ISOLATED or self.isolated_bad <= self.isolated_good
        )

    def wake(self) -> None:
        """Let the readers check again whether there is room."""
        self._awake.set()


def failed_records(
    payload: Payload,
    error: type[SageMakerInferenceError],
    *,
    status: int | None,
    message: str,
    attempts: int,
) -> FailedRecords:
    """Return the records of a payload that has failed for good."""
    place = (payload.start, payload.end, payload.first_record, payload.records)
    return FailedRecords(*place, error, status, message, attempts)
