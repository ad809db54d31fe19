"""Pack lines into payloads."""

from __future__ import annotations

import re

from airflow_sm_plugin.multi_model.payloads.lines import BLANK, PassedLine
from airflow_sm_plugin.multi_model.payloads.payload import Payload

_CR = 0x0D
_MOST_LEFT_OUT = 1_000
_LIKE_BLANK_LINE = (b"\n", b"\r", b" ")
_LIKE_BLANK_LINES = re.compile(rb"\n[\n\r ]")  # three times as fast as looking for each pair with `in`


class RecordPacker:
    """Takes blocks of whole lines, and gives back payloads of as many records as fit, or are permitted.

    A payload ends also where blank lines were left out of it in a thousand places, so that the list of them is short.

    :param longest: bytes of a payload
    :param most: records of a payload, None for as many as fit
    :param start: offset in the input at which it begins
    :param first_record: number of the first record from there
    """

    def __init__(self, *, longest: int, most: int | None, start: int, first_record: int) -> None:
        self._longest = longest
        self._most = most
        self._place = start
        self._number = first_record
        self._ready: list[Payload] = []
        self._begin(start)

    def lines(self, block: bytes) -> list[Payload]:
        """Take whole lines, and return the payloads that are known to be complete."""
        if self._most == 1:
            self._take_singly(block)
        elif self._most is None and block.endswith(b"\n") and not _may_hold_blank_lines(block):
            self._take_at_once(block)
        else:
            end = self._place + len(block)
            for line in block.split(b"\n"):
                self._take(line)
            self._place = end
        return self._given()

    def passed(self, line: PassedLine) -> list[Payload]:
        """Take a line that was not kept."""
        if line.size:
            self._close()
            self._take_oversized(line.size)
        self._place += line.length
        return self._given()

    @property
    def place(self) -> tuple[int, int]:
        """Where the next line begins, and which record would be the next."""
        return self._place, self._number + self._count

    def rest(self) -> list[Payload]:
        """Return the last payload, if there is one."""
        self._close()
        return self._given()

    def _given(self) -> list[Payload]:
        ready, self._ready = self._ready, []
        return ready

    def _begin(self, start: int) -> None:
        self._start = start
        self._body: bytes | bytearray = bytearray()  # with the last line's CR
        self._count = 0
        self._oversized = 0
        self._left_out: list[tuple[int, int]] = []
        self._missing = 0

    def _close(self) -> None:
        if not self._count:
            return
        body = self._body[:-1] if self._body.endswith(b"\r") else self._body
        self._ready.append(
            Payload(
                bytes(body),
                self._start,
                self._place,
                self._number,
                self._count,
                self._oversized,
                tuple(self._left_out) if self._count > 1 else (),
            )
        )
        self._number += self._count
        self._begin(self._place)

    def _take_singly(self, block: bytes) -> None:
        """Make a payload of each line. Once for every record: locals, and nothing that is not needed."""
        place, longest, ready = self._place, self._longest, self._ready
        start, number, count = self._start, self._number, self._count
        body, oversized = bytes(self._body), self._oversized
        for line in block.split(b"\n"):
            if line.strip(BLANK):
                if count:
                    ready.append(Payload(body.removesuffix(b"\r"), start, place, number, 1, oversized))
                    start = place
                    number += 1
                body = line
                count = 1
                oversized = 0
                if len(line) > longest and (size := len(line) - line.endswith(b"\r")) > longest:
                    body, oversized = b"", size
            place += len(line) + 1
        self._place += len(block)
        self._start, self._number, self._count = start, number, count
        self._body, self._oversized = body, oversized

    def _room(self) -> int:
        """Return how many bytes the next record may have in this payload, below 0 for none."""
        if not self._count:
            return self._longest
        if self._oversized or self._count == self._most or len(self._left_out) >= _MOST_LEFT_OUT:
            return -1
        return self._longest - len(self._body) - 1

    def _take(self, line: bytes) -> None:
        if line.strip(BLANK):
            size = len(line) - line.endswith(b"\r")
            if size > self._room():
                self._close()
            if size > self._longest:
                self._take_oversized(size)
            else:
                self._add(line, 1)
        self._place += len(line) + 1

    def _take_at_once(self, block: bytes) -> None:
        """Take lines of which none is blank: by slices, not one by one."""
        view = memoryview(block)
        begin = 0
        while begin < len(block):
            end = _last_line_end(block, begin, self._room())
            if end >= 0:
                self._add(view[begin:end], block.count(b"\n", begin, end + 1))
            elif self._count:
                self._close()
                continue
            else:
                end = block.index(b"\n", begin)
                self._take_oversized(end - begin - (block[end - 1] == _CR))
            self._place += end + 1 - begin
            begin = end + 1

    def _take_oversized(self, size: int) -> None:
        self._count = 1
        self._oversized = size

    def _add(self, lines: bytes | memoryview, count: int) -> None:
        if self._count:
            self._body += b"\n"
        missing = self._place - self._start - len(self._body)
        if missing > self._missing:
            self._left_out.append((len(self._body), missing - self._missing))
            self._missing = missing
        self._body += lines
        self._count += count


def _may_hold_blank_lines(block: bytes) -> bool:
    return block.startswith(_LIKE_BLANK_LINE) or _LIKE_BLANK_LINES.search(block) is not None


def _last_line_end(block: bytes, begin: int, room: int) -> int:
    """Return where the last line ends that still fits, -1 when not even the first one does."""
    if room < 0:
        return -1
    end = block.rfind(b"\n", begin, begin + room + 2)
    if end == begin + room + 1 and block[end - 1] != _CR:
        end = block.rfind(b"\n", begin, end)
    return end
