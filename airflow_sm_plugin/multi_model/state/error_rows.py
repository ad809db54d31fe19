"""The rows of ``.errors.jsonl``, for records without an output; all rows have the same keys."""

from __future__ import annotations

from typing import NamedTuple

from airflow_sm_plugin._safe_text import json_line
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import SageMakerInferenceError


class FailedRecords(NamedTuple):
    """Consecutive records of one input that ended in an error.

    :param start: byte of the input where the first record begins
    :param end: byte of the input after the last record
    :param records: None if they could not be counted: the rest of an input that cannot be read
    :param status: of HTTP, or the container's; None without a response
    :param message: shortened as the user asked; can hold text of a container
    :param attempts: number of invocations
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
        """Decide whether both are one row: consecutive records that were never sent, for the same reason."""
        return (
            self.start == other.end
            and self.attempts == other.attempts == 0
            and (self.error, self.status, self.message) == (other.error, other.status, other.message)
            and self.records is not None
            and other.records is not None
        )

    def joined(self, more: FailedRecords) -> FailedRecords:
        """Append *more*, which follows."""
        return self._replace(end=more.end, records=(self.records or 0) + (more.records or 0))

    def row(self, batch_input: BatchInput) -> dict[str, object]:
        return {
            "source": batch_input.source,
            "target_model": batch_input.target_model,
            "first_record": self.first_record,
            "record_count": self.records,
            "error": self.error.__name__,
            "status": self.status,
            "message": self.message,
            "attempts": self.attempts,
        }

    def line(self, batch_input: BatchInput) -> bytes:
        return json_line(self.row(batch_input)) + b"\n"
