"""The texts of a batch's report for people: the headline, the cards of figures, and the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_sm_plugin.batches.report.elements import (
    MOST_SHOWN,
    NO_RUN,
    Card,
    Headline,
    RunContext,
    bad,
    card,
    shown_groups,
)
from airflow_sm_plugin.core.text import amount, count, duration, period, plural, share, shortened
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.report.tolerance import advice, stop_line
from airflow_sm_plugin.multi_model.statistics.latencies import Latencies
from airflow_sm_plugin.multi_model.statistics.shard_report import seconds_between

MOST_ROWS = 5_000
"""Rows of the table of models, so that the page stays below 2 MB; ``report.json`` has a row for each model."""

_SLOWEST = 10
_LONGEST_NAME = 100
_NOTHING = "-"

_HARDLY_PAUSED = 0.9
"""Share of the duration; from this share of active time on, the card does not name the active time."""


def view_of(report: BatchReport, context: RunContext = NO_RUN) -> dict[str, Any]:
    """Make the texts of a report's page, by their names in the template."""
    failed = report.failed_models
    good = [model for model in report.models if not model.failed]
    rows = [*failed, *sorted(good, key=lambda model: (-model.counts.records, model.target_model))]
    began, ended = (datetime.fromisoformat(iso) for iso in (report.started_at, report.finished_at))
    return {
        "when": period(began.timestamp(), ended.timestamp()),
        "headline": _headline(report, context),
        "cards": _cards(report),
        "failed_classes": _classes(report.failures_by_class),
        "retried_classes": _classes(report.retries_by_class),
        "groups": shown_groups(report.failure_groups[:MOST_SHOWN], "record"),
        "more_groups": max(0, len(report.failure_groups) - MOST_SHOWN),
        "slowest": _greatest(
            report.models,
            lambda model: model.statistics.latencies.quantile(0.95) or 0.0,
            lambda model: plural(model.statistics.latencies.count, "invocation"),
        ),
        "coldest": _greatest(
            report.models,
            lambda model: model.cold_start_seconds,
            lambda model: plural(model.statistics.loads, "cold start"),
        ),
        "missing_artefacts": [model.target_model for model in report.models if model.missing],
        "models": [(model.failed or model.unreported > 0, _row(model)) for model in rows[:MOST_ROWS]],
        "more_models": max(0, len(rows) - MOST_ROWS),
    }


# Headline and cards


def _headline(report: BatchReport, context: RunContext) -> Headline:
    total, plan = report.total, report.plan
    problems: list[str] = []
    if report.missing_shards:
        problems.append(
            f"Unfinished: {count(report.done)} of {plural(plan.inputs, 'input')} done, "
            f"{count(len(report.missing_shards))} of {plural(plan.shards, 'shard')} stopped"
        )
        problems += [stop_line(stop, plan.shards) for stop in report.stops]
    if total.records_failed:
        by_stops = (
            f", {count(report.failed_by_stops)} of them as the shards stopped"
            if report.failed_by_stops
            else ""
        )
        problems.append(
            f"{count(total.records_failed)} of {plural(total.records, 'record')} failed{by_stops}"
        )
    if total.inputs_unread:
        problems.append(f"{plural(total.inputs_unread, 'input')} could not be read to the end")
    if problems:
        remedy = advice(report, context.clear)
        return Headline("bad", problems[0], problems[1:], f"{remedy[:1].upper()}{remedy[1:]}.")
    if not plan.inputs:
        why = f"an earlier plan did all {plural(plan.carried, 'input')}" if plan.carried else "no inputs"
        return Headline("idle", f"Nothing to do: {why}")
    if not total.records:
        return Headline("good", "All inputs are empty: no records")
    all_records = "The only record" if total.records == 1 else f"All {count(total.records)} records"
    return Headline("good", f"{all_records} succeeded")


