"""Read an input as payloads, a chunk in memory at a time: all of it, or what has no result yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.text_input import HEAD
from airflow_sm_plugin.multi_model.payloads.gunzip import Gunzip
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions
from airflow_sm_plugin.multi_model.payloads.splitter import Splitter, needs_head
from airflow_sm_plugin.multi_model.state.journal import Gap

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

WHOLE = (Gap(0, None, 0),)


async def payloads(
    s3: S3Objects, one: BatchInput, options: SplitOptions, *, gunzip: bool, gaps: Sequence[Gap] = WHOLE
) -> AsyncGenerator[list[Payload]]:
    """Yield the payloads of an input's gaps in order, as many at a time as one chunk completes. Close it.

    :param gunzip: the object is compressed; offsets are those of what comes out
    :raises InputChanged: it is no longer the object that was planned
    :raises InputNotFound: it is gone
    :raises InvalidRequest: it is no whole gzip file, or not what its content type says
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    reading = _compressed if gunzip else _plain
    before = _head_before(gaps) if needs_head(options) else None
    async with aclosing(reading(s3, one, [before, *gaps] if before else gaps)) as pieces:
        head = b""
        splitter: Splitter | None = None
        async for gap, piece in pieces:
            if piece and gap.start == 0:
                head += piece[: HEAD - len(head)]
            if gap is before:
                continue
            if splitter is None:
                splitter = Splitter(options, start=gap.start, first_record=gap.first_record, head=head)
            found = splitter.feed(piece) if piece is not None else splitter.finish()
            if found:
                yield found
            if splitter.error is not None:
                raise splitter.error
            if piece is None:
                splitter = None


def _head_before(gaps: Sequence[Gap]) -> Gap | None:
    """Return the input's beginning where the gaps leave it out."""
    return Gap(0, min(HEAD, gaps[0].start), 0) if gaps and gaps[0].start else None


async def _plain(
    s3: S3Objects, one: BatchInput, gaps: Sequence[Gap]
) -> AsyncGenerator[tuple[Gap, bytes | None]]:
    """Yield each gap's pieces, and None at its end."""
    for gap in gaps:
        async with aclosing(_in_gap(s3, one, gap)) as pieces:
            async for piece in pieces:
                yield gap, piece
        yield gap, None


async def _in_gap(s3: S3Objects, one: BatchInput, gap: Gap) -> AsyncGenerator[bytes]:
    """Yield an object's bytes in a gap."""
    if gap.end is None and one.size is not None and gap.start >= one.size:
        return
    at = gap.start
    async with aclosing(s3.chunks(one.source, etag=one.etag, start=at)) as chunks:
        async for chunk in chunks:
            yield chunk if gap.end is None else chunk[: gap.end - at]
            at += len(chunk)
            if gap.end is not None and at >= gap.end:
                return


async def _compressed(
    s3: S3Objects, one: BatchInput, gaps: Sequence[Gap]
) -> AsyncGenerator[tuple[Gap, bytes | None]]:
    """Yield the same of a compressed object, which can be read from its beginning only."""
    waiting, at = list(gaps), 0
    async with (
        aclosing(s3.chunks(one.source, etag=one.etag)) as chunks,
        aclosing(_inflated(chunks)) as pieces,
    ):
        async for piece in pieces:
            for found in _within(piece, at, waiting):
                yield found
            at += len(piece)
    for gap in waiting:
        yield gap, None


def _within(piece: bytes, at: int, waiting: list[Gap]) -> Iterator[tuple[Gap, bytes | None]]:
    """Yield what of a piece lies in gaps, and None for each gap that ends in it, which waits no longer.

    :param at: where the piece begins
    """
    behind = at + len(piece)
    while waiting and waiting[0].start < behind:
        gap = waiting[0]
        yield gap, piece[max(gap.start - at, 0) : None if gap.end is None else gap.end - at]
        if gap.end is None or gap.end > behind:
            return
        yield gap, None
        waiting.pop(0)


async def _inflated(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    unpacked = Gunzip()
    async for chunk in chunks:
        for piece in _fed(unpacked, chunk):
            yield piece
    unpacked.finish()


def _fed(unpacked: Gunzip, chunk: bytes) -> Iterator[bytes]:
    return iter(unpacked.feed(chunk))
