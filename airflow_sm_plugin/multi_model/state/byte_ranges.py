"""Byte ranges of data objects that make up an output: which of them S3 copies, and which reads fetch the others."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
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


class Read(NamedTuple):
    """One read of a data object, and the pieces of it that are wanted: their positions in the body, and ranges."""

    source: ByteRange
    pieces: list[tuple[int, ByteRange]]

    def fill(self, body: bytearray, content: bytes) -> None:
        """Copy the pieces of what was read into the body."""
        read = memoryview(content)
        for position, piece in self.pieces:
            offset = piece.offset - self.source.offset
            body[position : position + piece.size] = read[offset : offset + piece.size]


def reads_of(wanted: Sequence[ByteRange]) -> list[Read]:
    """Plan few reads that cover all wanted ranges, which follow each other in the body, and few other bytes.

    Late results lie in other data objects than the results before and after them: one read for each range would be
    one request for each of them.
    """
    reads: list[Read] = []
    needed = 0
    positions = accumulate((byte_range.size for byte_range in wanted), initial=0)
    for byte_range, position in sorted(zip(wanted, positions, strict=False)):
        last = reads[-1] if reads else None
        if last is not None and last.source.location == byte_range.location:
            size = max(last.source.end, byte_range.end) - last.source.offset
            if size <= _WASTE * (needed + byte_range.size) + _SLACK:
                last.pieces.append((position, byte_range))
                reads[-1] = Read(last.source._replace(size=size), last.pieces)
                needed += byte_range.size
                continue
        reads.append(Read(byte_range, [(position, byte_range)]))
        needed = byte_range.size
    return reads


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
