"""Read chunks of bytes as blocks of whole lines, without ever holding a line that is too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from airflow_sm_plugin.multi_model.payloads.csv_lines import CsvLine, CsvLines

BLANK = b" \r"
"""The bytes of a blank line, besides its LF. Tabs are not among them: they separate the columns of an empty row."""


class LongLine(NamedTuple):
    """A line that was counted and not kept.

    :param length: bytes of the line in the input, its end included
    :param size: bytes of the record, without the line end; 0 for a blank line
    """

    length: int
    size: int


class DividedLine(NamedTuple):
    """The beginning of a line of CSV that is no whole record with its separator."""

    separator: bytes


class LineReader:
    """A reader that cuts chunks into blocks of whole lines, and yields a :class:`LongLine` for a line it did not keep.

    A block ends with LF, except the input's last. A block holds at most ``longest`` bytes and a chunk: an unfinished
    line that is longer is counted to its end and not kept. Lines that are complete within a chunk may be longer, since
    they are in memory anyway. After a :class:`DividedLine`, feed nothing more.

    :param longest: bytes of a record, without the line end
    :param csv: the check that lines are whole records; None for inputs that are no CSV
    """

    def __init__(self, *, longest: int, csv: CsvLines | None = None) -> None:
        self._longest = longest + 1  # a CR that belongs to the line end
        self._csv = csv
        self._begun = bytearray()
        self._long: _LongLine | None = None

    def feed(self, chunk: bytes) -> Iterator[bytes | LongLine | DividedLine]:
        """Yield the lines that this chunk completes; exhaust the iterator before the next chunk."""
        begin, end = 0, chunk.rfind(b"\n") + 1
        if end and (self._begun or self._long):
            begin = chunk.find(b"\n") + 1
            self._begin(chunk[: begin - 1])
            yield from self._ended(b"\n")
        if begin < end:
            yield from self._checked(chunk[begin:end])
        self._begin(chunk[end:])

    def finish(self) -> Iterator[bytes | LongLine | DividedLine]:
        """Yield the last line, if it has no line end."""
        if self._begun or self._long:
            yield from self._ended(b"")

    def _begin(self, piece: bytes) -> None:
        if self._long is None:
            self._begun += piece
            if len(self._begun) <= self._longest:
                return
            self._long, piece = _LongLine(self._csv), bytes(self._begun)
            self._begun.clear()
        if piece:
            self._long.add(piece)

    def _ended(self, line_end: bytes) -> Iterator[bytes | LongLine | DividedLine]:
        if self._long is not None:
            long_line, self._long = self._long, None
            yield long_line.counted(line_end)
            return
        line = bytes(self._begun) + line_end
        self._begun.clear()
        yield from self._checked(line)

    def _checked(self, block: bytes) -> Iterator[bytes | DividedLine]:
        length = self._csv.whole_length(block) if self._csv else len(block)
        if length:
            yield block[:length]
        if self._csv and length < len(block):
            yield DividedLine(self._csv.separator)


class _LongLine:
    """A line that is being counted."""

    def __init__(self, csv: CsvLines | None) -> None:
        self._size = 0
        self._ends_with_cr = False
        self._is_blank = True
        self._csv = csv
        self._csv_lines = [CsvLine(reading) for reading in csv.readings] if csv else []

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        self._ends_with_cr = piece.endswith(b"\r")
        self._is_blank = self._is_blank and not piece.strip(BLANK)
        for line in self._csv_lines:
            line.add(piece)

    def counted(self, line_end: bytes) -> LongLine | DividedLine:
        if self._csv and not any(line.is_whole for line in self._csv_lines):
            return DividedLine(self._csv.separator)
        size = 0 if self._is_blank else self._size - self._ends_with_cr
        return LongLine(self._size + len(line_end), size)
