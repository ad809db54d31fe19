"""A batch's report: the sum of its shards' reports in any order; counts that do not add up are an error."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InferenceError
from airflow_sm_plugin.multi_model.report.batch_report import MOST_FAILURES
from airflow_sm_plugin.multi_model.report.tolerance import Tolerance, failure_text
from airflow_sm_plugin.multi_model.report.view import view_of
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts, ShardReport, StopReason
from tests.multi_model.report.reports import (
    BAD,
    GOOD,
    T0,
    batch_of,
    busy,
    collected,
    explained,
    failure_row,
    merged,
    plan_of,
    shard_of,
    work_of,
)

COUNTS = st.builds(
    lambda inputs, records, failed: ModelCounts(
        inputs=inputs + bool(failed),
        inputs_failed=int(bool(failed)),
        records=records + failed,
        records_failed=failed,
    ),
    st.integers(1, 5),
    st.integers(0, 50),
    st.integers(0, 3),
)
SHARDS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), COUNTS, min_size=1, max_size=4),
    min_size=1,
    max_size=5,
)


def row_of(report: dict[str, Any], model: str) -> dict[str, Any]:
    (row,) = (row for row in report["model_rows"] if row["target_model"] == model)
    return dict(row)


@given(SHARDS, st.randoms())
def test_the_sum_does_not_depend_on_the_order_of_shards(
    counted: list[dict[str, ModelCounts]], dice: random.Random
) -> None:
    shards = [
        shard_of(number, counts, statistics=collected(*(busy(name, at=T0 + number) for name in counts)))
        for number, counts in enumerate(counted)
    ]
    body = batch_of(shards).as_json()
    dice.shuffle(shards)
    assert batch_of(shards).as_json() == body
    report = json.loads(body)
    assert report["records"] == report["succeeded"] + report["failed"]
    assert report["records"] == sum(row["records"] for row in report["model_rows"])


def test_a_model_in_several_shards_has_one_row() -> None:
    shards = [
        shard_of(number, {"a.tar.gz": BAD}, statistics=collected(busy("a.tar.gz", at=T0 + 100 * number)))
        for number in range(2)
    ]
    row = row_of(json.loads(batch_of(shards).as_json()), "a.tar.gz")
    assert (row["records"], row["failed"], row["invocations"], row["cold_starts"]) == (20, 6, 40, 2)
    assert row["cold_start_seconds"] == 4.0
    assert row["latency"]["p50"] == pytest.approx(0.05, rel=0.05)


def test_shards_without_a_report_are_counted_apart() -> None:
    report = batch_of([shard_of(0)], [work_of(1, {"a.tar.gz": 3, "b.tar.gz": 1})])
    content = json.loads(report.as_json())
    assert (content["inputs"], content["inputs_unreported"], content["shards_missing"]) == (6, 4, 1)
    assert content["missing_shards"] == [1]
    assert row_of(content, "b.tar.gz")["inputs_unreported"] == 1
    assert (content["records"], content["models"]) == (10, 2)


def test_inputs_of_an_earlier_plan_are_counted_apart() -> None:
    assert batch_of([shard_of(0)], carried=7).summary()["inputs_carried"] == 7


def test_the_report_of_a_plan_without_shards_is_empty() -> None:
    summary = batch_of([]).summary()
    assert (summary["inputs"], summary["records"], summary["shards"], summary["seconds"]) == (0, 0, 0, 0.0)
    assert summary["started_at"] == summary["finished_at"] == plan_of().created_at


def test_the_batch_lasts_from_the_first_begin_to_the_last_end() -> None:
    shards = [
        shard_of(0, started_at="2026-11-18T11:06:40+00:00", finished_at="2026-11-18T11:07:00+00:00"),
        shard_of(1, started_at="2026-11-18T11:06:50+00:00", finished_at="2026-11-18T12:06:45+01:00"),
    ]
    summary = batch_of(shards).summary()
    assert (summary["started_at"], summary["finished_at"], summary["seconds"]) == (
        "2026-11-18T11:06:40+00:00",
        "2026-11-18T11:07:00+00:00",
        20.0,
    )


def test_the_summary_is_flat_and_holds_nothing_of_a_containers_text() -> None:
    report = batch_of([shard_of(0, {"a.tar.gz": BAD}, failures=(failure_row(),))])
    assert all(value is None or isinstance(value, str | int | float) for value in report.summary().values())
    assert "convert" not in json.dumps(report.summary())
    assert "convert" not in repr(report)
    assert json.loads(report.as_json())["first_failures"] == [failure_row()]


def test_failures_are_the_first_of_each_shard_in_order_and_bounded() -> None:
    shards = [
        shard_of(number, {"a.tar.gz": BAD}, failures=[failure_row(first_record=number)] * 20)
        for number in range(7)
    ]
    report = batch_of(list(reversed(shards)))
    assert [row["first_record"] for row in report.failures] == sorted([*range(5)] * 20)
    assert len(report.failures) == MOST_FAILURES


def test_errors_are_counted_by_class_the_most_frequent_first() -> None:
    statistics = collected(
        lambda s: s.failed("a.tar.gz", "ModelError", records=2),
        lambda s: s.failed("b.tar.gz", "RecordTooLarge", records=1),
        lambda s: s.failed("b.tar.gz", "ModelError", records=1),
        lambda s: s.repeated("a.tar.gz", "ThrottlingException"),
    )
    report = batch_of([shard_of(0, {"a.tar.gz": BAD, "b.tar.gz": BAD}, statistics=statistics)])
    content = json.loads(report.as_json())
    assert list(content["failed_by_class"].items()) == [("ModelError", 3), ("RecordTooLarge", 1)]
    assert content["retries_by_class"] == {"ThrottlingException": 1}
    assert row_of(content, "b.tar.gz")["failures"] == {"ModelError": 1, "RecordTooLarge": 1}


def test_series_and_timeline_are_in_epoch_seconds() -> None:
    content = json.loads(batch_of([shard_of(0, statistics=collected(busy("a.tar.gz")))]).as_json())
    (timeline,) = content["timeline"]
    assert timeline == {"target_model": "a.tar.gz", "loading": [[T0, T0 + 2]], "working": [[T0 + 2, T0 + 12]]}
    rows = [dict(zip(content["series"]["columns"], row, strict=True)) for row in content["series"]["rows"]]
    assert sum(row["records"] for row in rows) == 20
    assert rows[0]["at"] == T0 + 2


@pytest.mark.parametrize(
    ("shards", "plan", "message"),
    [
        ([shard_of(0)], plan_of(inputs=3), "of 3 planned inputs 2 are reported on and 0 are not"),
        ([shard_of(0), shard_of(0)], plan_of(inputs=4, shards=2), "shard 0 .* is reported twice"),
        ([shard_of(1)], plan_of(inputs=2), "shard 1 .* none of its 1"),
        ([shard_of(0, plan_nonce="n2")], plan_of(), "is of plan n2"),
        ([shard_of(0, endpoint_name="others")], plan_of(), "for endpoint others"),
        (
            [shard_of(0, {"a.tar.gz": ModelCounts(inputs=2, records=1, records_failed=2)})],
            plan_of(),
            "a.tar.gz contradict",
        ),
    ],
)
def test_counts_that_do_not_add_up_are_an_error(shards: list[ShardReport], plan: Any, message: str) -> None:  # noqa: ANN401 - a plan
    with pytest.raises(InferenceError, match=message):
        merged(plan, shards)


def test_a_missing_artefact_is_in_the_models_row() -> None:
    report = batch_of([shard_of(0, {"a.tar.gz": GOOD, "b.tar.gz": BAD})], missing_models=("b.tar.gz",))
    rows = json.loads(report.as_json())["model_rows"]
    assert [row["artefact_missing"] for row in rows] == [False, True]


def test_failures_by_the_error_that_stopped_shards_are_one_group() -> None:
    """Records were denied one by one until it was clear that the endpoint is gone."""
    steps = [explained(model, error="EndpointNotFound", message="gone") for model in "abc"]
    counts = {model: ModelCounts(records=9, records_failed=3) for model in "abc"}
    stopped = StopReason("EndpointNotFound", "there is no endpoint")
    done = shard_of(0, counts, statistics=collected(*steps, explained("a")), stopped=stopped)
    report = merged(plan_of(inputs=3), [], [(work_of(0, dict.fromkeys("abc", 1)), done)])
    assert [(model, group.error, group.count) for model, group in report.failure_groups] == [
        ("", "EndpointNotFound", 9),
        ("a", "ModelError", 3),
    ]
    assert (report.done, report.unreported, report.failed_by_stops) == (0, 3, 9)
    assert "9 of them as the shards stopped" in failure_text(report, Tolerance(), rows=5)
    assert "9 of 27 records failed, 9 of them as the shards stopped" in view_of(report)["headline"].details
