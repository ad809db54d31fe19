"""Tries of a task instance are ordered, those of a deleted DAG run of the same name included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.task_try import Origin, TaskTry


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
def test_a_run_that_was_not_cleared_since_has_another_start_only_if_it_is_another(
    mine: tuple[float, int, int], its: tuple[float, int, int], origin: Origin
) -> None:
    assert TaskTry(*mine).origin_of(TaskTry(*its)) is origin


@pytest.mark.parametrize(
    ("mine", "its", "origin"),
    [
        ((95.0, 2, 1), (100.0, 1, 0), Origin.CLEARED),
        ((95.0, 2, 0), (100.0, 1, 0), Origin.DELETED_RUN),
        ((95.0, 5, 0), (100.0, 2, 3), Origin.LATER_TRY),
        ((95.0, 2, None), (100.0, 1, 0), Origin.LATER_TRY),
        ((95.0, 2, 1), (100.0, 1, None), Origin.CLEARED),
        ((95.0, 1, 0), (100.0, 1, 0), Origin.LATER_TRY),
        ((95.0, 1, 0), (100.0, 2, 1), Origin.LATER_TRY),
        ((200.0, 1, 0), (100.0, 2, 1), Origin.DELETED_RUN),
        ((200.0, 5, 0), (100.0, 2, 3), Origin.DELETED_RUN),
        ((200.0, 3, 1), (100.0, 2, None), Origin.CLEARED),
        ((200.0, 3, 0), (100.0, 2, None), Origin.DELETED_RUN),
        ((200.0, 3, None), (100.0, 2, 0), Origin.CLEARED),
        ((None, 2, 0), (100.0, 1, 1), Origin.SAME_RUN),
        ((None, 1, 1), (100.0, 2, 0), Origin.LATER_TRY),
    ],
)
def test_a_try_number_and_a_count_of_clearings_weigh_more_than_clocks(
    mine: tuple[float | None, int, int | None], its: tuple[float | None, int, int | None], origin: Origin
) -> None:
    assert TaskTry(*mine).origin_of(TaskTry(*its)) is origin


_TRIES = st.builds(TaskTry, st.floats(0, 2e9), st.integers(1, 50))
_ANY_TRIES = st.builds(
    TaskTry, st.none() | st.integers(0, 3).map(float), st.integers(1, 4), st.none() | st.integers(0, 3)
)


@given(_TRIES, _TRIES)
def test_of_two_tries_exactly_one_is_the_later(one: TaskTry, other: TaskTry) -> None:
    later = [each for each, its in ((one, other), (other, one)) if its.origin_of(each) is Origin.LATER_TRY]
    assert len(later) == (one != other)


@given(_ANY_TRIES, _ANY_TRIES)
def test_of_two_tries_at_most_one_is_stopped_for_the_other(one: TaskTry, other: TaskTry) -> None:
    assert [one.origin_of(other), other.origin_of(one)].count(Origin.LATER_TRY) <= 1


@given(_ANY_TRIES, _ANY_TRIES)
def test_a_higher_number_cleared_as_often_or_more_often_is_never_the_earlier_one(
    one: TaskTry, other: TaskTry
) -> None:
    counts = (one.times_cleared, other.times_cleared)
    if one.number > other.number and None not in counts and counts[0] >= counts[1]:  # type: ignore[operator]
        assert one.origin_of(other) is not Origin.LATER_TRY


@given(st.builds(TaskTry, st.none() | st.floats(0, 2e9), st.integers(1, 50)))
def test_it_survives_its_json(task_try: TaskTry) -> None:
    assert TaskTry.from_list(task_try.as_list()) == task_try


_LIVES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=4), min_size=1, max_size=4)
"""DAG runs of one id, each deleted before the next; in each, how often the task was tried between two clearings."""


@given(_LIVES)
def test_state_of_a_deleted_run_is_recognised_as_soon_as_a_later_runs_first_try_has_written(
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


def test_a_claim_passes_the_begin_of_the_run_to_the_next_one() -> None:
    old, first, second = TaskTry(100.0, 1), TaskTry(200.0, 1), TaskTry(200.0, 2)
    began = first.run_began(old, None)
    assert began == 200.0
    assert second.run_began(first, began) == 200.0
    assert second.origin_of(old) is Origin.CLEARED  # by itself
    assert second.origin_in_run(old, began) is Origin.DELETED_RUN


_CLOCKS = st.integers(-300, 300)
"""Seconds that a scheduler's clock is fast."""


@given(st.lists(st.tuples(st.integers(1, 3), _CLOCKS), min_size=1, max_size=5), st.booleans())
def test_no_clock_makes_a_run_that_is_cleared_lose_its_own_state(
    clearings: list[tuple[int, int]], after_deleted: bool
) -> None:
    """Tries between two clearings a minute apart, each seen by another scheduler."""
    deleted = [TaskTry(-3_600.0, 1, 0)] if after_deleted else []
    writers = list(deleted)
    began, number = None, 0
    for cleared, (tries, fast) in enumerate(clearings):
        for _ in range(tries):
            number += 1
            mine = TaskTry(60.0 * cleared + fast, number, cleared)
            assert mine.of_this_run(writers) == [writer not in deleted for writer in writers]
            began = mine.run_began(writers[-1], began) if writers else None
            for writer in writers[len(deleted) :]:
                is_same = writer.times_cleared == cleared or writer.run_started == mine.run_started
                expected = Origin.SAME_RUN if is_same else Origin.CLEARED
                assert mine.origin_in_run(writer, began) is expected
            writers.append(mine)
