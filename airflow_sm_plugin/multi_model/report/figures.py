"""The headline of a batch's report and its figures, as texts for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_sm_plugin.core.text import amount, count, duration, plural, share
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport
from airflow_sm_plugin.multi_model.statistics.latencies import Latencies
from airflow_sm_plugin.multi_model.statistics.shard_report import seconds_between

_HARDLY_PAUSED = 0.9
"""Which share of the duration has to be active so that the card does not name the active time."""


@dataclass(frozen=True)
class Headline:
    """How it went: ``good``, ``bad`` or ``idle``, in one sentence, and further ones."""

    level: str
    text: str
    details: Sequence[str] = ()


@dataclass(frozen=True)
class Card:
    """A figure, and what it is made of: texts, and whether each is bad news."""

    title: str
    figure: str
    notes: Sequence[tuple[str, bool]] = ()


def headline_of(report: BatchReport) -> Headline:
    """Return how it went; what was not done comes before what failed."""
    total, shards = report.total, report.plan.shards
    bad: list[str] = []
    if report.missing_shards:
        bad.append(
            f"Unfinished: {count(len(report.missing_shards))} of {plural(shards, 'shard')} without a report, with "
            f"{plural(report.unreported, 'input')}"
        )
    if total.records_failed:
        bad.append(f"{count(total.records_failed)} of {plural(total.records, 'record')} failed")
    if total.inputs_unread:
        bad.append(f"{plural(total.inputs_unread, 'input')} could not be read")
    if bad:
        return Headline("bad", bad[0], bad[1:])
    if not report.plan.inputs:
        why = (
            f"an earlier plan did all {plural(report.plan.carried, 'input')}"
            if report.plan.carried
            else "no inputs"
        )
        return Headline("idle", f"Nothing to do: {why}")
    if not total.records:
        return Headline("good", "All inputs are empty: no records")
    return Headline(
        "good",
        "The only record succeeded"
        if total.records == 1
        else f"All {count(total.records)} records succeeded",
    )


def cards_of(report: BatchReport) -> list[Card]:
    """Return the figures that a reader wants first."""
    latencies = Latencies()
    for model in report.models:
        latencies.add(model.statistics.latencies.as_json())
    return [*_counts(report), _duration(report), *_calls(report, latencies), *_cold_starts(report)]


def _counts(report: BatchReport) -> list[Card]:
    total = report.total
    failed = share(total.records_failed, total.records)
    carried = f"{count(report.plan.carried)} more were done before" if report.plan.carried else ""
    return [
        Card(
            "Records",
            count(total.records),
            _notes(
                (f"{count(report.succeeded)} succeeded", False), (total.records_failed, f"failed ({failed})")
            ),
        ),
        Card(
            "Inputs",
            count(report.plan.inputs),
            _notes(
                (total.inputs_failed, "with failures"),
                (total.inputs_unread, "could not be read"),
                (report.unreported, "not reported on"),
                (carried, False),
            ),
        ),
        Card(
            "Models",
            count(len(report.models)),
            _notes(
                (sum(1 for model in report.models if model.failed), "with failures"),
                (f"in {plural(report.plan.shards, 'shard')}", False),
            ),
        ),
    ]


def _duration(report: BatchReport) -> Card:
    seconds = seconds_between(report.started_at, report.finished_at)
    active = min(seconds, report.series.active_seconds)
    return Card(
        "Duration",
        duration(seconds),
        _notes(
            (f"of these {duration(active)} active" if active < seconds * _HARDLY_PAUSED else "", False),
            (f"{amount(report.succeeded / active)} records/s on average" if active else "", False),
        ),
    )


def _calls(report: BatchReport, latencies: Latencies) -> list[Card]:
    retries = sum(model.retries for model in report.models)
    notes = _notes((f"{plural(retries, 'attempt')} repeated", False))
    cards = [Card("Invocations", count(latencies.count), notes)]
    if latencies.count:
        quantiles = [(name, latencies.quantile(at)) for name, at in (("p95", 0.95), ("p99", 0.99))]
        notes = _notes(
            *((f"{name} {_seconds(value)}", False) for name, value in quantiles),
            (f"longest {_seconds(latencies.longest)}", False),
        )
        cards.append(Card("Median latency", _seconds(latencies.quantile(0.5)), notes))
    return cards


def _cold_starts(report: BatchReport) -> list[Card]:
    loads = sum(model.statistics.loads for model in report.models)
    loading = sum(model.cold_start_seconds for model in report.models)
    if not loads:
        return []
    together, each = f"{duration(loading)} together", f"{duration(loading / loads)} on average"
    return [Card("Cold starts", count(loads), _notes((together, False), (each, False)))]


def _notes(*given: tuple[str, bool] | tuple[int, str]) -> list[tuple[str, bool]]:
    """Return notes: a text, or a number of something bad, which is left out where it is 0."""
    notes: list[tuple[str, bool]] = []
    for first, second in given:
        if isinstance(second, str):
            notes += [(f"{count(int(first))} {second}", True)] if first else []
        elif first:
            notes.append((str(first), False))
    return notes


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)
