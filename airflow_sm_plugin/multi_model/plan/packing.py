"""Pack models into shards: as evenly as possible, and each model into as few shards as possible.

A model that is larger than a fair share is cut along its inputs into pieces of that size. Then pieces and whole models
are assigned, the largest first, to the shard with the least bytes.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

LEAST_BYTES = 4_096
"""Least weight of an input: opening and closing it costs about as much as that many bytes of records."""

LEAST_CUT = 1_048_576
"""Least bytes of a piece of a model: each further shard loads the model again, and is one more task."""

_TOLERANCE = 0.1
"""By how much a piece is permitted to exceed a fair share, before one more shard has to load its model."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive inputs of one model: all of them, or those that go to the same shard.

    :param first: index among the model's inputs, from 0
    :param count: 1 or more
    :param bytes: sum of the inputs' weights: their sizes, but at least :data:`LEAST_BYTES` for each
    """

    target_model: str
    first: int
    count: int
    bytes: int


def pack(
    models: Sequence[Piece], *, shards: int, weights_of: Callable[[Piece], Iterable[int]]
) -> list[list[Piece]]:
    """Pack models into shards, none of them empty; a shard's largest model is first.

    Each input is in exactly one shard.

    :param models: all inputs of each model
    :param shards: upper limit, 1 or more; there are fewer if there are fewer inputs, or if one input has most bytes
    :param weights_of: returns the weights of a model's inputs in order; called only for models that are cut
    """
    share = max(sum(model.bytes for model in models) / shards, LEAST_CUT)
    pieces = [piece for model in models for piece in _pieces(model, share, weights_of)]
    pieces.sort(key=lambda piece: (-piece.bytes, piece.target_model, piece.first))
    packed: list[list[Piece]] = [[] for _ in range(min(shards, len(pieces)))]
    loads = [(0, shard) for shard in range(len(packed))]
    for piece in pieces:
        load, shard = loads[0]
        packed[shard].append(piece)
        heapq.heapreplace(loads, (load + piece.bytes, shard))
    return [_largest_model_first(shard_pieces) for shard_pieces in packed]


def _largest_model_first(pieces: list[Piece]) -> list[Piece]:
    """Sort one shard's pieces, keeping those of one model together and in the order of its inputs."""
    sizes = Counter[str]()
    for piece in pieces:
        sizes[piece.target_model] += piece.bytes
    return sorted(pieces, key=lambda piece: (-sizes[piece.target_model], piece.target_model, piece.first))


def _pieces(model: Piece, share: float, weights_of: Callable[[Piece], Iterable[int]]) -> Iterator[Piece]:
    """Cut a model where the running total of its inputs is nearest to multiples of the share."""
    pieces = max(1, math.ceil(model.bytes / share - _TOLERANCE))
    first = count = start = end = 0
    cut = 1
    for weight in weights_of(model) if pieces > 1 else ():
        if count and cut < pieces and end + weight / 2 > cut * share:
            yield Piece(model.target_model, first, count, end - start)
            first, count, start = first + count, 0, end
            cut = max(cut + 1, math.ceil(end / share + 0.5))
        count, end = count + 1, end + weight
    yield Piece(model.target_model, first, model.count - first, model.bytes - start)
