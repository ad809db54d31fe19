"""Shards are even, every input is in exactly one shard, and a model is in as few shards as possible."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.multi_model.plan.packing import (
    LEAST_BYTES,
    LEAST_CUT,
    Piece,
    pack,
)
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool

WEIGHTS = st.integers(LEAST_BYTES, 10**6) | st.sampled_from([LEAST_BYTES, 10**9])
MODELS = st.dictionaries(
    st.text("abc", min_size=1, max_size=4),
    st.lists(WEIGHTS, min_size=1, max_size=30),
    min_size=1,
    max_size=12,
)
SHARDS = st.integers(1, 12)

Weights = dict[str, list[int]]


def packed(weights: Weights, shards: int) -> list[list[Piece]]:
    """Pack inputs so large that no model is too small to be cut; scale the pieces back to ``weights``."""
    large = {name: [weight * LEAST_CUT for weight in each] for name, each in weights.items()}
    sizes = [Piece(name, 0, len(each), sum(each)) for name, each in large.items()]
    scaled = pack(sizes, shards=shards, weights_of=lambda model: large[model.target_model])
    return [[replace(piece, bytes=piece.bytes // LEAST_CUT) for piece in pieces] for pieces in scaled]


def inputs_of(shards: list[list[Piece]]) -> Iterator[tuple[str, int]]:
    for piece in itertools.chain.from_iterable(shards):
        yield from ((piece.target_model, number) for number in range(piece.first, piece.first + piece.count))


def loads(shards: list[list[Piece]]) -> list[int]:
    return [sum(piece.bytes for piece in pieces) for pieces in shards]


def shards_of(shards: list[list[Piece]], model: str) -> int:
    return sum(any(piece.target_model == model for piece in pieces) for pieces in shards)


@given(MODELS, SHARDS)
def test_every_input_is_in_exactly_one_shard_and_no_shard_is_empty(weights: Weights, shards: int) -> None:
    result = packed(weights, shards)
    counted = Counter(inputs_of(result))
    assert set(counted.values()) == {1}
    assert set(counted) == {(name, number) for name, each in weights.items() for number in range(len(each))}
    assert 1 <= len(result) <= shards
    assert all(result)


@given(MODELS, SHARDS)
def test_a_pieces_bytes_are_those_of_its_inputs(weights: Weights, shards: int) -> None:
    for piece in itertools.chain.from_iterable(packed(weights, shards)):
        of_model = weights[piece.target_model]
        assert piece.bytes == sum(of_model[piece.first : piece.first + piece.count])


@given(MODELS, SHARDS)
def test_no_shard_has_more_than_a_fair_share_and_one_piece(weights: Weights, shards: int) -> None:
    """This follows from assigning each piece to the shard with the least bytes."""
    result = packed(weights, shards)
    share = sum(map(sum, weights.values())) / shards
    largest = max(piece.bytes for piece in itertools.chain.from_iterable(result))
    assert max(loads(result)) <= share + largest


@given(MODELS, SHARDS)
def test_a_piece_is_larger_than_a_fair_share_only_if_an_input_is(weights: Weights, shards: int) -> None:
    share = sum(map(sum, weights.values())) / shards
    for piece in itertools.chain.from_iterable(packed(weights, shards)):
        largest = max(weights[piece.target_model][piece.first : piece.first + piece.count])
        assert piece.bytes <= 1.1 * share + 2 * largest or piece.count == 1


@given(MODELS, SHARDS)
def test_only_a_model_larger_than_a_fair_share_is_cut_and_into_no_more_shards_than_it_fills(
    weights: Weights, shards: int
) -> None:
    result = packed(weights, shards)
    share = sum(map(sum, weights.values())) / shards
    for name, each in weights.items():
        assert shards_of(result, name) <= max(1, math.ceil(sum(each) / share))


@given(MODELS, SHARDS)
def test_a_models_pieces_are_side_by_side_and_the_largest_model_comes_first(
    weights: Weights, shards: int
) -> None:
    for pieces in packed(weights, shards):
        names = [name for name, _ in itertools.groupby(piece.target_model for piece in pieces)]
        assert len(set(names)) == len(names)
        totals = [sum(piece.bytes for piece in pieces if piece.target_model == name) for name in names]
        assert totals == sorted(totals, reverse=True)
        assert all(
            before.first < after.first
            for before, after in itertools.pairwise(pieces)
            if before.target_model == after.target_model
        )


@given(MODELS, SHARDS)
def test_the_order_of_the_models_does_not_matter(weights: Weights, shards: int) -> None:
    reverse = dict(reversed(weights.items()))
    assert packed(reverse, shards) == packed(weights, shards)


@pytest.mark.parametrize(
    ("weights", "shards", "expected"),
    [
        ({"a": [5_000] * 8}, 4, [10_000] * 4),
        ({"a": [5_000] * 8}, 100, [5_000] * 8),
        ({"a": [15_000], "b": [15_000]}, 2, [15_000, 15_000]),
        ({"a": [5_000] * 3, "b": [5_000] * 3}, 3, [10_000] * 3),
        ({"a": [5_000] * 104, "b": [5_000] * 4}, 10, [50_000, 50_000, *[55_000] * 8]),
        ({"a": [10**9, *[5_000] * 100]}, 4, [10**9, 500_000]),
        ({str(number): [5_000] for number in range(10)}, 4, [15_000, 15_000, 10_000, 10_000]),
    ],
    ids=[
        "one model, cut evenly",
        "no more shards than inputs",
        "models are not cut if that is even",
        "the remainders of two models share a shard",
        "cuts do not drift",
        "one input has nearly all bytes",
        "many small models",
    ],
)
def test_the_loads_of_shards(weights: Weights, shards: int, expected: list[int]) -> None:
    assert sorted(loads(packed(weights, shards)), reverse=True) == sorted(expected, reverse=True)


def test_a_model_hardly_larger_than_a_fair_share_is_not_cut_for_the_rest_of_it() -> None:
    weights = {"a": [5_000] * 21, "b": [5_000] * 19}
    assert sorted(loads(packed(weights, 2))) == [95_000, 105_000]


def test_a_model_is_not_cut_into_pieces_that_are_not_worth_a_load() -> None:
    halves = pack([Piece("a", 0, 2, 2 * LEAST_CUT)], shards=8, weights_of=lambda _: [LEAST_CUT] * 2)
    assert loads(halves) == [LEAST_CUT] * 2
    uncut = pack([Piece("a", 0, 2, LEAST_CUT)], shards=8, weights_of=lambda _: [LEAST_CUT // 2] * 2)
    assert loads(uncut) == [LEAST_CUT]


def test_no_models_make_no_shards() -> None:
    assert pack([], shards=8, weights_of=lambda _: ()) == []


def test_a_small_input_counts_as_four_kibibytes() -> None:
    with PlanSpool.opened() as spool:
        for size in (None, 0, 4_095, 4_097):
            spool.add(BatchInput(source="s3://b/k", size=size, target_model="m", output=str(size)))
        spool.finish()
        (model,) = spool.models()
        assert list(spool.weights_of(model)) == [4_096, 4_096, 4_096, 4_097]
        assert (model.count, model.bytes) == (4, 3 * 4_096 + 4_097)
