"""The page's cache: one computation at a time, never a long wait, and an old value rather than none."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

from airflow_sm_plugin.page.cache import BackgroundCache


def test_a_fresh_value_is_computed_once() -> None:
    values = iter(range(10))
    cache = BackgroundCache(lambda: next(values), fresh_seconds=3600, patience=600)
    assert [each.value for _ in range(3) if (each := cache.get())] == [0, 0, 0]


def test_an_old_value_is_computed_again() -> None:
    values = iter(range(10))
    cache = BackgroundCache(lambda: next(values), fresh_seconds=0, patience=600)
    assert [each.value for _ in range(3) if (each := cache.get())] == [0, 1, 2]


def test_a_computation_that_hangs_delays_no_request_and_runs_once() -> None:
    release, runs = Event(), []

    def compute() -> int:
        runs.append(1)
        release.wait(600)
        return len(runs)

    cache = BackgroundCache(compute, fresh_seconds=3600, patience=0.01)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: cache.get(), range(32))) == [None] * 32
    assert len(runs) == 1
    release.set()
    while (seen := cache.get()) is None:
        pass
    assert (seen.value, seen.refreshing) == (1, False)


def test_meanwhile_the_old_value_is_shown_with_its_age() -> None:
    release, first = Event(), True

    def compute() -> str:
        nonlocal first
        if first:
            first = False
            return "old"
        release.wait(600)
        return "new"

    cache = BackgroundCache(compute, fresh_seconds=0, patience=0.05)
    while (seen := cache.get()) is None or not seen.refreshing:
        pass
    assert seen.value == "old"
    assert seen.seconds > 0
    release.set()
    while (seen := cache.get()) is None or seen.value == "old":
        pass
    assert seen.value == "new"


def test_a_failure_keeps_the_old_value_and_does_not_stop_the_next_computation() -> None:
    outcomes = iter([1, None, 3])

    def compute() -> int:
        value = next(outcomes)
        if value is None:
            raise RuntimeError("no answer")
        return value

    cache = BackgroundCache(compute, fresh_seconds=0, patience=600)
    assert [each.value for _ in range(3) if (each := cache.get())] == [1, 1, 3]
