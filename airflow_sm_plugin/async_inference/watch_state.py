"""What is known of a watch after some looks: small whatever is waited for, two bits a result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from airflow_sm_plugin.async_inference.outcome import Outcome
from airflow_sm_plugin.async_inference.watch import Place, Shelf, Watch, mask_of, positions_of
from airflow_sm_plugin.core.failed_polls import FailedLooks

LAST_LOOKS_SECONDS = 60.0
"""How long after the last deadline an S3 that does not answer is asked again: no answer is no verdict."""


@dataclass(frozen=True)
class ShelfState:
    """What is known of one shelf; masks hold a bit for each position.

    :param outputs: outputs seen
    :param failures: failure objects seen
    :param outputs_at: epoch second of the last look that told of every missing output whether it is there
    :param failures_at: the same of failure objects
    :param forbidden: of which objects S3 answered 403 at the last look
    :param stalled: at how many looks in a row a shelf on which something is missing showed nothing new
    :param outputs_one_by_one: listing them is not allowed, or dearer than asking for each
    :param failures_one_by_one: the same of failure objects
    """

    outputs: int = 0
    failures: int = 0
    outputs_at: float = -math.inf
    failures_at: float = -math.inf
    forbidden: int = 0
    stalled: int = 0
    outputs_one_by_one: bool = False
    failures_one_by_one: bool = False

    def missing(self, shelf: Shelf) -> int:
        """Return the mask of what is neither there nor failed, in time or not."""
        return shelf.wanted & ~(self.outputs | self.failures)

    def timed_out(self, shelf: Shelf) -> int:
        """Return the mask of what was missing when a look after its deadline told of everything."""
        missing = self.missing(shelf)
        looked = self.outputs_at if shelf.failures is None else min(self.outputs_at, self.failures_at)
        return missing and past(shelf, missing, looked)

    def pending(self, shelf: Shelf) -> int:
        """Return the mask of what is still waited for."""
        return self.missing(shelf) & ~self.timed_out(shelf)


def past(shelf: Shelf, mask: int, now: float) -> int:
    """Return the mask of those whose deadline has passed."""
    if not shelf.first_deadline <= now < shelf.last_deadline:
        return mask if shelf.last_deadline <= now else 0
    return mask_of([position for position in positions_of(mask) if shelf.deadlines[position] <= now])


@dataclass(frozen=True)
class Counts:
    """How many results there are of each kind."""

    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    pending: int = 0

    def as_mapping(self) -> dict[str, int]:
        """Return it with JSON values."""
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "timed_out": self.timed_out,
            "pending": self.pending,
        }


@dataclass(frozen=True)
class WatchState:
    """What is known of a watch. It may be forgotten at any time: a look at everything tells it again.

    :param looks: how many looks there were
    :param failed: how many looks in a row told nothing about any output
    :param credit: pages that looks for failure objects may still cost: they are only worth a small share
    :param failures_apart: the folder above all failure objects holds too much else to be listed
    """

    shelves: tuple[ShelfState, ...]
    looks: int = 0
    failed: FailedLooks = field(default_factory=FailedLooks)
    credit: float = 1.0
    failures_apart: bool = False

    @classmethod
    def begin(cls, watch: Watch) -> WatchState:
        """Return the state before the first look."""
        return cls((ShelfState(),) * len(watch.shelves))

    def counts(self, watch: Watch) -> Counts:
        """Count the outcomes."""
        pairs = list(zip(watch.shelves, self.shelves, strict=True))
        return Counts(
            succeeded=sum((state.outputs & shelf.wanted).bit_count() for shelf, state in pairs),
            failed=sum(
                (state.failures & ~state.outputs & shelf.wanted).bit_count() for shelf, state in pairs
            ),
            timed_out=sum(state.timed_out(shelf).bit_count() for shelf, state in pairs),
            pending=sum(state.pending(shelf).bit_count() for shelf, state in pairs),
        )

    def outcomes(self, watch: Watch) -> Iterator[tuple[Place, Outcome]]:
        """Yield what became of every result that is waited for, shelf by shelf.

        An output beats a failure object, both beat the clock.
        """
        for number, (shelf, state) in enumerate(zip(watch.shelves, self.shelves, strict=True)):
            timed_out = state.timed_out(shelf)
            for position in positions_of(shelf.wanted):
                bit = 1 << position
                if state.outputs & bit:
                    yield Place(number, position), Outcome.SUCCEEDED
                elif state.failures & bit:
                    yield Place(number, position), Outcome.FAILED
                else:
                    yield Place(number, position), Outcome.TIMED_OUT if timed_out & bit else Outcome.WAITING

    def forbidden(self, watch: Watch) -> Place | None:
        """Return the first missing result of which S3 answered 403 at the last look."""
        for number, (shelf, state) in enumerate(zip(watch.shelves, self.shelves, strict=True)):
            for position in positions_of(state.forbidden & state.missing(shelf)):
                return Place(number, position)
        return None

    def first_pending(self, watch: Watch) -> Place | None:
        """Return the first result that is still waited for."""
        for number, (shelf, state) in enumerate(zip(watch.shelves, self.shelves, strict=True)):
            for position in positions_of(state.pending(shelf)):
                return Place(number, position)
        return None

    def unreachable(self, watch: Watch, *, now: float) -> bool:
        """Say whether S3 gave no useful answer for too long.

        :param now: epoch seconds
        """
        too_late = now >= watch.last_deadline + LAST_LOOKS_SECONDS
        return self.failed.too_many or (self.failed.in_a_row > 0 and too_late)

    def verdict(self, watch: Watch, *, now: float, until_pending: int = 0) -> Verdict | None:
        """Say whether and why the wait is over; None to look again.

        :param now: epoch seconds
        :param until_pending: how many may still be pending
        """
        counts = self.counts(watch)
        if counts.pending == 0:
            return Verdict("deadline" if counts.timed_out else "complete", counts)
        if counts.pending <= until_pending:
            return Verdict("room", counts)
        if self.unreachable(watch, now=now):
            return Verdict("unreachable", counts, self.failed.in_a_row)
        return None


@dataclass(frozen=True)
class Verdict:
    """Why a wait is over: ``complete``, ``deadline``, ``room`` or ``unreachable``; the counts, and failed looks."""

    why: str
    counts: Counts
    failed_looks: int = 0

    def as_mapping(self) -> dict[str, object]:
        """Return it with JSON values."""
        return {"why": self.why, "counts": self.counts.as_mapping(), "failed_looks": self.failed_looks}
