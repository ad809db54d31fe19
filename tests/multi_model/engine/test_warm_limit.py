from __future__ import annotations

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import LoadedLatency
from airflow_sm_plugin.multi_model.engine.warm_limit import ProvenModels, WarmLimit

LOAD = 2.0


def loaded(limit: WarmLimit, models: int, *, now: float = LOAD, first: int = 0) -> list[LoadedLatency]:
    """Load so many models at the same time."""
    latencies = [LoadedLatency() for _ in range(models)]
    for number in range(first, first + models):
        limit.loaded(number, seconds=LOAD, now=now)
    return latencies


def answered(limit: WarmLimit, latencies: list[LoadedLatency], *, seconds: float, now: float) -> list[bool]:
    return [
        limit.answered(number, latency, seconds=seconds, now=now, active=len(latencies))
        for number, latency in enumerate(latencies)
    ]


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_warm_models must be 1 or more, not 0"):
        WarmLimit(0)


def test_a_limit_that_the_user_gave_never_changes() -> None:
    limit = WarmLimit(7)
    latencies = loaded(limit, 7)
    answered(limit, latencies, seconds=0.02, now=3.0)
    answered(limit, latencies, seconds=LOAD, now=6.0)
    limit.evicted(7, now=20.0)
    for _ in range(500):
        limit.finished()
    assert limit.value == 7


@pytest.mark.parametrize(("models", "expected"), [(1, 8), (5, 8), (6, 9), (8, 12), (40, 60)])
def test_the_limit_grows_ahead_of_the_models_that_were_held(models: int, expected: int) -> None:
    limit = WarmLimit(None)
    loaded(limit, models)
    assert limit.value == expected


def test_models_that_were_loaded_one_after_the_other_prove_nothing() -> None:
    """An endpoint with memory for one model loads as many, given the time."""
    limit = WarmLimit(None)
    for number in range(40):
        loaded(limit, 1, now=LOAD * (number + 1), first=number)
    assert limit.value == 8


def test_slow_answers_lower_the_limit_to_the_models_that_were_held() -> None:
    limit = WarmLimit(None)
    held = loaded(limit, 10)
    active = [*held, LoadedLatency(), LoadedLatency()]
    answered(limit, held, seconds=0.02, now=2.1)
    fell = [
        limit.answered(number, active[number], seconds=LOAD, now=4.2, active=len(active))
        for number in range(2)
    ]
    assert (fell, limit.value) == ([False, True], 10)
    loaded(limit, 30, now=50.0)
    assert limit.value == 10


def test_a_fall_is_below_the_models_in_use_whatever_was_proven() -> None:
    limit = WarmLimit(None)
    loaded(limit, 10)
    limit.evicted(10, now=3.0)
    assert limit.value == 9


def test_a_fall_keeps_a_quarter_of_the_models_where_none_is_proven() -> None:
    limit = WarmLimit(None)
    limit.evicted(8, now=3.0)
    assert limit.value == 2


def test_one_eviction_is_one_fall_however_many_models_show_it() -> None:
    limit = WarmLimit(None)
    loaded(limit, 10)
    for _ in range(6):
        limit.evicted(15, now=3.0)
    assert limit.value == 10
    limit.evicted(10, now=3.0 + 2 * LOAD)
    assert limit.value == 2


def test_the_limit_is_never_below_one() -> None:
    limit = WarmLimit(None)
    for times in range(20):
        limit.evicted(limit.value, now=100.0 * times)
    assert limit.value == 1


def finished_until_it_grows(limit: WarmLimit) -> int:
    value, models = limit.value, 0
    while limit.value == value:
        limit.finished()
        models += 1
    assert limit.value == value + 1
    return models


def test_each_further_fall_makes_the_limit_grow_later() -> None:
    limit = WarmLimit(None)
    limit.finished()
    assert limit.value == 8
    loaded(limit, 10)
    limit.evicted(11, now=3.0)
    assert finished_until_it_grows(limit) == 80
    limit.evicted(8, now=100.0)
    assert limit.value == 2
    assert finished_until_it_grows(limit) == 32


def test_models_are_forgotten_that_answered_longer_ago_than_a_load() -> None:
    proven = ProvenModels()
    for number in range(4):
        proven.answered(number, now=0.0, load=LOAD)
    for number in range(3, 6):
        proven.answered(number, now=1.7, load=LOAD)
    assert proven.count == 4
    proven.answered(6, now=1.8, load=LOAD)
    assert proven.count == 4
    proven.answered(7, now=1.9, load=LOAD)
    assert proven.count == 5
