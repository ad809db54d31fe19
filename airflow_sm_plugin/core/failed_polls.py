"""How many looks in a row may fail before a wait gives up: one rule for every wait of ours.

A look fails when AWS throttles it, answers 5xx, or does not answer. It says nothing about what is waited for, so a few
are endured, in a trigger as in a blocking wait; a good look forgets them. The wait's own deadline holds all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.exceptions import SageMakerInferenceError

TOLERATED_FAILED_LOOKS = 20
"""Failed looks in a row that a wait endures; the next one ends it. With 30 seconds between looks: ten minutes."""


@dataclass(frozen=True)
class FailedLooks:
    """How many looks in a row have failed. A good look begins anew with ``FailedLooks()``, so does a restarted wait."""

    in_a_row: int = 0

    def one_more(self) -> FailedLooks:
        """Return the count after another failed look."""
        return FailedLooks(self.in_a_row + 1)

    @property
    def too_many(self) -> bool:
        """Whether the wait gives up."""
        return self.in_a_row > TOLERATED_FAILED_LOOKS

    def end_the_wait(self, error: SageMakerInferenceError) -> bool:
        """Say whether the look that failed last, with this error, ends the wait: no later look would fare better."""
        return self.too_many or not error.retryable
