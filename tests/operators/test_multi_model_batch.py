"""The batch operator: all inputs in one task, or one shard of a plan."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from airflow_sm_plugin._compat import AirflowFailException, Context
from airflow_sm_plugin.exceptions import BatchUnfinished, EndpointNotInService, PlanReplaced, TaskKilled
from airflow_sm_plugin.killable import Killable
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMergeBatchReportOperator,
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from tests.endpoint_trials import may_execute
from tests.metrics import Metrics
from tests.multi_model.multi_models import MultiModel
from tests.support import Account, TaskInstanceDouble, context_for, run_task, unique

pytestmark = pytest.mark.airflow

SECRET = "trace-4711"


@dataclasses.dataclass
class TaskInstance(TaskInstanceDouble):
    """One that knows ``max_tries``."""

    max_tries: int = 0


@pytest.fixture(scope="module")
def shared(module_account: Account) -> MultiModel:
    return MultiModel.deployed(module_account, ["a", "b"])


@pytest.fixture
def batch(shared: MultiModel, account: Account) -> MultiModel:
    return MultiModel(account, shared.name, f"s3://{account.bucket}/{unique('mm')}", shared.prefix)


def operator(batch: MultiModel, **arguments: Any) -> SageMakerMultiModelBatchOperator:  # noqa: ANN401 - the operator's own
    given = {
        "task_id": "batch",
        "endpoint_name": batch.name,
        "inputs": f"{batch.root}/in/",
        "outputs": f"{batch.root}/out/",
        "target_model": "{model}.tar.gz",
        "content_type": "text/csv",
        "aws_conn_id": None,
        **arguments,
    }
    return SageMakerMultiModelBatchOperator(**{name: each for name, each in given.items() if each != ""})


def run(batch: MultiModel, ti: TaskInstance | None = None, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the operator's own
    summary: dict[str, Any] = run_task(
        lambda: operator(batch, **arguments), context_for(ti or TaskInstance(task_id=unique("t")))
    )
    return summary


HAS_BOTH = all(map(importlib.util.find_spec, ("httptools", "uvloop")))
"""Airflow 3 brings both, Airflow 2.11 neither."""


@pytest.mark.parametrize(
    ("hidden", "expected"),
    [
        ([], "requests go through httptools, on the event loop of uvloop"),
        (["uvloop"], "requests go through httptools, on the event loop of asyncio"),
        (
            ["httptools", "uvloop", "airflow_sm_plugin.invoke.http_pool"],
            "requests go through aiohttp (httptools is not installed), on the event loop of asyncio",
        ),
    ],
)
def test_the_log_says_what_carries_the_requests(
    batch: MultiModel,
    hidden: list[str],
    expected: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of them do the same."""
    if not HAS_BOTH and "httptools," in expected:
        pytest.skip("httptools and uvloop are not installed")
    for module in hidden:
        monkeypatch.setitem(sys.modules, module, None)
    caplog.set_level(logging.INFO)
    batch.put("a", "x.csv", "one\ntwo\n")
    assert run(batch)["records"] == 2
    assert batch.output("a", "x.csv") == b"a/one\na/two\n"
    assert expected in caplog.text


def test_outputs_and_figures_reach_airflow(batch: MultiModel, metrics: Metrics) -> None:
    """A dashboard's counters, and the data of OpenLineage."""
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    task = operator(batch)
    run_task(lambda: task, context_for(TaskInstance(task_id="batch")))
    assert task._datasets == ([f"{batch.root}/in/"], [f"{batch.root}/out/"])
    tags = {"dag_id": "a_dag", "task_id": "batch", "endpoint_name": batch.name}
    group = "sagemaker_inference.multi_model_batch"
    assert metrics.counts(tags) == {
        f"{group}.inputs": 2,
        f"{group}.records": 3,
        f"{group}.succeeded": 3,
        f"{group}.invocations": metrics.counts(tags)[f"{group}.invocations"],
        f"{group}.cold_starts": 2,
        **{name: number for name, number in metrics.counts(tags).items() if name.endswith(".retries")},
    }


