"""The number of polls in a row that are permitted to fail: one rule for every wait of ours.

A poll fails when AWS throttles it, answers 5xx, or does not answer. The awaited resource may be well, so a few are
tolerated, in a trigger as in a blocking wait; a successful poll resets the count. The wait's own deadline holds all
the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.core.text import ordinal
from airflow_sm_plugin.exceptions import SageMakerInferenceError

MAX_FAILED_POLLS = 20
"""Failed polls in a row that a wait tolerates; the next one ends it. With 30 seconds between polls: ten minutes."""


@dataclass(frozen=True)
class FailedPolls:
    """Number of polls in a row that have failed; ``FailedPolls()`` after a successful one and in a restarted wait.

    :param cause: of the last one, where it is known
    """

    in_a_row: int = 0
    cause: str = ""

    def one_more(self, cause: str = "") -> FailedPolls:
        return FailedPolls(self.in_a_row + 1, cause)

    def in_words(self, service: str) -> str:
        """Describe the last failed poll, for the log of a wait that goes on."""
        cause = f" ({self.cause.removesuffix('.')})" if self.cause else ""
        times = f"{ordinal(self.in_a_row)} time in a row; gives up after {MAX_FAILED_POLLS}"
        return f"{service} does not answer{cause}, {times}"

    @property
    def too_many(self) -> bool:
        return self.in_a_row > MAX_FAILED_POLLS

    def end_the_wait(self, error: SageMakerInferenceError) -> bool:
        """Return whether the last failed poll, with this error, ends the wait: no later poll would fare better."""
        return self.too_many or not error.retryable
