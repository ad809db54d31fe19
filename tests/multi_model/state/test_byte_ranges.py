"""Byte ranges: which parts S3 copies, which reads fetch the others, and how they are kept in memory."""

from __future__ import annotations

import itertools
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.state.byte_ranges import (
    ByteRange,
    PackedRanges,
    parts_of,
    reads_of,
)

PIECES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=20)


def laid_out(pieces: list[tuple[str, int]]) -> list[ByteRange]:
    """Give each piece the next bytes of its object, as consecutive results get them."""
    ends = dict.fromkeys("abc", 0)
    ranges = []
    for name, size in pieces:
        ranges.append(ByteRange(name, ends[name], size))
        ends[name] += size
    return ranges


def bytes_of(ranges: list[ByteRange]) -> list[tuple[str, int]]:
    return [(each.location, offset) for each in ranges for offset in range(each.offset, each.end)]


@given(PIECES, st.integers(1, 20), st.integers(0, 20))
def test_parts_are_the_output_and_all_but_the_last_are_large_enough(
    pieces: list[tuple[str, int]], least: int, more: int
) -> None:
    ranges = [each for each in laid_out(pieces) if each.size]
    parts = list(parts_of(ranges, least=least, most=least + more))
    assert bytes_of([each for part in parts for each in _of(part)]) == bytes_of(ranges)
    sizes = [sum(each.size for each in _of(part)) for part in parts]
    assert all(size >= least for size in sizes[:-1])
    assert all(
        size <= least + more for size, part in zip(sizes, parts, strict=True) if isinstance(part, list)
    )


def test_a_long_range_is_copied_and_the_part_before_it_is_filled_up_from_it() -> None:
    ranges = [ByteRange("a", 0, 3), ByteRange("b", 0, 100), ByteRange("c", 0, 2)]
    assert list(parts_of(ranges, least=10, most=10)) == [
        [ByteRange("a", 0, 3), ByteRange("b", 0, 7)],
        ByteRange("b", 7, 93),
        [ByteRange("c", 0, 2)],
    ]


@given(PIECES, st.randoms(use_true_random=False))
def test_reads_cover_all_wanted_ranges_in_any_order(pieces: list[tuple[str, int]], chance: object) -> None:
    objects = {name: bytes(range(256)) * 4 for name in "abc"}
    wanted = [each for each in laid_out(pieces) if each.size]
    chance.shuffle(wanted)  # type: ignore[attr-defined]
    body = bytearray(sum(each.size for each in wanted))
    for read in reads_of(wanted):
        read.fill(body, objects[read.source.location][read.source.offset : read.source.end])
    assert body == b"".join(objects[each.location][each.offset : each.end] for each in wanted)


def test_late_results_cost_one_read_an_object() -> None:
    """Every other result is in the next second's object."""
    wanted = [ByteRange("ab"[index % 2], 100 * (index // 2), 100) for index in range(1_000)]
    assert [read.source for read in reads_of(wanted)] == [
        ByteRange("a", 0, 50_000),
        ByteRange("b", 0, 50_000),
    ]


def test_ranges_far_apart_are_read_one_by_one() -> None:
    wanted = [ByteRange("a", 0, 10), ByteRange("a", 10_000_000, 10)]
    assert [read.source for read in reads_of(wanted)] == wanted


def _of(part: ByteRange | list[ByteRange]) -> list[ByteRange]:
    return [part] if isinstance(part, ByteRange) else part


RANGES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 3)), max_size=30)


@given(RANGES)
def test_packed_ranges_keep_the_order_and_join_consecutive_ranges(ranges: list[tuple[str, int, int]]) -> None:
    packed = PackedRanges("s3://b/")
    for data, offset, size in ranges:
        packed.add(data, offset, size)
    unpacked = list(packed)
    assert unpacked == list(packed)
    expected = [ByteRange(f"s3://b/{data}", offset, size) for data, offset, size in ranges]
    assert bytes_of(unpacked) == bytes_of(expected)
    assert all(
        before.location != after.location or before.end != after.offset
        for before, after in itertools.pairwise(unpacked)
    )
    assert packed.size == sum(size for *_, size in ranges)


def test_a_hundred_thousand_packed_ranges_take_a_few_megabytes() -> None:
    """An input of gigabytes has as many, if its results came one by one."""
    names = [f"object-{index}" for index in range(1_000)]
    tracemalloc.start()
    try:
        packed = PackedRanges("s3://a-bucket/" + "a-long-folder/" * 9)
        for index in range(100_000):
            packed.add(names[index % 1_000], index * 10, 5)
        assert tracemalloc.get_traced_memory()[0] < 5_000_000
        first, second = (next(iter(packed)) for _ in range(2))
        assert first.location is second.location
    finally:
        tracemalloc.stop()
