"""The report of an asynchronous batch: a row for each input, and counts that add up.

Rows hold custom attributes and the beginning of failure texts, so they stay in S3; only :meth:`Report.summary` goes to
XCom and the log.
"""

from __future__ import annotations

import enum
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import msgspec

from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import InferenceError


class Status(enum.StrEnum):
    """How an input ended."""

    SUCCEEDED = "succeeded"
    """Its output is there."""

    FAILED = "failed"
    """Its failure object is there, at the last attempt."""

    EXPIRED = "expired"
    """Neither was there by the deadline of the last attempt."""

    REFUSED = "refused"
    """SageMaker did not accept it, and would not the next time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The end of one input; a line has the same keys whatever the status.

    :param attempts: in how many rounds it was sent; the report has their sum. A kill may have kept some from being sent
    :param error: the beginning of the failure object, or of the refusal; None when it succeeded or is not to be read
    :param custom_attributes: as they were sent
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
        """Return it as one line of JSON without a line break, as :meth:`from_line` reads it."""
        return json.dumps(vars(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> Row:
        return msgspec.convert(json.loads(line), cls)


@dataclass(frozen=True, kw_only=True)
class RowCounts:
    """How many inputs ended how, and how many requests that took."""

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
        """The number of inputs without an output."""
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
    """The whole batch; it holds no secrets.

    :param plan_digest: of the inputs, as the plan has it
    :param started_at: ISO 8601, when the first try began; ``finished_at``, when the last result was counted
    :param report_location: of this report itself
    :param rows_location: prefix of the rows of all inputs, as JSON Lines
    :param failures_location: prefix of the rows of those without an output; None when there is none such
    :param inputs_passed_over: objects below the inputs' prefix that are no inputs, as the plan counted them
    :param run: which run of the task wrote it: a retry of that run returns it as it is, while the inputs are the same
    :param written_by: the try that wrote it
    """

    endpoint_name: str
    plan_digest: str
    counts: RowCounts
    started_at: str
    finished_at: str
    report_location: str
    rows_location: str
    failures_location: str | None = None
    inputs_passed_over: int = 0
    run: str | None = None
    written_by: TaskTry = field(default_factory=TaskTry)

    def checked(self, total: int) -> Report:
        """Return the report itself when it counts every planned input once.

        :param total: number of planned inputs
        :raises InferenceError: it does not, so it must not be believed
        """
        if self.counts.total != total:
            raise InferenceError(
                f"the report on {self.endpoint_name} does not add up: {total} inputs were planned (plan "
                f"{self.plan_digest}), {self.counts.total} have a row ({self.counts}). No report was written; the rows "
                f"are below {self.rows_location}"
            )
        return self

    def summary(self) -> dict[str, str | int | None]:
        """Return what goes to XCom: flat, small, with JSON values and no secrets."""
        return {
            "endpoint_name": self.endpoint_name,
            "inputs": self.counts.total,
            "inputs_passed_over": self.inputs_passed_over,
            **asdict(self.counts),
            "plan_digest": self.plan_digest,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "report_location": self.report_location,
            "rows_location": self.rows_location,
            "failures_location": self.failures_location,
        }

    def as_json(self) -> str:
        """Return the content of ``report.json``, as :meth:`from_json` reads it: the summary, and whose it is."""
        whose = {"run": self.run, "written_by": self.written_by.as_list()}
        return json.dumps(self.summary() | whose, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        given: dict[str, Any] = json.loads(text)
        given.pop("inputs")
        counts = RowCounts(**{one.name: given.pop(one.name) for one in fields(RowCounts)})
        written_by = TaskTry.from_list(given.pop("written_by", None))
        return cls(counts=counts, written_by=written_by, **given)
