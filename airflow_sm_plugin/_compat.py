"""Differences between Airflow 2.11 and 3: every other module imports Airflow's names from here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from airflow.configuration import conf

if TYPE_CHECKING or find_spec("airflow.sdk"):
    from airflow.sdk import (
        Asset,
        AssetAlias,
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        Context,
        PokeReturnValue,
        TaskGroup,
        XComArg,
    )
    from airflow.sdk.execution_time.xcom import XCom
else:  # Airflow 2.11
    from airflow.datasets import Dataset as Asset
    from airflow.datasets import DatasetAlias as AssetAlias
    from airflow.models import BaseOperator, XCom
    from airflow.models.baseoperatorlink import BaseOperatorLink
    from airflow.models.xcom_arg import XComArg
    from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
    from airflow.utils.context import Context
    from airflow.utils.task_group import TaskGroup

try:
    from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException
except ImportError:  # before Airflow 3.1
    from airflow.exceptions import AirflowFailException, AirflowSkipException  # type: ignore[no-redef]

__all__ = [
    "AirflowFailException",
    "AirflowSkipException",
    "Asset",
    "AssetAlias",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "Context",
    "PokeReturnValue",
    "TaskGroup",
    "XCom",
    "XComArg",
]


def first_reschedule_date(context: Context, *, retries: int) -> datetime | None:
    """Ask Airflow for the first poll of a sensor in reschedule mode, over all its tries; None at its first poll.

    Each poll is a separate process without memory of earlier ones.
    """
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        return cast("datetime | None", ti.get_first_reschedule_date(context))
    from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]  # Airflow 2.11's

    first_try = ti.max_tries - retries + 1
    started = _orig_start_date(ti.dag_id, ti.task_id, ti.run_id, ti.map_index, first_try)
    return cast("datetime | None", started)


async def task_state(task_instance: Any) -> str | None:  # noqa: ANN401 - a trigger's, whose type differs in each version
    """Ask Airflow 3 for the state of a trigger's task instance; None after the task was cleared.

    A triggerer that loses its triggers to another one cancels them as if their tasks had been killed: only the task's
    state differs.

    :raises LookupError: Airflow has no such task instance
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
    from asgiref.sync import sync_to_async

    states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
        dag_id=task_instance.dag_id,
        task_ids=[task_instance.task_id],
        run_ids=[task_instance.run_id],
        map_index=task_instance.map_index,
    )
    index = -1 if task_instance.map_index is None else task_instance.map_index
    name = task_instance.task_id if index < 0 else f"{task_instance.task_id}_{index}"
    state = states[task_instance.run_id][name]
    return None if state is None else str(getattr(state, "value", state))


def base_url() -> str:
    """Read the address of Airflow's web server; empty where it is not configured."""
    for section in ("api", "webserver"):  # the latter in Airflow 2.11
        if url := conf.get(section, "base_url", fallback=None):
            return str(url)
    return ""


def count_dag_runs(dag_id: str, *, run_id: str | None = None, states: Sequence[str] | None = None) -> int:
    """Count a DAG's runs from within a task.

    :param run_id: default any run
    :param states: default any state
    """
    run_ids = None if run_id is None else [run_id]
    if find_spec("airflow.sdk"):
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        wanted = None if states is None else list(states)
        return int(RuntimeTaskInstance.get_dr_count(dag_id=dag_id, run_ids=run_ids, states=wanted))
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session

    with create_session() as session:
        query = session.query(DagRun).filter(DagRun.dag_id == dag_id)
        if run_ids is not None:
            query = query.filter(DagRun.run_id.in_(run_ids))
        if states is not None:
            query = query.filter(DagRun.state.in_(states))
        return int(query.count())


def on_kill_seconds() -> float:
    """Read Airflow's time limit of a trigger's ``on_kill``."""
    return float(conf.getint("triggerer", "on_kill_timeout", fallback=30))


def default_deferrable() -> bool:
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def max_map_length() -> int:
    """Read Airflow's limit of the tasks into which a mapped task expands."""
    return int(conf.getint("core", "max_map_length", fallback=1024))


def stats() -> Any:  # noqa: ANN401 - a class or a module
    """Return Airflow's own statistics, with ``incr`` and ``timing``, which send to StatsD or OpenTelemetry."""
    try:
        from airflow.sdk.observability.stats import Stats
    except ImportError:  # before Airflow 3.2
        from airflow.stats import Stats
    return Stats


def dag_run_url(dag_id: str, run_id: str) -> str | None:
    """Build the address of a DAG run in Airflow's user interface; None where its base URL is not configured."""
    run, dag = quote(run_id, safe=""), quote(dag_id, safe="")
    if find_spec("airflow.sdk"):
        base, path = conf.get("api", "base_url", fallback=None), f"dags/{dag}/runs/{run}"
    else:  # Airflow 2.11
        base, path = conf.get("webserver", "base_url", fallback=None), f"dags/{dag}/grid?dag_run_id={run}"
    if not base or not base.startswith(("http://", "https://")):
        return None
    return f"{base.rstrip('/')}/{path}"
