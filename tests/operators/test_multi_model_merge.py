"""The merge operator: a report whatever became of the shards, and the task that fails when the batch did."""

from __future__ import annotations

import json
import logging
import re
from typing import Any
from urllib.parse import quote

import pytest

from airflow_sm_plugin._compat import AirflowFailException, AirflowSkipException
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts
from airflow_sm_plugin.operators.multi_model import SageMakerMergeBatchReportOperator
from tests.multi_model.report.reports import BAD, GOOD, busy, collected, explained, shard_of
from tests.multi_model.report.shard_reports import lay_out
from tests.support import Account, TaskInstanceDouble, context_for, run_task

pytestmark = pytest.mark.airflow

FAILED = shard_of(
    0,
    {"a.tar.gz": BAD},
    statistics=collected(explained(), explained(error="RecordTooLarge", record_count=1)),
)
UNREAD = shard_of(0, {"a.tar.gz": ModelCounts(inputs=1, inputs_failed=1, inputs_unread=1)})


def merge(folder: MultiModelPlanFolder, ti: TaskInstanceDouble | None = None, **arguments: Any) -> Any:  # noqa: ANN401 - the operator's
    def make() -> SageMakerMergeBatchReportOperator:
        return SageMakerMergeBatchReportOperator(
            task_id="merge", plan_location=folder.location, aws_conn_id=None, **arguments
        )

    return run_task(make, context_for(ti))


def test_the_summary_is_small_and_says_where_the_reports_lie(account: Account) -> None:
    folder, plan = lay_out(account, [shard_of(0, statistics=collected(busy("a.tar.gz"))), shard_of(1)])
    ti = TaskInstanceDouble()
    summary = merge(folder, ti)
    assert summary == {
        "endpoint_name": "stores",
        "inputs": 4,
        "inputs_failed": 0,
        "inputs_carried": 0,
        "inputs_passed_over": 0,
        "records": 20,
        "succeeded": 20,
        "failed": 0,
        "models": 1,
        "models_failed": 0,
        "invocations": 20,
        "retries": 0,
        "cold_starts": 1,
        "seconds": 60.0,
        "shards": 2,
        "shards_missing": 0,
        "plan_digest": "d1",
        "started_at": "2026-11-18T11:06:40+00:00",
        "finished_at": "2026-11-18T11:07:40+00:00",
        "outputs": plan.outputs,
        "report_location": folder.report,
        "report_page_location": folder.report_page,
    }
    assert ti.xcom["sagemaker_batch_report_link"]["location"] == folder.report_page
    assert ti.xcom["sagemaker_endpoint_link"]["endpoint_name"] == "stores"


