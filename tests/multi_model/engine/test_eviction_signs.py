from __future__ import annotations

import pytest

from airflow_sm_plugin.multi_model.engine.model_queue import LoadedLatency, ModelQueue, ModelState
from airflow_sm_plugin.multi_model.engine.schedule import Schedule
from airflow_sm_plugin.multi_model.engine.warm_limit import EvictionSigns


def signs_of(*answers: float, load: float = 2.0) -> bool:
    """Decide whether such latencies of two models that were quick before mean that too many models are warm."""
    signs, latencies = EvictionSigns(), [LoadedLatency(), LoadedLatency()]
    signs.loaded(load)
    now = 0.0
    for seconds in (0.02, 0.03, *answers):
        now += seconds
        for number, latency in enumerate(latencies):
            signs.answered(number, latency, seconds=seconds, now=now)
    return signs.are_many(2)


@pytest.mark.parametrize(
    ("answers", "load", "expected"),
    [
        ((0.02, 0.05, 0.1), 2.0, False),
        ((2.1,), 2.0, True),
        ((0.9,), 2.0, False),  # less than half of a load
        ((0.15,), 0.1, False),  # such quick loads cost next to nothing
    ],
)
def test_several_answers_as_long_as_a_load_are_a_sign(
    answers: tuple[float, ...], load: float, expected: bool
) -> None:
    assert signs_of(*answers, load=load) is expected


def test_one_model_alone_is_no_sign() -> None:
    signs, latency = EvictionSigns(), LoadedLatency()
    signs.loaded(2.0)
    for seconds in (0.02, 2.0, 2.0):
        signs.answered(0, latency, seconds=seconds, now=10.0)
    assert not signs.are_many(5)
    assert signs.are_many(1)


@pytest.mark.parametrize(("answered_at", "expected"), [(11.9, False), (15.9, False), (16.1, True)])
def test_calls_from_before_a_fall_has_taken_effect_are_no_sign(answered_at: float, *, expected: bool) -> None:
    """It takes two loads: until then calls load models that are not in use any more."""
    signs, latencies = EvictionSigns(), [LoadedLatency(), LoadedLatency()]
    signs.loaded(2.0)
    for number, latency in enumerate(latencies):
        signs.answered(number, latency, seconds=0.02, now=1.0)
    signs.cut(10.0)
    for number, latency in enumerate(latencies):
        signs.answered(number, latency, seconds=2.0, now=answered_at)
    assert signs.are_many(2) is expected


@pytest.mark.parametrize(("seconds", "expected"), [(2.0, True), (1.3, False)])
def test_models_that_were_never_quick_are_evicted_when_they_take_as_long_as_their_loads(
    seconds: float, *, expected: bool
) -> None:
    """A slow model's load includes a slow answer, so that its other answers take less."""
    signs, latencies = EvictionSigns(), [LoadedLatency(), LoadedLatency()]
    for number, latency in enumerate(latencies):
        signs.loaded(2.0)
        signs.answered(number, latency, seconds=seconds, now=10.0)
    assert signs.are_many(2) is expected


def test_calls_that_one_load_held_are_one_sign() -> None:
    """Else a model that was evicted once with many calls would count as slow from then on."""
    signs, latency = EvictionSigns(), LoadedLatency()
    signs.loaded(2.0)
    signs.answered(0, latency, seconds=0.02, now=2.0)
    for number in range(50):
        signs.answered(0, latency, seconds=2.0, now=4.0 + number / 1_000)
    assert latency.doubts == 1


def test_a_model_that_is_always_slow_gives_no_signs_for_ever() -> None:
    signs, quick, slow = EvictionSigns(), LoadedLatency(), LoadedLatency()
    signs.loaded(2.0)
    signs.answered(0, quick, seconds=0.02, now=0.0)
    for count in range(10):
        signs.answered(1, slow, seconds=3.0, now=3.0 * count)
    signs.cut(100.0)
    signs.answered(1, slow, seconds=3.0, now=200.0)
    assert not signs.are_many(1)


def warmed(schedule: Schedule[int], count: int, jobs: int) -> list[ModelQueue[int]]:
    queues = [schedule.open(f"m{number}") for number in range(count)]
    for queue in queues:
        for job in range(jobs):
            schedule.add(queue, job)
        assert schedule.take(0.0, limit=100) is not None
    for queue in queues:
        schedule.answered(queue, now=2.0, seconds=2.0)
    return queues


def test_models_that_are_loaded_again_for_their_calls_make_room() -> None:
    schedule = Schedule[int]()
    models = warmed(schedule, 8, 50)
    for seconds in (0.02, 2.0):
        while schedule.take(2.0, limit=64) is not None:
            pass
        for queue in models[:2]:
            schedule.answered(queue, now=10.0, seconds=seconds)
    assert [queue.state for queue in models] == [ModelState.WARM] * 7 + [ModelState.PARKED]
    schedule.close(models[0])
    assert models[7].state is ModelState.COLD


def test_models_begun_first_are_finished_first_as_long_as_they_are_quick() -> None:
    schedule = Schedule[int]()
    models = warmed(schedule, 4, 400)
    for _ in range(100):
        while schedule.take(2.0, limit=32) is not None:
            pass
        for queue in models:
            for _ in range(queue.in_flight):
                schedule.answered(queue, now=2.02, seconds=0.02)
    left = [len(queue.ready) for queue in models]
    assert left == sorted(left)
    assert left[0] == 0


def test_every_warm_model_has_most_of_its_share_whatever_the_others_do() -> None:
    schedule = Schedule[int]()
    models = warmed(schedule, 4, 400)
    while schedule.take(2.0, limit=32) is not None:
        pass
    for _ in range(200):
        schedule.answered(models[0], now=2.02, seconds=0.02)
        schedule.take(2.0, limit=32)
    for queue in models[1:]:
        while queue.in_flight:
            schedule.answered(queue, now=2.02, seconds=0.02)
    while schedule.take(2.0, limit=32) is not None:
        pass
    assert min(queue.in_flight for queue in models[1:]) >= 6
