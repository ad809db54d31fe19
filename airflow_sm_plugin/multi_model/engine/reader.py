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
    :param bound: told which object an input is that the plan knows no ETag of
    """

    def __init__(
        self,
        settings: EngineSettings,
        *,
        reads: S3Objects,
        inputs: ChunkedInputs,
        journal: Journal,
        bound: Callable[[OpenInput, str], None],
    ) -> None:
        self._settings = settings
        self._reads = reads
        self._inputs = inputs
        self._journal = journal
        self._bound = bound
        self._is_prepared = False
        self._small = asyncio.Semaphore(SMALL_READERS)

    async def opened(self, number: int, feed: ModelFeed) -> OpenInput:
        """Begin with an input.

        :raises InvalidRequest: the arguments do not fit the first input; what does not fit a later one is that one's
            own fault, and is told by :meth:`read`
        """
        found = await self._inputs.input(number)
        one = OpenInput(number, found, feed, self._journal.progress_of(number), self._settings.output)
        if found.etag is None:
            await self._bind(one)
        try:
            self._prepare(one)
            self._is_prepared = True
        except InvalidRequest as error:
            if not self._is_prepared:  # nothing was sent yet
                raise
            one.unfit = error
        return one

    async def _bind(self, one: OpenInput) -> None:
        """Find out which object an input is that was planned unseen, so that no try reads another."""
        etag = self._journal.etags.get(one.number)
        if etag is None:
            found = await self._reads.stat(one.one.source)
            if not isinstance(found, ListedObject):
                return  # reading it will tell
            etag = found.etag
            self._bound(one, etag)
        one.one = dataclasses.replace(one.one, etag=etag)

    def _prepare(self, one: OpenInput) -> None:
        """Make ready what each of an input's payloads needs.

        :raises InvalidRequest: its attributes cannot be sent, or its records and answers not be joined
        """
        one.output = self._settings.output_for(one.one.content_type)
        if self._settings.custom_attributes is not None:
            one.fields = attribute_fields(one.one.source, self._settings.fields, relative=one.one.relative)
            attributes_of(self._settings.custom_attributes, one.fields, first_record=0)

    async def read(
        self,
        one: OpenInput,
        offer: Callable[[OpenInput, Sequence[Payload]], None],
        *,
        budget: Callable[[], int],
    ) -> None:
        """Read an input into its model's lane; how far it came stands in ``one.read_to``.

        :param offer: takes payloads
        :param budget: how many bytes may be waiting
        :raises SageMakerInferenceError: the rest cannot be read, or not be sent
        """
        gaps, settings = list(one.story.gaps()), self._settings
        if gaps:
            one.read_to = (gaps[0].start, gaps[0].first_record)
        if one.unfit is not None:
            raise one.unfit
        is_small = not settings.gunzip and one.one.size is not None and one.one.size <= SMALL
        split = dataclasses.replace(
            settings.split, content_type=one.one.content_type or settings.content_type
        )
        found = payloads(self._reads, one.one, split, gunzip=settings.gunzip, gaps=gaps)
        async with self._small if is_small else nullcontext(), aclosing(found) as pieces:
            async for several in pieces:
                last = several[-1]
                one.read_to = (last.end, last.first_record + last.records)
                offer(one, several)
                if not is_small:
                    await one.feed.until_room(budget)
