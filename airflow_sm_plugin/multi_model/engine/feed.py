"""Open a model's inputs and read them into its queue, as far ahead as memory permits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.templates import attribute_fields, attributes_of
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.judgement import Evidence, Judgement
from airflow_sm_plugin.multi_model.engine.settings import (
    OVERHEAD,
    READERS,
    SMALL,
    SMALL_READERS,
    EngineSettings,
)
from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.payloads.source import payloads
from airflow_sm_plugin.multi_model.plan.plan import ModelWork
from airflow_sm_plugin.multi_model.state.journal import InputProgress, Journal
from airflow_sm_plugin.multi_model.state.records import FailedRecords

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
    from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue

_UNKNOWN_SIZE = 65_536
"""Bytes counted for an input of unknown size: one chunk of its body. The budget of 8 MiB then admits up to 128 such
inputs, so that ``READERS`` is the limit; a larger guess would read small inputs one after the other."""
_ISOLATED = 32
"""Bad records of a model to search for, whatever the share of its good ones. Each costs about two invocations a
halving of its payload; with a model that refuses nearly all records the search ends after so many."""


class Result(NamedTuple):
    """The result of one payload: bytes for the output, and a row with the response's attributes."""

    start: int
    end: int
    first_record: int
    records: int
    body: bytes
    note: bytes


@dataclass(slots=True, eq=False)
class OpenInput:
    """An input in work, with its results and failures that are not in the journal yet.

    :param entry: position in the shard
    :param progress: its results and failures in the journal
    :param output: format of its output
    """

    entry: int
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
    is_recorded: bool = False
    """Whether this process has written results or failures into the journal, or is writing them."""
    unfit: InvalidRequest | None = None
    """Why none of its payloads can be sent."""
    fields: dict[str, str] | None = None
    """The fields of a template of custom attributes."""

    @property
    def is_in_memory(self) -> bool:
        """Decide whether the output can be written from memory: all results are here, and nothing failed."""
        return not (self.is_recorded or self.failures) and self.progress.is_new


class Job:
    """A payload to send to its model, with its input and the number of attempts so far."""

    __slots__ = ("attempts", "began", "evictions", "is_half", "open_input", "payload", "size", "was_unready")

    def __init__(
        self, open_input: OpenInput, payload: Payload, *, is_half: bool = False, evictions: int = 0
    ) -> None:
        self.open_input = open_input
        self.payload = payload
        self.is_half = is_half
        """Whether it was cut from another payload to find bad records."""
        self.attempts = 0
        self.was_unready = False
        """Whether it ever found its model not loaded."""
        self.evictions = evictions
        """How often it found its model evicted."""
        self.size = len(payload.body) + OVERHEAD
        """Bytes it takes in memory."""
        self.began = 0.0
        """When it was first sent, by the loop's clock; 0 before."""


@dataclass(eq=False, repr=False)
class ModelFeed:
    """Reads one model's inputs into its queue.

    :param entries: the inputs to read
    """

    work: ModelWork
    queue: ModelQueue[Job]
    entries: list[int]

    def __post_init__(self) -> None:
        self.lost: Judgement | None = None
        """Why the model was given up: none of its payloads can be invoked any more."""
        self.outstanding = 0
        """Payloads that were read and are not settled."""
        self.waiting_bytes = 0
        """Size of the payloads in the queue."""
        self.is_read = False
        self.is_closed = False
        self.worked_from: float | None = None
        """Since when the model's work is missing in the statistics, epoch seconds; None until the model is loaded."""
        self.probes = 0
        """Probes in a row that found the model not loaded."""
        self.isolated_bad = self.isolated_good = 0
        """Halves of payloads that failed, and that succeeded, in the search for bad records."""
        self.evidence = Evidence()
        """Failures that suggest that the model does not serve."""
        self._unread_bytes = 0
        self._reading = 0
        self._awake = asyncio.Event()

    async def run(
        self,
        open_input: Callable[[int], Awaitable[OpenInput]],
        read: Callable[[OpenInput], Awaitable[None]],
        *,
        budget: Callable[[], int],
        has_room: Callable[[], bool],
    ) -> None:
        """Read every input.

        :param read: reads an input into the queue; an error of the input itself is not raised
        :param budget: limit of bytes in the queue and still to be read
        :param has_room: whether more inputs may be open
        """
        async with asyncio.TaskGroup() as readers:
            for entry in self.entries:
                while not self._may_read_another(budget(), has_room=has_room()):
                    await self._until_woken()
                opened = await open_input(entry)
                size = _UNKNOWN_SIZE if opened.batch_input.size is None else opened.batch_input.size
                self._unread_bytes += size
                self._reading += 1
                readers.create_task(self._read(read, opened, size))
        self.is_read = True

    async def _read(
        self, read: Callable[[OpenInput], Awaitable[None]], open_input: OpenInput, size: int
    ) -> None:
        try:
            await read(open_input)
        finally:
            self._unread_bytes -= size
            self._reading -= 1
            self.wake()

    def _may_read_another(self, budget: int, *, has_room: bool) -> bool:
        if not self._reading and not self.waiting_bytes:
            return True
        return has_room and self._reading < READERS and self.waiting_bytes + self._unread_bytes < budget

    async def until_room(self, budget: Callable[[], int]) -> None:
        """Wait until the queue holds no more bytes than the budget, or the model is given up."""
        while self.waiting_bytes > budget() and self.lost is None:
            await self._until_woken()

    async def _until_woken(self) -> None:
        self._awake.clear()
        await self._awake.wait()

    def taken(self, size: int) -> None:
        """Note that a payload has left the queue."""
        self.waiting_bytes -= size
        self._awake.set()

    def wake(self) -> None:
        """Let the readers check again whether there is room."""
        self._awake.set()

    @property
    def may_isolate(self) -> bool:
        """Decide whether to search for bad records: not for those of a model that refuses nearly all."""
        return self.lost is None and (
            self.isolated_bad < _ISOLATED or self.isolated_bad <= self.isolated_good
        )