def _cards(report: BatchReport) -> list[Card]:
    total, plan = report.total, report.plan
    failed = share(total.records_failed, total.records)
    return [
        card(
            "Records",
            count(total.records),
            f"{count(report.succeeded)} succeeded",
            bad(total.records_failed, f"failed ({failed})"),
        ),
        card(
            "Inputs",
            count(plan.inputs),
            f"{count(report.done)} done" if report.done < plan.inputs else "",
            bad(total.inputs_failed, "with failures"),
            bad(total.inputs_unread, "could not be read"),
            bad(report.unreported, "not done"),
            f"{count(plan.carried)} more were done before" if plan.carried else "",
        ),
        card(
            "Models",
            count(len(report.models)),
            bad(len(report.failed_models), "with failures"),
            f"in {plural(plan.shards, 'shard')}",
        ),
        _duration(report),
        *_invocations(report),
        *_cold_starts(report),
    ]


def _duration(report: BatchReport) -> Card:
    seconds = seconds_between(report.started_at, report.finished_at)
    active = min(seconds, report.series.active_seconds)
    return card(
        "Duration",
        duration(seconds),
        f"of these {duration(active)} active" if active < seconds * _HARDLY_PAUSED else "",
        f"{amount(report.succeeded / active)} records/s on average" if active else "",
    )


def _invocations(report: BatchReport) -> list[Card]:
    latencies = Latencies()
    for model in report.models:
        latencies.add(model.statistics.latencies.as_json())
    sent = report.invocations
    succeeded = f"of these {count(latencies.count)} succeeded" if latencies.count < sent else ""
    cards = [card("Invocations", count(sent), succeeded, f"{plural(report.retries, 'attempt')} repeated")]
    if latencies.count:
        median, p95, p99 = (duration(latencies.quantile(part) or 0.0) for part in (0.5, 0.95, 0.99))
        longest = f"longest {duration(latencies.longest or 0.0)}"
        cards.append(card("Median latency", median, f"p95 {p95}", f"p99 {p99}", longest))
    return cards


def _cold_starts(report: BatchReport) -> list[Card]:
    loads = sum(model.statistics.loads for model in report.models)
    loading = sum(model.cold_start_seconds for model in report.models)
    if not loads:
        return []
    mean = f"{duration(loading / loads)} on average"
    return [card("Cold starts", count(loads), f"{duration(loading)} together", mean)]


# Tables


def _classes(counted: Mapping[str, int]) -> list[tuple[str, str, float]]:
    """List the classes with their numbers, also in percent of the most frequent class."""
    most = max(counted.values(), default=1)
    return [
        (name, count(occurrences), round(100 * occurrences / most, 1))
        for name, occurrences in counted.items()
    ]


def _greatest(
    models: Sequence[ModelReport], seconds: Callable[[ModelReport], float], note: Callable[[ModelReport], str]
) -> list[tuple[str, str, str]]:
    ordered = sorted(filter(seconds, models), key=lambda model: (-seconds(model), model.target_model))
    return [(model.target_model, duration(seconds(model)), note(model)) for model in ordered[:_SLOWEST]]


def _row(model: ModelReport) -> list[str]:
    latencies = model.statistics.latencies
    return [
        shortened(model.target_model, _LONGEST_NAME),
        count(model.counts.records),
        count(model.counts.records_failed),
        _inputs(model),
        count(model.statistics.invocations),
        count(model.retries),
        count(model.statistics.loads),
        f"{model.cold_start_seconds:.1f}" if model.statistics.loads else _NOTHING,
        *(_milliseconds(latencies.quantile(part)) for part in (0.5, 0.95)),
        _milliseconds(latencies.longest),
    ]


def _inputs(model: ModelReport) -> str:
    done = count(model.counts.inputs)
    return f"{done} of {count(model.counts.inputs + model.unreported)}" if model.unreported else done


def _milliseconds(seconds: float | None) -> str:
    return _NOTHING if seconds is None else amount(seconds * 1_000)
