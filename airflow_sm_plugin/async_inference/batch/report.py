"""The report of an asynchronous batch: a row for each input, and counts that add up.

Rows and groups of failures stay in S3, since they contain custom attributes and failure texts. XCom gets
:meth:`Report.summary`.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from airflow_sm_plugin.batches.report.failures import LONGEST_MESSAGE, Example, FailureGroup
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import InferenceError


class Status(enum.StrEnum):
    """The end of an input, after its last attempt."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    EXPIRED = "expired"
    """There was neither an output nor a failure object by the deadline."""

    REFUSED = "refused"
    """SageMaker did not accept the request, and would not accept it another time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The end of one input; a line has the same keys whatever the status.

    :param attempts: rounds with the input. A kill may have kept some requests from being sent
    :param error: the beginning of the failure object or of the refusal; None for a success, or if not wanted
    """

    source: str
    etag: str | None = None
    status: Status
    output_location: str | None = None
    failure_location: str | None = None
    inference_id: str | None = None
    attempts: int = 1
    error: str | None = field(default=None, repr=False)
    custom_attributes: str | None = field(default=None, repr=False)

    def as_line(self) -> str:
        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Row:
        return msgspec.convert(json.loads(line), cls)

    @property
    def failure(self) -> FailureGroup:
        """The row as a group of failures of its own."""
        message = (self.error or "")[:LONGEST_MESSAGE]
        return FailureGroup(self.status.value, None, message, count=1, examples=(Example(self.source),))


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """Inputs by status, and the sum of their attempts."""

    succeeded: int = 0
    failed: int = 0
    expired: int = 0
    refused: int = 0
    attempts: int = 0

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.expired + self.refused

    @property
    def unsuccessful(self) -> int:
        return self.total - self.succeeded

    @classmethod
    def of(cls, rows: Sequence[Row]) -> RowCounts:
        ended = Counter(row.status.value for row in rows)
        return cls(**ended, attempts=sum(row.attempts for row in rows))

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(**{name: count + getattr(other, name) for name, count in vars(self).items()})

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, status.value)} {status.value}" for status in Status)


@dataclass(frozen=True, kw_only=True)
class Report:
    """The report of a finished batch.

    :param started_at: when the plan was made, ISO 8601; ``finished_at``, when the last result was counted
    :param rows_location: prefix of the rows of all inputs, as JSON Lines
    :param failures_location: prefix of the rows of inputs without an output; None if there is no such input
    :param inputs_passed_over: objects below the inputs' prefix that are no inputs
    :param failures: inputs without an output, in groups, the greatest first; they hold texts of failure objects
    :param run: of the task that wrote it: a retry of that run returns the report as long as the inputs are the same
    """

    endpoint_name: str
    plan_digest: str
    counts: RowCounts
    started_at: str
    finished_at: str
    report_location: str
    rows_location: str
    failures_location: str | None = None
    report_page_location: str | None = None
    inputs_passed_over: int = 0
    failures: tuple[FailureGroup, ...] = field(default=(), repr=False)
    run: str | None = None
    written_by: TaskTry = field(default_factory=TaskTry)

    def checked(self, total: int) -> Report:
        """Return the report itself; raise InferenceError if the counts do not add up to the planned inputs."""
        if self.counts.total != total:
            raise InferenceError(
                f"the report on {self.endpoint_name} does not add up: {total} inputs were planned (plan "
                f"{self.plan_digest}), {self.counts.total} have a row ({self.counts}). No report was written; the rows "
                f"are below {self.rows_location}"
            )
        return self

    def summary(self) -> dict[str, str | int | None]:
        """Summarise the report for XCom: flat, small, with JSON values and no secrets."""
        return {
            "endpoint_name": self.endpoint_name,
            "inputs": self.counts.total,
            "inputs_passed_over": self.inputs_passed_over,
            **asdict(self.counts),
            "plan_digest": self.plan_digest,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "report_location": self.report_location,
            "report_page_location": self.report_page_location,
            "rows_location": self.rows_location,
            "failures_location": self.failures_location,
        }

    def as_json(self) -> str:
        """Encode ``report.json``: the summary, the groups of failures, and the run and try that wrote it."""
        more = {
            "run": self.run,
            "written_by": self.written_by.as_list(),
            "failure_groups": [group.as_json() for group in self.failures],
        }
        return json.dumps(self.summary() | more, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        given: dict[str, Any] = json.loads(text)
        given.pop("inputs")
        counts = RowCounts(**{count.name: given.pop(count.name) for count in fields(RowCounts)})
        written_by = TaskTry.from_list(given.pop("written_by", None))
        failures = tuple(map(FailureGroup.from_json, given.pop("failure_groups", ())))
        return cls(counts=counts, written_by=written_by, failures=failures, **given)
