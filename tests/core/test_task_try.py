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


@pytest.mark.parametrize(
    ("mine", "its", "origin"),
    [
        ((200.0, 3, 0), (100.0, 2, 0), Origin.DELETED_RUN),
        ((200.0, 3, 0), (100.0, 2, 4), Origin.DELETED_RUN),
        ((200.0, 3, 1), (100.0, 2, 0), Origin.CLEARED),
        ((200.0, 2, 1), (100.0, 2, 0), Origin.DELETED_RUN),
        ((100.0, 2, 1), (100.0, 1, 0), Origin.SAME_RUN),
    ],
)
def test_a_run_that_nobody_cleared_since_has_another_start_only_if_it_is_another(
    mine: tuple[float, int, int], its: tuple[float, int, int], origin: Origin
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


_LIVES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=4)
"""DAG runs of one id, each deleted before the next; in each, how often the task was tried between two clearings."""


@given(_LIVES)
def test_what_a_deleted_run_wrote_is_known_as_soon_as_a_later_runs_first_try_has_written(
    lives: list[list[int]],
) -> None:
    started = 0.0
    writers: list[tuple[int, TaskTry]] = []
    for life, tries_between in enumerate(lives):
        number = 0
        for tries in tries_between:
            started += 1
            for _ in range(tries):
                number += 1
                mine = TaskTry(started, number)
                of_this_run = mine.of_this_run([writer for _, writer in writers])
                assert of_this_run == [its == life for its, _ in writers]
                writers.append((life, mine))


def test_a_claim_alone_tells_the_next_one_when_the_run_began() -> None:
    old, first, second = TaskTry(100.0, 1), TaskTry(200.0, 1), TaskTry(200.0, 2)
    began = first.run_began(old, None)
    assert began == 200.0
    assert second.run_began(first, began) == 200.0
    assert second.origin_of(old) is Origin.CLEARED  # by itself
    assert second.origin_in_run(old, began) is Origin.DELETED_RUN
