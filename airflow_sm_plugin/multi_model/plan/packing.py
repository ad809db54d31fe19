"""Pack models into shards: as even as can be, and a model in as few of them as possible.

A model that is larger than a fair share is cut along its inputs into pieces of that size; then pieces and whole models
go, the largest first, to the shard that has least.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

LEAST_BYTES = 4_096
"""What an input counts at least: opening and closing it costs about as much as that many bytes of records."""

LEAST_CUT = 1_048_576
"""Of what a model is cut off at least: each further shard loads it again, and is one more task."""

_TOLERANCE = 0.1
"""How much larger than a fair share a piece is permitted to be, before one more shard has to load its model."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What there is of one model.

    :param inputs: 1 or more
    :param bytes: of them, each counted as :func:`weight_of` says
    """

    target_model: str
    inputs: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Inputs of one model that go to the same shard.

    :param first: of the model's inputs, in their order, from 0
    :param bytes: counted as :func:`weight_of` says
    """

    target_model: str
    first: int
    count: int
    bytes: int


def weight_of(size: int | None) -> int:
    """Return what an input counts; None is an unknown size."""
    return max(size or 0, LEAST_BYTES)


def pack(
    models: Sequence[ModelSize],
    *,
    shards: int,
    weights_of: Callable[[str], Iterable[int]],
) -> list[list[Piece]]:
    """Pack models into shards, none empty: each input in exactly one, the model that a shard has most of first.

    :param shards: how many at most, 1 or more; fewer come of fewer inputs, or of one that is most of all
    :param weights_of: the weights of one model's inputs in their order; asked only of those that are cut
    """
    share = max(sum(model.bytes for model in models) / shards, LEAST_CUT)
    pieces = [piece for model in models for piece in _pieces(model, share, weights_of)]
    pieces.sort(key=lambda piece: (-piece.bytes, piece.target_model, piece.first))
    packed: list[list[Piece]] = [[] for _ in range(min(shards, len(pieces)))]
    least = [(0, number) for number in range(len(packed))]
    for piece in pieces:
        load, number = least[0]
        packed[number].append(piece)
        heapq.heapreplace(least, (load + piece.bytes, number))
    return [_largest_model_first(each) for each in packed]


def _largest_model_first(pieces: list[Piece]) -> list[Piece]:
    """Sort one shard's pieces, those of one model side by side and in the order of its inputs."""
    sizes = Counter[str]()
    for piece in pieces:
        sizes[piece.target_model] += piece.bytes
    return sorted(pieces, key=lambda piece: (-sizes[piece.target_model], piece.target_model, piece.first))


def _pieces(model: ModelSize, share: float, weights_of: Callable[[str], Iterable[int]]) -> Iterator[Piece]:
    """Cut a model where its inputs come nearest to whole numbers of shares."""
    pieces = max(1, math.ceil(model.bytes / share - _TOLERANCE))
    first = count = start = end = 0
    cut = 1
    for weight in weights_of(model.target_model) if pieces > 1 else ():
        if count and cut < pieces and end + weight / 2 > cut * share:
            yield Piece(model.target_model, first, count, end - start)
            first, count, start = first + count, 0, end
            cut = max(cut + 1, math.ceil(end / share + 0.5))
        count, end = count + 1, end + weight
    yield Piece(model.target_model, first, model.inputs - first, model.bytes - start)
