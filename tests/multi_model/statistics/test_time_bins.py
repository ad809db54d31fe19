"""Bins over time: never too many, and their sum never depends on the order of parts."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.statistics.series import MOST_BINS, TimeBins

SECONDS = st.lists(st.integers(min_value=1_700_000_000, max_value=1_700_005_000), max_size=60)


def of(seconds: list[int]) -> TimeBins:
    bins = TimeBins()
    for second in seconds:
        bins.at(second).records += 1
    return bins


@given(st.lists(SECONDS, max_size=5), st.randoms())
def test_parts_in_any_order_add_up_to_the_whole(parts: list[list[int]], dice: random.Random) -> None:
    whole = of([second for part in parts for second in part])
    dice.shuffle(parts)
    together = TimeBins()
    for part in parts:
        together.add(json.loads(json.dumps(of(part).as_json())))
    assert json.dumps(together.as_json()) == json.dumps(whole.as_json())


def test_bins_grow_wider_instead_of_more() -> None:
    bins = of([1_700_000_000 + number for number in range(5 * MOST_BINS)])
    assert MOST_BINS / 2 <= len(bins.bins) <= MOST_BINS
    assert bins.width == 8
    assert sum(one.records for one in bins.bins.values()) == 5 * MOST_BINS


def test_a_pause_costs_no_resolution() -> None:
    bins = of([1_700_000_000, 1_700_000_001, 1_700_090_000])
    assert bins.width == 1
    assert [begin for begin, *_ in bins.as_json()["bins"]] == [1_700_000_000, 1_700_000_001, 1_700_090_000]


def test_a_part_in_wider_bins_makes_the_others_wider() -> None:
    wide = of([1_700_000_000 + number for number in range(2 * MOST_BINS)])
    narrow = of([1_700_000_003])
    narrow.add(wide.as_json())
    assert narrow.width == wide.width > 1
    assert sum(one.records for one in narrow.bins.values()) == 2 * MOST_BINS + 1
