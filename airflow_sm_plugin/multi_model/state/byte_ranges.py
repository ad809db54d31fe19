"""Byte ranges of data objects that make up an output: which of them S3 copies, and which reads fetch the others."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_WASTE = 2
"""A read is permitted to fetch this many times the needed bytes, ..."""

_SLACK = 65_536
"""... and this many bytes more, because another request takes about as long."""

_WIDTH = 3


class ByteRange(NamedTuple):
    """Consecutive bytes of one data object."""

    location: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size

    def cut(self, size: int) -> tuple[ByteRange, ByteRange]:
        """Split off the first *size* bytes, or all if there are fewer."""
        first = self._replace(size=min(size, self.size))
        return first, ByteRange(self.location, first.end, self.size - first.size)


def parts_of(ranges: Iterable[ByteRange], *, least: int, most: int) -> Iterator[ByteRange | list[ByteRange]]:
    """Yield the parts of a multipart upload: a range that S3 copies, or a list of ranges to read and join.

    :param ranges: in the output's order
    :param least: least bytes of each part but the last
    :param most: most bytes of a joined part, which is in memory; at least ``least``
    """
    waiting: list[ByteRange] = []
    size = 0
    for rest in ranges:
        missing = max(0, least - size)
        if size and rest.size >= least + missing:
            if missing:  # fill up the waiting part, so that S3 can copy the rest
                filling, rest = rest.cut(missing)  # noqa: PLW2901 - the rest of the range
                waiting.append(filling)
            yield waiting
            waiting, size = [], 0
        if not size and rest.size >= least:
            yield rest
            continue
        while rest.size:
            taken, rest = rest.cut(most - size)  # noqa: PLW2901 - the rest of the range
            waiting.append(taken)
            size += taken.size
            if size == most:
                yield waiting
                waiting, size = [], 0
    if waiting:
        yield waiting


def reads_of(wanted: Sequence[ByteRange]) -> list[ByteRange]:
    """Plan few reads that cover all wanted ranges, and few other bytes.

    Late results lie in other data objects than the results before and after them: one read for each range would be
    one request for each of them.
    """
    reads: list[ByteRange] = []
    needed = 0
    for byte_range in sorted(wanted):
        last = reads[-1] if reads else None
        if last is not None and last.location == byte_range.location:
            size = max(last.end, byte_range.end) - last.offset
            if size <= _WASTE * (needed + byte_range.size) + _SLACK:
                reads[-1] = last._replace(size=size)
                needed += byte_range.size
                continue
        reads.append(byte_range)
        needed = byte_range.size
    return reads


def joined(wanted: Iterable[ByteRange], bodies: Iterable[tuple[ByteRange, bytes]]) -> bytes:
    """Join the wanted bytes in order.

    :param bodies: each of :func:`reads_of` the wanted ranges, with its bytes
    """
    chunks = []
    reads = sorted(bodies)
    for byte_range in wanted:
        following = bisect_right(reads, byte_range[:2], key=lambda pair: pair[0][:2])
        read, body = reads[following - 1]
        chunks.append(body[byte_range.offset - read.offset : byte_range.end - read.offset])
    return b"".join(chunks)


class PackedRanges:
    """The byte ranges of one output in order, 24 bytes each; consecutive ranges of one data object are joined.

    :param prefix: of the data objects' locations
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._indexes: dict[str, int] = {}
        self._columns = array("q")
        self.size = 0
        """Bytes of all ranges."""

    def add(self, data: str, offset: int, size: int) -> None:
        """Add a range of the data object with the name *data*."""
        if not size:
            return
        self.size += size
        columns = self._columns
        index = self._indexes.setdefault(f"{self._prefix}{data}", len(self._indexes))
        if columns and columns[-3] == index and columns[-2] + columns[-1] == offset:
            columns[-1] += size
        else:
            columns.extend((index, offset, size))

    def __iter__(self) -> Iterator[ByteRange]:
        columns, locations = self._columns, list(self._indexes)
        for row in range(0, len(columns), _WIDTH):
            yield ByteRange(locations[columns[row]], columns[row + 1], columns[row + 2])