def test_the_log_has_counts_and_the_report_but_no_json_of_all(
    account: Account, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = lay_out(account, [FAILED])
    caplog.set_level(logging.INFO)
    with pytest.raises(AirflowFailException):
        merge(folder)
    log_text = "".join([caplog.text, *capfd.readouterr()])
    assert "3 failed, 0 of 1 shard unfinished; report s3://" in log_text
    assert "batch report: {" not in log_text


def test_failures_fail_the_task_once_the_report_is_written(account: Account) -> None:
    folder, _ = lay_out(account, [FAILED])
    ti = TaskInstanceDouble()
    with pytest.raises(AirflowFailException) as error:
        merge(folder, ti, failure_rows="1")
    text = str(error.value)
    for part in (
        "BatchFailed",
        "3 of 10 records failed",
        "3 records of model a.tar.gz: ModelError (400): could not convert 'abc'",
        "and 1 record in 1 further group",
        "clear the batch tasks with downstream",
    ):
        assert part in text
    assert folder.report_page in text
    assert "RecordTooLarge" not in text
    assert json.loads(account.read(folder.report))["failed"] == 3
    assert ti.xcom["sagemaker_batch_report_link"]["location"] == folder.report_page


def test_a_shard_without_a_report_fails_the_task_whatever_is_tolerated(account: Account) -> None:
    folder, _ = lay_out(account, [shard_of(0), None])
    with pytest.raises(
        AirflowFailException, match=r"1 of 2 shards stopped, with 1 input left[\s\S]*map index 1\)"
    ):
        merge(folder, on_error="tolerate")
    assert json.loads(account.read(folder.report))["shards_missing"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"tolerated_failure_ratio": "0.3"},
        {"on_error": "tolerate"},
        {"on_error": "tolerate", "tolerated_failure_ratio": 0.5},
        {"on_error": "tolerate", "tolerated_failure_ratio": "None"},
    ],
)
def test_failures_can_be_tolerated_and_are_logged(
    account: Account,
    arguments: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, _ = lay_out(account, [FAILED])
    caplog.set_level(logging.WARNING)
    assert merge(folder, **arguments)["failed"] == 3
    log_text = "".join([caplog.text, *capfd.readouterr()])
    assert "3 records of model a.tar.gz: ModelError (400): could not convert 'abc'; first s3://" in log_text


def test_inputs_that_could_not_be_read_are_tolerated_only_when_asked(account: Account) -> None:
    folder, _ = lay_out(account, [UNREAD])
    with pytest.raises(AirflowFailException, match="1 input could not be read to the end"):
        merge(folder, tolerated_failure_ratio=1)
    assert merge(folder, on_error="tolerate")["inputs_failed"] == 1


def test_nothing_planned_is_a_success_with_an_empty_report(account: Account) -> None:
    folder, _ = lay_out(account, [])
    assert merge(folder)["records"] == 0
    assert b"Nothing to do" in account.read(folder.report_page)


def test_the_page_names_the_dag_run_and_the_tasks_to_clear(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    for section in ("API", "WEBSERVER"):
        monkeypatch.setenv(f"AIRFLOW__{section}__BASE_URL", "https://airflow.example/site/")
    folder, plan = lay_out(account, [FAILED])
    ti = TaskInstanceDouble()
    with pytest.raises(AirflowFailException):
        merge(folder, ti)
    page = account.read(folder.report_page).decode()
    links = re.findall(r'<a href="([^"]+)"', page)
    run = quote(ti.run_id, safe="")
    assert links[0].startswith(f"https://airflow.example/site/dags/{ti.dag_id}/")
    assert links[0].endswith(run)
    assert sum("stores" in link for link in links) == 2  # the endpoint and its logs
    assert any(plan.outputs.partition("/out")[0].rpartition("/")[2] in link for link in links)
    for text in (ti.dag_id, ti.task_id, "then clear the batch tasks with downstream"):
        assert text in page


def test_it_may_run_again(account: Account) -> None:
    folder, _ = lay_out(account, [shard_of(0, {"a.tar.gz": GOOD})])
    assert merge(folder) == merge(folder)


def test_without_a_plan_it_points_to_the_plan_task() -> None:
    def make() -> SageMakerMergeBatchReportOperator:
        return SageMakerMergeBatchReportOperator(task_id="merge", plan_location="None", aws_conn_id=None)

    with pytest.raises(
        AirflowFailException,
        match=r"(?s)PlanNotFound: the plan task left no plan.*Do: read the log of the plan task",
    ):
        run_task(make)


def test_after_an_estimate_it_is_skipped() -> None:
    def make() -> SageMakerMergeBatchReportOperator:
        return SageMakerMergeBatchReportOperator(task_id="merge", plan_location="", aws_conn_id=None)

    with pytest.raises(AirflowSkipException, match="estimate only"):
        run_task(make)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"on_error": "ignore"}, "on_error"),
        ({"tolerated_failure_ratio": 2}, "tolerated_failure_ratio"),
        ({"tolerated_failure_ratio": "some"}, "tolerated_failure_ratio"),
        ({"failure_rows": -1}, "failure_rows"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        merge(MultiModelPlanFolder("s3://bucket/plan-000"), **wrong)


def test_it_runs_whatever_became_of_the_batch_unless_set_otherwise() -> None:
    def rule(**arguments: Any) -> str:  # noqa: ANN401 - the operator's own
        operator = SageMakerMergeBatchReportOperator(task_id="merge", plan_location="s3://b/p", **arguments)
        return str(getattr(operator.trigger_rule, "value", operator.trigger_rule))

    assert rule() == "all_done"
    assert rule(trigger_rule="none_failed") == "none_failed"
