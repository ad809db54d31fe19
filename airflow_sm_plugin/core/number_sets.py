"""Sets of numbers from 0 up, as bit masks: a hundred thousand take 12 KB, and a union is one operation.

In JSON they are half-open ranges, ``[[from, to], …]``, since a batch's finished inputs are mostly one run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_RUN = re.compile("1+")

Ranges = list[list[int]]


def below(count: int) -> int:
    """Make the set of 0 … count - 1."""
    return (1 << count) - 1


def from_ranges(ranges: Iterable[Sequence[int]]) -> int:
    """Read the set that :func:`to_ranges` wrote.

    :raises ValueError: a range that is none
    """
    mask = 0
    for first, end in ranges:
        if not 0 <= first < end:
            raise ValueError(f"[{first}, {end}] is no range of numbers")
        mask |= below(end - first) << first
    return mask


def to_ranges(mask: int) -> Ranges:
    """Write the set as half-open ranges in order, none of which touch."""
    return [[run.start(), run.end()] for run in _RUN.finditer(_digits(mask))]


def from_numbers(numbers: Iterable[int]) -> int:
    flags = bytearray()
    for number in numbers:
        byte, bit = divmod(number, 8)
        if byte >= len(flags):
            flags.extend(bytes(byte + 1 - len(flags)))
        flags[byte] |= 1 << bit
    return int.from_bytes(flags, "little")


def numbers_of(mask: int) -> Iterator[int]:
    """Yield the numbers in order."""
    for run in _RUN.finditer(_digits(mask)):
        yield from range(run.start(), run.end())


def first_of(mask: int, count: int) -> int:
    """Keep only the first ``count`` numbers."""
    taken = 0
    for first, end in to_ranges(mask):
        some = min(end - first, count)
        taken |= below(some) << first
        count -= some
        if not count:
            break
    return taken


def window(mask: int, first: int, count: int) -> int:
    """Return the members from first to first + count - 1, counted from ``first``."""
    return (mask >> first) & below(count)


def _digits(mask: int) -> str:
    """Return the bits as text, that of 0 first."""
    return format(mask, "b")[::-1]
