"""A batch's inputs in S3, in chunks of JSON Lines, so that a retry works on the very inputs that the first try saw."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from weakref import WeakValueDictionary

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import MANIFEST_FILE, SHARD, BatchInput, InputSource
from airflow_sm_plugin.batches.listing import batch_inputs
from airflow_sm_plugin.batches.parallel import bounded_tasks
from airflow_sm_plugin.batches.text_input import SENT_AS_IT_IS, format_by_name
from airflow_sm_plugin.core.s3 import check_inputs_apart
from airflow_sm_plugin.exceptions import InvalidRequest

log = get_log(__name__)

JSON_LINES = "application/jsonl"
_DIGEST_LENGTH = 32


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """A plan in short.

    :param count: inputs
    :param shards: objects that hold them, ``SHARD`` inputs each but the last
    :param bytes: of all inputs whose size is known
    :param digest: of every input with its ETag and attributes, in order: equal plans, equal digests
    :param passed_over: objects below the prefix that are no inputs
    """

    count: int
    shards: int
    bytes: int
    digest: str
    passed_over: int = 0


def chunk_location(folder: str, number: int) -> str:
    """Return the location of one chunk of the inputs below a folder."""
    return f"{folder.rstrip('/')}/inputs/{number:05d}.jsonl"


async def plan_inputs(
    s3: S3Objects,
    source: InputSource,
    *,
    into: str,
    places: Mapping[str, str] | None = None,
    content_type: str | None = None,
) -> PlanSummary:
    """List the inputs, check each, and write them as shards below ``into``; nothing but S3 is asked.

    What a failure leaves below ``into`` is no plan: use another folder for the next attempt.

    :param into: ``s3://bucket/prefix`` of this plan alone
    :param places: where else is written what must not be taken for inputs, as :func:`check_inputs_apart` takes it
    :param content_type: what the inputs are sent as, for a warning about names that speak of something else
    :raises InvalidRequest: there are no inputs, one is not what it must be, or what is written lies among them
    """
    source, places = source.checked(), dict(places or {}) | {"the batch's state": into}
    if source.inputs_type != MANIFEST_FILE:
        check_inputs_apart(source.location, places)
    selection = source.selection()
    async with aclosing(batch_inputs(s3, source, selection)) as inputs:
        planned = await write_plan(
            s3, _with_format_warning(_apart(inputs, source, places), content_type), into=into
        )
    if not planned.count:
        raise source.no_inputs(selection, "nothing was sent")
    return dataclasses.replace(planned, passed_over=selection.passed_over)


async def _apart(
    inputs: AsyncIterable[BatchInput], source: InputSource, places: Mapping[str, str]
) -> AsyncIterator[BatchInput]:
    """Yield the inputs, and refuse one of a manifest that lies where something is written."""
    async for one in inputs:
        if source.inputs_type == MANIFEST_FILE:
            check_inputs_apart(one.source, places, is_object=True)
        yield one


async def _with_format_warning(
    inputs: AsyncIterable[BatchInput], content_type: str | None
) -> AsyncIterator[BatchInput]:
    """Yield the inputs, and warn where their names speak of another format than what they are sent as."""
    count, example = 0, ""
    async for one in inputs:
        kind = one.content_type or content_type
        if other_format := format_by_name(one.source, kind):
            count += 1
            example = example or f"{one.source} ({other_format}, sent as {kind})"
        yield one
    if count:
        log.warning(
            "%d inputs may not be what content_type says, such as %s: %s", count, example, SENT_AS_IT_IS
        )


async def inputs_digest(s3: S3Objects, source: InputSource) -> str:
    """List the inputs as :func:`plan_inputs` does, write nothing, and return the digest that their plan would have.

    :raises InvalidRequest: one is not what it must be
    """
    digest = hashlib.sha256()
    async with aclosing(batch_inputs(s3, source)) as inputs:
        async for one in inputs:
            digest.update(_line(one))
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _line(one: BatchInput) -> bytes:
    return f"{one.as_line()}\n".encode()


async def write_plan(s3: S3Objects, inputs: AsyncIterable[BatchInput], *, into: str) -> PlanSummary:
    """Write inputs as shards below ``into``. At most two shards are in memory: one being written, one growing."""
    digest, count, size, shards = hashlib.sha256(), 0, 0, 0
    async with bounded_tasks(at_once=1) as start:
        async for shard in _in_shards(inputs):
            body = b"".join(map(_line, shard))
            digest.update(body)
            count += len(shard)
            size += sum(one.size or 0 for one in shard)
            location = chunk_location(into, shards)
            await start(functools.partial(s3.write, location, body, content_type=JSON_LINES))
            shards += 1
    return PlanSummary(count=count, shards=shards, bytes=size, digest=digest.hexdigest()[:_DIGEST_LENGTH])


async def _in_shards(inputs: AsyncIterable[BatchInput]) -> AsyncIterator[list[BatchInput]]:
    shard: list[BatchInput] = []
    async for one in inputs:
        shard.append(one)
        if len(shard) == SHARD:
            yield shard
            shard = []
    if shard:
        yield shard


async def read_lines(s3: S3Objects, folder: str, chunk: int) -> list[str]:
    """Return one chunk's inputs as lines, as :meth:`BatchInput.from_line` reads them.

    :raises InputNotFound: there is no such chunk
    """
    return (await s3.read(chunk_location(folder, chunk))).decode().splitlines()


async def read_shard(s3: S3Objects, into: str, number: int) -> list[BatchInput]:
    """Return the inputs of one shard, in the plan's order.

    :raises InputNotFound: the plan has no such shard
    """
    return [BatchInput.from_line(line) for line in await read_lines(s3, into, number)]


_CHUNKS_KEPT = 64
"""Some 5 MB. As many models that each have more inputs than a chunk may be read at once without reading any twice."""


class ChunkedInputs:
    """Inputs that lie in S3 in chunks, read when they are asked for. Many tasks may ask at once.

    :param location: the folder that the chunks were written below
    :param size: inputs of a chunk
    :param keep: chunks in memory; about 80 KB each
    """

    def __init__(self, s3: S3Objects, location: str, size: int, *, keep: int = _CHUNKS_KEPT) -> None:
        self._s3 = s3
        self._location = location
        self._size = size
        self._keep = keep
        self._chunks: OrderedDict[int, list[str]] = OrderedDict()
        self._reading: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def input(self, number: int) -> BatchInput:
        """Return one input.

        :param number: from 0
        :raises InvalidRequest: there is no such input
        :raises InputNotFound: the plan was deleted
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        chunk, place = divmod(number, self._size)
        lines = await self._chunk(chunk)
        if not 0 <= place < len(lines):
            raise InvalidRequest(f"{self._location} has no input {number}")
        return BatchInput.from_line(lines[place])

    async def _chunk(self, chunk: int) -> list[str]:
        """Return a chunk's lines. A caller that asks for one that is being read waits for it."""
        lock = self._reading.get(chunk)
        if lock is None:
            lock = self._reading[chunk] = asyncio.Lock()
        async with lock:
            lines = self._chunks.get(chunk)
            if lines is None:
                lines = self._chunks[chunk] = await read_lines(self._s3, self._location, chunk)
            self._chunks.move_to_end(chunk)
            if len(self._chunks) > self._keep:
                self._chunks.popitem(last=False)
            return lines
