"""Decompress gzip as it arrives, a bounded piece at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from airflow_sm_plugin.exceptions import InvalidRequest

MOST_AT_ONCE = 256 * 1024
"""Bytes: the largest piece that is given out, however well the input is compressed."""

_STEP = 16 * 1024
"""Bytes taken in at once: what zlib has not used up is copied for each piece given out."""

_GZIP = 16 + zlib.MAX_WBITS


class Gunzip:
    """Feed it the chunks of a gzip object; it gives back what they decompress to.

    Several members, one behind the other, and zeros behind a member are taken as ``gzip`` does; an object without a
    single byte is empty.
    """

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield pieces of at most :data:`MOST_AT_ONCE` bytes; use the iterator up before the next chunk.

        :raises InvalidRequest: this is no gzip, or it is damaged
        """
        for place in range(0, len(data), _STEP):
            yield from self._step(data[place : place + _STEP])

    def finish(self) -> None:
        """Check that the object ends with a whole member.

        :raises InvalidRequest: the object ends in the middle of a member
        """
        if self._begun:
            raise InvalidRequest(
                "the input is no whole gzip: it ends too early; was it cut off while it was written?"
            )

    def _step(self, data: bytes) -> Iterator[bytes]:
        while data:
            if not self._begun:
                data = self._next_member(data)
                continue
            piece = self._decompressed(data)
            if piece:
                yield piece
            if self._member.eof:
                self._begun = False
                data = self._member.unused_data
            else:
                data = self._member.unconsumed_tail

    def _next_member(self, data: bytes) -> bytes:
        data = data.lstrip(b"\0")
        if data:
            self._member = zlib.decompressobj(_GZIP)
            self._begun = True
        return data

    def _decompressed(self, data: bytes) -> bytes:
        try:
            return self._member.decompress(data, MOST_AT_ONCE)
        except zlib.error as error:
            raise InvalidRequest(
                f"the input is no whole gzip: {error}; leave the compression out if it is not compressed"
            ) from None
