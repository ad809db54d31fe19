"""Byte ranges kept in few bytes are the same ranges."""

from __future__ import annotations

import itertools
import sys
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.state.byte_ranges import ByteRange, PackedRanges

PIECES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=30)


@given(PIECES)
def test_they_come_back_in_order_joined_where_one_follows_the_other(
    pieces: list[tuple[str, int, int]],
) -> None:
    packed = PackedRanges("s3://b/")
    for piece in pieces:
        packed.add(*piece)
    found = list(packed)
    assert found == list(packed)
    assert _bytes(found) == _bytes([ByteRange(f"s3://b/{data}", at, size) for data, at, size in pieces])
    assert all(
        one.location != next_.location or one.at + one.size != next_.at
        for one, next_ in itertools.pairwise(found)
    )
    assert packed.size == sum(size for *_, size in pieces)


def _bytes(found: list[ByteRange]) -> list[tuple[str, int]]:
    return [(one.location, at) for one in found for at in range(one.at, one.at + one.size)]


def test_a_hundred_thousand_take_a_few_megabytes() -> None:
    """Of an input of gigabytes whose results came in as many places."""
    tracemalloc.start()
    try:
        packed = PackedRanges("s3://a-bucket/" + "a-long-folder/" * 9)
        for number in range(100_000):
            packed.add(sys.intern(f"object-{number % 1_000}"), number * 10, 5)
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
        first, second = (next(iter(packed)) for _ in range(2))
        assert first.location is second.location
    finally:
        tracemalloc.stop()
