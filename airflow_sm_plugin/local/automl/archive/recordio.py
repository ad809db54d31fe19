"""RecordIO-protobuf, the format in which SageMaker's algorithms exchange matrices.

A record is a 32-bit magic, a 32-bit length (both little-endian), a ``Record`` message of amazon's ``record.proto``,
and padding to four bytes. ``Record.features["values"].float32_tensor`` has ``values``, and for a sparse row also
``keys`` (column numbers) and ``shape``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MAGIC = 0xCED7230A
_FRAME = struct.Struct("<II")
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Field numbers of record.proto.
_RECORD_FEATURES = 1
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_VALUE_FLOAT32 = 2
_TENSOR_VALUES, _TENSOR_KEYS, _TENSOR_SHAPE = 1, 2, 3


def encode(matrix: Floats, *, sparse: bool) -> bytes:
    """Write a record per row; ``sparse`` omits zeros."""
    return b"".join(_frame(_record(row, sparse=sparse)) for row in matrix)


def decode(body: bytes) -> Floats:
    """Read the matrix. Raises ValueError for bytes that are not RecordIO-protobuf."""
    try:
        rows = [_row(record) for record in _frames(body)]
        if not rows:
            raise ValueError("there is no record")
        if len({len(row) for row in rows}) > 1:
            raise ValueError("the rows differ in length")
    except (ValueError, IndexError, struct.error) as error:
        raise ValueError(f"Loading recordio-protobuf data failed: {error}") from error
    return np.vstack(rows)


def _frame(record: bytes) -> bytes:
    return _FRAME.pack(_MAGIC, len(record)) + record + b"\0" * (-len(record) % 4)


def _frames(body: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(body):
        magic, length = _FRAME.unpack_from(body, position)
        position += _FRAME.size
        if magic != _MAGIC or position + length > len(body):
            raise ValueError(f"no complete record at byte {position - _FRAME.size}")
        yield body[position : position + length]
        position += length + (-length % 4)


def _record(row: Floats, *, sparse: bool) -> bytes:
    keys = np.flatnonzero(row)
    tensor = _field(_TENSOR_VALUES, (row[keys] if sparse else row).astype("<f4").tobytes())
    if sparse:
        tensor += _field(_TENSOR_KEYS, b"".join(_varint(int(key)) for key in keys))
        tensor += _field(_TENSOR_SHAPE, _varint(len(row)))
    value = _field(_VALUE_FLOAT32, tensor)
    return _field(_RECORD_FEATURES, _field(_ENTRY_KEY, b"values") + _field(_ENTRY_VALUE, value))


def _field(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _row(record: bytes) -> Floats:
    tensor = _tensor(record)
    values = np.frombuffer(b"".join(tensor.get(_TENSOR_VALUES, [])), dtype="<f4").astype(np.float32)
    shape = [size for packed in tensor.get(_TENSOR_SHAPE, []) for size in _varints(packed)]
    if not shape:
        return values
    keys = [key for packed in tensor.get(_TENSOR_KEYS, []) for key in _varints(packed)]
    if len(keys) != len(values):
        raise ValueError(f"{len(values)} values have {len(keys)} keys")
    row = np.zeros(shape[-1], dtype=np.float32)
    row[keys] = values
    return row


def _tensor(record: bytes) -> dict[int, list[bytes]]:
    for entry in _fields(record).get(_RECORD_FEATURES, []):
        parts = _fields(entry)
        for value in parts.get(_ENTRY_VALUE, []):
            tensors = _fields(value).get(_VALUE_FLOAT32)
            if parts.get(_ENTRY_KEY) == [b"values"] and tensors is not None:
                return _fields(tensors[0])
    raise ValueError("a record has no float32 feature 'values'")


def _fields(message: bytes) -> dict[int, list[bytes]]:
    """Read the payloads by field number; a scalar is the bytes of a packed list with a single item."""
    payloads: dict[int, list[bytes]] = {}
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        end = position
        if tag & 7 == _BYTES:
            length, position = _read_varint(message, position)
            end = position + length
        elif tag & 7 == _VARINT:
            _, end = _read_varint(message, position)
        elif tag & 7 in (_FIXED32, _FIXED64):
            end = position + (4 if tag & 7 == _FIXED32 else 8)
        else:
            raise ValueError(f"wire type {tag & 7} is not protobuf's")
        payloads.setdefault(tag >> 3, []).append(message[position:end])
        position = end
    return payloads


def _varints(packed: bytes) -> Iterator[int]:
    position = 0
    while position < len(packed):
        value, position = _read_varint(packed, position)
        yield value


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position
