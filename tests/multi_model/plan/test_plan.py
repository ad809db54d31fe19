"""A plan survives its JSON, and its XCom values stay small."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.exceptions import ResourceConflict
from airflow_sm_plugin.multi_model.plan.plan import (
    FORMAT,
    ModelWork,
    MultiModelPlan,
    ShardPlan,
    read_state,
)

NUMBERS = st.integers(0, 2**50)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
WORKS = st.builds(
    ModelWork, target_model=NAMES, first=NUMBERS, count=NUMBERS, bytes=NUMBERS, missing=st.booleans()
)
SHARDS = st.builds(
    ShardPlan, number=NUMBERS, inputs=NUMBERS, bytes=NUMBERS, models=st.lists(WORKS, max_size=5).map(tuple)
)
PLANS = st.builds(
    MultiModelPlan,
    number=NUMBERS,
    endpoint_name=NAMES,
    outputs=NAMES,
    digest=NAMES,
    inputs=NUMBERS,
    bytes=NUMBERS,
    models=NUMBERS,
    shards=NUMBERS,
    missing_models=st.lists(NAMES, max_size=5).map(tuple),
    carried=NUMBERS,
    created_at=NAMES,
    nonce=NAMES,
    writer=st.builds(
        StateWriter,
        st.builds(TaskTry, st.none() | st.floats(0, 2e9), st.integers(1, 9)),
        st.none() | NAMES,
    ),
    earlier=st.lists(NAMES, max_size=3).map(tuple),
)


@given(SHARDS)
def test_a_shard_survives_its_json(shard: ShardPlan) -> None:
    assert ShardPlan.from_json(shard.as_json()) == shard


@given(PLANS)
def test_a_plan_survives_its_json(plan: MultiModelPlan) -> None:
    location, batch = "s3://b/batch/plan-000-x/plan.json", "s3://b/batch"
    assert read_state(plan.as_json(), MultiModelPlan, location=location, batch=batch) == plan


@pytest.mark.parametrize("header", [{}, {"format": 1}, {"format": FORMAT + 1}])
def test_a_plan_of_another_version_is_refused_with_the_remedy(header: dict[str, int]) -> None:
    body = json.dumps({**header, "number": 0, "writer": {"run": None, "try": [None, 1, None]}}).encode()
    with pytest.raises(ResourceConflict, match=r"(?s)another version .* or delete s3://b/batch and clear"):
        read_state(body, MultiModelPlan, location="s3://b/batch/plan-000-x/plan.json", batch="s3://b/batch")


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"format": "two"}'])
def test_what_is_no_plan_is_refused_with_the_same_remedy(body: bytes) -> None:
    with pytest.raises(ResourceConflict, match="has format unknown, this version reads"):
        read_state(body, MultiModelPlan, location="s3://b/batch/plan-000-x/plan.json", batch="s3://b/batch")


def test_a_model_takes_one_short_row_of_its_shard() -> None:
    """A shard may have thousands."""
    works = tuple(
        ModelWork(target_model=f"m{number}.tar.gz", first=number, count=1, bytes=9) for number in range(3_000)
    )
    assert len(ShardPlan(number=0, inputs=3_000, bytes=27_000, models=works).as_json()) < 110_000


@given(PLANS, SHARDS)
def test_references_are_plain_and_small(plan: MultiModelPlan, shard: ShardPlan) -> None:
    location = "s3://bucket/plan-000"
    summary, reference = plan.summary(location), shard.reference(location)
    assert summary["missing_models"] == len(plan.missing_models)
    assert reference["models"] == len(shard.models)
    for xcom in (summary, reference):
        assert json.loads(json.dumps(xcom)) == xcom
        assert all(isinstance(value, int | str) for value in xcom.values())
        assert xcom["plan_location"] == location
