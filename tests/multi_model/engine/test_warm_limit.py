from __future__ import annotations

from airflow_sm_plugin.multi_model.engine.schedule import WarmLimit


def test_a_limit_that_the_user_gave_never_changes() -> None:
    limit = WarmLimit.starting(7)
    assert limit.loaded().evicted(7).finished().limit == 7


def test_it_grows_with_each_model_loaded_until_the_first_eviction() -> None:
    limit = WarmLimit.starting(None)
    for _ in range(10):
        limit = limit.loaded()
    assert limit.limit == 14
    cut = limit.evicted(14)
    assert cut.limit == 10
    assert cut.loaded().limit == 10


def test_after_an_eviction_it_grows_by_one_in_as_many_undisturbed_models_as_it_allows() -> None:
    limit = WarmLimit.starting(None).evicted(4)
    assert limit.limit == 3
    for _ in range(3):
        limit = limit.finished()
    assert limit.limit == 4


def test_an_eviction_forgets_the_undisturbed_models_before() -> None:
    limit = WarmLimit.starting(None).evicted(4).finished().finished().evicted(3)
    assert limit.limit == 2
    assert limit.finished().limit == 2
    assert limit.finished().finished().limit == 3


def test_it_is_never_below_one() -> None:
    limit = WarmLimit.starting(None)
    for _ in range(5):
        limit = limit.evicted(1)
    assert limit.limit == 1
