"""Split an input that arrives in chunks into payloads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator

from airflow_sm_plugin.batches.text_input import BYTE_ORDER_MARK, HEAD, check_head, is_csv, is_text
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.csv_lines import SEPARATORS, CsvLines, csv_separator
from airflow_sm_plugin.multi_model.payloads.lines import BLANK, DividedLine, LineReader, LongLine
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions

_CR = 0x0D
_MAX_LEFT_OUT = 1_000
"""Blank lines are left out of a payload at this many positions at most, so that ``Payload.left_out`` stays short."""

_LIKE_BLANK_LINE = (b"\n", b"\r", b" ")
_LIKE_BLANK_LINES = re.compile(rb"\n[\n\r ]")  # three times as fast as searching each pair with `in`


class Splitter:
    """A splitter of one input, or of a gap of it, that arrives in chunks: it returns the payloads that are complete.

    The payloads' ranges tile the bytes that were fed. To resume in the middle of an input, begin at some payload's
    ``end`` with the number of the record there, and :meth:`finish` at another payload's ``start`` or at the input's
    end: the payloads are the same as from the start.

    The splitter holds at most the payload that is being filled, one unfinished line no longer than a payload, a chunk,
    and the head.

    :param options: checked
    :param start: offset of the first byte that will be fed; the header line is skipped at 0 only
    :param first_record: number of the first record from there
    :param head: of CSV, if ``start`` is above 0: the input's first :data:`HEAD` bytes, or all bytes before ``start``
    """

    def __init__(
        self, options: SplitOptions, *, start: int = 0, first_record: int = 0, head: bytes = b""
    ) -> None:
        self._options = options
        self._head = bytearray() if start == 0 and is_text(options.content_type) else None
        self._reader = self._new_reader(head)
        self._packer = _Packer(options, start, first_record)
        self._at_header = options.skip_header and start == 0
        self.error: InvalidRequest | None = None
        """Why nothing can be split after the returned payloads. Once it is set, call nothing more."""

    def feed(self, chunk: bytes) -> list[Payload]:
        """Return the payloads that are known to be complete with this chunk.

        :raises InvalidRequest: the input does not begin as its content type says
        """
        if self._head is not None:
            self._head += chunk
            if len(self._head) < HEAD:
                return []
            chunk = self._checked_head(bytes(self._head))
        return self._packed(self._reader.feed(chunk))

    def finish(self) -> list[Payload]:
        """Return the remaining payloads; feed nothing after that.

        :raises InvalidRequest: as :meth:`feed`
        """
        head = b"" if self._head is None else self._checked_head(bytes(self._head))
        payloads = self._packed(itertools.chain(self._reader.feed(head), self._reader.finish()))
        self._packer.close()
        return payloads + self._packer.take_ready()

    def _checked_head(self, head: bytes) -> bytes:
        self._head = None
        is_split = self._options.split_type == "Line"
        check_head(head, self._options.content_type, is_split=is_split)
        self._reader = self._new_reader(head[:HEAD])
        if not (is_split and head.startswith(BYTE_ORDER_MARK)):
            return head
        self._packer.position += len(BYTE_ORDER_MARK)
        return head[len(BYTE_ORDER_MARK) :]

    def _new_reader(self, head: bytes) -> LineReader | _UnsplitReader:
        longest, content_type = self._options.max_payload_bytes, self._options.content_type
        if self._options.split_type == "None":
            return _UnsplitReader(longest)
        csv = CsvLines(csv_separator(head, content_type)) if is_csv(content_type) else None
        return LineReader(longest=longest, csv=csv)

    def _packed(self, blocks: Iterable[bytes | LongLine | DividedLine]) -> list[Payload]:
        for block in blocks:
            if isinstance(block, DividedLine):
                self.error = self._divided(block)
                self._packer.close()
                break
            if self._at_header:
                self._at_header = False
                self._skip_header(block)
            else:
                self._packer.add(block)
        return self._packer.take_ready()

    def _skip_header(self, block: bytes | LongLine) -> None:
        length = block.length if isinstance(block, LongLine) else block.find(b"\n") + 1 or len(block)
        self._packer.position += length
        if isinstance(block, bytes) and length < len(block):
            self._packer.add(block[length:])

    def _divided(self, line: DividedLine) -> InvalidRequest:
        return InvalidRequest(
            f"the line at byte {self._packer.position}, where record {self._packer.next_record} (from 0) would begin, "
            f"is no whole record of CSV with {SEPARATORS[line.separator]} between columns: a quotation mark opens a "
            f"field on it and none closes the field, or a carriage return without a line feed divides it. Nothing from "
            f"here on was sent. Write each record on one line with LF or CR LF at its end, and a field that holds "
            f'quotation marks as "5"" pipe"; or set split_type=\'None\', which sends the whole object at once; or name '
            f"a content_type other than CSV's that the container takes, such as text/plain: quotation marks mean "
            f"nothing there"
        )


class _UnsplitReader:
    """Reads the whole input as one block."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._size = 0
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes | LongLine]:
        self._size += len(chunk)
        self._pieces.append(chunk)
        if self._size > self._longest:
            self._pieces.clear()
        return iter(())

    def finish(self) -> Iterator[bytes | LongLine]:
        if self._size:
            is_long = self._size > self._longest
            yield LongLine(self._size, self._size) if is_long else b"".join(self._pieces)


