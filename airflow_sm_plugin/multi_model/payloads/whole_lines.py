"""Bring chunks of bytes to whole lines, without ever holding a line that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from airflow_sm_plugin.multi_model.payloads.csv_lines import CsvLine, CsvLines

BLANK = b" \r"
"""What a blank line is made of, besides its LF. Not of tabs: they separate the columns of an empty row."""

_CR = 0x0D


class PassedLine(NamedTuple):
    """A line that was not kept.

    :param length: bytes that it takes in the input, its end included
    :param size: bytes of the record, its end not included; 0 when it is none: blank
    :param is_whole: False for a line of CSV that is no whole record
    """

    length: int
    size: int
    is_whole: bool = True


class WholeLines:
    """Feed it chunks; it gives back blocks of whole lines, and says which lines it passed over.

    A block ends with LF, but for the very last one. It holds at most ``longest`` bytes and a chunk; an unfinished line
    that is longer is counted to its end and not kept. Complete lines in a block may be longer: the block is there
    anyway.

    :param longest: bytes of a record, its line end not included
    :param csv: find out of the lines that are passed over whether they are whole records of this CSV
    """

    def __init__(self, *, longest: int, csv: CsvLines | None = None) -> None:
        self._most = longest + 1  # a CR that belongs to the line end
        self._begun = bytearray()
        self._length = 0
        self._last = 0
        self._passing = self._blank = False
        self._csv = csv
        self._passed = CsvLine(csv) if csv else None

    def after(self, chunk: bytes) -> Iterator[bytes | PassedLine]:
        """Yield the lines that this chunk completes; use the iterator up before the next chunk."""
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            self._begin(chunk)
            return
        place = 0
        if self._passing or self._begun:
            place = chunk.find(b"\n") + 1
            yield self._ended(chunk[:place])
        if place < cut:
            yield chunk[place:cut]
        self._begin(chunk[cut:])

    def rest(self) -> Iterator[bytes | PassedLine]:
        """Yield the last line, when there is one without an end."""
        if self._length:
            yield self._taken(end=b"")

    def _begin(self, piece: bytes) -> None:
        if not piece:
            return
        self._length += len(piece)
        if self._passing:
            self._pass(piece)
            return
        self._begun += piece
        if self._length > self._most:
            self._passing = self._blank = True
            self._pass(bytes(self._begun))
            self._begun.clear()

    def _pass(self, piece: bytes) -> None:
        self._last = piece[-1]
        if self._passed:
            self._passed.add(piece)
        if self._blank:
            self._blank = not piece.strip(BLANK)

    def _ended(self, piece: bytes) -> bytes | PassedLine:
        self._begin(piece[:-1])
        return self._taken(end=b"\n")

    def _taken(self, *, end: bytes) -> bytes | PassedLine:
        length = self._length + len(end)
        taken: bytes | PassedLine
        if self._passing:
            size = self._length - (self._last == _CR)
            is_whole = self._passed is None or self._passed.is_whole
            taken = PassedLine(length, 0 if self._blank else size, is_whole)
            self._passed = CsvLine(self._csv) if self._csv else None
        else:
            self._begun += end
            taken = bytes(self._begun)
            self._begun.clear()
        self._length = self._last = 0
        self._passing = self._blank = False
        return taken
