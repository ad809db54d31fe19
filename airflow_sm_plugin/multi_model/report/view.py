"""The texts of a batch's report for people: the headline, the cards of figures, and the tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from airflow_sm_plugin.core.text import amount, count, duration, period, plural, share, shortened
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.statistics.latencies import Latencies
from airflow_sm_plugin.multi_model.statistics.shard_report import seconds_between

MOST_ROWS = 3_000
"""Rows of the table of models, so that the page stays below 1.5 MB; ``report.json`` has a row for each model."""

_MOST_FAILED_MODELS = 20
_MOST_FAILURES = 20
_SLOWEST = 10
_LONGEST_NAME = 100
_NOTHING = "-"

_HARDLY_PAUSED = 0.9
"""Share of the duration; from this share of active time on, the card does not name the active time."""


class Headline(NamedTuple):
    """The result in one sentence with further ones; *level* is ``good``, ``bad`` or ``idle``."""

    level: str
    text: str
    details: Sequence[str] = ()


class Card(NamedTuple):
    """A figure and its parts: texts, and whether each is bad news."""

    title: str
    figure: str
    notes: Sequence[tuple[str, bool]]


def view_of(report: BatchReport) -> dict[str, Any]:
    """Make the texts of a report's page, by their names in the template."""
    failed = report.failed_models
    good = [model for model in report.models if not model.failed]
    rows = [*failed, *sorted(good, key=lambda model: (-model.counts.records, model.target_model))]
    began, ended = (datetime.fromisoformat(iso) for iso in (report.started_at, report.finished_at))
    return {
        "when": period(began.timestamp(), ended.timestamp()),
        "headline": _headline(report),
        "cards": _cards(report),
        "failed_classes": _classes(report.failures_by_class),
        "retried_classes": _classes(report.retries_by_class),
        "failed_models": [_failed_model(model) for model in failed[:_MOST_FAILED_MODELS]],
        "more_failed_models": max(0, len(failed) - _MOST_FAILED_MODELS),
        "failures": [_failure(row) for row in _varied(report.failures)[:_MOST_FAILURES]],
        "more_failures": len(report.failures) > _MOST_FAILURES,
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
        "models": [_row(model) for model in rows[:MOST_ROWS]],
        "more_models": max(0, len(rows) - MOST_ROWS),
    }


# Headline and cards


def _headline(report: BatchReport) -> Headline:
    total, plan = report.total, report.plan
    bad: list[str] = []
    if report.missing_shards:
        bad.append(
            f"Unfinished: {count(len(report.missing_shards))} of {plural(plan.shards, 'shard')} without a report, "
            f"with {plural(report.unreported, 'input')}"
        )
    if total.records_failed:
        bad.append(f"{count(total.records_failed)} of {plural(total.records, 'record')} failed")
    if total.inputs_unread:
        bad.append(f"{plural(total.inputs_unread, 'input')} could not be read")
    if bad:
        return Headline("bad", bad[0], bad[1:])
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
        _card(
            "Records",
            count(total.records),
            f"{count(report.succeeded)} succeeded",
            _bad(total.records_failed, f"failed ({failed})"),
        ),
        _card(
            "Inputs",
            count(plan.inputs),
            _bad(total.inputs_failed, "with failures"),
            _bad(total.inputs_unread, "could not be read"),
            _bad(report.unreported, "not reported on"),
            f"{count(plan.carried)} more were done before" if plan.carried else "",
        ),
        _card(
            "Models",
            count(len(report.models)),
            _bad(len(report.failed_models), "with failures"),
            f"in {plural(plan.shards, 'shard')}",
        ),
        _duration(report),
        *_invocations(report),
        *_cold_starts(report),
    ]


def _duration(report: BatchReport) -> Card:
    seconds = seconds_between(report.started_at, report.finished_at)
    active = min(seconds, report.series.active_seconds)
    return _card(
        "Duration",
        duration(seconds),
        f"of these {duration(active)} active" if active < seconds * _HARDLY_PAUSED else "",
        f"{amount(report.succeeded / active)} records/s on average" if active else "",
    )


