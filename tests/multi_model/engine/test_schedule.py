from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import Lane, Stage
from airflow_sm_plugin.multi_model.engine.schedule import Turns

Jobs = Turns[int]


def lanes(turns: Jobs, *counts: int) -> list[Lane[int]]:
    """Open a model for each count, with so many payloads, numbered over all."""
    found, number = [], 0
    for index, count in enumerate(counts):
        lane = turns.open(f"m{index}")
        for _ in range(count):
            turns.add(lane, number)
            number += 1
        found.append(lane)
    return found


def warm(turns: Jobs, lane: Lane[int]) -> None:
    turn = turns.take(0.0, bound=1_000)
    assert turn is not None
    assert turn[0] is lane
    turns.answered(lane)


def test_a_cold_model_is_asked_once_until_it_answers() -> None:
    turns = Jobs()
    [lane] = lanes(turns, 3)
    assert turns.take(0.0, bound=10) == (lane, 0)
    assert turns.take(0.0, bound=10) is None
    turns.answered(lane)
    assert turns.take(0.0, bound=10) == (lane, 1)
    assert turns.take(0.0, bound=10) == (lane, 2)


def test_warm_models_work_while_a_cold_one_loads() -> None:
    turns = Jobs()
    first, second = lanes(turns, 3, 2)
    assert turns.take(0.0, bound=10) == (first, 0)
    assert turns.take(0.0, bound=10) == (second, 3)
    turns.answered(second)
    assert turns.take(0.0, bound=10) == (second, 4)
    assert turns.take(0.0, bound=10) is None


def test_the_first_answer_tells_when_the_model_was_asked_first() -> None:
    turns = Jobs()
    [lane] = lanes(turns, 2)
    turns.take(3.0, bound=1)
    turns.not_ready(lane, probe_at=4.0)
    turns.put_back(lane, 0)
    turns.take(5.0, bound=1)
    assert turns.answered(lane) == pytest.approx(3.0)
    turns.take(6.0, bound=1)
    assert turns.answered(lane) is None


def test_a_model_that_is_not_ready_is_probed_again_at_its_time_and_not_before() -> None:
    turns = Jobs()
    [lane] = lanes(turns, 1)
    turns.take(0.0, bound=1)
    assert not turns.not_ready(lane, probe_at=2.0)
    turns.put_back(lane, 0)
    assert turns.take(1.9, bound=1) is None
    assert turns.take(2.0, bound=1) == (lane, 0)


def test_no_more_are_in_flight_than_the_bound_says() -> None:
    turns = Jobs()
    [lane] = lanes(turns, 10)
    warm(turns, lane)
    assert [turns.take(0.0, bound=3) is not None for _ in range(5)] == [True, True, True, False, False]
    assert turns.in_flight == 3


def test_no_model_has_more_than_twice_its_fair_share() -> None:
    turns = Jobs()
    models = lanes(turns, *[100] * 4)
    for lane in models:
        warm(turns, lane)
    taken = Counter(turn[0].model for _ in range(40) if (turn := turns.take(0.0, bound=40)))
    assert sum(taken.values()) == 40
    assert max(taken.values()) <= 2 * 40 / 5


def test_a_slow_model_leaves_places_to_the_others() -> None:
    turns = Jobs()
    slow, quick = lanes(turns, 1_000, 1_000)
    warm(turns, slow)
    warm(turns, quick)
    done = 0
    for _ in range(300):
        while (turn := turns.take(0.0, bound=8)) is not None:
            assert turn[0] in (slow, quick)
        if quick.in_flight:
            turns.answered(quick)
            done += 1
    assert done == 300
    assert slow.in_flight <= 6


def test_a_fixed_limit_bounds_the_models_in_use() -> None:
    turns = Jobs(max_warm_models=2)
    lanes(turns, 1, 1)
    assert not turns.has_room
    turns.close(turns.open("m0"))
    assert turns.has_room


def test_found_limit_grows_with_each_load_until_the_first_eviction() -> None:
    turns = Jobs()
    opened = []
    for number in range(20):
        if not turns.has_room:
            break
        lane = turns.open(f"m{number}")
        turns.add(lane, number)
        warm(turns, lane)
        opened.append(lane)
    assert len(opened) == 20
    evicted = opened[0]
    turns.add(evicted, 20)
    turns.take(0.0, bound=100)
    assert turns.not_ready(evicted, probe_at=1.0)
    assert evicted.stage is Stage.PARKED
    assert not turns.has_room
    for lane in opened[1:5]:
        turns.close(lane)
    assert (evicted.stage, turns.active) == (Stage.PARKED, 15)
    turns.close(opened[5])
    assert (evicted.stage, turns.active) == (Stage.COLD, 15)


