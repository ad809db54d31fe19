"""Rows of errors: what ``.errors.jsonl`` holds for records without an output, with always the same keys."""

from __future__ import annotations

from typing import NamedTuple

from airflow_sm_plugin._safe_text import json_line
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import SageMakerInferenceError


class FailedRecords(NamedTuple):
    """Records of one input that ended in an error.

    :param start: byte of the input where the first record begins
    :param end: byte where the next one would
    :param records: None where they could not be counted: the rest of an input that cannot be read
    :param error: our class for it
    :param status: HTTP status, or what the container answered; None without an answer
    :param message: cut as the user said; may show what a container wrote
    :param attempts: invocations spent on it
    """

    start: int
    end: int
    first_record: int
    records: int | None
    error: type[SageMakerInferenceError]
    status: int | None
    message: str
    attempts: int

    def follows(self, other: FailedRecords) -> bool:
        """Return whether this is more of the same: records that were never sent, for one reason."""
        return (
            self.start == other.end
            and self.attempts == other.attempts == 0
            and (self.error, self.status, self.message) == (other.error, other.status, other.message)
            and self.records is not None
            and other.records is not None
        )

    def joined(self, more: FailedRecords) -> FailedRecords:
        """Return both as one; ``more`` follows."""
        return self._replace(end=more.end, records=(self.records or 0) + (more.records or 0))

    def row(self, one: BatchInput) -> dict[str, object]:
        """Return the row.

        :param one: the input
        """
        return {
            "source": one.source,
            "target_model": one.target_model,
            "first_record": self.first_record,
            "record_count": self.records,
            "error": self.error.__name__,
            "status": self.status,
            "message": self.message,
            "attempts": self.attempts,
        }

    def line(self, one: BatchInput) -> bytes:
        """Return the row as a line of JSON."""
        return json_line(self.row(one)) + b"\n"
