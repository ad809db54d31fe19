"""State counts by its writer: a try of this run, of a cleared run, of a deleted run, or a later try."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.task_try import Origin, StateWriter, TaskTry

Given = tuple[float | None, int, str | None]


def writer(started: float | None, number: int, run: str | None) -> StateWriter:
    return StateWriter(TaskTry(started, number), run)


@pytest.mark.parametrize(
    ("mine", "its", "origin"),
    [
        ((1.0, 2, "0"), (1.0, 1, "0"), Origin.SAME_RUN),
        ((1.0, 2, "1"), (1.0, 1, "0"), Origin.CLEARED),  # in a DAG run that goes on
        ((2.0, 2, "1"), (1.0, 1, "0"), Origin.CLEARED),
        ((1.0, 1, None), (1.0, 1, None), Origin.CLEARED),  # each call is a run of its own
        ((2.0, 1, "0"), (1.0, 1, "0"), Origin.DELETED_RUN),
        ((2.0, 1, "0"), (1.0, 4, "3"), Origin.DELETED_RUN),
        ((2.0, 2, "0"), (1.0, 1, "0"), Origin.DELETED_RUN),  # its first try wrote nothing
        ((1.0, 1, "0"), (1.0, 2, "0"), Origin.LATER_TRY),
        ((1.0, 5, "1"), (2.0, 1, "0"), Origin.LATER_TRY),
        ((None, 1, "0"), (None, 1, "0"), Origin.SAME_RUN),
    ],
)
def test_date_number_and_run_decide_the_origin_of_a_state(mine: Given, its: Given, origin: Origin) -> None:
    assert writer(*mine).origin_of(writer(*its)) is origin


@pytest.mark.parametrize(
    ("mine", "its", "sure"),
    [
        ((1.0, 1, "0"), (1.0, 1, "0"), True),
        ((None, 2, "0"), (None, 1, "0"), True),
        ((None, 1, "0"), (None, 1, "0"), False),  # a deleted DAG run's first try has the same values
        ((1.0, 1, "0"), (None, 1, "0"), False),
        ((1.0, 2, "1"), (1.0, 1, "0"), False),
        ((2.0, 1, "0"), (1.0, 1, "0"), False),
    ],
)
def test_a_first_try_without_dates_is_never_sure(mine: Given, its: Given, *, sure: bool) -> None:
    assert writer(*mine).surely_goes_on_from(writer(*its)) is sure


_WRITERS = st.builds(
    StateWriter,
    st.builds(TaskTry, st.none() | st.floats(0, 2e9), st.integers(1, 50)),
    st.none() | st.text(max_size=3),
)


@given(_WRITERS, _WRITERS)
def test_an_earlier_try_never_counts_as_the_later_one(one: StateWriter, other: StateWriter) -> None:
    """With any run, at most one of two tries is left behind."""
    origins = [one.origin_of(other), other.origin_of(one)]
    assert origins.count(Origin.LATER_TRY) <= 1


@given(_WRITERS)
def test_it_survives_its_json(state_writer: StateWriter) -> None:
    assert msgspec.json.decode(msgspec.json.encode(state_writer), type=StateWriter) == state_writer
