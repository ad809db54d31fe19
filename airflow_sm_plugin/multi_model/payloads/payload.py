"""Payloads of InvokeEndpoint requests, and the options of splitting an input into them.

The terms are Batch Transform's. A record is a line of the input without its end (LF or CR LF), or the whole input with
``split_type="None"``. Lines of nothing but spaces are no records and are not sent; a line of tabs is a record: a row of
empty columns. Bytes are never decoded, so broken UTF-8 passes through.

The bytes are checked against the content type: a line of CSV that is no whole record ends the input with an error, and
so does a text input that does not begin as text (:mod:`airflow_sm_plugin.batches.text_input`). A byte order mark of
UTF-8 is no part of the first record.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.invoke.request import DEFAULT_PAYLOAD_BYTES, MAX_PAYLOAD_BYTES

SPLIT_TYPES = ("None", "Line")
BATCH_STRATEGIES = ("SingleRecord", "MultiRecord")


@dataclass(frozen=True, slots=True)
class Payload:
    r"""The body of one request, and the range of the (decompressed) input that it stands for.

    The ranges of an input's payloads tile it, from 0 to its length: a payload's ``end`` is the next one's ``start``.
    Blank lines belong to the range of the payload before them; the header line, and blank lines before the first
    record, to that of the first payload. An input without records has no payload.

    :param body: SingleRecord: the line without its end. MultiRecord: the lines with their own ends (LF or CR LF), the
        last one without. Split None: the whole input
    :param start: byte offset at which the range begins; reading and splitting can resume here
    :param end: byte offset after the range
    :param first_record: number of the first record in the input, from 0
    :param records: at least 1
    :param oversized: bytes of a record that is larger than permitted; then the body is empty and ``records`` is 1
    :param left_out: for several records: ``(position, bytes)``, the bytes of the range that are left out of the body
        before that position, for :func:`split_in_two`
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
    """Options for the payloads that an input is split into.

    :param split_type: ``Line``, or ``None``: the whole object is one record
    :param batch_strategy: ``SingleRecord``, or ``MultiRecord``: as many whole records as fit in a payload; a payload
        also ends where blank lines were left out of it at a thousand positions
    :param max_payload_bytes: 1 to 26,214,400, of a payload's body; default 6,291,456
    :param skip_header: leave out the first line of every input
    :param max_records: of a MultiRecord payload; None for as many as fit
    :param content_type: of the input, with or without parameters; None, or a type that is no text, is not checked
    """

    split_type: str = "Line"
    batch_strategy: str = "SingleRecord"
    max_payload_bytes: int = DEFAULT_PAYLOAD_BYTES
    skip_header: bool = False
    max_records: int | None = None
    content_type: str | None = None

    def checked(self) -> SplitOptions:
        """Return the options themselves if they are valid.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
        check_choice("split_type", self.split_type, SPLIT_TYPES)
        check_choice("batch_strategy", self.batch_strategy, BATCH_STRATEGIES)
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


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise InvalidRequest if an argument's value is not among its choices."""
    if value not in choices:
        raise InvalidRequest(f"{name}={value!r:.80} is none of {', '.join(map(repr, choices))}")


def split_in_two(payload: Payload) -> tuple[Payload, Payload]:
    """Split a payload between two records, as near to the middle as possible; the first half is never the larger.

    Each half is the payload that a splitter returns for its range, so its result can be recorded by itself.

    :raises ValueError: the payload has only one record
    """
    if payload.records < 2:  # noqa: PLR2004 - two halves
        raise ValueError(f"a payload of {payload.records} record cannot be split in two")
    records, cut = payload.records // 2, 0
    for _ in range(records):
        cut = payload.body.index(b"\n", cut) + 1
    middle = payload.start + cut + sum(size for position, size in payload.left_out if position <= cut)
    first = replace(
        payload,
        body=payload.body[: cut - 1].removesuffix(b"\r"),
        end=middle,
        records=records,
        left_out=tuple(gap for gap in payload.left_out if gap[0] < cut) if records > 1 else (),
    )
    second = replace(
        payload,
        body=payload.body[cut:],
        start=middle,
        first_record=payload.first_record + records,
        records=payload.records - records,
        left_out=tuple((position - cut, size) for position, size in payload.left_out if position > cut),
    )
    return first, second


def records_of(payload: Payload) -> list[bytes]:
    """Return a payload's records without their line ends; a single record is the body itself."""
    if payload.records == 1:
        return [payload.body]
    *lines, last = payload.body.split(b"\n")
    return [*(line.removesuffix(b"\r") for line in lines), last]
