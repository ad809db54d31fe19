"""Cut an input that arrives in chunks into payloads."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_sm_plugin.core.line_payloads import MultiRecords, SingleRecords
from airflow_sm_plugin.core.payloads import Payload, SplitOptions
from airflow_sm_plugin.core.whole_lines import PassedLine, WholeLines


class Splitter:
    """Feed it the chunks of one input, or of a gap of it; it gives back the payloads that are complete.

    The payloads' ranges tile what was fed. To go on in the middle of an input, begin at some payload's ``end`` with
    the number of the record there, and :meth:`finish` at another payload's ``start`` or at the input's end: the
    payloads are the same as from the start.

    It holds at most the payload that is being filled, a line that is not longer than one, and a chunk.

    :param options: checked
    :param start: offset of the first byte that will be fed; the header line is skipped at 0 only
    :param first_record: number of the first record from there
    """

    def __init__(self, options: SplitOptions, *, start: int = 0, first_record: int = 0) -> None:
        self._cutter = _cutter(options, start, first_record)

    def feed(self, chunk: bytes) -> list[Payload]:
        """Return the payloads that are known to be complete with this chunk."""
        return self._cutter.feed(chunk)

    def finish(self) -> list[Payload]:
        """Return what is left; nothing may be fed any more."""
        return self._cutter.finish()


class _Lines:
    """Payloads of lines."""

    def __init__(self, lines: WholeLines, payloads: SingleRecords | MultiRecords) -> None:
        self._lines = lines
        self._payloads = payloads

    def feed(self, chunk: bytes) -> list[Payload]:
        return self._taken(self._lines.after(chunk))

    def finish(self) -> list[Payload]:
        return self._taken(self._lines.rest()) + self._payloads.rest()

    def _taken(self, blocks: Iterable[bytes | PassedLine]) -> list[Payload]:
        payloads: list[Payload] = []
        for block in blocks:
            if isinstance(block, bytes):
                payloads += self._payloads.lines(block)
            else:
                payloads += self._payloads.passed(block)
        return payloads


class _Whole:
    """The whole input as one payload."""

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


def _cutter(options: SplitOptions, start: int, first_record: int) -> _Lines | _Whole:
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
    return _Lines(WholeLines(longest=longest, skip_first=options.skip_header and start == 0), payloads)
