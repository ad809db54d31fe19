"""Small DAGs for the stack runner and the demo: mapped and deferred tasks, one that fails, one that does not end."""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.providers.standard.sensors.time_delta import TimeDeltaSensor
from airflow.sdk import DAG, get_current_context, task

with DAG("e2e_tiny", schedule=None):
    wait = TimeDeltaSensor(task_id="wait", delta=timedelta(seconds=0), deferrable=True)

    @task
    def add(number: int) -> int:
        """Add what the run's conf says."""
        print("adding to", number, "in", os.environ["WHERE"])  # noqa: T201 - searched for in its log
        dag_run = get_current_context()["dag_run"]
        return number + int((dag_run.conf or {})["add"])

    @task
    def total(numbers: list[int]) -> dict[str, int]:
        """Return the sum."""
        return {"total": sum(numbers)}

    wait >> total(add.expand(number=[1, 2, 3]))  # type: ignore[arg-type] # an XComArg stands for its value

with DAG("e2e_fails", schedule=None):

    @task
    def give_up() -> None:
        """Fail."""
        raise ValueError("[no] such luck")

    give_up()

with DAG("e2e_sleeps", schedule=None):

    @task.bash
    def sleep() -> str:
        """Outlast every test."""
        return "exec sleep 100000"

    sleep()
