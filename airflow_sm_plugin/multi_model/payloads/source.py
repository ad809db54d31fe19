"""Read an input as payloads, a chunk in memory at a time: all of it, or the gaps that have no result yet."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.batches.text_input import HEAD, is_csv
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions
from airflow_sm_plugin.multi_model.payloads.splitter import Splitter
from airflow_sm_plugin.multi_model.state.journal import Gap

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

MAX_PIECE_BYTES = 256 * 1024
"""The largest decompressed piece, however well the input is compressed."""

_SINGLY = 16 * 1024
"""Bytes that are split into payloads of one record at once. Such payloads take several times the memory of short
records, so that the 64 KB that S3 gives at once would be a quarter of a megabyte for each open model."""

_STEP = 16 * 1024
"""Compressed bytes given to zlib at once: zlib copies the bytes it has not used for each piece that it returns."""

GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


async def payloads(
    s3: S3Objects, batch_input: BatchInput, options: SplitOptions, *, gunzip: bool, gaps: Sequence[Gap]
) -> AsyncGenerator[list[Payload]]:
    """Yield the payloads of an input's gaps in order, as many at a time as one chunk completes. Close the generator.

    :param gunzip: the object is compressed; offsets count decompressed bytes
    :raises InputChanged: the object is not the one that was planned
    :raises InputNotFound: the object is gone
    :raises InvalidRequest: the object is no whole gzip file, or not what its content type says
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    read = _compressed_pieces if gunzip else _pieces
    needs_head = options.split_type == "Line" and is_csv(options.content_type)
    step = _SINGLY if options.batch_strategy == "SingleRecord" else MAX_PIECE_BYTES
    before = Gap(0, min(HEAD, gaps[0].start), 0) if needs_head and gaps and gaps[0].start else None
    async with aclosing(read(s3, batch_input, [before, *gaps] if before else gaps)) as pieces:
        head = b""
        splitter: Splitter | None = None
        async for gap, piece in pieces:
            if piece and gap.start == 0:
                head += piece[: HEAD - len(head)]
            if gap is before:
                continue
            if splitter is None:
                splitter = Splitter(options, start=gap.start, first_record=gap.first_record, head=head)
            for completed in _split(splitter, piece, step):
                yield completed
            if piece is None:
                splitter = None


def _split(splitter: Splitter, piece: bytes | None, step: int) -> Iterator[list[Payload]]:
    """Yield the payloads that a piece of a gap, or None at its end, completes; raise the splitter's error."""
    for begin in range(0, len(piece), step) if piece else (0,):
        completed = splitter.finish() if piece is None else splitter.feed(piece[begin : begin + step])
        if completed:
            yield completed
        if splitter.error is not None:
            raise splitter.error


async def _pieces(
    s3: S3Objects, batch_input: BatchInput, gaps: Sequence[Gap]
) -> AsyncGenerator[tuple[Gap, bytes | None]]:
    """Yield each gap's pieces, and None at the gap's end."""
    for gap in gaps:
        async with aclosing(_gap_pieces(s3, batch_input, gap)) as pieces:
            async for piece in pieces:
                yield gap, piece
        yield gap, None


async def _gap_pieces(s3: S3Objects, batch_input: BatchInput, gap: Gap) -> AsyncGenerator[bytes]:
    if gap.end is None and batch_input.size is not None and gap.start >= batch_input.size:
        return
    offset = gap.start
    async with aclosing(s3.chunks(batch_input.source, etag=batch_input.etag, start=offset)) as chunks:
        async for chunk in chunks:
            yield chunk if gap.end is None else chunk[: gap.end - offset]
            offset += len(chunk)
            if gap.end is not None and offset >= gap.end:
                return


async def _compressed_pieces(
    s3: S3Objects, batch_input: BatchInput, gaps: Sequence[Gap]
) -> AsyncGenerator[tuple[Gap, bytes | None]]:
    """Yield each gap's pieces of a compressed object, which is read from its beginning, and None at the gap's end."""
    gaps_left, offset = list(gaps), 0
    async with (
        aclosing(s3.chunks(batch_input.source, etag=batch_input.etag)) as chunks,
        aclosing(_decompressed(chunks)) as pieces,
    ):
        async for piece in pieces:
            for gap_piece in _within(piece, offset, gaps_left):
                yield gap_piece
            offset += len(piece)
    for gap in gaps_left:
        yield gap, None


async def _decompressed(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    stream = Gunzip()
    async for chunk in chunks:
        for piece in stream.feed(chunk):
            yield piece
    stream.finish()


def _within(piece: bytes, offset: int, gaps_left: list[Gap]) -> Iterator[tuple[Gap, bytes | None]]:
    """Yield the parts of a piece that lie in gaps, and None for each gap that ends in it; remove these gaps.

    :param offset: where the piece begins
    """
    end = offset + len(piece)
    while gaps_left and gaps_left[0].start < end:
        gap = gaps_left[0]
        yield gap, piece[max(gap.start - offset, 0) : None if gap.end is None else gap.end - offset]
        if gap.end is None or gap.end > end:
            return
        yield gap, None
        gaps_left.pop(0)


class Gunzip:
    """A decompressor of a gzip object that arrives in chunks.

    Like :mod:`gzip`, it accepts several members one after the other, and zeros between them. An object without a single
    byte is empty.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_WINDOW_BITS)
        self._is_inside = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces of at most :data:`MAX_PIECE_BYTES`; exhaust the iterator before the next chunk.

        :raises InvalidRequest: the data are no gzip, or damaged
        """
        for begin in range(0, len(data), _STEP):
            yield from self._decompressed(data[begin : begin + _STEP])

    def finish(self) -> None:
        """Raise InvalidRequest if the object ends in the middle of a member."""
        if self._is_inside:
            raise InvalidRequest(
                "the input is no whole gzip: it ends too early; was it cut off while it was written?"
            )

    def _decompressed(self, data: bytes) -> Iterator[bytes]:
        while data := data if self._is_inside else data.lstrip(b"\0"):
            if not self._is_inside:
                self._member, self._is_inside = zlib.decompressobj(GZIP_WINDOW_BITS), True
            try:
                piece = self._member.decompress(data, MAX_PIECE_BYTES)
            except zlib.error as error:
                raise InvalidRequest(
                    f"the input is no whole gzip: {error}; leave the compression out if it is not compressed"
                ) from None
            if piece:
                yield piece
            self._is_inside = not self._member.eof
            data = self._member.unconsumed_tail if self._is_inside else self._member.unused_data
