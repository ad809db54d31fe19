"""Read a plan from S3: the whole of it, one shard's models, and a shard's inputs one by one."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from airflow_sm_plugin.batches.inputs import CHUNK, BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.state.folder import ShardFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

_CHUNKS_KEPT = 64
"""Some 5 MB. As many models that each have more inputs than a chunk may be read at once without reading any twice."""


class ShardInputs:
    """A shard's inputs, read when they are asked for. Many may ask at once."""

    def __init__(self, s3: S3Objects, folder: ShardFolder) -> None:
        self._s3 = s3
        self._folder = folder
        self._chunks: OrderedDict[int, list[str]] = OrderedDict()
        self._reading: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def input(self, number: int) -> BatchInput:
        """Return an entry of the shard.

        :param number: from 0
        :raises InvalidRequest: the shard has no such entry
        :raises InputNotFound: the plan was deleted
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        chunk, place = divmod(number, CHUNK)
        lines = await self._chunk(chunk)
        if not 0 <= place < len(lines):
            raise InvalidRequest(f"{self._folder.location} has no entry {number}")
        return BatchInput.from_line(lines[place])

    async def _chunk(self, chunk: int) -> list[str]:
        """Return a chunk's lines; who asks for one that is being read waits for it."""
        lock = self._reading.get(chunk)
        if lock is None:
            lock = self._reading[chunk] = asyncio.Lock()
        async with lock:
            lines = self._chunks.get(chunk)
            if lines is None:
                body = await self._s3.read(self._folder.inputs(chunk))
                lines = self._chunks[chunk] = body.decode().splitlines()
            self._chunks.move_to_end(chunk)
            if len(self._chunks) > _CHUNKS_KEPT:
                self._chunks.popitem(last=False)
            return lines
