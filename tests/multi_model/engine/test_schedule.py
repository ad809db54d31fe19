from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.engine.model_queue import ModelQueue, ModelState
from airflow_sm_plugin.multi_model.engine.schedule import Schedule

Jobs = Schedule[int]


def queues(schedule: Jobs, *counts: int) -> list[ModelQueue[int]]:
    """Open a model for each count, with so many payloads, numbered over all."""
    opened, job = [], 0
    for index, count in enumerate(counts):
        queue = schedule.open(f"m{index}")
        for _ in range(count):
            schedule.add(queue, job)
            job += 1
        opened.append(queue)
    return opened


def warm(schedule: Jobs, queue: ModelQueue[int]) -> None:
    sent = schedule.take(0.0, limit=1_000)
    assert sent is not None
    assert sent[0] is queue
    schedule.answered(queue)


def test_a_cold_model_gets_one_probe_until_it_answers() -> None:
    schedule = Jobs()
    [queue] = queues(schedule, 3)
    assert schedule.take(0.0, limit=10) == (queue, 0)
    assert schedule.take(0.0, limit=10) is None
    schedule.answered(queue)
    assert schedule.take(0.0, limit=10) == (queue, 1)
    assert schedule.take(0.0, limit=10) == (queue, 2)


def test_warm_models_work_while_a_cold_one_loads() -> None:
    schedule = Jobs()
    first, second = queues(schedule, 3, 2)
    assert schedule.take(0.0, limit=10) == (first, 0)
    assert schedule.take(0.0, limit=10) == (second, 3)
    schedule.answered(second)
    assert schedule.take(0.0, limit=10) == (second, 4)
    assert schedule.take(0.0, limit=10) is None


def test_the_first_answer_returns_the_time_of_the_first_probe() -> None:
    schedule = Jobs()
    [queue] = queues(schedule, 2)
    schedule.take(3.0, limit=1)
    schedule.not_ready(queue, probe_at=4.0)
    schedule.put_back(queue, 0)
    schedule.take(5.0, limit=1)
    assert schedule.answered(queue) == pytest.approx(3.0)
    schedule.take(6.0, limit=1)
    assert schedule.answered(queue) is None


def test_a_model_that_is_not_ready_is_probed_again_at_its_time_and_not_before() -> None:
    schedule = Jobs()
    [queue] = queues(schedule, 1)
    schedule.take(0.0, limit=1)
    assert not schedule.not_ready(queue, probe_at=2.0)
    schedule.put_back(queue, 0)
    assert schedule.take(1.9, limit=1) is None
    assert schedule.take(2.0, limit=1) == (queue, 0)


def test_no_more_are_in_flight_than_the_limit_says() -> None:
    schedule = Jobs()
    [queue] = queues(schedule, 10)
    warm(schedule, queue)
    assert [schedule.take(0.0, limit=3) is not None for _ in range(5)] == [True, True, True, False, False]
    assert schedule.in_flight == 3


def test_no_slow_model_has_more_than_twice_its_fair_share() -> None:
    schedule = Jobs()
    models = queues(schedule, *[100] * 4)
    for queue in models:
        warm(schedule, queue)
    for _ in models:
        sent = schedule.take(0.0, limit=4)
        assert sent is not None
    for queue in models:
        schedule.answered(queue, now=1.0, seconds=1.0)
    taken = Counter(sent[0].model for _ in range(40) if (sent := schedule.take(0.0, limit=40)))
    assert sum(taken.values()) == 40
    assert max(taken.values()) <= 2 * 40 / 5


def test_a_slow_model_leaves_slots_to_the_others() -> None:
    schedule = Jobs()
    slow, quick = queues(schedule, 1_000, 1_000)
    warm(schedule, slow)
    warm(schedule, quick)
    answers = 0
    for _ in range(300):
        while (sent := schedule.take(0.0, limit=8)) is not None:
            assert sent[0] in (slow, quick)
        if quick.in_flight:
            schedule.answered(quick)
            answers += 1
    assert answers == 300
    assert slow.in_flight <= 6


