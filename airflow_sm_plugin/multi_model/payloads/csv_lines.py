"""Check that lines of CSV, or of values separated by other characters, are whole records.

A line is refused only if every reading divides it: quotation marks in quoted fields are doubled (RFC 4180), or escaped
by a backslash (Spark, MySQL). The separator is the input's own. Nothing is decoded here.
"""

from __future__ import annotations

import functools
import re

from airflow_sm_plugin.batches.text_input import BYTE_ORDER_MARK, TSV, media_type

SEPARATORS = {b",": "commas", b";": "semicolons", b"\t": "tabs", b"|": "vertical bars"}

_LONE_CR = re.compile(rb"\r[^\r\n]")  # the line end of old Macs
_ESCAPE = b"\\"


def csv_separator(head: bytes, content_type: str | None) -> bytes:
    """Detect the separator of an input's columns: a comma, unless the first line clearly shows another separator.

    The first line shows another separator if that is the only one outside of quoted fields, there is no comma, and the
    line is a whole record with it. The content types of tab-separated values have tabs.

    :param head: the input's beginning, with as much of the first line as it holds
    """
    if media_type(content_type) in TSV:
        return b"\t"
    line = head.removeprefix(BYTE_ORDER_MARK).partition(b"\n")[0]
    shown = []
    for separator in SEPARATORS.keys() - {b","}:
        reading = _reading(separator, escapes=False)
        unquoted = reading.without_quoted(line)
        if separator in unquoted and b"," not in unquoted and reading.is_whole(line):
            shown.append(separator)
    return shown[0] if len(shown) == 1 else b","


class CsvLines:
    """A check that lines are whole records.

    :param separator: one of :data:`SEPARATORS`
    """

    def __init__(self, separator: bytes) -> None:
        self.separator = separator
        self.readings = (_reading(separator, escapes=False), _reading(separator, escapes=True))

    def whole_length(self, block: bytes) -> int:
        """Count the bytes of a block of lines that come before the first line that is no whole record.

        A line is no whole record if a quoted field begins on it and does not end on it, or if a carriage return divides
        it. A quotation mark opens a quoted field only at the beginning of a field: in ``5" pipe`` it is text.

        :param block: begins where a line begins; its last line may lack the line end
        """
        length = len(block)
        for find_suspect in (self.readings[0].open_quote, _lone_cr):
            end = 0
            while 0 <= (suspect := find_suspect(block, end)) < length:
                begin, end = block.rfind(b"\n", 0, suspect) + 1, block.find(b"\n", suspect) + 1 or len(block)
                line = block[begin:end]
                if not any(reading.is_whole(line) for reading in self.readings):
                    length = begin
        return length


class CsvReading:
    """One way to read quoted fields.

    :param escapes: a backslash in a quoted field makes the next character text
    """

    def __init__(self, separator: bytes, *, escapes: bool) -> None:
        self.separator = separator
        self.escapes = escapes
        begin = re.escape(separator) + rb"\n"
        # Follows the opening quote, within one line. Any other quote is text.
        field = rb'[^"\\\n]*+(?:(?:""|\\[^\n])[^"\\\n]*+)*+"' if escapes else rb'[^"\n]*+(?:""[^"\n]*+)*+"'
        self._quotes = re.compile(
            rb'(?:[^"]*+"(?:(?:(?<=[' + begin + rb']")|(?<=\A"))' + field + rb"|"
            rb"(?<![" + begin + rb']")(?<!\A")))*+'
        )
        self._quoted = re.compile(rb"(?:(?<=[" + begin + rb'])|\A)"' + field)

    def open_quote(self, text: bytes, start: int = 0) -> int:
        """Find the opening quote of a field that does not end on its line; -1 if there is none.

        :param start: where the search begins: at the beginning of a line
        """
        if text.find(b'"', start) < 0:
            return -1
        understood = self._quotes.match(text, start)
        return text.find(b'"', understood.end() if understood else start)

    def is_whole(self, line: bytes) -> bool:
        return self.open_quote(line) < 0 and not self.holds_lone_cr(line)

    def holds_lone_cr(self, line: bytes) -> bool:
        """Check for a carriage return outside of quoted fields and before the line's end."""
        return _lone_cr(line) >= 0 and _lone_cr(self.without_quoted(line)) >= 0

    def without_quoted(self, line: bytes) -> bytes:
        return self._quoted.sub(b"_", line)


class CsvLine:
    """A line that arrives in pieces and is not kept, under one reading; the pieces come without the line's end."""

    def __init__(self, reading: CsvReading) -> None:
        self._reading = reading
        self._before = b""  # the shortest text after which the next piece means the same
        self._has_lone_cr = False

    @property
    def is_whole(self) -> bool:
        """Decide whether the pieces so far are a whole record, as :meth:`CsvLines.whole_length` defines it."""
        return not self._has_lone_cr and self._before not in (b'"', b'"' + _ESCAPE)

    def add(self, piece: bytes) -> None:
        text, reading = self._before + piece, self._reading
        quote = reading.open_quote(text)
        self._has_lone_cr = self._has_lone_cr or reading.holds_lone_cr(text if quote < 0 else text[:quote])
        if quote >= 0:
            escapes = len(text) - len(text.rstrip(_ESCAPE)) if reading.escapes else 0
            self._before = b'"' + _ESCAPE * (escapes % 2)
        elif text.endswith(b'"') and reading.open_quote(text + b'"') >= 0:
            self._before = b'""'
        elif text.endswith(b"\r"):
            self._before = b"_\r"
        else:
            self._before = b"" if text[-1:] in (b"", reading.separator) else b"_"


@functools.cache  # compiling the patterns for each small input would take longer than reading the input
def _reading(separator: bytes, *, escapes: bool) -> CsvReading:
    return CsvReading(separator, escapes=escapes)


def _lone_cr(text: bytes, start: int = 0) -> int:
    """Find a carriage return inside of a line, whether quoted or not; -1 if there is none."""
    first_cr = text.find(b"\r", start)
    lone_cr = _LONE_CR.search(text, first_cr) if first_cr >= 0 else None
    return lone_cr.start() if lone_cr else -1
