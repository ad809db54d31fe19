"""Durations of invocations as a histogram with logarithmic buckets: small, mergeable, quantiles at most 5 % off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import exp, log
from typing import Any

_GROWTH = 1.08
"""A bucket's upper bound over its lower bound: the middle of the bucket is at most 4 % from either."""

SCALE = 1 / log(_GROWTH)
MICROSECONDS = 1_000_000


def quantile_of(counts: Mapping[int, int], share: float) -> float | None:
    """Estimate a quantile in seconds; None when nothing was counted.

    :param counts: bucket number to number of durations
    :param share: 0.95 for the 95th percentile
    """
    left = share * sum(counts.values())
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return exp((bucket + 0.5) / SCALE) / MICROSECONDS  # the middle of the bucket
    return None


class Latencies:
    """Durations of many invocations: count, mean and maximum are exact, quantiles at most 5 % off.

    Durations are seconds, and None where nothing was counted. Sums are whole microseconds, so the order of additions
    does not matter.
    """

    __slots__ = ("counts", "microseconds", "slowest")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.microseconds = 0
        self.slowest = 0

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    @property
    def mean(self) -> float | None:
        return self.microseconds / self.count / MICROSECONDS if self.counts else None

    @property
    def longest(self) -> float | None:
        return self.slowest / MICROSECONDS if self.counts else None

    def quantile(self, share: float) -> float | None:
        quantile = quantile_of(self.counts, share)
        return None if quantile is None else min(quantile, self.slowest / MICROSECONDS)

    def add(self, other: Mapping[str, Any]) -> None:
        """Add another process's durations, as :meth:`as_json` writes them."""
        add_counts(self.counts, other["buckets"])
        self.microseconds += other["microseconds"]
        self.slowest = max(self.slowest, other["slowest"])

    def as_json(self) -> dict[str, Any]:
        return {
            "microseconds": self.microseconds,
            "slowest": self.slowest,
            "buckets": sorted(self.counts.items()),
        }


def add_counts(counts: dict[int, int], added: Iterable[Iterable[int]]) -> None:
    """Add pairs of bucket and count, as JSON keeps them."""
    for bucket, count in added:
        counts[bucket] = counts.get(bucket, 0) + count
