"""Cut an input that arrives in chunks into payloads."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_sm_plugin.batches.text_input import BYTE_ORDER_MARK, HEAD, check_head, is_csv, is_text
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.csv_lines import SEPARATORS, CsvLines, csv_separator
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions
from airflow_sm_plugin.multi_model.payloads.whole_lines import BLANK, PassedLine, WholeLines

_CR = 0x0D
_MOST_LEFT_OUT = 1_000
_LIKE_BLANK_LINE = (b"\n", b"\r", b" ")
_LIKE_BLANK_LINES = re.compile(rb"\n[\n\r ]")  # three times as fast as looking for each pair with `in`


class SingleRecords:
    """A payload for each line.

    :param longest: bytes of a payload
    :param start: offset in the input at which it begins
    :param first_record: number of the first record from there
    """

    def __init__(self, *, longest: int, start: int, first_record: int) -> None:
        self._longest = longest
        self._start = self._place = start
        self._number = first_record
        self._body: bytes | None = None
        self._oversized = 0

    def lines(self, block: bytes) -> list[Payload]:
        """Take whole lines, and return the payloads that are known to be complete."""
        payloads: list[Payload] = []
        # Once for every record: locals, and nothing that is not needed.
        place, longest = self._place, self._longest
        start, number, body, oversized = self._start, self._number, self._body, self._oversized
        for line in block.split(b"\n"):
            if line.strip(BLANK):
                if body is not None:
                    payloads.append(Payload(body, start, place, number, 1, oversized))
                    start = place
                    number += 1
                body = line.removesuffix(b"\r")
                oversized = 0
                if len(body) > longest:
                    body, oversized = b"", len(body)
            place += len(line) + 1
        self._place += len(block)
        self._start, self._number, self._body, self._oversized = start, number, body, oversized
        return payloads

    def passed(self, line: PassedLine) -> list[Payload]:
        """Take a line that was not kept."""
        payloads: list[Payload] = []
        if line.size:
            payloads = self.rest()
            self._body, self._oversized = b"", line.size
        self._place += line.length
        return payloads

    @property
    def place(self) -> tuple[int, int]:
        """Where the next line begins, and which record would be the next."""
        return self._place, self._number + (self._body is not None)

    def rest(self) -> list[Payload]:
        """Return the last payload, if there is one."""
        if self._body is None:
            return []
        payload = Payload(self._body, self._start, self._place, self._number, 1, self._oversized)
        self._start = self._place
        self._number += 1
        self._body = None
        return [payload]


class MultiRecords:
    """Payloads of as many whole lines as fit.

    A payload ends also where blank lines were left out of it in a thousand places, so that the list of them is short.

    :param longest: bytes of a payload
    :param most: records of a payload, None for as many as fit
    :param start: offset in the input at which it begins
    :param first_record: number of the first record from there
    """

    def __init__(self, *, longest: int, most: int | None, start: int, first_record: int) -> None:
        self._longest = longest
        self._most = most
        self._start = self._place = start
        self._number = first_record
        self._ready: list[Payload] = []
        self._begin(start)

    def lines(self, block: bytes) -> list[Payload]:
        """Take whole lines, and return the payloads that are known to be complete."""
        if self._most is None and block.endswith(b"\n") and not _may_hold_blank_lines(block):
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
        self._body = bytearray()  # with the last line's CR
        self._count = 0
        self._oversized = 0
        self._left_out: list[tuple[int, int]] = []
        self._missing = 0

    def _close(self) -> None:
        if not self._count:
            return
        if self._body.endswith(b"\r"):
            del self._body[-1]
        self._ready.append(
            Payload(
                bytes(self._body),
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


class Splitter:
    """Feed it the chunks of one input, or of a gap of it; it gives back the payloads that are complete.

    The payloads' ranges tile what was fed. To go on in the middle of an input, begin at some payload's ``end`` with
    the number of the record there, and :meth:`finish` at another payload's ``start`` or at the input's end: the
    payloads are the same as from the start.

    It holds at most the payload that is being filled, a line that is not longer than one, a chunk, and the head.

    :param options: checked
    :param start: offset of the first byte that will be fed; the header line is skipped at 0 only
    :param first_record: number of the first record from there
    :param head: where it begins behind them, and :func:`needs_head`: the input's first :data:`HEAD` bytes, or all that
        lie before ``start``
    """

    def __init__(
        self, options: SplitOptions, *, start: int = 0, first_record: int = 0, head: bytes = b""
    ) -> None:
        self._options = options
        self._first_record = first_record
        self._head = bytearray() if start == 0 and is_text(options.content_type) else None
        self._cutter = _cutter(options, start, first_record, head)

    @property
    def error(self) -> InvalidRequest | None:
        """Why nothing can be cut behind the payloads that were given back; then nothing may be fed any more."""
        return self._cutter.error

    def feed(self, chunk: bytes) -> list[Payload]:
        """Return the payloads that are known to be complete with this chunk.

        :raises InvalidRequest: the input does not begin as its content type says
        """
        if self._head is None:
            return self._cutter.feed(chunk)
        self._head += chunk
        return [] if len(self._head) < HEAD else self._begin(bytes(self._head))

    def finish(self) -> list[Payload]:
        """Return what is left; nothing may be fed any more.

        :raises InvalidRequest: as :meth:`feed`
        """
        begun = [] if self._head is None else self._begin(bytes(self._head))
        return begun if self.error else begun + self._cutter.finish()

    def _begin(self, head: bytes) -> list[Payload]:
        self._head = None
        is_split = self._options.split_type == "Line"
        check_head(head, self._options.content_type, is_split=is_split)
        self._cutter = _cutter(self._options, 0, self._first_record, head[:HEAD])
        if isinstance(self._cutter, _Lines) and head.startswith(BYTE_ORDER_MARK):
            self._cutter.leave_out(len(BYTE_ORDER_MARK))
            head = head[len(BYTE_ORDER_MARK) :]
        return self._cutter.feed(head) if head else []


def needs_head(options: SplitOptions) -> bool:
    """Say whether a :class:`Splitter` that begins in the middle of an input has to know its beginning."""
    return options.split_type == "Line" and is_csv(options.content_type)


class _Lines:
    """Payloads of lines.

    :param longest: bytes of a record
    :param skip_header: leave the first line out, whatever it holds
    :param csv: each line has to be a whole record of it
    """

    def __init__(
        self,
        payloads: SingleRecords | MultiRecords,
        *,
        longest: int,
        skip_header: bool,
        csv: CsvLines | None,
    ) -> None:
        self._lines = WholeLines(longest=longest, csv=csv)
        self._payloads = payloads
        self._at_header = skip_header
        self._csv = csv
        self.error: InvalidRequest | None = None

    def leave_out(self, size: int) -> None:
        """Pass bytes over that belong to no record."""
        self._payloads.passed(PassedLine(size, 0))

    def feed(self, chunk: bytes) -> list[Payload]:
        return self._taken(self._lines.after(chunk))

    def finish(self) -> list[Payload]:
        return self._taken(self._lines.rest()) + self._payloads.rest()

    def _taken(self, blocks: Iterable[bytes | PassedLine]) -> list[Payload]:
        payloads: list[Payload] = []
        for block in blocks:
            if isinstance(block, PassedLine):
                payloads += self._passed(block)
            else:
                payloads += self._kept(block)
            if self.error is not None:
                return payloads + self._payloads.rest()
        return payloads

    def _kept(self, block: bytes) -> list[Payload]:
        if self._csv and (whole := self._csv.whole(block)) < len(block):
            payloads = self._kept_whole(block[:whole])
            self.error = self._divided()
            return payloads
        return self._kept_whole(block)

    def _kept_whole(self, block: bytes) -> list[Payload]:
        if self._at_header and block:
            self._at_header = False
            size = block.find(b"\n") + 1 or len(block)
            self.leave_out(size)
            block = block[size:]
        return self._payloads.lines(block) if block else []

    def _passed(self, line: PassedLine) -> list[Payload]:
        if not line.is_whole:
            self.error = self._divided()
            return []
        is_header, self._at_header = self._at_header, False
        return self._payloads.passed(line._replace(size=0) if is_header else line)

    def _divided(self) -> InvalidRequest:
        place, record = self._payloads.place
        separators = SEPARATORS[self._csv.separator] if self._csv else "nothing"
        return InvalidRequest(
            f"the line at byte {place}, where record {record} (from 0) would begin, is no whole record of CSV with "
            f"{separators} between columns: a quotation mark opens a field on it and none closes the field, or a "
            f"carriage return without a line feed divides it. Nothing from here on was sent. Write each record on one "
            f'line with LF or CR LF at its end, and a field that holds quotation marks as "5"" pipe"; or set '
            f"split_type='None', which sends the whole object at once; or name a content_type other than CSV's that "
            f"the container takes, such as text/plain: quotation marks mean nothing there"
        )


class _Whole:
    """The whole input as one payload."""

    error: InvalidRequest | None = None

    def __init__(self, *, longest: int, start: int, first_record: int) -> None:
        self._longest = longest
        self._start = start
        self._number = first_record
        self._size = 0
        self._pieces: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Payload]:
        self._size += len(chunk)
        if self._size > self._longest:
            self._pieces.clear()
        else:
            self._pieces.append(chunk)
        return []

    def finish(self) -> list[Payload]:
        if not self._size:
            return []
        body = b"".join(self._pieces)
        oversized = self._size if self._size > self._longest else 0
        return [Payload(body, self._start, self._start + self._size, self._number, 1, oversized)]


def _cutter(options: SplitOptions, start: int, first_record: int, head: bytes) -> _Lines | _Whole:
    longest = options.max_payload_bytes
    if options.split_type == "None":
        return _Whole(longest=longest, start=start, first_record=first_record)
    payloads: SingleRecords | MultiRecords
    if options.batch_strategy == "SingleRecord":
        payloads = SingleRecords(longest=longest, start=start, first_record=first_record)
    else:
        payloads = MultiRecords(
            longest=longest, most=options.max_records, start=start, first_record=first_record
        )
    csv = CsvLines(csv_separator(head, options.content_type)) if is_csv(options.content_type) else None
    return _Lines(payloads, longest=longest, skip_header=options.skip_header and start == 0, csv=csv)
