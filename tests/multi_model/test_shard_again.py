"""Shards whose task ended early, was retried, or was cleared."""

from __future__ import annotations

import gzip
import random
from typing import Any

import pytest

from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.exceptions import AccessDenied, FencedOff, ServiceError
from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
from tests.multi_model.multi_models import MultiModel
from tests.support import Account, unique

REFUSED = {"operation": "InvokeEndpoint", "fault": "error", "code": "AccessDeniedException", "status": 403}
"""A fault that ends a task at once."""

RECORDS = 120


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a", "b"])


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)


@pytest.mark.parametrize(
    ("name", "top", "options"),
    [
        ("x.csv", "", {}),
        ("x.csv.gz", "", {"gunzip": True}),
        (
            "x.csv",
            "",
            {
                "split": SplitOptions(batch_strategy="MultiRecord", max_records=4),
                "isolate_bad_records": True,
            },
        ),
        ("x.csv", "a header\n", {"split": SplitOptions(skip_header=True)}),
    ],
    ids=["lines", "compressed", "isolated", "header"],
)
def test_a_task_that_ended_early_goes_on_with_the_rest(
    batch: MultiModel, name: str, top: str, options: dict[str, Any]
) -> None:
    records = [f"bad{number}" if number % 37 == 5 else f"r{number}" for number in range(RECORDS)]
    text = (top + "\n".join(records)).encode()
    batch.put("a", name, gzip.compress(text) if "gunzip" in options else text)
    location = batch.plan()
    given = {"max_concurrent_transforms": 4, "checkpoint_seconds": 0.05, **options}
    for after in (
        12,
        8,
    ):  # of 46 calls at least: enough payloads are left to prove that the endpoint denies all
        with batch.faults({**REFUSED, "after": after}), pytest.raises(AccessDenied):
            batch.run(location, **given)
    finished = batch.run(location, **given)
    good = [record for record in records if "bad" not in record]
    assert batch.output("a", name) == "".join(f"a/{record}\n" for record in good).encode()
    failed = [row["first_record"] for row in batch.errors("a", name)]
    assert failed == [number for number in range(RECORDS) if number % 37 == 5]
    assert (finished.report.total.records, finished.report.total.records_failed) == (RECORDS, len(failed))


def test_every_try_of_a_cleared_task_uses_a_model_that_was_added(batch: MultiModel) -> None:
    model = unique("late")
    batch.put(model, "x.csv", "one\n")
    location = batch.plan()
    assert batch.run(location).report.total.records_failed == 1
    batch.add_model(model)
    with batch.faults(REFUSED), pytest.raises(AccessDenied):
        batch.run(location, run="2")
    assert not batch.run(location, run="2").report.total.failed
    assert batch.output(model, "x.csv") == f"{model}/one\n".encode()


def test_an_earlier_runs_report_is_not_taken_for_this_runs(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500}
    with batch.faults(rule):
        assert batch.run(location, attempts=1, payload_seconds=0.1).report.total.failed
    lost = {"operation": "s3:PutObject", "fault": "error", "status": 403, "resource": "*/reports/*"}
    with batch.faults(lost), pytest.raises(ServiceError):
        batch.run(location, run="2")
    assert not batch.run(location, run="2").report.total.failed


