"""Payloads: what one InvokeEndpoint request carries of an input, and how inputs are to be cut into them.

The words and their meaning are Batch Transform's. A record is a line of the input, without its end (LF or CR LF), or
the whole input with ``split_type="None"``. Lines that hold nothing but spaces are no records and are not sent; one of
tabs is: it is a row of empty columns. Bytes are never decoded, so broken UTF-8 passes through.

What the content type promises is held against the bytes: a line of CSV that is no whole record ends the input with an
error, and so does a text input that begins as no text does (:mod:`airflow_sm_plugin.batches.text_input`). A byte order
mark of UTF-8 is no part of the first record.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.request import DEFAULT_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES

SPLIT_TYPES = ("None", "Line")
BATCH_STRATEGIES = ("SingleRecord", "MultiRecord")


@dataclass(frozen=True, slots=True)
class Payload:
    r"""What one request carries, and which bytes and records of the (decompressed) input it stands for.

    The ranges of an input's payloads tile it, from 0 to its length: a payload's ``end`` is the next one's ``start``.
    What is no record lies in the range of the payload before it, at the top of the input in that of the first: blank
    lines, the header line. An input that has nothing else has no payload.

    :param body: SingleRecord: the line without its end. MultiRecord: the lines with the ends that they have in the
        input (LF or CR LF), but without the last one's. Split None: the whole input
    :param start: byte offset at which the range begins; reading and splitting again may begin here
    :param end: byte offset behind the range
    :param first_record: number of its first record in the input, from 0
    :param records: how many there are in it, at least 1
    :param oversized: bytes of a record that is larger than a payload may be; the body is empty then, ``records`` is 1
    :param left_out: for several records: ``(place, bytes)``, the bytes of the range that are left out of the body
        before that place, for :func:`split_in_two`
    """

    body: bytes = field(repr=False)
    start: int
    end: int
    first_record: int
    records: int
    oversized: int = 0
    left_out: tuple[tuple[int, int], ...] = field(default=(), repr=False)


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How an input is cut into payloads.

    :param split_type: ``Line``, or ``None``: the whole object is one record
    :param batch_strategy: ``SingleRecord``, or ``MultiRecord``: as many whole records as fit in a payload, unless blank
        lines lie between them in more than a thousand places
    :param max_payload_bytes: 1 to 26,214,400, of a payload's body; default 6,291,456
    :param skip_header: leave the first line of every input out
    :param max_records: of a MultiRecord payload; None for as many as fit
    :param content_type: of the input, with or without parameters; what is no text, or None, is not checked
    """

    split_type: str = "Line"
    batch_strategy: str = "SingleRecord"
    max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES
    skip_header: bool = False
    max_records: int | None = None
    content_type: str | None = None

    def checked(self) -> SplitOptions:
        """Return the options themselves when they can be followed.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        _check_choice("split_type", self.split_type, SPLIT_TYPES)
        _check_choice("batch_strategy", self.batch_strategy, BATCH_STRATEGIES)
        if not 1 <= self.max_payload_bytes <= MAX_PAYLOAD_BYTES:
            raise InvalidRequest(
                f"a payload of up to {self.max_payload_bytes} bytes is not possible: InvokeEndpoint takes 1 to "
                f"{MAX_PAYLOAD_BYTES} bytes; set max_payload_in_mb to 25 or less, and above 0"
            )
        if self.split_type == "None":
            self._check_unsplit()
        if self.max_records is None:
            return self
        if self.max_records < 1:
            raise InvalidRequest(
                f"max_records={self.max_records} leaves nothing to send: it is 1 or more, or None for as many records "
                f"as fit"
            )
        if self.batch_strategy == "SingleRecord":
            raise InvalidRequest(
                f"max_records={self.max_records} goes with batch_strategy='MultiRecord': SingleRecord payloads have "
                f"one record"
            )
        return self

    def _check_unsplit(self) -> None:
        if self.batch_strategy == "MultiRecord":
            raise InvalidRequest(
                "batch_strategy='MultiRecord' puts lines together, and split_type='None' makes no lines: use "
                "split_type='Line', or batch_strategy='SingleRecord'"
            )
        if self.skip_header:
            raise InvalidRequest(
                "skip_header=True drops a line, and split_type='None' sends every object as it is: use "
                "split_type='Line', or leave skip_header out"
            )


def split_in_two(payload: Payload) -> tuple[Payload, Payload]:
    """Cut a payload between two records, as near to the middle as can be; the first half is never the larger.

    Each half is what a splitter gives for its range, so that its result may be recorded by itself.

    :raises ValueError: it has only one record
    """
    if payload.records < 2:  # noqa: PLR2004 - two halves
        raise ValueError(f"a payload of {payload.records} record cannot be cut in two")
    ahead = payload.records // 2
    cut = _behind_line(payload.body, ahead)
    middle = payload.start + cut + sum(size for place, size in payload.left_out if place <= cut)
    first = Payload(
        payload.body[: cut - 1].removesuffix(b"\r"),
        payload.start,
        middle,
        payload.first_record,
        ahead,
        left_out=tuple(gap for gap in payload.left_out if gap[0] < cut) if ahead > 1 else (),
    )
    second = Payload(
        payload.body[cut:],
        middle,
        payload.end,
        payload.first_record + ahead,
        payload.records - ahead,
        left_out=tuple((place - cut, size) for place, size in payload.left_out if place > cut),
    )
    return first, second


def records_of(payload: Payload) -> list[bytes]:
    """Return a payload's records, without their line ends.

    With split None, or for a single record, that is the body itself.
    """
    if payload.records == 1:
        return [payload.body]
    *lines, last = payload.body.split(b"\n")
    return [*(line.removesuffix(b"\r") for line in lines), last]


def _behind_line(body: bytes, lines: int) -> int:
    place = 0
    for _ in range(lines):
        place = body.index(b"\n", place) + 1
    return place


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidRequest(f"{name}={value!r:.80} is none of {', '.join(map(repr, choices))}")
