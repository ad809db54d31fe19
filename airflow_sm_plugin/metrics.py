"""Metrics of batches and waits, in Airflow's own statistics: StatsD or OpenTelemetry, as Airflow is configured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin._compat import Context, stats

_PREFIX = "sagemaker_inference."


def count(context: Context, name: str, figures: Mapping[str, Any], *, endpoint_name: str) -> None:
    """Increment a counter for each number, e.g. ``sagemaker_inference.multi_model_batch.records``.

    :param name: of the group of counters
    :param figures: by the counter's own name; what is no number, or 0, is left out
    :param endpoint_name: a tag, beside ``dag_id`` and ``task_id``
    """
    for figure, number in figures.items():
        if isinstance(number, int) and number > 0:
            stats().incr(f"{_PREFIX}{name}.{figure}", number, tags=_tags(context, endpoint_name))


def waited(context: Context, name: str, seconds: float, *, endpoint_name: str) -> None:
    """Record how long a task waited, in Airflow's unit, milliseconds: ``sagemaker_inference.<name>.wait``."""
    stats().timing(f"{_PREFIX}{name}.wait", seconds * 1_000, tags=_tags(context, endpoint_name))


def _tags(context: Context, endpoint_name: str) -> dict[str, str]:
    ti: Any = context.get("ti")
    names = {name: getattr(ti, name, None) for name in ("dag_id", "task_id")}
    return {name: str(value) for name, value in names.items() if value} | {"endpoint_name": endpoint_name}
