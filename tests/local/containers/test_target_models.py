"""Which models a container holds, whatever happens in whatever order: bounds, least recent use, no model twice."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from airflow_sm_plugin.local.containers.target_models import ModelTable, Room, TargetModel
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

NAMES = st.sampled_from("abcdef")
MIB = 1024 * 1024


@given(st.integers(1, 3), st.lists(st.tuples(st.sampled_from(["use", "finish", "load"]), NAMES), max_size=60))
def test_memory_is_bounded_and_what_is_in_use_stays(capacity: int, steps: list[tuple[str, str]]) -> None:
    table, room = ModelTable(), Room(capacity, 0)
    in_memory: dict[str, TargetModel] = {}
    used: list[TargetModel] = []
    for step, name in steps:
        if step == "finish" and used:
            table.give_back(used.pop(0))
        elif step == "use" and name in in_memory:
            used.append(table.take(name)[0])
        elif step == "load" and name not in table:
            model, is_new = table.take(name)
            assert is_new
            while not table.admit(model, room):
                victim = table.evict()
                if victim is None:
                    table.failed(model, lambda: ValidationFailure("full"))
                    break
                assert victim not in used
                del in_memory[victim.name]
                table.gone(victim)
            else:
                table.loaded(model)
                in_memory[name] = model
            table.give_back(model)
        assert len(in_memory) <= capacity
        assert {model.name for model in used} <= set(in_memory)
        assert set(table.as_json()["loaded"]) == set(in_memory)


def test_the_one_that_was_given_back_first_is_evicted_first() -> None:
    table, room = ModelTable(), Room(0, 0)
    models = {name: table.take(name)[0] for name in "abc"}
    for model in models.values():
        table.admit(model, room)
        table.loaded(model)
    for name in "bca":
        table.give_back(models[name])
    assert [table.evict() for _ in range(4)] == [models["b"], models["c"], models["a"], None]


def test_a_model_counts_in_memory_until_it_is_gone() -> None:
    table, room = ModelTable(), Room(1, 0)
    first, second = (table.take(name)[0] for name in "ab")
    assert table.admit(first, room)
    table.loaded(first)
    table.give_back(first)
    assert table.evict() is first
    assert not table.admit(second, room)
    table.gone(first)
    assert table.admit(second, room)


def test_a_room_without_limits_holds_everything() -> None:
    large = TargetModel("large", size=3 * MIB)
    assert Room(0, 0).holds(*[large] * 100)
    assert Room(0, 3).holds(large)
    assert not Room(0, 2.9).holds(large)


def test_a_failure_is_reported_once_and_then_forgotten() -> None:
    table = ModelTable()
    model, _ = table.take("a")
    table.give_back(model)  # it did not wait
    table.failed(model, lambda: ValidationFailure("no"))
    assert table.take("a") == (model, False)
    assert table.take("a")[1]