def test_one_task_plans_invokes_and_reports(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    ti = TaskInstance()
    summary = run(batch, ti)
    assert (summary["inputs"], summary["records"], summary["failed"], summary["models"]) == (2, 3, 0, 2)
    assert (summary["shards"], summary["shards_missing"], summary["inputs_carried"]) == (1, 0, 0)
    assert batch.output("a", "x.csv") == b"a/one\na/two\n"
    page = batch.account.read(summary["report_page_location"])
    assert b"a.tar.gz" in page
    assert batch.account.read(f"{batch.root}/out/report.html") == page
    assert ti.xcom["sagemaker_batch_report_link"]["location"] == summary["report_page_location"]
    assert ti.xcom["sagemaker_endpoint_link"]["endpoint_name"] == batch.name


def test_one_task_does_one_shard_of_a_plan(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    shards = run_task(
        lambda: SageMakerPlanMultiModelBatchOperator(
            task_id="plan",
            endpoint_name=batch.name,
            inputs=f"{batch.root}/in/",
            outputs=f"{batch.root}/out/",
            target_model="{model}.tar.gz",
            max_shards=2,
            aws_conn_id=None,
        ),
        context_for(TaskInstance(task_id="plan")),
    )
    assert len(shards) == 2
    summaries = [run(batch, shard=shard, inputs="", outputs="", target_model="") for shard in shards]
    assert sum(summary["records"] for summary in summaries) == 3
    assert {summary["shard"] for summary in summaries} == {0, 1}
    assert batch.output("b", "x.csv") == b"b/three\n"


def test_records_that_failed_fail_the_task_once_all_else_is_done(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    with pytest.raises(AirflowFailException) as error:
        run(batch)
    assert "BatchFailed" in str(error.value)
    assert "1 of 3 records failed" in str(error.value)
    assert "1 record of model a.tar.gz: ModelError (400): a bad record in" in str(error.value)
    assert "model=a/x.csv record 0" in str(error.value)
    assert batch.output("a", "x.csv") == b"a/two\n"
    assert batch.output("b", "x.csv") == b"b/three\n"
    assert batch.account.read(f"{batch.root}/out/report.html")


@pytest.mark.parametrize(
    ("arguments", "fails"),
    [
        ({"on_error": "tolerate"}, False),
        ({"on_error": "tolerate", "tolerated_failure_ratio": 0.5}, False),
        ({"on_error": "tolerate", "tolerated_failure_ratio": "0.4"}, True),
        ({"tolerated_failure_ratio": 0.5}, False),
    ],
)
def test_so_many_failures_are_tolerated_as_was_said(
    batch: MultiModel, arguments: dict[str, Any], fails: bool
) -> None:
    batch.put("a", "x.csv", "bad\ntwo\n")
    if fails:
        with pytest.raises(AirflowFailException):
            run(batch, **arguments)
    else:
        assert run(batch, **arguments)["failed"] == 1


def test_failures_that_may_pass_are_left_to_airflows_retries_and_only_those_go_again(
    batch: MultiModel,
) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    ti = TaskInstance(max_tries=1)
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500, "target_model": "a.tar.gz"}
    with batch.faults(rule), pytest.raises(BatchUnfinished, match="Do: wait for the retry"):
        run(batch, ti, attempts=1, max_payload_seconds=0.1)
    before = len(batch.invocations())
    again = run(batch, dataclasses.replace(ti, try_number=2), attempts=1)
    assert again["failed"] == 0
    assert len(batch.invocations()) == before + 2


def test_the_last_try_reports_that_failures_might_pass_but_does_not_hide_them(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500}
    with batch.faults(rule), pytest.raises(BatchUnfinished, match="1 of 1 record failed"):
        run(batch, TaskInstance(max_tries=0), attempts=1, max_payload_seconds=0.1)


def test_what_was_done_before_clearing_is_not_done_again(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.put("b", "x.csv", "three\n")
    ti = TaskInstance()
    run(batch, ti)
    before = len(batch.invocations())
    batch.put("b", "x.csv", "four\n")
    summary = run(batch, dataclasses.replace(ti, max_tries=1))
    assert len(batch.invocations()) == before + 1
    assert (summary["inputs"], summary["inputs_carried"]) == (1, 1)
    assert batch.output("b", "x.csv") == b"b/four\n"
    run(batch, dataclasses.replace(ti, max_tries=2), on_rerun="restart")
    assert len(batch.invocations()) == before + 3


def test_attributes_and_payloads_stay_out_of_log_and_xcom(
    batch: MultiModel, caplog: pytest.LogCaptureFixture
) -> None:
    batch.put("a", "x.csv", "payload-0815\nbad-payload-0815\n")
    ti = TaskInstance()
    with caplog.at_level(logging.DEBUG):
        summary = run(
            batch,
            ti,
            custom_attributes=SECRET + "/{first_record}",
            keep_response_attributes=True,
            on_error="tolerate",
        )
    seen = caplog.text + str(summary) + str(ti.xcom)
    assert SECRET not in seen
    assert "payload-0815" not in seen
    assert SECRET.encode() in (batch.output("a", "x.csv", ".attributes.jsonl") or b"")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": ""}, "inputs is needed"),
        ({"outputs": "{root}/in/out"}, "are not apart"),
        ({"target_model": "{shop}.tar.gz"}, r"\{shop\}"),
        ({"target_model": "{model"}, "target_model is no template"),
        ({"max_payload_in_mb": 26}, "max_payload_in_mb is 26, InvokeEndpoint takes .* up to 25 MB"),
        (
            {"max_payload_in_mb": 1e-7},
            "max_payload_in_mb is 1e-07, which is less than one byte, .* of one byte up to",
        ),
        ({"batch_strategy": "Multi"}, "'Multi' is none of"),
        ({"split_type": "RecordIO"}, "'RecordIO' is none of"),
        ({"split_type": "None", "batch_strategy": "MultiRecord"}, "makes no lines"),
        ({"join_source": "Input", "content_type": "application/x-npy"}, "join_source='Input' needs"),
        ({"compression_type": "Zip"}, "compression_type"),
        ({"custom_attributes": "{"}, "custom_attributes is no template"),
        ({"max_concurrent_transforms": 0}, "max_concurrent_transforms"),
        ({"tolerated_failure_ratio": 2}, "from 0 to 1"),
        ({"on_error": "ignore"}, "on_error"),
        ({"shard": {"number": 1}}, "plan_location and shard"),
        ({"model_load_seconds": 0}, "model_load_seconds"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_sent(
    batch: MultiModel, arguments: dict[str, Any], message: str
) -> None:
    batch.put("a", "x.csv", "one\n")
    given: dict[str, Any] = {
        name: value.replace("{root}", batch.root) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    before = len(batch.invocations())
    with pytest.raises(AirflowFailException, match=message):
        run(batch, **given)
    assert len(batch.invocations()) == before


def test_markers_are_passed_over_and_patterns_choose(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.put("a", "_SUCCESS", "")
    batch.put("b", "x.csv", "two\n")
    batch.account.upload("", f"{batch.root}/in/_SUCCESS".removeprefix(f"s3://{batch.account.bucket}/"))
    summary = run(batch, include="['*.csv']", exclude=["model=b/*"])
    assert (summary["inputs"], summary["inputs_passed_over"]) == (1, 3)
    summary = run(batch, inputs=f"{batch.root}/in")
    assert (summary["inputs"], summary["inputs_passed_over"]) == (2, 2)
    assert json.loads(batch.account.read(summary["report_location"]))["inputs_passed_over"] == 2
    assert (batch.output("a", "x.csv"), batch.output("b", "x.csv")) == (b"a/one\n", b"b/two\n")


def test_dots_between_slashes_are_names_like_any_others(batch: MultiModel) -> None:
    for name in ("d/../x.csv", "d/./x.csv", "../x.csv"):
        batch.put("a", name, f"{name}\n")
    summary = run(batch, target_model="a.tar.gz")
    assert (summary["inputs"], summary["succeeded"], summary["inputs_passed_over"]) == (3, 3, 0)
    assert batch.output("a", "d/../x.csv") == b"a/d/../x.csv\n"


def test_no_input_fails_unless_that_is_fine(batch: MultiModel) -> None:
    with pytest.raises(AirflowFailException, match="there are no inputs"):
        run(batch)
    assert run(batch, empty_ok=True)["inputs"] == 0


def test_an_endpoint_that_is_not_there_yet_is_worth_a_retry(account: Account, batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    with account.settings(endpoint_creating_seconds=3600):
        batch.name = account.start_endpoint()
        with pytest.raises(EndpointNotInService, match="it serves only InService"):
            run(batch)


def test_a_batch_whose_endpoint_is_gone_has_a_report_on_what_was_done(
    account: Account, batch: MultiModel
) -> None:
    """The page says what to do, and the task's own error what is kept; clearing it then sends only the rest."""
    batch.put("a", "x.csv", "one\nbad\n" + "one\n" * 60)
    batch.put("b", "y.csv", "two\n" * 60)
    gone = {
        "operation": "InvokeEndpoint",
        "fault": "error",
        "code": "ValidationError",
        "status": 400,
        "message": f"Endpoint {batch.name} of account 123456789012 not found.",
        "after": 40,
    }
    ti = TaskInstance(task_id=unique("t"))
    with batch.faults(gone), pytest.raises((AirflowFailException, EndpointNotInService)) as error:
        run(batch, ti, max_concurrent_transforms=2)
    assert re.search(r"Kept: the results of \d+ records; 0 of 2 inputs are done", str(error.value))
    location = ti.xcom["sagemaker_batch_report_link"]["location"]
    page = account.read(location).decode()
    for text in (
        "Unfinished: 0 of 2 inputs done, 1 of 1 shard stopped",
        "EndpointNotFound",
        f"Deploy endpoint {batch.name}, then clear this task",
    ):
        assert text in page
    written = json.loads(account.read(location.replace(".html", ".json")))
    assert written["records"] > 20
    assert written["stopped"][0]["error"] == "EndpointNotFound"
    done = written["succeeded"]
    before = len(batch.invocations())
    cleared = dataclasses.replace(ti, max_tries=1, xcom={})
    summary = run(batch, cleared, on_error="tolerate")
    assert (summary["records"], summary["failed"]) == (122, 1)
    assert len(batch.invocations()) - before <= 122 - done


def in_dag_run(ti: TaskInstance, started: datetime | None) -> Context:
    """Return a context as of a DAG run that began then."""
    return cast("Context", {**context_for(ti), "dag_run": SimpleNamespace(start_date=started)})


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("dated", [True, False])
def test_a_dag_run_created_again_gets_nothing_of_the_deleted_one(
    batch: MultiModel, *, dated: bool, number: int
) -> None:
    """Its run id is the same, how often it may be tried, and its try number, unless the deleted one was retried."""
    ti = TaskInstance(task_id=unique("t"), max_tries=2, try_number=number)
    batch.put("a", "x.csv", "one\nbad\n")
    batch.put("b", "y.csv", "two\n")
    arguments = {"on_error": "tolerate"}
    first = run_task(lambda: operator(batch, **arguments), in_dag_run(ti, NOON if dated else None))
    for model, name in (("a", "x.csv"), ("b", "y.csv")):
        batch.put(model, name, "new\n")
    before = len(batch.invocations())
    made_again = dataclasses.replace(ti, try_number=1, xcom={})
    again = in_dag_run(made_again, NOON + timedelta(hours=1) if dated else None)
    second = run_task(lambda: operator(batch, **arguments), again)
    assert len(batch.invocations()) == before + 2
    assert (second["inputs"], second["inputs_carried"], second["failed"]) == (2, 0, 0)
    assert second["report_location"] != first["report_location"]
    assert (batch.output("a", "x.csv"), batch.output("b", "y.csv")) == (b"a/new\n", b"b/new\n")
    assert batch.output("a", "x.csv", ".errors.jsonl") is None


@pytest.mark.parametrize("on_rerun", ["resume", "restart"])
def test_a_dag_run_created_again_sends_what_is_unchanged_as_well(batch: MultiModel, on_rerun: str) -> None:
    ti = TaskInstance(task_id=unique("t"), max_tries=2)
    batch.put("a", "x.csv", "one\n")
    first = run_task(lambda: operator(batch, on_rerun=on_rerun), in_dag_run(ti, NOON))
    for number, invoked in ((1, 1), (2, 0)):
        before = len(batch.invocations())
        again = in_dag_run(dataclasses.replace(ti, try_number=number), NOON + timedelta(hours=1))
        second = run_task(lambda: operator(batch, on_rerun=on_rerun), again)
        assert len(batch.invocations()) == before + invoked
        assert second["report_location"] != first["report_location"]
    late = in_dag_run(ti, NOON)
    with pytest.raises(AirflowFailException, match="FencedOff"):
        run_task(lambda: operator(batch, on_rerun=on_rerun), late)


def test_shards_and_report_of_a_dag_run_created_again_are_its_own(batch: MultiModel) -> None:
    """Through plan, batch and merge; a batch task that still has the deleted one's plan does it no harm."""
    batch.put("a", "x.csv", "one\n")

    def planned(started: datetime) -> dict[str, Any]:
        (shard,) = run_task(
            lambda: SageMakerPlanMultiModelBatchOperator(
                task_id="plan",
                endpoint_name=batch.name,
                inputs=f"{batch.root}/in/",
                outputs=f"{batch.root}/out/",
                target_model="{model}.tar.gz",
                aws_conn_id=None,
            ),
            in_dag_run(TaskInstance(task_id="plan"), started),
        )
        return cast("dict[str, Any]", shard)

    def run_shard(shard: dict[str, Any], started: datetime) -> dict[str, Any]:
        task = TaskInstance(task_id="batch", map_index=0)
        nothing = {"inputs": "", "outputs": "", "target_model": ""}
        summary = run_task(lambda: operator(batch, shard=shard, **nothing), in_dag_run(task, started))
        return cast("dict[str, Any]", summary)

    def merged(shard: dict[str, Any], started: datetime) -> dict[str, Any]:
        summary = run_task(
            lambda: SageMakerMergeBatchReportOperator(
                task_id="merge", plan_location=shard["plan_location"], aws_conn_id=None
            ),
            in_dag_run(TaskInstance(task_id="merge"), started),
        )
        return cast("dict[str, Any]", summary)

    first, later = planned(NOON), NOON + timedelta(hours=1)
    run_shard(first, NOON)
    merged(first, NOON)
    batch.put("a", "x.csv", "new\n")
    second = planned(later)
    assert second["plan_location"] != first["plan_location"]
    for work in (run_shard, merged):
        with pytest.raises(PlanReplaced, match="a later plan of this batch"):
            work(first, NOON)
    with pytest.raises(AirflowFailException, match=r"shards? stopped"):
        merged(second, later)
    assert run_shard(second, later)["records"] == 1
    assert merged(second, later)["records"] == 1
    assert batch.output("a", "x.csv") == b"a/new\n"


KEY = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def test_every_object_is_encrypted_with_the_key_of_the_outputs(account: Account, batch: MultiModel) -> None:
    """A bucket's policy may refuse others; its versions show also those that are gone by now."""
    bucket = unique("versions")
    account.s3.create_bucket(Bucket=bucket)
    account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    long = "".join(f"{number}{'x' * 600_000}\n" for number in range(16))
    batch.put("a", "long.csv", long)
    batch.put("a", "x.csv", "one\nbad\n" + "one\n" * 40)
    arguments = {
        "outputs": f"s3://{bucket}/out",
        "output_kms_key_id": KEY,
        "custom_attributes": "trace",
        "keep_response_attributes": True,
        "on_error": "tolerate",
    }
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 403, "code": "AccessDeniedException"}
    ti = TaskInstance(task_id=unique("t"), max_tries=1)
    with batch.faults({**rule, "after": 6}), pytest.raises(AirflowFailException):
        run(batch, ti, **arguments, max_concurrent_transforms=1)
    run(batch, dataclasses.replace(ti, try_number=2), **arguments)
    shards = run_task(
        lambda: SageMakerPlanMultiModelBatchOperator(
            task_id="plan",
            endpoint_name=batch.name,
            inputs=f"{batch.root}/in/",
            outputs=f"s3://{bucket}/out",
            target_model="{model}.tar.gz",
            output_kms_key_id=KEY,
            aws_conn_id=None,
        ),
        context_for(TaskInstance(task_id="plan")),
    )
    with pytest.raises(AirflowFailException, match=r"shards? stopped"):
        run_task(
            lambda: SageMakerMergeBatchReportOperator(
                task_id="merge",
                plan_location=shards[0]["plan_location"],
                output_kms_key_id=KEY,
                aws_conn_id=None,
            ),
            context_for(TaskInstance(task_id="merge")),
        )
    written = [
        (version["Key"], version["VersionId"])
        for page in account.s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
        for version in page.get("Versions", [])
    ]
    plain = [
        key
        for key, version in written
        if account.s3.head_object(Bucket=bucket, Key=key, VersionId=version).get("SSEKMSKeyId") != KEY
    ]
    assert plain == []
    kinds = ("/plans/", "plan.json", "/inputs/", "shard.json", "/claims/", "/journal/", "/data/", "/reports/")
    beside = ("/uploads/", "report.json", "report.html", ".out", ".errors.jsonl", ".attributes.jsonl")
    for kind in (*kinds, *beside):
        assert any(kind in key for key, _ in written), f"nothing of {kind} was written"


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def killed(task: Killable, context: Context, when: Callable[[], bool]) -> None:
    """Have a task run, kill it at some time, and wait until it has ended."""
    with ThreadPoolExecutor(initializer=may_execute) as pool:
        running = pool.submit(task.execute, context)  # type: ignore[attr-defined] # an operator
        until(when)
        task.on_kill()
        with pytest.raises(TaskKilled):
            running.result(timeout=600)


def test_a_killed_batch_sends_nothing_more_and_has_written_down_what_was_answered(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "".join(f"r{number}\n" for number in range(300)))
    ti = TaskInstance(task_id=unique("t"), max_tries=1)
    before = len(batch.invocations())
    held = {"operation": "InvokeEndpoint", "fault": "latency", "seconds": 3600, "after": 20}
    with batch.faults(held):
        killed(operator(batch, max_concurrent_transforms=2), context_for(ti), lambda: batch.struck() == 2)
    assert len(batch.invocations()) == before + 20
    summary = run_task(lambda: operator(batch), context_for(dataclasses.replace(ti, try_number=2)))
    assert (summary["records"], summary["failed"]) == (300, 0)
    assert batch.output("a", "x.csv") == "".join(f"a/r{number}\n" for number in range(300)).encode()
    assert len(batch.invocations()) == before + 300, "the two that were on their way again, and no others"


def tasks_of(batch: MultiModel) -> dict[str, Killable]:
    """Return a task of each kind."""
    shards = run_task(
        lambda: SageMakerPlanMultiModelBatchOperator(
            task_id="plan",
            endpoint_name=batch.name,
            inputs=f"{batch.root}/in/",
            outputs=f"{batch.root}/out/",
            target_model="{model}.tar.gz",
            aws_conn_id=None,
        ),
        context_for(TaskInstance(task_id="plan")),
    )
    plan = SageMakerPlanMultiModelBatchOperator(
        task_id="plan",
        endpoint_name=batch.name,
        inputs=f"{batch.root}/in/",
        outputs=f"{batch.root}/other/",
        target_model="{model}.tar.gz",
        aws_conn_id=None,
    )
    merge = SageMakerMergeBatchReportOperator(
        task_id="merge", plan_location=shards[0]["plan_location"], aws_conn_id=None
    )
    return {"plan": plan, "merge": merge, "batch": operator(batch)}


@pytest.mark.parametrize("after", [0, 4])
@pytest.mark.parametrize("kind", ["plan", "merge", "batch"])
def test_a_killed_task_waits_for_no_answer(batch: MultiModel, kind: str, after: int) -> None:
    batch.put("a", "x.csv", "one\n")
    task = tasks_of(batch)[kind]
    objects = f"{batch.account.bucket}*"
    held = {"operation": "s3:*", "fault": "latency", "seconds": 3600, "resource": objects, "after": after}
    with batch.faults(held):
        killed(task, context_for(TaskInstance(task_id=unique("t"))), lambda: batch.struck() > 0)
    assert batch.output("a", "x.csv") is None


@pytest.mark.parametrize("kind", ["plan", "merge", "batch"])
def test_a_task_killed_before_it_began_sends_nothing(batch: MultiModel, kind: str) -> None:
    batch.put("a", "x.csv", "one\n")
    task = tasks_of(batch)[kind]
    task.on_kill()
    began = batch.calls()
    with pytest.raises(TaskKilled):
        task.execute(context_for(TaskInstance(task_id=unique("t"))))  # type: ignore[attr-defined] # an operator
    assert batch.calls() == began
