"""Turn chunks of bytes into blocks of whole lines, without ever holding a line that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from airflow_sm_plugin.multi_model.payloads.csv_lines import CsvLine, CsvLines

BLANK = b" \r"
"""What a blank line is made of, besides its LF. Not of tabs: they separate the columns of an empty row."""


class PassedLine(NamedTuple):
    """A line that was not kept.

    :param length: bytes that it takes in the input, its end included
    :param size: bytes of the record, its end not included; 0 for a blank line
    :param is_whole: False for a line of CSV that is no whole record
    """

    length: int
    size: int
    is_whole: bool = True


class LineBlocks:
    """Feed it chunks; it gives back blocks of whole lines, and the lines that it passed over.

    A block ends with LF, but for the very last one. It holds at most ``longest`` bytes and a chunk; an unfinished line
    that is longer is counted to its end and not kept. Complete lines in a block may be longer: the block is there
    anyway.

    :param longest: bytes of a record, its line end not included
    :param csv: find out of the lines that are passed over whether they are whole records of this CSV
    """

    def __init__(self, *, longest: int, csv: CsvLines | None = None) -> None:
        self._most = longest + 1  # a CR that belongs to the line end
        self._csv = csv
        self._begun = bytearray()
        self._long: _LongLine | None = None

    def after(self, chunk: bytes) -> Iterator[bytes | PassedLine]:
        """Yield the lines that this chunk completes; use the iterator up before the next chunk."""
        begin, end = 0, chunk.rfind(b"\n") + 1
        if end and (self._begun or self._long):
            begin = chunk.find(b"\n") + 1
            self._begin(chunk[: begin - 1])
            yield self._ended(b"\n")
        if begin < end:
            yield chunk[begin:end]
        self._begin(chunk[end:])

    def rest(self) -> Iterator[bytes | PassedLine]:
        """Yield the last line, when there is one without an end."""
        if self._begun or self._long:
            yield self._ended(b"")

    def _begin(self, piece: bytes) -> None:
        if self._long is None:
            self._begun += piece
            if len(self._begun) <= self._most:
                return
            self._long, piece = _LongLine(self._csv), bytes(self._begun)
            self._begun.clear()
        if piece:
            self._long.add(piece)

    def _ended(self, end: bytes) -> bytes | PassedLine:
        if self._long is not None:
            passed, self._long = self._long.passed(end), None
            return passed
        line = bytes(self._begun) + end
        self._begun.clear()
        return line


class _LongLine:
    """A line that is counted and not kept."""

    def __init__(self, csv: CsvLines | None) -> None:
        self._size = 0
        self._ends_with_cr = False
        self._is_blank = True
        self._csv = CsvLine(csv) if csv else None

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._ends_with_cr = piece.endswith(b"\r")
        self._is_blank = self._is_blank and not piece.strip(BLANK)
        if self._csv:
            self._csv.add(piece)

    def passed(self, end: bytes) -> PassedLine:
        size = 0 if self._is_blank else self._size - self._ends_with_cr
        return PassedLine(self._size + len(end), size, self._csv is None or self._csv.is_whole)
