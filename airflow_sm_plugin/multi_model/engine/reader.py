"""Read the inputs of open models into their queues, as far ahead as memory permits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.templates import attribute_fields, attributes_of
from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    InvalidRequest,
    RecordTooLarge,
    SageMakerInferenceError,
    ServiceUnavailable,
    TargetModelNotFound,
)
from airflow_sm_plugin.multi_model.engine.judgement import Judgement, PayloadFate
from airflow_sm_plugin.multi_model.engine.payload_queue import unopened
from airflow_sm_plugin.multi_model.engine.result_queue import Bound, ReadToEnd
from airflow_sm_plugin.multi_model.engine.settings import READERS, SMALL, SMALL_READERS, EngineSettings
from airflow_sm_plugin.multi_model.engine.work import Job, OpenInput, OpenModel, failed_records
from airflow_sm_plugin.multi_model.payloads.payload import Payload
from airflow_sm_plugin.multi_model.payloads.source import payloads
from airflow_sm_plugin.multi_model.plan.plan import ModelWork
from airflow_sm_plugin.multi_model.state.records import FailedRecords

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
    from airflow_sm_plugin.multi_model.engine.payload_queue import PayloadQueue
    from airflow_sm_plugin.multi_model.engine.result_queue import ResultQueue
    from airflow_sm_plugin.multi_model.state.journal import Journal

_DRAINS = 4
"""Models without an artefact that are read at the same time, only to count the records that fail: few, since they take
connections from the models that serve."""

_UNKNOWN_SIZE = 65_536
"""Bytes counted for an input of unknown size: one chunk of its body. The budget of 8 MiB then admits up to 128 such
inputs, so that ``READERS`` is the limit; a larger guess would read small inputs one after the other."""

_UNREADABLE_IN_A_ROW = 20
"""When so many inputs in a row cannot be read because of S3 or credentials, the task fails instead of its inputs. Each
has been tried for a minute; fewer could be the inputs' own fault."""

_LEAST_TEXT = 200
"""Characters of S3's error text that stay where container texts are left out: no secret is in it."""

_MISSING = "the endpoint's model prefix holds no such artefact"
_NO_ARTEFACT = Judgement(PayloadFate.NO_MODEL, TargetModelNotFound, None, message=_MISSING)


