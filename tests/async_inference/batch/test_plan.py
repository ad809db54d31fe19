"""The plan that a batch works on depends on the try that wrote it and on whether it is finished."""

from __future__ import annotations

import itertools

import pytest

from airflow_sm_plugin.async_inference.batch.plan import NextPlan, next_plan
from airflow_sm_plugin.batches.task_try import Origin

_BOTH = (False, True)


def test_of_a_deleted_run_nothing_counts() -> None:
    for finished, same_run, restart in itertools.product(_BOTH, _BOTH, _BOTH):
        step = next_plan(Origin.DELETED_RUN, finished=finished, same_run=same_run, restart=restart)
        assert step is NextPlan.NEW


@pytest.mark.parametrize("origin", [Origin.SAME_RUN, Origin.LATER_TRY])
def test_a_retry_goes_on_with_what_is_unfinished(origin: Origin) -> None:
    for restart in _BOTH:
        assert next_plan(origin, finished=False, same_run=True, restart=restart) is NextPlan.GO_ON


@pytest.mark.parametrize("finished", _BOTH)
@pytest.mark.parametrize("origin", [Origin.SAME_RUN, Origin.CLEARED, Origin.LATER_TRY])
def test_a_cleared_task_obeys_on_rerun_whether_the_plan_is_finished_or_not(
    origin: Origin, finished: bool
) -> None:
    """Unfinished or not, its inputs may have been overwritten."""
    resumed = next_plan(origin, finished=finished, same_run=False, restart=False)
    restarted = next_plan(origin, finished=finished, same_run=False, restart=True)
    assert (resumed, restarted) == (NextPlan.RESUME, NextPlan.NEW)


@pytest.mark.parametrize(
    ("origin", "same_run", "restart", "step"),
    [
        (Origin.SAME_RUN, True, False, NextPlan.COMPARE),
        (Origin.SAME_RUN, True, True, NextPlan.COMPARE),
        (Origin.LATER_TRY, True, False, NextPlan.COMPARE),
        (Origin.CLEARED, True, False, NextPlan.NEW),
    ],
)
def test_a_finished_plan_counts_for_its_run_and_its_inputs(
    origin: Origin, same_run: bool, restart: bool, step: NextPlan
) -> None:
    assert next_plan(origin, finished=True, same_run=same_run, restart=restart) is step
