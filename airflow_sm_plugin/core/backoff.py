"""The pause before the next attempt."""

from __future__ import annotations


def pause_after(attempt: int, *, jitter: float, first: float = 0.5, longest: float = 8.0) -> float:
    """Return the seconds to wait after attempt ``attempt`` (from 1): full jitter under a cap that doubles.

    :param jitter: a random number in [0, 1)
    :param first: seconds; half of the cap after the first attempt
    :param longest: seconds; the cap grows no further
    """
    return float(jitter * min(longest, first * 2.0 ** min(attempt, 32)))