def test_restart_repeats_everything_after_a_run_without_work(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    for run in ("1", "2"):
        batch.run(location, run=run)
    before = len(batch.invocations())
    batch.run(location, run="3", restart=True)
    assert len(batch.invocations()) == before + 1


def test_failures_are_counted_once_however_often_they_were_tried(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\nbad\n")
    location = batch.plan()
    batch.run(location)
    with batch.faults(REFUSED), pytest.raises(AccessDenied):
        batch.run(location, run="2")
    finished = batch.run(location, run="2")
    statistics = finished.report.statistics["models"]["a.tar.gz"]
    assert statistics["failures"] == {"ModelError": 1}
    assert [(error, count, times) for error, _, _, count, times, _ in statistics["groups"]] == [
        ("ModelError", 1, 1)
    ]
    assert [row["error"] for row in finished.report.failures] == ["ModelError"]


def test_failures_that_a_retry_repaired_are_in_no_group(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\ntwo\n")
    location = batch.plan()
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "body_contains": "two"}
    with batch.faults(rule):
        first = batch.run(location, attempts=1, payload_seconds=0.1)
    groups = dict(first.report.statistics_by_model())["a.tar.gz"].groups
    assert sorted(group.error for group in groups) == ["ModelError", "ServiceUnavailable"]
    again = batch.run(location)
    groups = dict(again.report.statistics_by_model())["a.tar.gz"].groups
    assert [(group.error, group.count) for group in groups] == [("ModelError", 1)]


def test_earlier_failures_that_are_not_tried_again_stay_in_the_report(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\ntwo\n")
    batch.put("b", "y.csv", "one\n")
    location = batch.plan()
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "target_model": "b.tar.gz"}
    with batch.faults(rule):
        batch.run(location, attempts=1, payload_seconds=0.1)
    finished = batch.run(location)
    assert [(row["source"][-5:], row["error"]) for row in finished.report.failures] == [
        ("x.csv", "ModelError")
    ]
    assert finished.report.total.records_failed == 1


def test_attributes_of_one_input_that_cannot_be_sent_fail_that_input(batch: MultiModel) -> None:
    batch.put("a", "1.csv", "one\n")
    batch.put("a", f"2{'x' * 400}.csv", "one\n")
    finished = batch.run(batch.plan(), custom_attributes="{name}{name}{name}")
    assert batch.output("a", "1.csv") == b"a/one\n"
    [row] = batch.errors("a", f"2{'x' * 400}.csv")
    assert row["error"] == "InvalidCustomAttributes"
    assert finished.report.total.inputs_unread == 1


def test_one_bad_answer_of_a_listing_fails_nothing(
    batch: MultiModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every second answer is bad: a rule counts only calls that no other rule applied to."""
    monkeypatch.setattr(random, "random", lambda: 0.0)  # full jitter: no pauses
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    bad = {"operation": "s3:ListObjectsV2", "fault": "throttle", "times": 1, "resource": "*"}
    with batch.faults(*({**bad, "after": number} for number in range(100))):
        batch.run(location)
        assert batch.struck() > 1
    assert batch.output("a", "x.csv") == b"a/one\n"


def test_a_clean_shard_leaves_no_results_in_its_journal(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "".join(f"r{number}\n" for number in range(RECORDS)))
    location = batch.plan()
    with batch.faults({**REFUSED, "after": 40}), pytest.raises(AccessDenied):
        batch.run(location, checkpoint_seconds=0.05, max_concurrent_transforms=4)
    batch.run(location)
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    listed_objects = batch.account.s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/shards/").get(
        "Contents", []
    )
    assert not [key for each in listed_objects if "/data/" in (key := each["Key"])]


def test_a_process_from_before_a_restart_is_fenced_off(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    location = batch.plan()
    batch.run(location)
    batch.run(location, run="2", task_try=TaskTry(200.0, 2), restart=True)
    before = len(batch.invocations())
    for restart in (False, True):
        with pytest.raises(FencedOff):
            batch.run(location, restart=restart)
    assert len(batch.invocations()) == before


def test_a_later_dag_run_of_the_same_name_does_everything_itself(batch: MultiModel) -> None:
    """The DAG run was deleted and created again, and the batch task got the deleted run's plan."""
    batch.put("a", "x.csv", "one\nbad\n")
    location = batch.plan()
    batch.run(location)
    before = len(batch.invocations())
    later = batch.run(location, task_try=TaskTry(200.0, 1))
    assert len(batch.invocations()) == before + 2
    assert (later.report.total.records, later.report.total.records_failed) == (2, 1)
    assert later.report.statistics["models"]["a.tar.gz"]["failures"] == {"ModelError": 1}
    assert batch.run(location, task_try=TaskTry(200.0, 2)).location == later.location
    assert len(batch.invocations()) == before + 2