def test_a_fixed_limit_bounds_the_models_in_use() -> None:
    schedule = Jobs(max_warm_models=2)
    queues(schedule, 1, 1)
    assert not schedule.has_room
    schedule.close(schedule.open("m0"))
    assert schedule.has_room


def test_models_are_opened_as_others_load_until_the_first_eviction() -> None:
    schedule = Jobs()
    opened = []
    for number in range(20):
        if not schedule.has_room:
            break
        queue = schedule.open(f"m{number}")
        schedule.add(queue, number)
        warm(schedule, queue)
        opened.append(queue)
    assert len(opened) == 20
    evicted = opened[0]
    schedule.add(evicted, 20)
    schedule.take(0.0, limit=100)
    assert schedule.not_ready(evicted, probe_at=1.0)
    assert (evicted.state, schedule.active) == (ModelState.PARKED, 19)
    assert not schedule.has_room
    schedule.close(opened[1])
    assert (evicted.state, schedule.active) == (ModelState.COLD, 19)
    assert not schedule.has_room


def test_a_finished_model_is_replaced_once_as_many_are_answered_as_were_in_flight() -> None:
    """By then the endpoint has used the other models again, and evicts the finished one for the next."""
    schedule = Jobs(max_warm_models=2)
    first, second = queues(schedule, 1, 9)
    for _ in range(2):
        assert schedule.take(0.0, limit=10) is not None
    schedule.answered(second)
    for _ in range(3):
        assert schedule.take(0.0, limit=4) is not None
    schedule.answered(first)
    schedule.close(first)
    [third] = queues(schedule, 1)
    probed = []
    for _ in range(3):
        schedule.answered(second)
        sent = schedule.take(0.0, limit=10)
        assert sent is not None
        probed.append(sent[0] is third)
    assert probed == [False, False, True]


def test_a_model_is_probed_again_while_another_waits_for_memory() -> None:
    schedule = Jobs(max_warm_models=2)
    [first] = queues(schedule, 2)
    warm(schedule, first)
    second, third = schedule.open("second"), schedule.open("third")
    schedule.add(third, 5)
    assert schedule.take(0.0, limit=10) == (third, 5)
    assert schedule.take(0.0, limit=10) == (first, 1)
    schedule.not_ready(third, probe_at=1.0)
    schedule.put_back(third, 5)
    schedule.add(second, 4)
    assert schedule.take(1.0, limit=10) == (third, 5)
    assert schedule.take(1.0, limit=10) is None


def test_a_parked_model_comes_back_when_another_ends() -> None:
    schedule = Jobs()
    models = queues(schedule, *[2] * 4)
    for queue in models:
        warm(schedule, queue)
    parked = models[0]
    schedule.take(0.0, limit=100)
    schedule.not_ready(parked, probe_at=1.0)
    schedule.put_back(parked, 0)
    assert schedule.count(ModelState.PARKED) == 1
    schedule.close(models[1])
    assert schedule.count(ModelState.PARKED) == 0
    sending = {sent[0].model for _ in range(3) if (sent := schedule.take(5.0, limit=100))}
    assert "m0" in sending


def test_late_answers_of_a_parked_model_do_not_unpark_it() -> None:
    schedule = Jobs()
    models = queues(schedule, *[4] * 4)
    for queue in models:
        warm(schedule, queue)
    first = models[0]
    while schedule.take(0.0, limit=100) is not None:
        pass
    assert first.in_flight == 3
    assert schedule.not_ready(first, probe_at=1.0)
    assert not schedule.not_ready(first, probe_at=1.0)
    schedule.answered(first)
    assert first.state is ModelState.PARKED
    assert first.in_flight == 0


