"""Lines of CSV, and of values separated by other characters, that are whole records.

A line is refused only where it is divided however it is read: with quotation marks in quoted fields doubled (RFC 4180),
or escaped by a backslash (Spark, MySQL). The separator is the input's own. Nothing is decoded here.
"""

from __future__ import annotations

import functools
import re

from airflow_sm_plugin.batches.text_input import BYTE_ORDER_MARK, TSV, media_type

SEPARATORS = {b",": "commas", b";": "semicolons", b"\t": "tabs", b"|": "vertical bars"}

_LONE_CR = re.compile(rb"\r[^\r\n]")  # the line end of old Macs
_ESCAPE = b"\\"


def csv_separator(head: bytes, content_type: str | None) -> bytes:
    """Return what separates an input's columns: a comma, unless its first line clearly shows another separator.

    It does when only one of the others, and no comma, stands outside of quoted fields, and the line is whole with it.
    The content types of tab-separated values have tabs.

    :param head: the input's beginning, as much of the first line as there is in it
    """
    if media_type(content_type) in TSV:
        return b"\t"
    line = head.removeprefix(BYTE_ORDER_MARK).partition(b"\n")[0]
    shown = [separator for separator in SEPARATORS if separator != b"," and _is_shown(separator, line)]
    return shown[0] if len(shown) == 1 else b","


def _is_shown(separator: bytes, line: bytes) -> bool:
    reading = _reading(separator, escapes=False)
    unquoted = reading.without_quoted(line)
    return separator in unquoted and b"," not in unquoted and reading.is_whole(line)


class CsvLines:
    """How to tell lines that are whole records from others.

    :param separator: one of :data:`SEPARATORS`
    """

    def __init__(self, separator: bytes) -> None:
        self.separator = separator
        self.readings = (_reading(separator, escapes=False), _reading(separator, escapes=True))

    def whole(self, block: bytes) -> int:
        """Return how many bytes of a block of lines are lines that each are a whole record.

        A line is none when a quoted field begins on it and does not end on it, or when a carriage return divides it.
        A quotation mark begins a quoted field at a field's beginning only: in ``5" pipe`` it is text.

        :param block: lines, the last one perhaps without its end; where it begins a line begins
        """
        whole, place, doubled = len(block), 0, self.readings[0]
        while (quote := doubled.open_quote(block, place)) >= 0:
            begin, place = _line_around(block, quote)
            if not self._is_whole(block[begin:place]):
                whole = begin
                break
        place = 0
        while b"\r" in block and (lone := _LONE_CR.search(block, place, whole)):
            begin, place = _line_around(block, lone.start())
            if not self._is_whole(block[begin:place]):
                return begin
        return whole

    def _is_whole(self, line: bytes) -> bool:
        return any(reading.is_whole(line) for reading in self.readings)


class CsvLine:
    """A line that comes in pieces and is not kept: whether it is a whole record, as :meth:`CsvLines.whole` has it."""

    def __init__(self, lines: CsvLines) -> None:
        self._read = [_LineRead(reading) for reading in lines.readings]

    @property
    def is_whole(self) -> bool:
        """Whether the pieces so far are a whole record."""
        return any(line.is_whole for line in self._read)

    def add(self, piece: bytes) -> None:
        """Read a piece, without the line's end."""
        for line in self._read:
            line.add(piece)


class _Reading:
    """A way to read quoted fields.

    :param escapes: a backslash in a quoted field makes the next character text
    """

    def __init__(self, separator: bytes, *, escapes: bool) -> None:
        self.separator = separator
        self.escapes = escapes
        begin = re.escape(separator) + rb"\n"
        # Behind the opening quote, in one line. Another quote is text.
        field = rb'[^"\\\n]*+(?:(?:""|\\[^\n])[^"\\\n]*+)*+"' if escapes else rb'[^"\n]*+(?:""[^"\n]*+)*+"'
        self._quotes = re.compile(
            rb'(?:[^"]*+"(?:(?:(?<=[' + begin + rb']")|(?<=\A"))' + field + rb"|"
            rb"(?<![" + begin + rb']")(?<!\A")))*+'
        )
        self._quoted = re.compile(rb"(?:(?<=[" + begin + rb'])|\A)"' + field)

    def open_quote(self, text: bytes, place: int = 0) -> int:
        """Return where a quoted field begins that does not end on its line; -1 where there is none.

        :param place: of a line's beginning, where the search begins
        """
        if text.find(b'"', place) < 0:
            return -1
        understood = self._quotes.match(text, place)
        return text.find(b'"', understood.end() if understood else place)

    def is_whole(self, line: bytes) -> bool:
        return self.open_quote(line) < 0 and not self.holds_lone_cr(line)

    def holds_lone_cr(self, line: bytes) -> bool:
        """Return whether a carriage return lies outside of quoted fields and before the line's end."""
        return _LONE_CR.search(line) is not None and _LONE_CR.search(self.without_quoted(line)) is not None

    def without_quoted(self, line: bytes) -> bytes:
        return self._quoted.sub(b"_", line)


@functools.cache
def _reading(separator: bytes, *, escapes: bool) -> _Reading:
    """Return the reading; to make its patterns for each small input would take longer than to read the input."""
    return _Reading(separator, escapes=escapes)


class _LineRead:
    """What of a line's pieces a reading has to remember."""

    def __init__(self, reading: _Reading) -> None:
        self._reading = reading
        self._before = b""
        self._has_lone_cr = False

    @property
    def is_whole(self) -> bool:
        return not self._has_lone_cr and not self._is_open

    @property
    def _is_open(self) -> bool:
        return self._before in (b'"', b'"' + _ESCAPE)

    def add(self, piece: bytes) -> None:
        text, reading = self._before + piece, self._reading
        quote = reading.open_quote(text)
        self._has_lone_cr = self._has_lone_cr or reading.holds_lone_cr(text if quote < 0 else text[:quote])
        # The shortest text behind which the next piece means the same.
        if quote >= 0:
            escapes = len(text) - len(text.rstrip(_ESCAPE)) if reading.escapes else 0
            self._before = b'"' + _ESCAPE * (escapes % 2)
        elif text.endswith(b'"') and reading.open_quote(text + b'"') >= 0:
            self._before = b'""'
        elif text.endswith(b"\r"):
            self._before = b"_\r"
        else:
            self._before = b"" if text[-1:] in (b"", reading.separator) else b"_"


def _line_around(block: bytes, place: int) -> tuple[int, int]:
    """Return where the line begins that holds a place, and where it ends."""
    return block.rfind(b"\n", 0, place) + 1, block.find(b"\n", place) + 1 or len(block)
