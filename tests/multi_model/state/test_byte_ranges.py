from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.state.byte_ranges import ByteRange, joined, parts_of, reads_of

PIECES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=20)


def laid_out(pieces: list[tuple[str, int]]) -> list[ByteRange]:
    """Give each piece the next bytes of its object, as results that came one after the other."""
    ends = dict.fromkeys("abc", 0)
    found = []
    for name, size in pieces:
        found.append(ByteRange(name, ends[name], size))
        ends[name] += size
    return found


def places(found: list[ByteRange]) -> list[tuple[str, int]]:
    return [(one.location, at) for one in found for at in range(one.at, one.at + one.size)]


@given(PIECES, st.integers(1, 20), st.integers(0, 20))
def test_parts_are_the_output_and_all_but_the_last_are_large_enough(
    pieces: list[tuple[str, int]], least: int, more: int
) -> None:
    given_ = [one for one in laid_out(pieces) if one.size]
    parts = list(parts_of(given_, least=least, most=least + more))
    assert places([one for part in parts for one in _of(part)]) == places(given_)
    sizes = [sum(one.size for one in _of(part)) for part in parts]
    assert all(size >= least for size in sizes[:-1])
    assert all(
        size <= least + more for size, part in zip(sizes, parts, strict=True) if isinstance(part, list)
    )


def test_a_long_range_is_copied_and_what_comes_before_is_filled_up_from_it() -> None:
    found = [ByteRange("a", 0, 3), ByteRange("b", 0, 100), ByteRange("c", 0, 2)]
    assert list(parts_of(found, least=10, most=10)) == [
        [ByteRange("a", 0, 3), ByteRange("b", 0, 7)],
        ByteRange("b", 7, 93),
        [ByteRange("c", 0, 2)],
    ]


@given(PIECES, st.randoms(use_true_random=False))
def test_reads_hold_all_that_is_wanted_in_any_order(pieces: list[tuple[str, int]], chance: object) -> None:
    objects = {name: bytes(range(256)) * 4 for name in "abc"}
    wanted = [one for one in laid_out(pieces) if one.size]
    chance.shuffle(wanted)  # type: ignore[attr-defined]
    reads = reads_of(wanted)
    bodies = [(read, objects[read.location][read.at : read.at + read.size]) for read in reads]
    assert joined(wanted, bodies) == b"".join(
        objects[one.location][one.at : one.at + one.size] for one in wanted
    )


def test_stragglers_cost_one_read_an_object_and_not_one_each() -> None:
    """Every other result of a second came in the next one."""
    wanted = [ByteRange("ab"[number % 2], 100 * (number // 2), 100) for number in range(1_000)]
    assert reads_of(wanted) == [ByteRange("a", 0, 50_000), ByteRange("b", 0, 50_000)]


def test_what_lies_far_apart_is_not_read_through() -> None:
    wanted = [ByteRange("a", 0, 10), ByteRange("a", 10_000_000, 10)]
    assert reads_of(wanted) == wanted


def _of(part: ByteRange | list[ByteRange]) -> list[ByteRange]:
    return [part] if isinstance(part, ByteRange) else part
