"""Put an output together from stretches of data objects: what S3 copies by itself, what is read, and in which reads."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

_WASTE = 2
"""A read may be so many times what is needed of it."""

_SLACK = 65_536
"""And so many bytes more: a request costs as much."""


class Stretch(NamedTuple):
    """Bytes of one data object that follow each other in an output."""

    location: str
    at: int
    size: int


class Copied(NamedTuple):
    """A part of an upload that S3 copies by itself."""

    stretch: Stretch


class Joined(NamedTuple):
    """A part of an upload that is read and joined."""

    stretches: list[Stretch]


def parts_of(found: Iterable[Stretch], *, least: int, most: int) -> Iterator[Copied | Joined]:
    """Yield the parts of an output, in order.

    :param found: in the output's order
    :param least: bytes of each part but the last
    :param most: bytes of a part that is joined: what is in memory; at least ``least``
    """
    waiting: list[Stretch] = []
    size = 0
    for stretch in found:
        rest = stretch
        if size and rest.size >= least + (missing := max(0, least - size)):
            if missing:  # fill up, so that S3 can copy the rest
                waiting.append(rest._replace(size=missing))
                rest = Stretch(rest.location, rest.at + missing, rest.size - missing)
            yield Joined(waiting)
            waiting, size = [], 0
        if not size and rest.size >= least:
            yield Copied(rest)
            continue
        while rest.size:
            taken = rest._replace(size=min(rest.size, most - size))
            waiting.append(taken)
            size += taken.size
            rest = Stretch(rest.location, rest.at + taken.size, rest.size - taken.size)
            if size == most:
                yield Joined(waiting)
                waiting, size = [], 0
    if waiting:
        yield Joined(waiting)


def reads_of(wanted: Sequence[Stretch]) -> list[Stretch]:
    """Return what to read to have all that is wanted: few reads that hold little else.

    Results that came late, or at a later attempt, lie in other objects than their neighbours; read one by one they
    would cost a request each.
    """
    reads: list[Stretch] = []
    needed = 0
    for one in sorted(wanted):
        last = reads[-1] if reads else None
        if last is not None and last.location == one.location:
            whole = max(last.at + last.size, one.at + one.size) - last.at
            if whole <= _WASTE * (needed + one.size) + _SLACK:
                reads[-1] = last._replace(size=whole)
                needed += one.size
                continue
        reads.append(one)
        needed = one.size
    return reads


def joined(wanted: Iterable[Stretch], bodies: Iterable[tuple[Stretch, bytes]]) -> bytes:
    """Return the wanted bytes in order.

    :param bodies: each of :func:`reads_of` the wanted, with what was read
    """
    by_location: dict[str, list[tuple[Stretch, bytes]]] = {}
    for read, body in bodies:
        by_location.setdefault(read.location, []).append((read, body))
    return b"".join([_cut(one, by_location[one.location]) for one in wanted])


def _cut(one: Stretch, bodies: list[tuple[Stretch, bytes]]) -> bytes:
    for read, body in bodies:
        if read.at <= one.at and one.at + one.size <= read.at + read.size:
            begin = one.at - read.at
            return body[begin : begin + one.size]
    raise LookupError("nothing was read there")


_WIDTH = 3


class PackedStretches:
    """The stretches of one output in order, 24 bytes each; what follows each other in its object, too, is one.

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
        """Take up bytes of a data object; none are nothing."""
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

    def __iter__(self) -> Iterator[Stretch]:
        """Yield them in order."""
        columns = self._columns
        for place in range(0, len(columns), _WIDTH):
            yield Stretch(self._locations[columns[place]], columns[place + 1], columns[place + 2])