def failed_records(payload: Payload, judgement: Judgement, *, attempts: int) -> FailedRecords:
    position = (payload.start, payload.end, payload.first_record, payload.records)
    return FailedRecords(*position, judgement.error, judgement.status, judgement.message, attempts)


@dataclass(eq=False, repr=False)
class InputReader:
    """Open and read a shard's inputs.

    :param reads: connections for inputs, which are held while the models load
    :param record_etag: called with the ETag of an input's object when the plan has none
    """

    settings: EngineSettings
    reads: S3Objects
    inputs: ChunkedInputs
    journal: Journal
    record_etag: Callable[[OpenInput, str], None]

    def __post_init__(self) -> None:
        self._is_prepared = False
        self._small = asyncio.Semaphore(SMALL_READERS)

    async def open(self, entry: int, feed: ModelFeed) -> OpenInput:
        """Open an input.

        :raises InvalidRequest: the arguments do not fit the first input. An error of a later input fails that input
            alone, and :meth:`read` raises it
        """
        batch_input = await self.inputs.input(entry)
        opened = OpenInput(entry, batch_input, feed, self.journal.progress_of(entry), self.settings.output)
        if batch_input.etag is None:
            await self._bind(opened)
        try:
            self._prepare(opened)
            self._is_prepared = True
        except InvalidRequest as error:
            if not self._is_prepared:  # nothing was sent yet
                raise
            opened.unfit = error
        return opened

    async def _bind(self, opened: OpenInput) -> None:
        """Record the ETag of an input that was planned without one, so that no later try reads another object."""
        etag = self.journal.etags.get(opened.entry)
        if etag is None:
            listed_object = await self.reads.stat(opened.batch_input.source)
            if not isinstance(listed_object, ListedObject):
                return  # reading it fails
            etag = listed_object.etag
            self.record_etag(opened, etag)
        opened.batch_input = replace(opened.batch_input, etag=etag)

    def _prepare(self, opened: OpenInput) -> None:
        """Set the output options and template fields of an input.

        :raises InvalidRequest: its attributes cannot be sent, or its records and answers cannot be joined
        """
        settings, batch_input = self.settings, opened.batch_input
        if batch_input.content_type is not None and settings.output.join_source != "None":
            output = replace(settings.output, content_type=batch_input.content_type)
            opened.output = output.checked(settings.split.split_type)
        if settings.custom_attributes is not None:
            opened.fields = attribute_fields(
                batch_input.source, settings.fields, relative=batch_input.relative
            )
            attributes_of(settings.custom_attributes, opened.fields, first_record=0)

    async def read(
        self,
        opened: OpenInput,
        offer: Callable[[OpenInput, Sequence[Payload]], None],
        *,
        budget: Callable[[], int],
    ) -> None:
        """Read an input into its model's queue, and keep the position reached in ``opened.read_to``.

        :param offer: takes payloads
        :param budget: limit of bytes in the queue
        :raises SageMakerInferenceError: the rest of the input cannot be read or sent
        """
        gaps, settings, batch_input = list(opened.progress.gaps()), self.settings, opened.batch_input
        if gaps:
            opened.read_to = (gaps[0].start, gaps[0].first_record)
        if opened.unfit is not None:
            raise opened.unfit
        is_small = not settings.gunzip and batch_input.size is not None and batch_input.size <= SMALL
        content_type = batch_input.content_type or settings.content_type
        split = replace(settings.split, content_type=content_type)
        stream = payloads(self.reads, batch_input, split, gunzip=settings.gunzip, gaps=gaps)
        async with self._small if is_small else nullcontext(), aclosing(stream) as batches:
            async for batch in batches:
                last = batch[-1]
                opened.read_to = (last.end, last.first_record + last.records)
                offer(opened, batch)
                if not is_small:
                    await opened.feed.until_room(budget)