def test_a_parked_model_comes_back_when_another_ends() -> None:
    turns = Jobs()
    models = lanes(turns, *[2] * 4)
    for lane in models:
        warm(turns, lane)
    parked = models[0]
    turns.take(0.0, bound=100)
    turns.not_ready(parked, probe_at=1.0)
    turns.put_back(parked, 0)
    assert turns.count(Stage.PARKED) == 1
    turns.close(models[1])
    assert turns.count(Stage.PARKED) == 0
    found = {turn[0].model for _ in range(3) if (turn := turns.take(5.0, bound=100))}
    assert "m0" in found


def test_answers_that_come_late_to_a_parked_model_do_not_wake_it() -> None:
    turns = Jobs()
    models = lanes(turns, *[4] * 4)
    for lane in models:
        warm(turns, lane)
    first = models[0]
    while turns.take(0.0, bound=100) is not None:
        pass
    assert first.in_flight == 3
    assert turns.not_ready(first, probe_at=1.0)
    assert not turns.not_ready(first, probe_at=1.0)
    turns.answered(first)
    assert first.stage is Stage.PARKED
    assert first.in_flight == 0


def test_a_model_that_was_closed_or_parked_has_no_turn() -> None:
    turns = Jobs()
    models = lanes(turns, *[3] * 4)
    for lane in models:
        warm(turns, lane)
    turns.close(models[0])
    turns.take(0.0, bound=100)
    turns.not_ready(models[1], probe_at=0.0)
    assert models[1].stage is Stage.PARKED
    while (turn := turns.take(1.0, bound=100)) is not None:
        assert turn[0] in (models[2], models[3])


def test_no_memory_for_a_model_counts_as_too_many_models() -> None:
    turns = Jobs()
    models = lanes(turns, *[2] * 4)
    for lane in models[:3]:
        warm(turns, lane)
    while (turn := turns.take(0.0, bound=100)) is not None:
        if turn[0] is models[3]:
            break
    turns.pressed(models[3], probe_at=1.0)
    assert [lane.stage for lane in models[1:]] == [Stage.WARM, Stage.WARM, Stage.PARKED]
    turns.close(models[0])
    assert [lane.stage for lane in models[1:]] == [Stage.WARM, Stage.WARM, Stage.COLD]
    assert not turns.has_room


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_warm_models must be 1 or more, not 0"):
        Jobs(max_warm_models=0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    bound=st.integers(1, 16),
    capacity=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_every_payload_is_answered_once_whatever_the_endpoint_holds(  # noqa: C901 - an endpoint in one loop
    counts: list[int], bound: int, capacity: int, seed: int
) -> None:
    """An endpoint of limited memory that evicts what was used least recently, and never waits for a load."""
    chance = random.Random(seed)  # noqa: S311 - which answer comes next
    turns = Jobs()
    waiting = [(f"m{index}", count) for index, count in enumerate(counts)]
    left: dict[str, int] = dict(waiting)
    loaded: dict[str, float] = {}
    flying: list[tuple[Lane[int], int]] = []
    answered: Counter[tuple[str, int]] = Counter()
    now = 0.0
    for _ in range(5_000):
        now += 0.1
        while waiting and turns.has_room:
            model, count = waiting.pop(0)
            lane = turns.open(model)
            for number in range(count):
                turns.add(lane, number)
        while (turn := turns.take(now, bound=bound)) is not None:
            flying.append(turn)
            assert turns.in_flight == len(flying) <= bound
        if not flying:
            if not waiting and not any(left.values()):
                break
            continue
        lane, job = flying.pop(chance.randrange(len(flying)))
        if lane.model in loaded:
            loaded[lane.model] = now
            turns.answered(lane)
            answered[(lane.model, job)] += 1
            left[lane.model] -= 1
            if not left[lane.model]:
                turns.close(lane)
            continue
        turns.not_ready(lane, probe_at=now + 0.1)
        turns.put_back(lane, job)
        busy = {one.model for one, _ in flying}
        if len(loaded) >= capacity:
            idle = [model for model in loaded if model not in busy]
            if not idle:
                continue
            del loaded[min(idle, key=loaded.__getitem__)]
        loaded[lane.model] = now
    assert not any(left.values())
    assert set(answered.values()) == {1}
    assert sum(answered.values()) == sum(counts)
    assert turns.in_flight == 0
