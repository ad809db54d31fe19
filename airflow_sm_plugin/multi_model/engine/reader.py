"""Open inputs, and read their parts that have no result yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.templates import attribute_fields, attributes_of
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.feed import OpenInput
from airflow_sm_plugin.multi_model.engine.settings import SMALL, SMALL_READERS, EngineSettings
from airflow_sm_plugin.multi_model.payloads.source import payloads

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
    from airflow_sm_plugin.multi_model.engine.feed import ModelFeed
    from airflow_sm_plugin.multi_model.payloads.payload import Payload
    from airflow_sm_plugin.multi_model.state.journal import Journal


@dataclass(eq=False, repr=False, kw_only=True)
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

    async def open(self, number: int, feed: ModelFeed) -> OpenInput:
        """Open an input.

        :raises InvalidRequest: the arguments do not fit the first input. An error of a later input fails that input
            alone, and :meth:`read` raises it
        """
        batch_input = await self.inputs.input(number)
        opened = OpenInput(number, batch_input, feed, self.journal.progress_of(number), self.settings.output)
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
        etag = self.journal.etags.get(opened.number)
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
        opened.output = settings.output_for(batch_input.content_type)
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
