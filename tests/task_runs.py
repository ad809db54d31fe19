"""A task taken through Airflow's steps: a worker executes it, a triggerer waits, another worker resumes it.

Each step has an operator, or a trigger, made again, and only JSON values go from one step to the next, so that each may
be taken by a process of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow.triggers.base import BaseTrigger

from airflow_sm_plugin._compat import BaseOperator, Context
from tests.task_instances import RETURN_VALUE, TaskInstanceDouble

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk.exceptions import TaskDeferred
else:
    try:
        from airflow.sdk.exceptions import TaskDeferred
    except ImportError:  # before Airflow 3.1
        from airflow.exceptions import TaskDeferred

__all__ = [
    "DagRunDouble",
    "Deferral",
    "Ended",
    "Step",
    "TaskDeferred",
    "context_for",
    "deferred",
    "event_from",
    "event_of",
    "execute",
    "go_on",
    "rebuilt",
    "resume",
    "run_task",
]

EVENT_SECONDS = 800.0
"""How long a trigger may take until its event: no test waits so long, however busy the machine is."""


@dataclass(frozen=True)
class DagRunDouble:
    """The part of a DAG run that our operators use.

    :param start_date: when it began; it moves when the run is cleared
    """

    start_date: datetime | None = None
    clear_number: int | None = None


@dataclass(frozen=True)
class Deferral:
    """Airflow's record of a deferred task: JSON values."""

    trigger_path: str
    trigger_arguments: Mapping[str, Any]
    method_name: str
    kwargs: Mapping[str, Any]

    @classmethod
    def of(cls, deferred: TaskDeferred) -> Deferral:
        """Store what a task deferred with."""
        path, arguments = deferred.trigger.serialize()
        return cls(path, _as_json(arguments), deferred.method_name, _as_json(deferred.kwargs or {}))

    @property
    def trigger(self) -> BaseTrigger:
        """Make a new trigger, as each triggerer that takes it does."""
        module, _, name = self.trigger_path.rpartition(".")
        cls: type[BaseTrigger] = getattr(importlib.import_module(module), name)
        return cls(**_as_json(self.trigger_arguments))


@dataclass(frozen=True)
class Ended:
    """The end of a task.

    :param result: what another task pulls of what it returned; None where nothing was pushed
    """

    result: Any


Step = Deferral | Ended


def context_for(ti: TaskInstanceDouble | None = None, dag_run: DagRunDouble | None = None) -> Context:
    """Return a context with a task instance in it."""
    ti = ti or TaskInstanceDouble()
    context = {"ti": ti, "task_instance": ti, "run_id": ti.run_id, "params": {}}
    return cast("Context", context if dag_run is None else context | {"dag_run": dag_run})


def execute(make: Callable[[], BaseOperator], context: Context) -> Step:
    """Begin a try of a task; what an earlier try pushed is gone."""
    _ti(context).xcom.clear()
    return _step(make, context, lambda operator: operator.execute(context))


def resume(
    make: Callable[[], BaseOperator], context: Context, deferral: Deferral, event: Mapping[str, Any]
) -> Step:
    """Go on with a try whose trigger has fired."""
    kwargs = {**_as_json(deferral.kwargs), "event": _as_json(event)}
    return _step(
        make, context, lambda operator: operator.resume_execution(deferral.method_name, kwargs, context)
    )


def _step(make: Callable[[], BaseOperator], context: Context, work: Callable[[BaseOperator], object]) -> Step:
    operator = make()
    operator.render_template_fields(context)
    try:
        result = work(operator)
    except TaskDeferred as deferred:
        return Deferral.of(deferred)
    _ti(context).push_result(operator, result)
    return Ended(_ti(context).xcom.get(RETURN_VALUE))


def go_on(make: Callable[[], BaseOperator], context: Context, step: Step) -> Any:  # noqa: ANN401 - whatever the task returns
    """Take a try on to its end; return what another task pulls of its result."""
    while isinstance(step, Deferral):
        step = resume(make, context, step, event_of(step.trigger))
    return step.result


def run_task(make: Callable[[], BaseOperator], context: Context | None = None) -> Any:  # noqa: ANN401 - whatever the task returns
    """Run a try of a task to its end, deferrals included; return what another task pulls of its result."""
    context = context or context_for()
    return go_on(make, context, execute(make, context))


def deferred(operator: BaseOperator, context: Context | None = None) -> TaskDeferred:
    """Execute an operator that must defer; return what Airflow would get."""
    try:
        operator.execute(context or context_for())
    except TaskDeferred as deferral:
        return deferral
    raise AssertionError(f"{operator.task_id} did not defer")


def rebuilt(trigger: BaseTrigger) -> BaseTrigger:
    """Return the trigger as a triggerer makes it: from class path and arguments that were JSON in between."""
    return Deferral.of(TaskDeferred(trigger=trigger, method_name="")).trigger


async def event_from(trigger: BaseTrigger, *, within: float = EVENT_SECONDS) -> dict[str, Any]:
    """Run a trigger (as it is: see :func:`rebuilt`) to its end and return the payload of its only event."""
    async with asyncio.timeout(within):
        events = [event.payload async for event in trigger.run()]
    if len(events) != 1:
        raise AssertionError(f"a trigger emits one event, not {events}")
    return cast("dict[str, Any]", _as_json(events[0]))


def event_of(trigger: BaseTrigger, *, within: float = EVENT_SECONDS) -> dict[str, Any]:
    """Do as :func:`event_from`, in an event loop of its own."""
    return asyncio.run(event_from(trigger, within=within))


def _ti(context: Context) -> TaskInstanceDouble:
    return cast("TaskInstanceDouble", context["ti"])


def _as_json(value: object) -> Any:  # noqa: ANN401 - the same value, unless JSON cannot hold it
    return json.loads(json.dumps(value))
