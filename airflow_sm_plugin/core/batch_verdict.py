"""Whether a batch's failures fail its task."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.core.batch_report import ModelCounts
from airflow_sm_plugin.exceptions import InvalidRequest


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Which failures a task puts up with.

    :param on_error: ``"fail"``, or ``"tolerate"``: failures are reported and never fail the task
    :param failure_ratio: with ``"fail"``: which share of the records may have failed, 0 to 1. An input that could not
        be read is no record and fails the task whatever the share
    """

    on_error: str = "fail"
    failure_ratio: float = 0.0

    def checked(self) -> Tolerance:
        """Return it when it is well formed.

        :raises InvalidRequest: the ratio is not between 0 and 1
        """
        if not 0 <= self.failure_ratio <= 1:
            raise InvalidRequest(f"tolerated_failure_ratio must be from 0 to 1, not {self.failure_ratio}")
        return self

    def is_exceeded(self, counts: ModelCounts) -> bool:
        """Say whether these are too many failures."""
        if self.on_error != "fail" or not counts.failed:
            return False
        return counts.inputs_unread > 0 or counts.records_failed > self.failure_ratio * counts.records
