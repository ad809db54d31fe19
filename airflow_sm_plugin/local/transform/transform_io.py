"""How a transform job cuts its input into payloads and puts the answers together again: pure functions.

Words, defaults and rules are those of ``CreateTransformJob`` in the SageMaker API reference.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

MEGABYTE = 1024 * 1024
DEFAULT_MAX_PAYLOAD_MB = 6
_RECORDIO_MAGIC = 0xCED7230A
_LENGTH_MASK = (1 << 29) - 1

_LengthOf = Callable[[bytes, int], int]


class BadInput(Exception):
    """The input cannot be cut as asked: a damaged frame, or a record that is too large."""


def records(data: bytes, split_type: str) -> Iterator[bytes]:
    """Cut an object into records: lines with their end, frames whole, so that joined they are the object.

    Empty lines are no records.

    :param split_type: ``None`` (the object is the record), ``Line``, ``RecordIO`` or ``TFRecord``
    """
    if split_type == "Line":
        return (line for line in _lines(data) if line.strip(b"\r\n"))
    if split_type == "RecordIO":
        return _frames(data, header=8, trailer=0, length=_recordio_length, padded=True)
    if split_type == "TFRecord":
        return _frames(data, header=12, trailer=4, length=_tfrecord_length, padded=False)
    return iter((data,))


def payloads(
    data: bytes, *, split_type: str, batch_strategy: str, max_payload_bytes: int
) -> Iterator[tuple[bytes, ...]]:
    """Group an object's records into what each request carries.

    ``SingleRecord`` sends one record a request and takes binary records out of their frames; ``MultiRecord``
    fills each request up to the limit.

    :param max_payload_bytes: 0 means no limit
    Raises BadInput when one record alone exceeds the limit.
    """
    if split_type == "None" or batch_strategy == "SingleRecord":
        for record in records(data, split_type):
            _check_size(record, max_payload_bytes)
            yield (_unframed(record, split_type),)
        return
    batch: list[bytes] = []
    size = 0
    for record in records(data, split_type):
        _check_size(record, max_payload_bytes)
        if batch and max_payload_bytes and size + len(record) > max_payload_bytes:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(record)
        size += len(record)
    if batch:
        yield tuple(batch)


def assemble(answers: Iterable[bytes], assemble_with: str) -> bytes:
    """Put the answers to one object's payloads together; ``Line`` ends each with a newline."""
    if assemble_with == "Line":
        return b"".join(answer if answer.endswith(b"\n") else answer + b"\n" for answer in answers)
    return b"".join(answers)


def _check_size(record: bytes, limit: int) -> None:
    if limit and len(record) > limit:
        raise BadInput(f"A record of {len(record)} bytes exceeds MaxPayloadInMB={limit // MEGABYTE}")


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)  # a lone carriage return ends no record
        yield data[start:end]
        start = end


def _frames(data: bytes, *, header: int, trailer: int, length: _LengthOf, padded: bool) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        if position + header > len(data):
            raise BadInput(f"The record at byte {position} is cut off")
        size = length(data, position)
        end = position + header + size + trailer
        if padded:
            end += -size % 4
        if end > len(data):
            raise BadInput(f"The record at byte {position} is cut off")
        yield data[position:end]
        position = end


def _recordio_length(data: bytes, position: int) -> int:
    magic, flags_and_length = struct.unpack_from("<II", data, position)
    if magic != _RECORDIO_MAGIC:
        raise BadInput(f"There is no RecordIO record at byte {position}")
    return int(flags_and_length & _LENGTH_MASK)


def _tfrecord_length(data: bytes, position: int) -> int:
    return int(struct.unpack_from("<Q", data, position)[0])


def _unframed(record: bytes, split_type: str) -> bytes:
    if split_type == "RecordIO":
        return record[8 : 8 + _recordio_length(record, 0)]
    if split_type == "TFRecord":
        return record[12 : 12 + _tfrecord_length(record, 0)]
    return record
