"""The texts of a batch's report for people: the headline, figures and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_sm_plugin.core.text import amount, count, duration, period, plural, share, shortened
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ModelReport
from airflow_sm_plugin.multi_model.report.figures import Card, Headline, cards_of, headline_of

MOST_ROWS = 3_000
"""Rows of the table of models; ``report.json`` has them all."""

_MOST_FAILED_MODELS = 20
_MOST_FAILURES = 20
_SLOWEST = 10
_LONGEST_NAME = 100
_NOTHING = "-"


@dataclass(frozen=True)
class ErrorClass:
    """How often an error came, also in percent of the most frequent model."""

    name: str
    number: str
    percent: float


@dataclass(frozen=True, kw_only=True)
class View:
    """All texts of the page but those of charts.

    :param models: rows of the table of models, those with failures first
    :param more_models: how many have no row
    """

    endpoint_name: str
    when: str
    outputs: str
    plan_digest: str
    headline: Headline
    cards: Sequence[Card]
    failed_classes: Sequence[ErrorClass]
    retried_classes: Sequence[ErrorClass]
    failed_models: Sequence[Mapping[str, str]]
    more_failed_models: int
    failures: Sequence[Mapping[str, str]]
    more_failures: bool
    slowest: Sequence[tuple[str, str, str]]
    coldest: Sequence[tuple[str, str, str]]
    missing_artefacts: Sequence[str]
    models: Sequence[Sequence[str]]
    more_models: int


def view_of(report: BatchReport) -> View:
    """Return the texts of a report's page."""
    failed = report.failed_models
    rest = [model for model in report.models if not model.failed]
    rows = [*failed, *sorted(rest, key=lambda model: (-model.counts.records, model.target_model))]
    return View(
        endpoint_name=report.plan.endpoint_name,
        when=period(_epoch(report.started_at), _epoch(report.finished_at)),
        outputs=report.plan.outputs,
        plan_digest=report.plan.digest,
        headline=headline_of(report),
        cards=cards_of(report),
        failed_classes=_classes(report.failures_by_class),
        retried_classes=_classes(report.retries_by_class),
        failed_models=[_failed_model(model) for model in failed[:_MOST_FAILED_MODELS]],
        more_failed_models=max(0, len(failed) - _MOST_FAILED_MODELS),
        failures=[_failure(row) for row in _varied(report.failures)[:_MOST_FAILURES]],
        more_failures=len(report.failures) > _MOST_FAILURES,
        slowest=_greatest(
            report.models,
            lambda model: model.statistics.latencies.quantile(0.95) or 0.0,
            lambda model: plural(model.statistics.latencies.count, "invocation"),
        ),
        coldest=_greatest(
            report.models,
            lambda model: model.cold_start_seconds,
            lambda model: plural(model.statistics.loads, "cold start"),
        ),
        missing_artefacts=[model.target_model for model in report.models if model.missing],
        models=[_row(model) for model in rows[:MOST_ROWS]],
        more_models=max(0, len(rows) - MOST_ROWS),
    )


def _classes(counted: Mapping[str, int]) -> list[ErrorClass]:
    most = max(counted.values(), default=1)
    return [
        ErrorClass(name, count(number), round(100 * number / most, 1)) for name, number in counted.items()
    ]


def _failed_model(model: ModelReport) -> dict[str, str]:
    classes = sorted(model.statistics.failures.items(), key=lambda item: (-item[1], item[0]))
    return {
        "model": model.target_model,
        "failed": count(model.counts.records_failed),
        "records": count(model.counts.records),
        "share": share(model.counts.records_failed, model.counts.records),
        "inputs": f"{count(model.counts.inputs_failed)} of {count(model.counts.inputs)}",
        "unread": count(model.counts.inputs_unread),
        "classes": ", ".join(f"{name} {count(number)}" for name, number in classes) or _NOTHING,
    }


def _varied(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows with the first of each error class and model first, then the second of each, and so on.

    So no input with many failures hides another; rows of records that follow each other are one.
    """
    seen: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Mapping[str, Any]]] = []
    for row in _joined(rows):
        kind = (str(row.get("error")), str(row.get("target_model")))
        seen[kind] += 1
        ranked.append((seen[kind], row))
    return [row for _, row in sorted(ranked, key=lambda each: each[0])]


def _joined(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    joined: list[Mapping[str, Any]] = []
    for row in rows:
        before = joined[-1] if joined else None
        if before is not None and _follows(before, row):
            joined[-1] = {**before, "record_count": before["record_count"] + row["record_count"]}
        else:
            joined.append(row)
    return joined


def _follows(before: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Decide whether a row is about the next records, with the same error as the row before."""
    same = ("source", "target_model", "error", "status", "message", "attempts")
    first, number = before.get("first_record"), before.get("record_count")
    return (
        first is not None
        and number is not None
        and row.get("record_count") is not None
        and row.get("first_record") == first + number
        and all(before.get(key) == row.get(key) for key in same)
    )


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


def _records(first: int | None, number: int | None) -> str:
    """Return which records a failure row is about; those of an input that cannot be read are not counted."""
    if first is None:
        return _NOTHING
    if number is None:
        return f"{count(first)} and all after it"
    return count(first) if number == 1 else f"{count(first)} to {count(first + number - 1)}"


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
        *(_milliseconds(latencies.quantile(at)) for at in (0.5, 0.95)),
        _milliseconds(latencies.longest),
    ]


def _milliseconds(seconds: float | None) -> str:
    return _NOTHING if seconds is None else amount(seconds * 1_000)


def _epoch(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
