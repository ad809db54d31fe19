"""Cut text that arrives in chunks into lines."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_sm_plugin.exceptions import InvalidRequest

LONGEST_LINE = 1_048_576
"""Bytes of one line, since it is kept in memory."""

_SIGNS = {
    b"\x1f\x8b": "it looks like gzip: write it uncompressed",
    b"PK\x03\x04": "it looks like a ZIP file: write it as text, uncompressed",
    b"\xff\xfe": "it looks like UTF-16, as Excel and PowerShell write it: write it as UTF-8",
    b"\xfe\xff": "it looks like UTF-16: write it as UTF-8",
}
"""Likely formats of a file that is no text, by its first bytes."""


class LineSplitter:
    """Cut chunks of text into lines without their ends (LF or CR LF).

    :param what: name of the text, for error messages
    :param longest: bytes permitted in a line
    :raises InvalidRequest: a line is longer, no UTF-8, or holds NUL; the message gives its number and the remedy
    """

    def __init__(self, what: str, *, longest: int = LONGEST_LINE) -> None:
        self._what = what
        self._longest = longest
        self._number = 0
        self._begun: list[bytes] = []
        self._size = 0

    def after(self, chunk: bytes) -> Iterator[str]:
        """Yield the lines that this chunk completes."""
        *ended, rest = chunk.split(b"\n")
        for end in ended:
            self._begin(end)
            yield self._line()
        if rest:
            self._begin(rest)

    def rest(self) -> Iterator[str]:
        """Yield the last line, when there is one without an end."""
        if self._begun:
            yield self._line()

    def _begin(self, piece: bytes) -> None:
        self._begun.append(piece)
        self._size += len(piece)
        if self._size > self._longest:
            raise InvalidRequest(
                f"line {self._number + 1} of {self._what} is longer than {self._longest} bytes: is it one record a "
                f"line, and text? {_hint(b''.join(self._begun))}".rstrip()
            )

    def _line(self) -> str:
        line = b"".join(self._begun)
        self._begun.clear()
        self._size = 0
        self._number += 1
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"line {self._number} of {self._what} is no UTF-8 text: {_hint(line) or 'write it as UTF-8'}"
            ) from error
        if "\0" in text:
            raise InvalidRequest(
                f"line {self._number} of {self._what} holds NUL, as UTF-16 does: write it as UTF-8 text"
            )
        return text


def _hint(line: bytes) -> str:
    return next((hint for sign, hint in _SIGNS.items() if line.startswith(sign)), "")
