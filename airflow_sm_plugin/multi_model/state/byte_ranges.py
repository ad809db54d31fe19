"""Put an output together from byte ranges of data objects: what S3 copies by itself, what is read, in which reads."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_WASTE = 2
"""A read may be so many times what is needed of it."""

_SLACK = 65_536
"""And so many bytes more: a request costs as much."""

_WIDTH = 3


class ByteRange(NamedTuple):
    """Bytes of one data object that follow each other in an output."""

    location: str
    at: int
    size: int

    @property
    def end(self) -> int:
        return self.at + self.size

    def cut(self, size: int) -> tuple[ByteRange, ByteRange]:
        """Return its first bytes, at most *size*, and the rest."""
        first = self._replace(size=min(size, self.size))
        return first, ByteRange(self.location, first.end, self.size - first.size)


def parts_of(ranges: Iterable[ByteRange], *, least: int, most: int) -> Iterator[ByteRange | list[ByteRange]]:
    """Yield the parts of an output, in order: a range that S3 copies by itself, or a list of ranges to read and join.

    :param ranges: in the output's order
    :param least: bytes of each part but the last
    :param most: bytes of a part that is joined: what is in memory; at least ``least``
    """
    waiting: list[ByteRange] = []
    size = 0
    for rest in ranges:
        missing = max(0, least - size)
        if size and rest.size >= least + missing:
            if missing:  # fill up, so that S3 can copy the rest
                filling, rest = rest.cut(missing)  # noqa: PLW2901 - what is left of it
                waiting.append(filling)
            yield waiting
            waiting, size = [], 0
        if not size and rest.size >= least:
            yield rest
            continue
        while rest.size:
            taken, rest = rest.cut(most - size)  # noqa: PLW2901 - what is left of it
            waiting.append(taken)
            size += taken.size
            if size == most:
                yield waiting
                waiting, size = [], 0
    if waiting:
        yield waiting


def reads_of(wanted: Sequence[ByteRange]) -> list[ByteRange]:
    """Return what to read to have all that is wanted: few reads that hold little else.

    Results that came late, or at a later attempt, lie in other objects than their neighbours; read one by one they
    would cost a request each.
    """
    reads: list[ByteRange] = []
    needed = 0
    for each in sorted(wanted):
        last = reads[-1] if reads else None
        if last is not None and last.location == each.location:
            whole = max(last.end, each.end) - last.at
            if whole <= _WASTE * (needed + each.size) + _SLACK:
                reads[-1] = last._replace(size=whole)
                needed += each.size
                continue
        reads.append(each)
        needed = each.size
    return reads


def joined(wanted: Iterable[ByteRange], bodies: Iterable[tuple[ByteRange, bytes]]) -> bytes:
    """Return the wanted bytes in order.

    :param bodies: each of :func:`reads_of` the wanted, with what was read
    """
    by_location: dict[str, list[tuple[ByteRange, bytes]]] = {}
    for read, body in bodies:
        by_location.setdefault(read.location, []).append((read, body))
    return b"".join([_cut_out(each, by_location[each.location]) for each in wanted])


def _cut_out(wanted: ByteRange, bodies: list[tuple[ByteRange, bytes]]) -> bytes:
    for read, body in bodies:
        if read.at <= wanted.at and wanted.end <= read.end:
            return body[wanted.at - read.at : wanted.end - read.at]
    raise LookupError("nothing was read there")


class PackedRanges:
    """The byte ranges of one output in order, 24 bytes each; ranges that follow each other in their object are one.

    :param prefix: what stands before the names of the data objects in their locations
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers: dict[str, int] = {}
        self._locations: list[str] = []
        self._columns = array("q")
        self.size = 0
        """Bytes in all."""

    def add(self, data: str, at: int, size: int) -> None:
        if not size:
            return
        self.size += size
        number, columns = self._number(data), self._columns
        if columns and columns[-3] == number and columns[-2] + columns[-1] == at:
            columns[-1] += size
        else:
            columns.extend((number, at, size))

    def _number(self, data: str) -> int:
        number = self._numbers.get(data)
        if number is None:
            number = self._numbers[data] = len(self._locations)
            self._locations.append(f"{self._prefix}{data}")
        return number

    def __iter__(self) -> Iterator[ByteRange]:
        columns = self._columns
        for place in range(0, len(columns), _WIDTH):
            yield ByteRange(self._locations[columns[place]], columns[place + 1], columns[place + 2])
