"""The results known after some polls of a wait: small however many are awaited, two bits a result."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

from airflow_sm_plugin.async_inference.watch import (
    AwaitedResults,
    ResultFolder,
    ResultPosition,
    mask_of,
    positions_of,
)
from airflow_sm_plugin.core.failed_polls import FailedPolls

OUTAGE_SECONDS = 60.0
"""How long after the last deadline an S3 that does not answer is polled again: enough for a short outage, and little
beside the hours that a deadline allows."""

CHECK_IN_SECONDS = 1_800.0
"""Interval at which a long wait checks whether the endpoint exists: no event reports that it was deleted."""


class ResultOutcome(enum.Enum):
    """The state of one invocation by its two possible objects, an output and a failure object, and by its deadline."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WAITING = "waiting"
    TIMED_OUT = "timed out"


@dataclass(frozen=True)
class FolderState:
    """The known results of one folder; masks hold a bit for each position.

    :param outputs: mask of the existing outputs; ``failures`` and so on are the same of failure objects
    :param outputs_at: epoch second of the last poll that answered for every missing output
    :param forbidden: mask of the results for which S3 answered 403 at the last poll
    :param outputs_by_head: whether HEADs ask for single outputs, as a listing is denied, or dearer
    """

    outputs: int = 0
    failures: int = 0
    outputs_at: float = -math.inf
    failures_at: float = -math.inf
    forbidden: int = 0
    outputs_by_head: bool = False
    failures_by_head: bool = False

    def missing(self, folder: ResultFolder) -> int:
        """Mask the results that have neither succeeded nor failed, in time or not."""
        return folder.wanted & ~(self.outputs | self.failures)

    def timed_out(self, folder: ResultFolder) -> int:
        """Mask the results that were missing when S3 answered for all after their deadline."""
        missing = self.missing(folder)
        polled = self.outputs_at if folder.failures is None else min(self.outputs_at, self.failures_at)
        return missing and past(folder, missing, polled)

    def pending(self, folder: ResultFolder) -> int:
        return self.missing(folder) & ~self.timed_out(folder)


def past(folder: ResultFolder, mask: int, now: float) -> int:
    """Mask those results of a mask whose deadline has passed."""
    if not folder.first_deadline <= now < folder.last_deadline:
        return mask if folder.last_deadline <= now else 0
    return mask_of([position for position in positions_of(mask) if folder.deadlines[position] <= now])


@dataclass(frozen=True)
class WatchCounts:
    """Numbers of awaited results by :class:`ResultOutcome`."""

    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    pending: int = 0


@dataclass(frozen=True)
class WatchState:
    """The known results of all folders. It can be lost at any time: one poll of everything restores it.

    :param failed: polls in a row without an answer about any output
    :param stalled: polls in a row without a new result
    """

    folders: tuple[FolderState, ...]
    polls: int = 0
    failed: FailedPolls = field(default_factory=FailedPolls)
    stalled: int = 0

    @classmethod
    def begin(cls, watch: AwaitedResults) -> WatchState:
        return cls((FolderState(),) * len(watch.folders))

    def _pairs(self, watch: AwaitedResults) -> Iterator[tuple[ResultFolder, FolderState]]:
        return zip(watch.folders, self.folders, strict=True)

    def counts(self, watch: AwaitedResults) -> WatchCounts:
        succeeded = failed = timed_out = pending = 0
        for folder, state in self._pairs(watch):
            succeeded += (state.outputs & folder.wanted).bit_count()
            failed += (state.failures & ~state.outputs & folder.wanted).bit_count()
            timed_out += state.timed_out(folder).bit_count()
            pending += state.pending(folder).bit_count()
        return WatchCounts(succeeded, failed, timed_out, pending)

    def outcomes(self, watch: AwaitedResults) -> Iterator[tuple[ResultPosition, ResultOutcome]]:
        """Yield the outcome of every awaited result: an output wins over a failure object, both over the deadline."""
        for number, (folder, state) in enumerate(self._pairs(watch)):
            timed_out = state.timed_out(folder)
            for position in positions_of(folder.wanted):
                bit = 1 << position
                if state.outputs & bit:
                    outcome = ResultOutcome.SUCCEEDED
                elif state.failures & bit:
                    outcome = ResultOutcome.FAILED
                else:
                    outcome = ResultOutcome.TIMED_OUT if timed_out & bit else ResultOutcome.WAITING
                yield ResultPosition(number, position), outcome

    def forbidden(self, watch: AwaitedResults) -> ResultPosition | None:
        """Find the first missing result for which S3 answered 403 at the last poll."""
        return _first(state.forbidden & state.missing(folder) for folder, state in self._pairs(watch))

    def first_pending(self, watch: AwaitedResults) -> ResultPosition | None:
        return _first(state.pending(folder) for folder, state in self._pairs(watch))

    def unreachable(self, watch: AwaitedResults, *, now: float) -> bool:
        """Check whether S3 gave no useful answer for too long; ``now`` is in epoch seconds."""
        too_late = now >= watch.last_deadline + OUTAGE_SECONDS
        return self.failed.too_many or (self.failed.in_a_row > 0 and too_late)

    def result(self, watch: AwaitedResults, *, now: float, until_pending: int = 0) -> WatchResult | None:
        """Decide why the wait is over; None to go on.

        :param now: epoch seconds
        :param until_pending: number of results that may still be pending
        """
        counts = self.counts(watch)
        if counts.pending == 0:
            return WatchResult("deadline" if counts.timed_out else "complete", counts)
        if counts.pending <= until_pending:
            return WatchResult("room", counts)
        if self.unreachable(watch, now=now):
            return WatchResult("unreachable", counts, self.failed.in_a_row, self.failed.cause)
        return None


def _first(masks: Iterator[int]) -> ResultPosition | None:
    positions = (
        ResultPosition(number, next(positions_of(mask))) for number, mask in enumerate(masks) if mask
    )
    return next(positions, None)


@dataclass(frozen=True)
class WatchResult:
    """The end of a wait: ``complete``, ``deadline``, ``room`` or ``unreachable``; counts, failed polls, their cause."""

    why: str
    counts: WatchCounts
    failed_polls: int = 0
    cause: str = ""

    def as_mapping(self) -> dict[str, object]:
        return asdict(self)