@dataclass(eq=False, repr=False)
class Reader:
    """Read all inputs of a shard, model by model.

    :param reads: connections for inputs, separate from those for writing: an input's connection stays open, half read,
        while its model loads
    """

    settings: EngineSettings
    reads: S3Objects
    inputs: ChunkedInputs
    journal: Journal
    payloads: PayloadQueue
    results: ResultQueue

    def __post_init__(self) -> None:
        self._is_prepared = False
        self._unreadable = 0
        self._drains = asyncio.Semaphore(_DRAINS)
        self._small = asyncio.Semaphore(SMALL_READERS)

    async def run(self, todo: Sequence[tuple[ModelWork, list[int]]]) -> None:
        """Read every input, then close the queue of payloads.

        :param todo: the models with work left, in order, each with the positions of its inputs that have not ended
        :raises SageMakerInferenceError: the arguments do not fit the first input, or S3 does not serve
        """
        async with asyncio.TaskGroup() as models:
            for work, entries in todo:
                if work.missing:
                    await self._drains.acquire()
                    model = unopened(work.target_model, _NO_ARTEFACT)
                else:
                    model = await self.payloads.open(work.target_model)
                models.create_task(self._read_model(model, entries, self._drains if work.missing else None))
        self.payloads.close()

    async def _read_model(
        self, model: OpenModel, entries: Sequence[int], drains: asyncio.Semaphore | None
    ) -> None:
        async with asyncio.TaskGroup() as readers:
            ahead = _ReadAhead(self.payloads, model)
            for entry in entries:
                await ahead.until_room()
                await self.results.admit(model)
                open_input = await self._open(entry, model)
                ahead.begin(_size(open_input))
                readers.create_task(self._read(open_input, ahead))
        self.payloads.end(model)
        if drains is not None:
            drains.release()

    # Inputs

    async def _open(self, entry: int, model: OpenModel) -> OpenInput:
        """Open an input.

        :raises InvalidRequest: the arguments do not fit the first input. An error of a later input fails that input
            alone
        """
        batch_input = await self.inputs.input(entry)
        progress = self.journal.progress_of(entry)
        open_input = OpenInput(entry, batch_input, model, progress, self.settings.output)
        if batch_input.etag is None:
            await self._bind(open_input)
        try:
            self._prepare(open_input)
            self._is_prepared = True
        except InvalidRequest as error:
            if not self._is_prepared:  # nothing was sent yet
                raise
            open_input.unfit = error
        return open_input

    async def _bind(self, open_input: OpenInput) -> None:
        """Record the ETag of an input that was planned without one, so that no later try reads another object."""
        etag = self.journal.etags.get(open_input.entry)
        if etag is None:
            listed_object = await self.reads.stat(open_input.batch_input.source)
            if not isinstance(listed_object, ListedObject):
                return  # reading it fails
            etag = listed_object.etag
            self.results.put(open_input, Bound(etag))
        open_input.batch_input = replace(open_input.batch_input, etag=etag)

    def _prepare(self, open_input: OpenInput) -> None:
        """Set the output options and template fields of an input.

        :raises InvalidRequest: its attributes cannot be sent, or its records and answers cannot be joined
        """
        settings, batch_input = self.settings, open_input.batch_input
        if batch_input.content_type is not None and settings.output.join_source != "None":
            output = replace(settings.output, content_type=batch_input.content_type)
            open_input.output = output.checked(settings.split.split_type)
        if settings.custom_attributes is not None:
            open_input.fields = attribute_fields(
                batch_input.source, settings.fields, relative=batch_input.relative
            )
            attributes_of(settings.custom_attributes, open_input.fields, first_record=0)

    async def _read(self, open_input: OpenInput, ahead: _ReadAhead) -> None:
        try:
            await self._read_payloads(open_input)
            self._unreadable = 0
        except SageMakerInferenceError as error:
            self._fail_rest(open_input, error)
        self.results.put(open_input, ReadToEnd())
        ahead.end(_size(open_input))

    async def _read_payloads(self, open_input: OpenInput) -> None:
        """Read an input into its model's queue.

        :raises SageMakerInferenceError: the rest of the input cannot be read or sent
        """
        settings, batch_input = self.settings, open_input.batch_input
        gaps = list(open_input.progress.gaps())
        if gaps:
            open_input.read_to = (gaps[0].start, gaps[0].first_record)
        if open_input.unfit is not None:
            raise open_input.unfit
        is_small = not settings.gunzip and batch_input.size is not None and batch_input.size <= SMALL
        content_type = batch_input.content_type or settings.content_type
        split = replace(settings.split, content_type=content_type)
        stream = payloads(self.reads, batch_input, split, gunzip=settings.gunzip, gaps=gaps)
        async with self._small if is_small else nullcontext(), aclosing(stream) as batches:
            async for batch in batches:
                self._put(open_input, batch)
                if not is_small:
                    await self.payloads.until_room(open_input.model)

    def _put(self, open_input: OpenInput, batch: Sequence[Payload]) -> None:
        """Put payloads into the model's queue, and those that cannot be sent with the failures."""
        last, lost, jobs = batch[-1], open_input.model.lost, list[Job]()
        open_input.read_to = (last.end, last.first_record + last.records)
        for payload in batch:
            open_input.offered += payload.records
            if payload.oversized:
                self.results.put(open_input, failed_records(payload, self._too_large(payload), attempts=0))
            elif lost is not None:
                self.results.put(open_input, failed_records(payload, lost, attempts=0))
            else:
                jobs.append(Job(open_input, payload))
        self.payloads.put(open_input.model, jobs)

    def _too_large(self, payload: Payload) -> Judgement:
        limit = self.settings.split.max_payload_bytes
        message = f"the record has {payload.oversized} bytes, a payload takes up to {limit}"
        return Judgement(PayloadFate.FAILED, RecordTooLarge, None, message=message)

    def _fail_rest(self, open_input: OpenInput, error: SageMakerInferenceError) -> None:
        """Let the unread rest of an input fail; raise the error when many inputs in a row were unreadable."""
        if isinstance(error, CredentialsExpired | ServiceUnavailable):
            self._unreadable += 1
            if self._unreadable >= _UNREADABLE_IN_A_ROW:
                raise error
        message = error.as_sentence[: max(self.settings.error_text_limit, _LEAST_TEXT)]
        byte, record = open_input.read_to
        self.results.put(open_input, FailedRecords(byte, byte, record, None, type(error), None, message, 0))


@dataclass(eq=False, repr=False)
class _ReadAhead:
    """The inputs of one model that are being read: some, within the budget of bytes in the queue and still to read."""

    payloads: PayloadQueue
    model: OpenModel
    _reading: int = 0
    _unread_bytes: int = 0

    async def until_room(self) -> None:
        """Wait until another input may be read."""
        while not self._has_room():
            self.model.changed.clear()
            await self.model.changed.wait()

    def _has_room(self) -> bool:
        waiting = self.model.waiting_bytes
        if not self._reading and not waiting:
            return True
        return self._reading < READERS and waiting + self._unread_bytes < self.payloads.budget

    def begin(self, size: int) -> None:
        self._reading += 1
        self._unread_bytes += size

    def end(self, size: int) -> None:
        self._reading -= 1
        self._unread_bytes -= size
        self.model.changed.set()


def _size(open_input: OpenInput) -> int:
    size = open_input.batch_input.size
    return _UNKNOWN_SIZE if size is None else size
