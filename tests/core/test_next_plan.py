"""Which plan a batch works on, by whose it is and whether it is finished."""

from __future__ import annotations

import itertools

import pytest

from airflow_sm_plugin.core.next_plan import NextPlan, next_plan
from airflow_sm_plugin.core.task_try import Origin

_BOTH = (False, True)


def test_of_a_deleted_run_nothing_counts() -> None:
    for finished, same_run, restart in itertools.product(_BOTH, _BOTH, _BOTH):
        step = next_plan(Origin.DELETED_RUN, finished=finished, same_run=same_run, restart=restart)
        assert step is NextPlan.NEW


@pytest.mark.parametrize("origin", [Origin.SAME_RUN, Origin.CLEARED, Origin.LATER_TRY])
def test_what_is_unfinished_is_gone_on_with(origin: Origin) -> None:
    for same_run, restart in itertools.product(_BOTH, _BOTH):
        step = next_plan(origin, finished=False, same_run=same_run, restart=restart)
        is_deleted_runs = origin is Origin.CLEARED and same_run
        assert step is (NextPlan.NEW if is_deleted_runs else NextPlan.GO_ON)


@pytest.mark.parametrize(
    ("origin", "same_run", "restart", "step"),
    [
        (Origin.SAME_RUN, True, False, NextPlan.COMPARE),
        (Origin.SAME_RUN, True, True, NextPlan.COMPARE),
        (Origin.LATER_TRY, True, False, NextPlan.COMPARE),
        (Origin.SAME_RUN, False, False, NextPlan.RESUME),
        (Origin.SAME_RUN, False, True, NextPlan.NEW),
        (Origin.CLEARED, True, False, NextPlan.NEW),
        (Origin.CLEARED, False, False, NextPlan.RESUME),
        (Origin.CLEARED, False, True, NextPlan.NEW),
    ],
)
def test_a_finished_plan_counts_for_its_run_and_its_inputs(
    origin: Origin, same_run: bool, restart: bool, step: NextPlan
) -> None:
    assert next_plan(origin, finished=True, same_run=same_run, restart=restart) is step
