from __future__ import annotations

import pytest

from airflow_sm_plugin.multi_model.engine.eviction_signs import Pace, ReloadSigns
from airflow_sm_plugin.multi_model.engine.model_queue import Lane, Stage
from airflow_sm_plugin.multi_model.engine.schedule import Turns


def signs_of(*answers: float, load: float = 2.0) -> bool:
    """Say whether two models that were quick, and then take so long, are a sign that too many are warm."""
    signs, paces = ReloadSigns(), [Pace(), Pace()]
    signs.loaded(load)
    now = 0.0
    for seconds in (0.02, 0.03, *answers):
        now += seconds
        for number, pace in enumerate(paces):
            signs.answered(number, pace, seconds=seconds, now=now)
    return signs.are_many(2)


@pytest.mark.parametrize(
    ("answers", "load", "expected"),
    [
        ((0.02, 0.05, 0.1), 2.0, False),
        ((2.1,), 2.0, True),
        ((0.9,), 2.0, False),  # less than half of a load
        ((0.15,), 0.1, False),  # what loads so quickly is nothing to care about
    ],
)
def test_several_answers_as_long_as_a_load_are_a_sign(
    answers: tuple[float, ...], load: float, expected: bool
) -> None:
    assert signs_of(*answers, load=load) is expected


def test_one_model_alone_is_no_sign() -> None:
    signs, pace = ReloadSigns(), Pace()
    signs.loaded(2.0)
    for seconds in (0.02, 2.0, 2.0):
        signs.answered(0, pace, seconds=seconds, now=10.0)
    assert not signs.are_many(5)
    assert signs.are_many(1)


def test_calls_of_before_fewer_were_kept_warm_are_no_sign() -> None:
    signs, paces = ReloadSigns(), [Pace(), Pace()]
    signs.loaded(2.0)
    for number, pace in enumerate(paces):
        signs.answered(number, pace, seconds=0.02, now=1.0)
    signs.cut(10.0)
    for number, pace in enumerate(paces):
        signs.answered(number, pace, seconds=2.0, now=11.9)
    assert not signs.are_many(2)


def test_a_model_that_is_always_slow_gives_no_signs_for_ever() -> None:
    signs, quick, slow = ReloadSigns(), Pace(), Pace()
    signs.loaded(2.0)
    signs.answered(0, quick, seconds=0.02, now=0.0)
    for count in range(10):
        signs.answered(1, slow, seconds=3.0, now=3.0 * count)
    signs.cut(100.0)
    signs.answered(1, slow, seconds=3.0, now=200.0)
    assert not signs.are_many(1)


def warmed(turns: Turns[int], count: int, jobs: int) -> list[Lane[int]]:
    found = [turns.open(f"m{number}") for number in range(count)]
    for lane in found:
        for job in range(jobs):
            turns.add(lane, job)
        assert turns.take(0.0, bound=100) is not None
    for lane in found:
        turns.answered(lane, now=2.0, seconds=2.0)
    return found


def test_models_that_are_loaded_anew_for_their_calls_make_room() -> None:
    turns = Turns[int]()
    models = warmed(turns, 8, 50)
    for seconds in (0.02, 2.0):
        while turns.take(2.0, bound=64) is not None:
            pass
        for lane in models[:2]:
            turns.answered(lane, now=10.0, seconds=seconds)
    assert [lane.stage for lane in models] == [Stage.WARM] * 6 + [Stage.PARKED] * 2
    turns.close(models[0])
    assert [lane.stage for lane in models[6:]] == [Stage.COLD, Stage.PARKED]


def test_models_begun_first_are_finished_first_as_long_as_they_are_quick() -> None:
    turns = Turns[int]()
    models = warmed(turns, 4, 400)
    for _ in range(100):
        while turns.take(2.0, bound=32) is not None:
            pass
        for lane in models:
            for _ in range(lane.in_flight):
                turns.answered(lane, now=2.02, seconds=0.02)
    left = [len(lane.ready) for lane in models]
    assert left == sorted(left)
    assert left[0] == 0


def test_every_warm_model_has_most_of_its_share_whatever_the_others_do() -> None:
    turns = Turns[int]()
    models = warmed(turns, 4, 400)
    while turns.take(2.0, bound=32) is not None:
        pass
    for _ in range(200):
        turns.answered(models[0], now=2.02, seconds=0.02)
        turns.take(2.0, bound=32)
    for lane in models[1:]:
        while lane.in_flight:
            turns.answered(lane, now=2.02, seconds=0.02)
    while turns.take(2.0, bound=32) is not None:
        pass
    assert min(lane.in_flight for lane in models[1:]) >= 6
