"""Read one HTTP/1.1 answer from bytes as they come (RFC 9112): no I/O, no waiting, nothing decompressed."""

from __future__ import annotations

import re
from collections.abc import Mapping

_MOST_HEAD_BYTES = 65_536
_MOST_CHUNK_LINE_BYTES = 4_096
_NO_BODY = frozenset({204, 304})
_INTERIM = 200
_SWITCHING = 101


_BEGIN = re.compile(r"(HTTP/1\.[01]) ([1-5][0-9]{2})(?: |$)")
_HEADER = re.compile(r"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*)\r?$", re.MULTILINE)


class BadAnswer(Exception):
    """What came is no HTTP answer."""


class AnswerReader:
    """One answer to a request that was no HEAD; feed it until it is complete.

    :attr status: 0 while the head is not complete
    :attr headers: names in lower case; values of one name are joined by a comma
    :attr complete: nothing is missing
    :attr reusable: the connection may carry another request once this is complete
    """

    __slots__ = (
        "_buffer",
        "_chunked",
        "_in_trailer",
        "_left",
        "_parts",
        "complete",
        "headers",
        "reusable",
        "status",
    )

    def __init__(self) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.complete = False
        self.reusable = False
        self._buffer = b""
        self._parts: list[bytes] = []
        self._left: int | None = 0
        self._chunked = False
        self._in_trailer = False

    @property
    def body(self) -> bytes:
        """What came of the body so far."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def feed(self, data: bytes) -> None:
        """Take what came.

        :raises BadAnswer: it is no HTTP answer, or more came than the answer has
        """
        if not self.status:
            data = self._head(self._buffer + data if self._buffer else data)
        if not self.status:
            return
        if self._chunked:
            self._chunks(data)
        elif self._left is None:
            if data:
                self._parts.append(data)
        else:
            self._sized(data)

    def ended(self) -> bool:
        """Say whether the answer is complete now that nothing more comes: it is when only its end could tell."""
        if self.status and self._left is None and not self._chunked:
            self.complete = True
        return self.complete

    def _sized(self, data: bytes) -> None:
        if self.complete and data:
            raise BadAnswer("more came than was announced")
        left = (self._left or 0) - len(data)
        if left < 0:
            raise BadAnswer("more came than was announced")
        if data:
            self._parts.append(data)
        self._left = left
        self.complete = not left

    def _head(self, data: bytes) -> bytes:
        """Read the head once it is whole; return what follows it."""
        while True:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                if len(data) > _MOST_HEAD_BYTES:
                    raise BadAnswer("its head does not end")
                self._buffer = data
                return b""
            version, status = self._status_line(data, end)
            data = data[end + 4 :]
            if status >= _INTERIM:
                break
            if status == _SWITCHING:
                raise BadAnswer("it speaks another protocol")
        self._buffer = b""
        self._framing(version, status)
        self.status = status
        return data

    def _status_line(self, data: bytes, end: int) -> tuple[str, int]:
        first, _, rest = data[:end].decode("latin-1").partition("\r\n")
        if not (begin := _BEGIN.match(first)):
            raise BadAnswer("it does not begin as one of HTTP/1.1")
        found = _HEADER.findall(rest)
        headers = {name.lower(): value.rstrip(" \t") for name, value in found}
        if len(found) != (rest.count("\n") + 1 if rest else 0):
            raise BadAnswer("a header of it is malformed")
        if len(headers) != len(found):
            headers = _joined(found)
        self.headers = headers
        return begin[1], int(begin[2])

    def _framing(self, version: str, status: int) -> None:
        headers = self.headers
        closes = headers.get("connection", "").lower()
        self.reusable = version == "HTTP/1.1" and "close" not in closes
        coding, length = headers.get("transfer-encoding"), headers.get("content-length")
        if status in _NO_BODY:
            self.complete = True
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadAnswer("its transfer coding is not known")
            self._chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise BadAnswer("its length is no number")
            self._left = int(length)
        else:
            self._left, self.reusable = None, False

    def _chunks(self, data: bytes) -> None:
        if self.complete and data:
            raise BadAnswer("more came than was announced")
        data = self._buffer + data if self._buffer else data
        at, size = 0, len(data)
        while at < size and not self.complete:
            if self._left:  # within a chunk; its line end counts with it
                taken = min(self._left, size - at)
                self._take(data[at : at + taken])
                at += taken
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if size - at > _MOST_CHUNK_LINE_BYTES:
                    raise BadAnswer("a chunk of it has no length")
                break
            self._line(data[at:end])
            at = end + 2
        self._buffer = data[at:]
        if self.complete and self._buffer:
            raise BadAnswer("more came than was announced")

    def _take(self, data: bytes) -> None:
        """Take bytes of a chunk; the last two are its line end."""
        left = (self._left or 0) - len(data)
        ends = min(len(data), max(0, 2 - left))
        if ends and data[len(data) - ends :] != b"\r\n"[2 - left - ends : 2 - left]:
            raise BadAnswer("a chunk of it is longer than announced")
        if len(data) > ends:
            self._parts.append(data[: len(data) - ends])
        self._left = left

    def _line(self, line: bytes) -> None:
        """Take a line between chunks: a length, or part of the trailer, which nobody reads."""
        if self._in_trailer:
            self.complete = not line
            return
        digits = line.partition(b";")[0].strip(b" \t")
        try:
            length = int(digits, 16) if digits.isalnum() else -1
        except ValueError:
            length = -1
        if length < 0:
            raise BadAnswer("a chunk of it has no length")
        if length:
            self._left = length + 2
        else:
            self._in_trailer = True


def _joined(found: list[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in found:
        before = f"{headers[name.lower()]}, " if name.lower() in headers else ""
        headers[name.lower()] = before + value.rstrip(" \t")
    return headers
