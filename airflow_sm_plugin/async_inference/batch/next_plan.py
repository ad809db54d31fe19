"""Which plan an asynchronous batch works on: the one that is there, or another; state counts for what it is about."""

from __future__ import annotations

import enum

from airflow_sm_plugin.batches.task_try import Origin


class NextPlan(enum.Enum):
    """What a task does about the last plan when it begins."""

    GO_ON = "go on with the plan"
    COMPARE = "report the finished plan if it has the inputs of now, otherwise resume"
    RESUME = "make a new plan without what succeeded or may still succeed and is the same object still"
    NEW = "make a new plan of everything"


def next_plan(origin: Origin, *, finished: bool, same_run: bool, restart: bool) -> NextPlan:
    """Decide what a task does that finds a plan.

    A deleted DAG run's plan is never gone on with, and nothing of it is taken over: its results are of another run.
    A retry goes on with its run's plan; a finished one (the task was killed between its report and its end) counts
    while its inputs are the same. A cleared task does as ``on_rerun`` says, also with an unfinished plan: its inputs
    may have been written anew since they were sent.

    :param origin: of the try that wrote last, by the plan, as the try that finds it sees it; a later try, which only a
        try without a start date can see here, counts as of this run
    :param finished: whether the plan has a report
    :param same_run: whether the task was not cleared since, by its ``max_tries``. Another start date then is of another
        DAG run
    :param restart: ``on_rerun="restart"``
    """
    if origin is Origin.DELETED_RUN or (origin is Origin.CLEARED and same_run):
        return NextPlan.NEW
    if same_run:
        return NextPlan.COMPARE if finished else NextPlan.GO_ON
    return NextPlan.NEW if restart else NextPlan.RESUME
