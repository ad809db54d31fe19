"""The tests' task instance stores what Airflow's own code stores of a result, and fails where that fails."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_sm_plugin._compat import BaseOperator, Context
from tests.support import TaskInstanceDouble, context_for, run_task
from tests.task_instances import RETURN_VALUE

if TYPE_CHECKING:
    from airflow.sdk import DAG

    execute_and_push: Any
    supervisor: Any
    task_runner: Any
else:
    try:
        from airflow.sdk import DAG
        from airflow.sdk.execution_time import supervisor, task_runner

        execute_and_push = None
    except ImportError:  # Airflow 2.11
        from airflow.models.dag import DAG
        from airflow.models.taskinstance import _execute_task as execute_and_push

pytestmark = pytest.mark.airflow


class Returning(BaseOperator):
    """Returns what it is given."""

    def __init__(self, *, result: object = None, **kwargs: Any) -> None:  # noqa: ANN401 - Airflow's own
        super().__init__(**kwargs)
        self.result = result

    def execute(self, context: Context) -> Any:  # noqa: ANN401, ARG002 - as BaseOperator has it
        """Return it."""
        return self.result


@dataclass
class Unknown:
    """A value that Airflow can write and must not read again."""

    value: int = 1


class Unserialisable:
    """A value that Airflow cannot write."""


def make(result: object, *, mapped_over: bool = False, **arguments: Any) -> Returning:  # noqa: ANN401 - the operator's
    with DAG("a_dag", schedule=None):
        task = Returning(task_id="a_task", result=result, **arguments)
        if mapped_over:
            Returning.partial(task_id="mapped").expand(result=task.output)
    return task


def pushed_by_airflow(task: Returning) -> dict[str, Any]:
    """Have Airflow's own code push what a task returns; the values are stored as the double stores them."""
    store = TaskInstanceDouble()
    ti = SimpleNamespace(**vars(store), task=task, next_method=None, is_mapped=False)
    if execute_and_push is not None:
        ti.xcom_push = lambda key, value, session: store.xcom_push(key, value)  # noqa: ARG005 - Airflow's own
        execute_and_push(ti, {"outlet_events": {}}, task)
        return store.xcom
    ti.xcom_push = lambda key, value: task_runner._xcom_push(ti, key, value)
    with supervisor.set_supervisor_comms(SimpleNamespace(send=store.store)):
        task_runner._push_xcom_if_needed(task.result, ti, task_runner.log)
    return store.xcom


def ending(work: Callable[[], dict[str, Any]]) -> dict[str, Any] | type[Exception]:
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - whatever Airflow raises
        return type(error)


SINGLE = {"multiple_outputs": False}
RESULTS = {
    "nothing": (None, {}),
    "an empty mapping": ({}, {}),
    "None inside": ({"a": None, "b": [1, None, {"c": None}]}, {}),
    "what JSON has not": ({"a": (1, 2), "b": {"c"}}, {}),
    "no mapping": ("text", {}),
    "keys that are no text": ({1: "x"}, {}),
    "anything, as one output": ("text", SINGLE),
    "keys that are no text, as one output": ({1: "x"}, SINGLE),
    "infinite": ({"a": math.inf}, {}),
    "too large a number": ({"a": 2**70}, {}),
    "half a character": ({"a": "\ud800"}, {}),
    "a reserved key": ({"a": {"__classname__": "x"}}, {}),
    "what cannot be written": ({"a": Unserialisable()}, {}),
    "what must not be read": ({"a": Unknown()}, {}),
    "not to be pushed": ({"a": 1}, {"do_xcom_push": False}),
    "nothing to be mapped over": (None, {"mapped_over": True}),
    "not pushed, to be mapped over": ([1], {"mapped_over": True, "do_xcom_push": False, **SINGLE}),
    "no list, to be mapped over": ("text", {"mapped_over": True, **SINGLE}),
}


@pytest.mark.parametrize(("result", "arguments"), RESULTS.values(), ids=RESULTS)
def test_a_result_is_stored_as_airflow_stores_it(result: object, arguments: dict[str, Any]) -> None:
    ti = TaskInstanceDouble()
    arguments = {"multiple_outputs": True, **arguments}

    def pushed_by_us() -> dict[str, Any]:
        run_task(lambda: make(result, **arguments), context_for(ti))
        return ti.xcom

    expected = ending(lambda: pushed_by_airflow(make(result, **arguments)))
    assert ending(pushed_by_us) == expected


def test_a_list_can_be_mapped_over() -> None:
    """Airflow also writes down its length then, for which it needs a database."""
    assert run_task(lambda: make([1, 2], mapped_over=True, **SINGLE)) == [1, 2]


def test_what_is_pulled_is_what_was_written_and_read_again() -> None:
    ti = TaskInstanceDouble()
    given: dict[str, Any] = {"a": [1]}
    ti.xcom_push("given", given)
    given["a"].append(2)
    assert ti.xcom["given"] == {"a": [1]}
    assert run_task(lambda: make({1: "x"}, **SINGLE), context_for(ti)) == {"1": "x"}


def test_a_try_begins_without_what_an_earlier_one_pushed() -> None:
    ti = TaskInstanceDouble()
    run_task(lambda: make({"a": 1}, multiple_outputs=True), context_for(ti))
    assert ti.xcom == {"a": 1, RETURN_VALUE: {"a": 1}}
    assert run_task(lambda: make(None), context_for(ti)) is None
    assert ti.xcom == {}
