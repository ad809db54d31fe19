"""RecordIO-protobuf as SageMaker's containers exchange it, checked against Google's own protobuf."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import pytest
from google.protobuf import (  # type: ignore[import-untyped] # ships no annotations
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from airflow_sm_plugin.local.automl.archive.recordio import Floats, decode, encode

matrices = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=300),
    elements=st.one_of(st.just(0.0), st.floats(width=32, allow_nan=False)),
)


class Tensor(Protocol):
    """A Float32Tensor."""

    values: list[float]
    keys: list[int]
    shape: list[int]


class Value(Protocol):
    """A Value."""

    float32_tensor: Tensor


class Record(Protocol):
    """A Record, as protobuf makes the class at run time."""

    features: Mapping[str, Value]

    def ParseFromString(self, data: bytes) -> int: ...  # noqa: N802 - protobuf's name

    def SerializeToString(self) -> bytes: ...  # noqa: N802 - protobuf's name


def _record_class() -> Callable[[], Record]:
    """Build the part of amazon's record.proto that is used."""
    proto = descriptor_pb2.FileDescriptorProto(name="record.proto", package="aialgs.data", syntax="proto2")
    tensor = proto.message_type.add(name="Float32Tensor")
    for number, name, kind in ((1, "values", 2), (2, "keys", 4), (3, "shape", 4)):
        tensor.field.add(name=name, number=number, type=kind, label=3).options.packed = True
    value = proto.message_type.add(name="Value")
    value.field.add(name="float32_tensor", number=2, type=11, label=1, type_name=".aialgs.data.Float32Tensor")
    record = proto.message_type.add(name="Record")
    entry = record.nested_type.add(name="FeaturesEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=9, label=1)
    entry.field.add(name="value", number=2, type=11, label=1, type_name=".aialgs.data.Value")
    record.field.add(
        name="features", number=1, type=11, label=3, type_name=".aialgs.data.Record.FeaturesEntry"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    made: Callable[[], Record] = message_factory.GetMessageClass(
        pool.FindMessageTypeByName("aialgs.data.Record")
    )
    return made


RECORD = _record_class()


@given(matrix=matrices, sparse=st.booleans())
def test_what_is_encoded_is_decoded(matrix: Floats, sparse: bool) -> None:
    assert np.array_equal(decode(encode(matrix, sparse=sparse)), matrix)


@given(row=arrays(np.float32, st.integers(1, 200), elements=st.floats(width=32, allow_nan=False)))
def test_protobuf_reads_the_record(row: Floats) -> None:
    body = encode(row.reshape(1, -1), sparse=True)
    magic, length = struct.unpack_from("<II", body)
    record = RECORD()
    record.ParseFromString(body[8 : 8 + length])
    tensor = record.features["values"].float32_tensor
    assert magic == 0xCED7230A
    assert len(body) % 4 == 0
    assert list(tensor.shape) == [len(row)]
    assert list(tensor.keys) == np.flatnonzero(row).tolist()
    assert list(tensor.values) == row[np.flatnonzero(row)].tolist()


def test_a_record_that_protobuf_wrote_is_read_whatever_else_it_holds() -> None:
    record = RECORD()
    record.features["other"].float32_tensor.values.append(9)
    record.features["values"].float32_tensor.values.extend([1.5, 0.0, -2.0])
    written = record.SerializeToString()
    body = struct.pack("<II", 0xCED7230A, len(written)) + written + b"\0" * (-len(written) % 4)
    assert decode(body).tolist() == [[1.5, 0.0, -2.0]]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1,2,3\n",
        encode(np.ones((1, 3), dtype=np.float32), sparse=False)[:-4],
        encode(np.ones((1, 3), dtype=np.float32), sparse=False)
        + encode(np.ones((1, 2), dtype=np.float32), sparse=False),
        struct.pack("<II", 0xCED7230A, 4) + b"\xff\xff\xff\xff",
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="recordio-protobuf"):
        decode(body)