def _invocations(report: BatchReport) -> list[Card]:
    latencies = Latencies()
    for model in report.models:
        latencies.add(model.statistics.latencies.as_json())
    repeated = f"{plural(report.retries, 'attempt')} repeated"
    cards = [_card("Invocations", count(latencies.count), repeated)]
    if latencies.count:
        median, p95, p99 = (duration(latencies.quantile(part) or 0.0) for part in (0.5, 0.95, 0.99))
        longest = f"longest {duration(latencies.longest or 0.0)}"
        cards.append(_card("Median latency", median, f"p95 {p95}", f"p99 {p99}", longest))
    return cards


def _cold_starts(report: BatchReport) -> list[Card]:
    loads = sum(model.statistics.loads for model in report.models)
    loading = sum(model.cold_start_seconds for model in report.models)
    if not loads:
        return []
    mean = f"{duration(loading / loads)} on average"
    return [_card("Cold starts", count(loads), f"{duration(loading)} together", mean)]


def _card(title: str, figure: str, *notes: str | tuple[str, bool]) -> Card:
    """Make a card of those notes that have a text."""
    pairs = [(note, False) if isinstance(note, str) else note for note in notes]
    return Card(title, figure, [(text, is_bad) for text, is_bad in pairs if text])


def _bad(quantity: int, text: str) -> tuple[str, bool]:
    """Make a note of bad news; a number of 0 makes it empty."""
    return (f"{count(quantity)} {text}" if quantity else "", True)


# Tables


def _classes(counted: Mapping[str, int]) -> list[tuple[str, str, float]]:
    """List the classes with their numbers, also in percent of the most frequent class."""
    most = max(counted.values(), default=1)
    return [
        (name, count(occurrences), round(100 * occurrences / most, 1))
        for name, occurrences in counted.items()
    ]


def _failed_model(model: ModelReport) -> dict[str, str]:
    counts = model.counts
    classes = sorted(model.statistics.failures.items(), key=lambda item: (-item[1], item[0]))
    return {
        "model": model.target_model,
        "failed": count(counts.records_failed),
        "records": count(counts.records),
        "share": share(counts.records_failed, counts.records),
        "inputs": f"{count(counts.inputs_failed)} of {count(counts.inputs)}",
        "unread": count(counts.inputs_unread),
        "classes": ", ".join(f"{name} {count(failed)}" for name, failed in classes) or _NOTHING,
    }


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Sort rows: the first of each error class and model, then the second of each, and so on.

    So an input with many failures does not hide the others. Rows of consecutive records are joined.
    """
    ranks: Counter[tuple[str, str]] = Counter()

    def rank(row: Mapping[str, Any]) -> int:
        kind = (str(row.get("error")), str(row.get("target_model")))
        ranks[kind] += 1
        return ranks[kind]

    return sorted(_joined(rows), key=rank)


def _joined(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    joined: list[Mapping[str, Any]] = []
    for row in rows:
        if joined and _follows(before := joined[-1], row):
            joined[-1] = {**before, "record_count": before["record_count"] + row["record_count"]}
        else:
            joined.append(row)
    return joined


def _follows(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Decide whether *row* is about the records after *before*, with the same error."""
    first, record_count = before.get("first_record"), before.get("record_count")
    more = row.get("record_count")
    if first is None or record_count is None or more is None:
        return False
    return row == {**before, "first_record": first + record_count, "record_count": more}


def _failure(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "source": str(row.get("source")),
        "model": str(row.get("target_model")),
        "records": _records(row.get("first_record"), row.get("record_count")),
        "error": str(row.get("error")),
        "status": _NOTHING if row.get("status") is None else str(row["status"]),
        "attempts": str(row.get("attempts", _NOTHING)),
        "message": str(row.get("message") or ""),
    }


def _records(first: int | None, record_count: int | None) -> str:
    """Name the records of a failure row; None is the number of records in the rest of an unreadable input."""
    if first is None:
        return _NOTHING
    if record_count is None:
        return f"{count(first)} and all after it"
    return count(first) if record_count == 1 else f"{count(first)} to {count(first + record_count - 1)}"


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
        count(model.counts.inputs),
        count(latencies.count),
        count(model.retries),
        count(model.statistics.loads),
        f"{model.cold_start_seconds:.1f}" if model.statistics.loads else _NOTHING,
        *(_milliseconds(latencies.quantile(part)) for part in (0.5, 0.95)),
        _milliseconds(latencies.longest),
    ]


def _milliseconds(seconds: float | None) -> str:
    return _NOTHING if seconds is None else amount(seconds * 1_000)
