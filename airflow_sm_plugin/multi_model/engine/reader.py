"""Open inputs, and read what has no result of them yet."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import aclosing, nullcontext
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


class InputReader:
    """Open and read a shard's inputs.

    :param reads: connections for inputs, held while their models are waited for
    :param record_etag: called with the object that an input is whose ETag the plan does not know
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        reads: S3Objects,
        inputs: ChunkedInputs,
        journal: Journal,
        record_etag: Callable[[OpenInput, str], None],
    ) -> None:
        self._settings = settings
        self._reads = reads
        self._inputs = inputs
        self._journal = journal
        self._record_etag = record_etag
        self._is_prepared = False
        self._small = asyncio.Semaphore(SMALL_READERS)

    async def open(self, number: int, feed: ModelFeed) -> OpenInput:
        """Begin with an input.

        :raises InvalidRequest: the arguments do not fit the first input; what does not fit a later one is that one's
            own fault, and is raised by :meth:`read`
        """
        batch_input = await self._inputs.input(number)
        opened = OpenInput(
            number, batch_input, feed, self._journal.progress_of(number), self._settings.output
        )
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
        """Find out which object an input is that was planned unseen, so that no try reads another."""
        etag = self._journal.etags.get(opened.number)
        if etag is None:
            listed_object = await self._reads.stat(opened.batch_input.source)
            if not isinstance(listed_object, ListedObject):
                return  # reading it fails
            etag = listed_object.etag
            self._record_etag(opened, etag)
        opened.batch_input = dataclasses.replace(opened.batch_input, etag=etag)

    def _prepare(self, opened: OpenInput) -> None:
        """Make ready what each of an input's payloads needs.

        :raises InvalidRequest: its attributes cannot be sent, or its records and answers not be joined
        """
        settings, batch_input = self._settings, opened.batch_input
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
        """Read an input into its model's queue; how far it came is in ``opened.read_to``.

        :param offer: takes payloads
        :param budget: how many bytes may be waiting
        :raises SageMakerInferenceError: the rest cannot be read, or not be sent
        """
        gaps, settings, batch_input = list(opened.progress.gaps()), self._settings, opened.batch_input
        if gaps:
            opened.read_to = (gaps[0].start, gaps[0].first_record)
        if opened.unfit is not None:
            raise opened.unfit
        is_small = not settings.gunzip and batch_input.size is not None and batch_input.size <= SMALL
        split = dataclasses.replace(
            settings.split, content_type=batch_input.content_type or settings.content_type
        )
        stream = payloads(self._reads, batch_input, split, gunzip=settings.gunzip, gaps=gaps)
        async with self._small if is_small else nullcontext(), aclosing(stream) as pieces:
            async for piece in pieces:
                last = piece[-1]
                opened.read_to = (last.end, last.first_record + last.records)
                offer(opened, piece)
                if not is_small:
                    await opened.feed.until_room(budget)
