"""Cut an input that arrives in chunks into payloads."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_sm_plugin.batches.text_input import BYTE_ORDER_MARK, HEAD, check_head, is_csv, is_text
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.csv_lines import SEPARATORS, CsvLines, csv_separator
from airflow_sm_plugin.multi_model.payloads.lines import LineBlocks, PassedLine
from airflow_sm_plugin.multi_model.payloads.packer import RecordPacker
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions


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
    """Return whether a :class:`Splitter` that begins in the middle of an input has to know its beginning."""
    return options.split_type == "Line" and is_csv(options.content_type)


class _Lines:
    """Payloads of lines; of CSV, each line has to be a whole record."""

    def __init__(self, options: SplitOptions, start: int, first_record: int, head: bytes) -> None:
        longest, kind = options.max_payload_bytes, options.content_type
        self._csv = CsvLines(csv_separator(head, kind)) if is_csv(kind) else None
        self._blocks = LineBlocks(longest=longest, csv=self._csv)
        self._payloads = RecordPacker(
            longest=longest,
            most=1 if options.batch_strategy == "SingleRecord" else options.max_records,
            start=start,
            first_record=first_record,
        )
        self._at_header = options.skip_header and start == 0
        self.error: InvalidRequest | None = None

    def leave_out(self, size: int) -> None:
        """Pass bytes over that belong to no record."""
        self._payloads.passed(PassedLine(size, 0))

    def feed(self, chunk: bytes) -> list[Payload]:
        return self._taken(self._blocks.after(chunk))

    def finish(self) -> list[Payload]:
        return self._taken(self._blocks.rest()) + self._payloads.rest()

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
        whole = self._csv.whole(block) if self._csv else len(block)
        is_divided, block = whole < len(block), block[:whole]
        if self._at_header and block:
            self._at_header = False
            size = block.find(b"\n") + 1 or len(block)
            self.leave_out(size)
            block = block[size:]
        payloads = self._payloads.lines(block) if block else []
        if is_divided:
            self.error = self._divided()
        return payloads

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

    def __init__(self, options: SplitOptions, start: int, first_record: int) -> None:
        self._longest = options.max_payload_bytes
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
    if options.split_type == "None":
        return _Whole(options, start, first_record)
    return _Lines(options, start, first_record, head)
