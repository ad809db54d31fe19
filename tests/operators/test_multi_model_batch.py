"""The batch operator: all inputs in one task, or one shard of a plan."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import BatchUnfinished, EndpointNotInService
from airflow_sm_plugin.operators.multi_model import (
    SageMakerMultiModelBatchOperator,
    SageMakerPlanMultiModelBatchOperator,
)
from tests.batch.multi_models import MultiModel
from tests.support import Account, TaskInstanceDouble, context_for, run_task, unique

SECRET = "trace-4711"


@dataclasses.dataclass
class TaskInstance(TaskInstanceDouble):
    """One that knows ``max_tries``."""

    max_tries: int = 0


@pytest.fixture(scope="module")
def shared(session_account: Account) -> MultiModel:
    return MultiModel.deployed(session_account, ["a", "b"])


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
    found: dict[str, Any] = run_task(
        lambda: operator(batch, **arguments), context_for(ti or TaskInstance(task_id=unique("t")))
    )
    return found


def test_one_task_plans_invokes_and_reports(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    ti = TaskInstance()
    found = run(batch, ti)
    assert (found["inputs"], found["records"], found["failed"], found["models"]) == (2, 3, 0, 2)
    assert (found["shards"], found["shards_missing"], found["inputs_carried"]) == (1, 0, 0)
    assert batch.output("a", "x.csv") == b"a/one\na/two\n"
    page = batch.account.read(found["report_page_location"])
    assert b"a.tar.gz" in page
    assert batch.account.read(f"{batch.root}/out/report.html") == page
    assert ti.xcom["sagemaker_batch_report_link"]["location"] == found["report_page_location"]
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
    done = [run(batch, shard=shard, inputs="", outputs="", target_model="") for shard in shards]
    assert sum(one["records"] for one in done) == 3
    assert {one["shard"] for one in done} == {0, 1}
    assert batch.output("b", "x.csv") == b"b/three\n"


def test_records_that_failed_fail_the_task_once_all_else_is_done(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "bad\ntwo\n")
    batch.put("b", "x.csv", "three\n")
    with pytest.raises(AirflowFailException) as error:
        run(batch)
    assert "BatchFailed" in str(error.value)
    assert "1 of 3 records failed" in str(error.value)
    assert "x.csv from record 0: model a.tar.gz: ModelError (400)" in str(error.value)
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
    with batch.faults(rule), pytest.raises(BatchUnfinished, match="the retry does it again"):
        run(batch, ti, attempts=1, max_payload_seconds=0.1)
    before = len(batch.invocations())
    again = run(batch, dataclasses.replace(ti, try_number=2), attempts=1)
    assert again["failed"] == 0
    assert len(batch.invocations()) == before + 2


def test_the_last_try_tells_that_failures_might_pass_but_does_not_hide_them(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    rule = {"operation": "InvokeEndpoint", "fault": "error", "status": 500}
    with batch.faults(rule), pytest.raises(BatchUnfinished, match="1 of 1 records failed"):
        run(batch, TaskInstance(max_tries=0), attempts=1, max_payload_seconds=0.1)


def test_what_was_done_before_clearing_is_not_done_again(batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    batch.put("b", "x.csv", "three\n")
    ti = TaskInstance()
    run(batch, ti)
    before = len(batch.invocations())
    batch.put("b", "x.csv", "four\n")
    found = run(batch, dataclasses.replace(ti, max_tries=1))
    assert len(batch.invocations()) == before + 1
    assert (found["inputs"], found["inputs_carried"]) == (1, 1)
    assert batch.output("b", "x.csv") == b"b/four\n"
    run(batch, dataclasses.replace(ti, max_tries=2), on_rerun="restart")
    assert len(batch.invocations()) == before + 3


def test_attributes_and_payloads_stay_out_of_log_and_xcom(
    batch: MultiModel, caplog: pytest.LogCaptureFixture
) -> None:
    batch.put("a", "x.csv", "payload-0815\nbad-payload-0815\n")
    ti = TaskInstance()
    with caplog.at_level(logging.DEBUG):
        found = run(
            batch,
            ti,
            custom_attributes=SECRET + "/{first_record}",
            keep_response_attributes=True,
            on_error="tolerate",
        )
    seen = caplog.text + str(found) + str(ti.xcom)
    assert SECRET not in seen
    assert "payload-0815" not in seen
    assert SECRET.encode() in (batch.output("a", "x.csv", ".attributes.jsonl") or b"")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"inputs": ""}, "inputs is needed"),
        ({"outputs": "{root}/in/out"}, "keep them apart"),
        ({"target_model": "{shop}.tar.gz"}, r"\{shop\}"),
        ({"target_model": "{model"}, "target_model is no template"),
        ({"max_payload_in_mb": 7}, "max_payload_in_mb is 7, InvokeEndpoint takes"),
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
    batch: MultiModel, arguments: dict[str, Any], said: str
) -> None:
    batch.put("a", "x.csv", "one\n")
    given: dict[str, Any] = {
        name: value.replace("{root}", batch.root) if isinstance(value, str) else value
        for name, value in arguments.items()
    }
    before = len(batch.invocations())
    with pytest.raises(AirflowFailException, match=said):
        run(batch, **given)
    assert len(batch.invocations()) == before


def test_no_input_fails_unless_that_is_fine(batch: MultiModel) -> None:
    with pytest.raises(AirflowFailException, match="there are no inputs"):
        run(batch)
    assert run(batch, empty_ok=True)["inputs"] == 0


def test_an_endpoint_that_is_not_there_yet_is_worth_a_retry(account: Account, batch: MultiModel) -> None:
    batch.put("a", "x.csv", "one\n")
    with account.settings(endpoint_creating_seconds=30):
        batch.name = account.start_endpoint()
        with pytest.raises(EndpointNotInService, match="it serves only InService"):
            run(batch)
