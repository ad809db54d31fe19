"""Metrics of batches and waits, in Airflow's own statistics: StatsD or OpenTelemetry, as Airflow is configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin._compat import Context, stats

_PREFIX = "sagemaker_inference."

COUNTERS = (
    *("inputs", "inputs_failed", "records", "succeeded", "failed", "expired", "refused"),
    *("invocations", "retries", "cold_starts"),
)
"""Those of a batch: of a shard or a whole multi-model batch, or of an asynchronous batch."""


def count(context: Context, name: str, figures: Mapping[str, Any], *, endpoint_name: str) -> None:
    """Increment a counter for each number, e.g. ``sagemaker_inference.multi_model_batch.records``.

    :param name: of the group of counters
    :param figures: a report's summary: the counters in it that are numbers above 0
    :param endpoint_name: a tag, beside ``dag_id`` and ``task_id``
    """
    for figure in COUNTERS:
        number = figures.get(figure)
        if isinstance(number, int) and number > 0:
            stats().incr(f"{_PREFIX}{name}.{figure}", number, tags=_tags(context, endpoint_name))


def waited(context: Context, name: str, seconds: float, *, endpoint_name: str | None = None) -> None:
    """Record how long a task waited, in Airflow's unit, milliseconds: ``sagemaker_inference.<name>.wait``."""
    stats().timing(f"{_PREFIX}{name}.wait", seconds * 1_000, tags=_tags(context, endpoint_name))


def _tags(context: Context, endpoint_name: str | None) -> dict[str, str]:
    ti: Any = context.get("ti")
    tags = {name: getattr(ti, name, None) for name in ("dag_id", "task_id")} | {
        "endpoint_name": endpoint_name
    }
    return {name: str(value) for name, value in tags.items() if value}
