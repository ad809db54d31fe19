"""Store a batch's inputs in S3, in chunks of JSON Lines, so that a retry works on the inputs of the first try."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass
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

_CHUNKS_KEPT = 64
"""About 5 MB. As many models that each have more inputs than a chunk can be read at once without a second read."""


@dataclass(frozen=True, kw_only=True)
class PlanSummary:
    """The counts and the digest of a plan's inputs.

    :param shards: objects that hold the inputs, ``SHARD`` each except for the last
    :param digest: of all inputs with their ETags and attributes, in order
    :param passed_over: objects below the prefix that are no inputs
    """

    count: int
    shards: int
    digest: str
    passed_over: int = 0


def chunk_location(folder: str, number: int) -> str:
    return f"{folder.rstrip('/')}/inputs/{number:05d}.jsonl"


async def plan_inputs(
    s3: S3Objects,
    source: InputSource,
    *,
    into: str,
    written: Mapping[str, str] | None = None,
    content_type: str | None = None,
) -> PlanSummary:
    """List the inputs, check each, and write them as shards below ``into``.

    After a failure the shards below ``into`` are incomplete: use another folder for the next attempt.

    :param into: ``s3://bucket/prefix`` of this plan alone
    :param written: further locations that are written and must not contain inputs, as of :func:`check_inputs_apart`
    :param content_type: of the requests, for a warning about names with the suffix of another format
    :raises InvalidRequest: there are no inputs, one is not valid, or one is in a location that is written
    """
    source, written = source.checked(), dict(written or {}) | {"the batch's state": into}
    if source.inputs_type != MANIFEST_FILE:
        check_inputs_apart(source.location, written)
    selection = source.selection()
    async with aclosing(batch_inputs(s3, source, selection)) as inputs:
        planned = await write_chunks(s3, _compared(inputs, source, written, content_type), into=into)
    if not planned.count:
        raise source.no_inputs(selection, "nothing was sent")
    return dataclasses.replace(planned, passed_over=selection.passed_over)


async def _compared(
    inputs: AsyncIterable[BatchInput],
    source: InputSource,
    written: Mapping[str, str],
    content_type: str | None,
) -> AsyncIterator[BatchInput]:
    """Yield the inputs. Refuse a manifest's input in a location that is written.

    Warn at the end about names with the suffix of another format than the content type.
    """
    count, example = 0, ""
    async for item in inputs:
        if source.inputs_type == MANIFEST_FILE:
            check_inputs_apart(item.source, written, is_object=True)
        kind = item.content_type or content_type
        if other_format := format_by_name(item.source, kind):
            count += 1
            example = example or f"{item.source} ({other_format}, sent as {kind})"
        yield item
    if count:
        log.warning(
            "%d inputs may not be what content_type says, such as %s: %s", count, example, SENT_AS_IT_IS
        )


async def inputs_digest(s3: S3Objects, source: InputSource) -> str:
    """List the inputs as :func:`plan_inputs` does, and return the digest that their plan would have."""
    digest = hashlib.sha256()
    async with aclosing(batch_inputs(s3, source)) as inputs:
        async for item in inputs:
            digest.update(_line(item))
    return digest.hexdigest()[:_DIGEST_LENGTH]


def _line(item: BatchInput) -> bytes:
    return f"{item.as_line()}\n".encode()


async def write_chunks(s3: S3Objects, inputs: AsyncIterable[BatchInput], *, into: str) -> PlanSummary:
    """Write inputs in chunks below ``into``. At most two chunks are in memory: one is written while one grows."""
    digest, count, chunks = hashlib.sha256(), 0, 0
    async with bounded_tasks(at_once=1) as start:
        async for chunk in _in_chunks(inputs):
            body = b"".join(chunk)
            digest.update(body)
            location = chunk_location(into, chunks)
            await start(functools.partial(s3.write, location, body, content_type=JSON_LINES))
            count += len(chunk)
            chunks += 1
    return PlanSummary(count=count, shards=chunks, digest=digest.hexdigest()[:_DIGEST_LENGTH])


async def _in_chunks(inputs: AsyncIterable[BatchInput]) -> AsyncIterator[list[bytes]]:
    chunk: list[bytes] = []
    async for item in inputs:
        chunk.append(_line(item))
        if len(chunk) == SHARD:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


async def read_lines(s3: S3Objects, folder: str, chunk: int) -> list[str]:
    """Read one chunk as lines for :meth:`BatchInput.from_line`; raise InputNotFound if there is none."""
    return (await s3.read(chunk_location(folder, chunk))).decode().splitlines()


async def read_chunk(s3: S3Objects, folder: str, number: int) -> list[BatchInput]:
    return [BatchInput.from_line(line) for line in await read_lines(s3, folder, number)]


@dataclass(eq=False)
class ChunkedInputs:
    """A cache of inputs in S3 for concurrent readers. Each chunk is read when one of its inputs is needed.

    :param location: the folder that contains the chunks
    :param size: inputs of a chunk
    :param keep: chunks in memory; about 80 KB each
    """

    s3: S3Objects
    location: str
    size: int
    _: KW_ONLY
    keep: int = _CHUNKS_KEPT

    def __post_init__(self) -> None:
        self._chunks: OrderedDict[int, list[str]] = OrderedDict()
        self._reading: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()

    async def input(self, number: int) -> BatchInput:
        """Return one input, counted from 0.

        :raises InvalidRequest: there is no such input
        :raises InputNotFound: the plan was deleted
        """
        chunk, index = divmod(number, self.size)
        lines = await self._chunk(chunk)
        if not 0 <= index < len(lines):
            raise InvalidRequest(f"{self.location} has no input {number}")
        return BatchInput.from_line(lines[index])

    async def _chunk(self, chunk: int) -> list[str]:
        lines = self._chunks.get(chunk)
        if lines is None:
            lines = await self._read_once(chunk)
        self._chunks.move_to_end(chunk)
        return lines

    async def _read_once(self, chunk: int) -> list[str]:
        """Read a chunk into memory; concurrent callers share one read."""
        async with self._reading.setdefault(chunk, asyncio.Lock()):
            lines = self._chunks.get(chunk)
            if lines is None:
                lines = self._chunks[chunk] = await read_lines(self.s3, self.location, chunk)
                if len(self._chunks) > self.keep:
                    self._chunks.popitem(last=False)
            return lines
