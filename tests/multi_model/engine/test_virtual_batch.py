"""The time of a whole batch, in virtual time: the schedule, the limit of warm models and that of calls in flight."""

from __future__ import annotations

from functools import cache

import pytest

from tests.multi_model.engine.virtual_batch import VirtualEndpoint, VirtualRun, VirtualWork

SEEDS = range(3)
LOAD_SPREADS = (0.0, 0.2)


@cache
def runs(endpoint: VirtualEndpoint, work: VirtualWork) -> list[VirtualRun]:
    return [VirtualRun(endpoint, work, seed=seed).run() for seed in SEEDS]


def mean_seconds(endpoint: VirtualEndpoint, work: VirtualWork) -> float:
    return sum(run.seconds for run in runs(endpoint, work)) / len(SEEDS)


@pytest.mark.parametrize(
    ("models", "payloads", "capacity", "most"),
    [
        (60, 100, 10, 0.09),
        (60, 1_000, 10, 0.1),
        (200, 20, 10, 0.05),
        (200, 20, 30, 0.13),
        (60, 100, 3, 0.06),
        (20, 100, 1, 0.04),
    ],
)
def test_a_given_limit_comes_near_the_lower_bound(
    models: int, payloads: int, capacity: int, most: float
) -> None:
    work = VirtualWork(models=models, payloads=payloads, max_warm_models=capacity)
    assert max(run.over_bound for run in runs(VirtualEndpoint(capacity=capacity), work)) <= most


@pytest.mark.parametrize("load_spread", LOAD_SPREADS)
@pytest.mark.parametrize("capacity", [1, 3, 10])
def test_no_model_with_work_left_is_evicted_below_a_given_limit(capacity: int, load_spread: float) -> None:
    """One load too many at the end of a batch delays its last models by a load."""
    endpoint = VirtualEndpoint(capacity=capacity, load_spread=load_spread)
    work = VirtualWork(models=40, payloads=50, max_warm_models=capacity)
    assert [run.loads for run in runs(endpoint, work)] == [40] * len(SEEDS)


@pytest.mark.parametrize("load_spread", LOAD_SPREADS)
@pytest.mark.parametrize(
    ("models", "payloads", "capacity", "most"),
    [
        (60, 100, 10, 1.6),
        (60, 400, 10, 1.5),
        (200, 20, 10, 1.3),
        (60, 100, 3, 1.6),
        (20, 100, 1, 2.2),
        (60, 100, 30, 1.9),
    ],
)
def test_finding_the_limit_costs_not_much_more_than_being_given_it(
    models: int, payloads: int, capacity: int, most: float, load_spread: float
) -> None:
    endpoint = VirtualEndpoint(capacity=capacity, load_spread=load_spread)
    given = VirtualWork(models=models, payloads=payloads, max_warm_models=capacity)
    found = VirtualWork(models=models, payloads=payloads)
    assert mean_seconds(endpoint, found) <= most * mean_seconds(endpoint, given)


@pytest.mark.parametrize("capacity", [1, 4, 12])
def test_every_payload_is_answered_where_calls_are_not_held(capacity: int) -> None:
    endpoint = VirtualEndpoint(capacity=capacity, hold=0.0, load=1.0)
    assert [run.answered for run in runs(endpoint, VirtualWork(models=20, payloads=30))] == [600] * len(SEEDS)


@pytest.mark.parametrize(("latency", "in_flight"), [(0.02, 64), (0.1, 256)])
def test_one_throttled_answer_in_twenty_costs_less_than_a_twelfth(latency: float, in_flight: int) -> None:
    work = VirtualWork(models=10, payloads=round(in_flight / latency / 2), in_flight=in_flight)
    clean = mean_seconds(VirtualEndpoint(latency=latency), work)
    throttled = runs(VirtualEndpoint(latency=latency, throttled=0.05), work)
    assert min(clean / run.seconds for run in throttled) >= 0.92


@pytest.mark.parametrize(
    ("endpoint", "rate", "share"),
    [
        (VirtualEndpoint(most_calls=32), 1_600, 0.2),
        (VirtualEndpoint(most_calls=16), 800, 0.3),
        (VirtualEndpoint(most_per_second=1_000.0), 1_000, 0.25),
        (VirtualEndpoint(most_per_second=200.0), 200, 0.45),
    ],
)
def test_what_a_limited_endpoint_bears_is_used_without_overloading_it(
    endpoint: VirtualEndpoint, rate: int, share: float
) -> None:
    work = VirtualWork(models=10, payloads=2 * rate)
    for run in runs(endpoint, work):
        assert run.answered / run.seconds >= 0.75 * rate
        assert run.throttled <= share * (run.answered + run.throttled)
