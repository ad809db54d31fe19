"""The decision whether a batch's failures fail its task, and the text of the error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.batches.report.elements import group_line
from airflow_sm_plugin.core.number_sets import from_numbers, to_ranges
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import EndpointNotFound, InvalidRequest
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelFailures, Stop
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts

_SHOWN_RANGES = 10
"""Ranges of map indexes named in an error."""


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
    """Describe a failed batch: counts, what stopped shards, the failures by kind, the reports.

    :param rows: groups of failures named at most, the greatest first
    """
    about = f"batch of {plural(report.plan.inputs, 'input')} through endpoint {report.plan.endpoint_name}"
    outputs = report.plan.outputs.rstrip("/")
    where = f"Outputs, and the failures of each input as .errors.jsonl, are below {outputs}/; the report is "
    lines = [
        f"{about}: {_counts(report, tolerance)}.",
        *(f"Reason: {stop_line(stop, report.plan.shards)}" for stop in report.stops),
        *group_lines(report.failure_groups, rows),
        f"{where}{report.report_page_location}",
    ]
    return "\n".join(map(presentable, lines))


def group_lines(groups: Sequence[ModelFailures], rows: int) -> list[str]:
    """Describe groups of failures, one line for each of the first *rows*, with the containers' words."""
    lines = [group_line(target_model, group, "record") for target_model, group in groups[:rows]]
    if len(groups) > rows > 0:
        rest = sum(group.count for _, group in groups[rows:])
        lines.append(
            f"and {plural(rest, 'record')} in {plural(len(groups) - rows, 'further group')} of failures"
        )
    return lines


def stop_line(stop: Stop, shards: int) -> str:
    """Describe why shards stopped, with their map indexes."""
    named = f"{len(stop.shards)} of {plural(shards, 'shard')} (map index {_in_ranges(stop.shards)})"
    if stop.reason is None:
        return f"{named} did not finish and left no error, as after a kill: see the logs of these tasks"
    return f"{named} stopped: {stop.reason.error}: {stop.reason.message}"


def advice(report: BatchReport, clear: str) -> str:
    """Describe what to do about a failed batch."""
    errors = {stop.reason.error for stop in report.stops if stop.reason is not None}
    rest = "what is not done" if report.missing_shards else "what failed"
    if report.missing_shards and report.total.failed:
        rest += " and what failed"
    if EndpointNotFound.__name__ in errors:
        first = f"deploy endpoint {report.plan.endpoint_name}, then clear"
    elif errors or report.total.failed:
        first = "correct the cause, then clear"
    else:
        first = "clear"
    return f"{first} {clear}: only {rest} is sent"


def _counts(report: BatchReport, tolerance: Tolerance) -> str:
    total, missing = report.total, report.missing_shards
    parts = []
    if missing:
        parts.append(
            f"{plural(report.done, 'input')} done; {len(missing)} of {plural(report.plan.shards, 'shard')} stopped, "
            f"with {plural(report.unreported, 'input')} left"
        )
    if total.records and (total.records_failed or not missing):
        by_stops = (
            f", {report.failed_by_stops} of them as the shards stopped" if report.failed_by_stops else ""
        )
        parts.append(
            f"{failed_share(total, tolerance)}, in {len(report.failed_models)} of "
            f"{plural(len(report.models), 'model')}{by_stops}"
        )
    if total.inputs_unread:
        parts.append(f"{plural(total.inputs_unread, 'input')} could not be read to the end")
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
