from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.number_sets import (
    below,
    first_of,
    from_numbers,
    from_ranges,
    numbers_of,
    to_ranges,
    window,
)

NUMBERS = st.sets(st.integers(0, 2_500))


@given(NUMBERS)
def test_a_set_is_read_back_from_its_ranges_and_from_its_numbers(numbers: set[int]) -> None:
    mask = from_numbers(numbers)
    assert list(numbers_of(mask)) == sorted(numbers)
    assert mask.bit_count() == len(numbers)
    assert from_ranges(to_ranges(mask)) == mask


@given(NUMBERS)
def test_ranges_are_in_order_and_do_not_touch(numbers: set[int]) -> None:
    ranges = to_ranges(from_numbers(numbers))
    assert all(first < end for first, end in ranges)
    assert all(left[1] < right[0] for left, right in itertools.pairwise(ranges))


@given(NUMBERS, st.integers(1, 300))
def test_the_first_of_a_set_are_its_smallest(numbers: set[int], count: int) -> None:
    assert list(numbers_of(first_of(from_numbers(numbers), count))) == sorted(numbers)[:count]


@given(NUMBERS, st.integers(0, 2_000), st.integers(1, 1_000))
def test_a_window_counts_from_its_own_beginning(numbers: set[int], first: int, count: int) -> None:
    seen = set(numbers_of(window(from_numbers(numbers), first, count)))
    assert seen == {number - first for number in numbers if first <= number < first + count}


def test_what_is_below_a_count() -> None:
    assert to_ranges(below(100_000)) == [[0, 100_000]]
    assert below(0) == 0
    assert to_ranges(0) == []


@pytest.mark.parametrize("bad", [[3, 3], [4, 2], [-1, 2]])
def test_what_is_no_range_is_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="no range"):
        from_ranges([bad])
