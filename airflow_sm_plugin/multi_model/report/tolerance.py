"""The decision whether a batch's failures fail its task, and the text of the error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.core.number_sets import from_numbers, to_ranges
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import InputChanged, InputNotFound, InvalidRequest
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts

_SHOWN_RANGES = 10
"""Ranges of map indexes named in an error."""

CLEAR_BATCH = (
    "correct the cause; then, to try again what failed or is not done, and nothing else, clear the batch tasks with "
    "what is downstream; clearing this task alone only reads the shards' reports again"
)
"""What to do about a failed batch of several tasks."""

_OWN_MESSAGES = frozenset({InputChanged.__name__, InputNotFound.__name__, InvalidRequest.__name__})
"""Errors whose message is ours, so that the task's log may show it; a container's text stays in S3."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The failures that do not fail a task.

    :param on_error: ``"fail"`` or ``"tolerate"``. An input that could not be read to its end has records that were
        not counted, so only ``"tolerate"`` without a ratio below 1 tolerates it
    :param failure_ratio: share of the records that is permitted to fail, 0 to 1; None is 0 with ``"fail"`` and 1 with
        ``"tolerate"``
    """

    on_error: str = "fail"
    failure_ratio: float | None = None

    def checked(self) -> Tolerance:
        """Check the ratio, and return the tolerance itself.

        :raises InvalidRequest: the ratio is not between 0 and 1
        """
        if self.failure_ratio is not None and not 0 <= self.failure_ratio <= 1:
            raise InvalidRequest(f"tolerated_failure_ratio must be from 0 to 1, not {self.failure_ratio}")
        return self

    def is_exceeded(self, counts: ModelCounts) -> bool:
        if counts.inputs_unread and (self.on_error != "tolerate" or self.ratio < 1):
            return True
        return counts.records_failed > self.ratio * counts.records

    @property
    def ratio(self) -> float:
        """Share of the records that is permitted to fail."""
        return float(self.on_error == "tolerate") if self.failure_ratio is None else self.failure_ratio


def failure_text(report: BatchReport, tolerance: Tolerance, *, rows: int) -> str:
    """Describe a failed batch: counts, the first failures, the location of all failures.

    A failure's line has its input, model, class and status, but no text of a container.

    :param rows: failures named at most
    """
    about = f"batch of {plural(report.plan.inputs, 'input')} through endpoint {report.plan.endpoint_name}"
    lines = [f"{about}: {_counts(report, tolerance)}."]
    lines += [failure_line(row) for row in report.failures[:rows]]
    if len(report.failures) > rows > 0:
        lines.append("and more")
    outputs = report.plan.outputs.rstrip("/")
    lines.append(
        f"Outputs, and the failures of each input as .errors.jsonl, are below {outputs}/; the report is "
        f"{report.report_page_location}"
    )
    return "\n".join(map(presentable, lines))


def _counts(report: BatchReport, tolerance: Tolerance) -> str:
    total, missing = report.total, report.missing_shards
    parts = []
    if total.records:
        parts.append(
            f"{failed_share(total, tolerance)}, in {len(report.failed_models)} of {len(report.models)} models"
        )
    if total.inputs_unread:
        parts.append(f"{plural(total.inputs_unread, 'input')} could not be read to the end")
    if missing:
        parts.append(
            f"{len(missing)} of {plural(report.plan.shards, 'shard')}, with {plural(report.unreported, 'input')}, "
            f"without a report: the batch tasks with map index {_in_ranges(missing)} did not finish, their logs say why"
        )
    return "; ".join(parts)


def _in_ranges(numbers: Iterable[int]) -> str:
    """Shorten numbers to ranges: 1, 4-7."""
    ranges = to_ranges(from_numbers(numbers))
    shown = [
        str(first) if end - first == 1 else f"{first}-{end - 1}" for first, end in ranges[:_SHOWN_RANGES]
    ]
    return ", ".join([*shown, "…"] if len(ranges) > _SHOWN_RANGES else shown)


def failed_share(total: ModelCounts, tolerance: Tolerance, *, is_shard: bool = False) -> str:
    """Describe the failed records and how many are tolerated.

    :param is_shard: whether the task does one shard of a plan: then the task that merges the reports decides
    """
    share = 100 * total.records_failed / total.records if total.records else 0.0
    tolerated = f"tolerated {100 * tolerance.ratio:.3g} %"
    if tolerance.ratio >= 1:
        tolerated = "no limit in a shard, the merge task decides" if is_shard else "no limit"
    return f"{total.records_failed} of {plural(total.records, 'record')} failed ({share:.3g} %, {tolerated})"


def failure_line(row: Mapping[str, Any]) -> str:
    """Describe a failure row without any text of a container."""
    status = "" if row.get("status") is None else f" ({row['status']})"
    rest = ", all" if row.get("record_count") is None else ""
    reason = f": {row.get('message')!s:.300}" if row.get("error") in _OWN_MESSAGES else ""
    records = f"{row.get('source')}{rest} from record {row.get('first_record')}"
    return f"{records}: model {row.get('target_model')}: {row.get('error')}{status}{reason}"