def test_a_model_that_was_closed_or_parked_sends_nothing() -> None:
    schedule = Jobs()
    models = queues(schedule, *[3] * 4)
    for queue in models:
        warm(schedule, queue)
    schedule.close(models[0])
    schedule.take(0.0, limit=100)
    schedule.not_ready(models[1], probe_at=0.0)
    assert models[1].state is ModelState.PARKED
    while (sent := schedule.take(1.0, limit=100)) is not None:
        assert sent[0] in (models[2], models[3])


def test_no_memory_for_a_model_counts_as_too_many_models() -> None:
    schedule = Jobs()
    models = queues(schedule, *[2] * 4)
    for queue in models[:3]:
        warm(schedule, queue)
    while (sent := schedule.take(0.0, limit=100)) is not None:
        if sent[0] is models[3]:
            break
    schedule.not_ready(models[3], probe_at=1.0, is_full=True)
    assert [queue.state for queue in models[1:]] == [ModelState.WARM, ModelState.WARM, ModelState.PARKED]
    schedule.close(models[0])
    assert [queue.state for queue in models[1:]] == [ModelState.WARM, ModelState.WARM, ModelState.COLD]
    assert not schedule.has_room


def test_models_that_are_loading_do_not_wait_behind_one_that_may_not_load() -> None:
    """Its first payload comes late, when the limit has fallen and the others have been probed."""
    schedule = Jobs()
    late, *loading = queues(schedule, *[0] * 8)
    for queue in loading:
        schedule.add(queue, 1)
    assert [schedule.take(0.0, limit=10) for _ in loading] == [(queue, 1) for queue in loading]
    for queue in loading:
        schedule.not_ready(queue, probe_at=1.0, is_full=queue is loading[0])
        schedule.add(queue, 1)
    schedule.add(late, 0)
    probed = []
    while (sent := schedule.take(1.0, limit=10)) is not None:
        probed.append(sent[0])
    assert probed == loading[1:]


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="max_warm_models must be 1 or more, not 0"):
        Jobs(max_warm_models=0)


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=12),
    limit=st.integers(1, 16),
    capacity=st.integers(1, 6),
    seed=st.integers(0, 2**32),
)
def test_every_payload_is_answered_once_whatever_the_endpoint_holds(  # noqa: C901 - an endpoint in one loop
    counts: list[int], limit: int, capacity: int, seed: int
) -> None:
    """An endpoint of limited memory that evicts the model that was used least recently, and never waits for a load."""
    chance = random.Random(seed)  # noqa: S311 - which answer comes next
    schedule = Jobs()
    waiting = [(f"m{index}", count) for index, count in enumerate(counts)]
    left: dict[str, int] = dict(waiting)
    loaded: dict[str, float] = {}
    flying: list[tuple[ModelQueue[int], int]] = []
    answered: Counter[tuple[str, int]] = Counter()
    now = 0.0
    for _ in range(5_000):
        now += 0.1
        while waiting and schedule.has_room:
            model, count = waiting.pop(0)
            queue = schedule.open(model)
            for number in range(count):
                schedule.add(queue, number)
        while (sent := schedule.take(now, limit=limit)) is not None:
            flying.append(sent)
            assert schedule.in_flight == len(flying) <= limit
        if not flying:
            if not waiting and not any(left.values()):
                break
            continue
        queue, job = flying.pop(chance.randrange(len(flying)))
        if queue.model in loaded:
            loaded[queue.model] = now
            schedule.answered(queue)
            answered[(queue.model, job)] += 1
            left[queue.model] -= 1
            if not left[queue.model]:
                schedule.close(queue)
            continue
        schedule.not_ready(queue, probe_at=now + 0.1)
        schedule.put_back(queue, job)
        busy = {other.model for other, _ in flying}
        if len(loaded) >= capacity:
            idle = [model for model in loaded if model not in busy]
            if not idle:
                continue
            del loaded[min(idle, key=loaded.__getitem__)]
        loaded[queue.model] = now
    assert not any(left.values())
    assert set(answered.values()) == {1}
    assert sum(answered.values()) == sum(counts)
    assert schedule.in_flight == 0