class _Packer:
    """Packs lines into payloads of one record, or of as many records as fit or are permitted.

    ``position`` is the offset of the next line in the input.
    """

    def __init__(self, options: SplitOptions, start: int, first_record: int) -> None:
        self._longest = options.max_payload_bytes
        self._is_unsplit = options.split_type == "None"
        self._max_records = 1 if options.batch_strategy == "SingleRecord" else options.max_records
        self.position = start
        self._record_number = first_record
        self._ready: list[Payload] = []
        self._open(start)

    def add(self, block: bytes | LongLine) -> None:
        """Add whole lines, an input that is not split, or a record that is too long."""
        if isinstance(block, LongLine):
            if block.size:
                self.close()
                self._count, self._oversized = 1, block.size
            self.position += block.length
        elif self._is_unsplit:
            start, self.position = self.position, self.position + len(block)
            self._ready.append(Payload(block, start, self.position, self._record_number, 1))
        elif self._max_records == 1:
            self._add_singly(block)
        elif block.endswith(b"\n") and not _may_hold_blank_lines(block):
            self._add_slices(block)
        else:
            end = self.position + len(block)
            for line in block.split(b"\n"):
                self._add_line(line)
            self.position = end

    @property
    def next_record(self) -> int:
        return self._record_number + self._count

    def take_ready(self) -> list[Payload]:
        ready, self._ready = self._ready, []
        return ready

    def close(self) -> None:
        """End the payload that is being filled."""
        if not self._count:
            return
        body = bytes(self._body).removesuffix(b"\r")
        left_out = tuple(self._left_out) if self._count > 1 else ()
        first, records = self._record_number, self._count
        self._ready.append(
            Payload(body, self._start, self.position, first, records, self._oversized, left_out)
        )
        self._record_number += records
        self._open(self.position)

    def _open(self, start: int) -> None:
        self._start = start
        self._body: bytes | bytearray = bytearray()  # with the last line's CR
        self._count = 0
        self._oversized = 0
        self._left_out: list[tuple[int, int]] = []
        self._bytes_left_out = 0

    def _add_singly(self, block: bytes) -> None:
        """Make a payload of each line. The loop runs once per record: it uses locals, and does only what it must."""
        position, longest, ready = self.position, self._longest, self._ready
        start, record_number, count = self._start, self._record_number, self._count
        body, oversized = bytes(self._body), self._oversized
        for line in block.split(b"\n"):
            if line.strip(BLANK):
                if count:
                    ready.append(
                        Payload(body.removesuffix(b"\r"), start, position, record_number, 1, oversized)
                    )
                    start = position
                    record_number += 1
                body = line
                count = 1
                oversized = 0
                if len(line) > longest and (size := len(line) - line.endswith(b"\r")) > longest:
                    body, oversized = b"", size
            position += len(line) + 1
        self.position += len(block)
        self._start, self._record_number, self._count = start, record_number, count
        self._body, self._oversized = body, oversized

    def _room(self) -> int:
        """Return how many bytes the next record can have in this payload; below 0 if it takes no more records."""
        if not self._count:
            return self._longest
        if self._oversized or self._count == self._max_records or len(self._left_out) >= _MAX_LEFT_OUT:
            return -1
        return self._longest - len(self._body) - 1

    def _add_line(self, line: bytes) -> None:
        if line.strip(BLANK):
            size = len(line) - line.endswith(b"\r")
            if size > self._room():
                self.close()
            if size > self._longest:
                self._count, self._oversized = 1, size
            else:
                self._append(line, 1)
        self.position += len(line) + 1

    def _add_slices(self, block: bytes) -> None:
        """Add lines of which none is blank: as many at once as fit."""
        view = memoryview(block)
        begin = 0
        while begin < len(block):
            end = _last_line_end(block, begin, self._room())
            if end >= 0:
                lines = block.count(b"\n", begin, end + 1)
                if self._max_records is not None and lines > self._max_records - self._count:
                    lines = self._max_records - self._count
                    end = _line_end(block, begin, lines)
                self._append(view[begin:end], lines)
            elif self._count:
                self.close()
                continue
            else:
                end = block.index(b"\n", begin)
                self._count, self._oversized = 1, end - begin - (block[end - 1] == _CR)
            self.position += end + 1 - begin
            begin = end + 1

    def _append(self, lines: bytes | memoryview, count: int) -> None:
        if self._count:
            self._body += b"\n"
        bytes_left_out = self.position - self._start - len(self._body)
        if bytes_left_out > self._bytes_left_out:
            self._left_out.append((len(self._body), bytes_left_out - self._bytes_left_out))
            self._bytes_left_out = bytes_left_out
        self._body += lines
        self._count += count


def _may_hold_blank_lines(block: bytes) -> bool:
    return block.startswith(_LIKE_BLANK_LINE) or _LIKE_BLANK_LINES.search(block) is not None


def _line_end(block: bytes, begin: int, lines: int) -> int:
    """Find the end of the last of so many lines."""
    end = begin - 1
    for _ in range(lines):
        end = block.index(b"\n", end + 1)
    return end


def _last_line_end(block: bytes, begin: int, room: int) -> int:
    """Find the end of the last line that still fits; -1 if not even the first line fits."""
    if room < 0:
        return -1
    end = block.rfind(b"\n", begin, begin + room + 2)
    if end == begin + room + 1 and block[end - 1] != _CR:
        end = block.rfind(b"\n", begin, end)
    return end
