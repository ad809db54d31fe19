"""Tries of a task instance are ordered, those of a deleted DAG run of the same name included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.task_try import Origin, TaskTry


@pytest.mark.parametrize(
    ("mine", "its", "origin"),
    [
        ((100.0, 2), (100.0, 1), Origin.SAME_RUN),
        ((100.0, 2), (100.0, 2), Origin.SAME_RUN),
        ((100.0, 1), (100.0, 2), Origin.LATER_TRY),
        ((200.0, 3), (100.0, 2), Origin.CLEARED),
        ((200.0, 1), (100.0, 1), Origin.DELETED_RUN),
        ((200.0, 1), (100.0, 4), Origin.DELETED_RUN),
        ((100.0, 4), (200.0, 1), Origin.LATER_TRY),
        ((None, 2), (None, 1), Origin.SAME_RUN),
        ((None, 1), (None, 2), Origin.LATER_TRY),
        ((None, 1), (100.0, 1), Origin.SAME_RUN),
    ],
)
def test_the_start_of_the_run_counts_before_the_try_number(
    mine: tuple[float | None, int], its: tuple[float | None, int], origin: Origin
) -> None:
    assert TaskTry(*mine).origin_of(TaskTry(*its)) is origin


_TRIES = st.builds(TaskTry, st.floats(0, 2e9), st.integers(1, 50))


@given(_TRIES, _TRIES)
def test_of_two_tries_exactly_one_is_the_later(one: TaskTry, other: TaskTry) -> None:
    later = [each for each, its in ((one, other), (other, one)) if its.origin_of(each) is Origin.LATER_TRY]
    assert len(later) == (one != other)


@given(st.builds(TaskTry, st.none() | st.floats(0, 2e9), st.integers(1, 50)))
def test_it_survives_its_json(task_try: TaskTry) -> None:
    assert TaskTry.from_list(task_try.as_list()) == task_try
