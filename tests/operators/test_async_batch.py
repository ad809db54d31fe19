"""The batch operator: every input through the endpoint in one task, waited for here or in the triggerer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from tests.async_inference.batch.async_batches import OBEDIENT, invocations_of, rows_at, upload_inputs
from tests.releases import once
from tests.support import (
    BLOCKING,
    ECHO,
    POLL,
    REGION,
    Account,
    TaskDeferred,
    TaskInstanceDouble,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

Make = Callable[..., SageMakerAsyncBatchOperator]


@dataclasses.dataclass
class ClearedTaskInstance(TaskInstanceDouble):
    """One that knows ``max_tries``, which Airflow raises when a task is cleared."""

    max_tries: int = 0


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def batch_of(account: Account, endpoint: str) -> Make:
    """Make the operator for a batch of its own."""

    def make(inputs: str, **arguments: Any) -> SageMakerAsyncBatchOperator:  # noqa: ANN401 - the operator's own
        given = {
            "task_id": "batch",
            "endpoint_name": endpoint,
            "inputs": inputs,
            "ledger_prefix": f"s3://{account.bucket}/ledgers/{inputs.rstrip('/').rpartition('/')[2]}",
            "content_type": "text/plain",
            "aws_conn_id": None,
            "poll_interval": POLL,
            "max_wait_seconds": 600,
            "deferrable": False,
            **arguments,
        }
        return SageMakerAsyncBatchOperator(**given)

    return make


@pytest.mark.parametrize("deferrable", [False, True])
def test_all_outputs_are_there_when_the_task_ends(
    account: Account, batch_of: Make, endpoint: str, gate: Path, deferrable: bool
) -> None:
    """One of them comes after all have been sent."""
    inputs = upload_inputs(account, ["a", f"gate {gate}", "c"])
    sent = invocations_of(account, endpoint)
    with once(lambda: invocations_of(account, endpoint) >= sent + 3, gate.touch):
        result = run_task(lambda: batch_of(inputs, deferrable=deferrable))
    assert (result["endpoint_name"], result["inputs"], result["succeeded"], result["attempts"]) == (
        endpoint,
        3,
        3,
        3,
    )
    rows = rows_at(account, result["rows_location"])
    outputs = [account.read(row.output_location or "").decode() for row in rows]
    assert outputs == ["A", f"gate {gate}".upper(), "C"]
    assert result["failures_location"] is None
    assert all(value is None or isinstance(value, str | int) for value in result.values())


def test_the_triggers_arguments_stay_small_whatever_is_waited_for(
    account: Account, batch_of: Make, gate: Path
) -> None:
    task = batch_of(upload_inputs(account, [f"gate {gate}"] * 50), deferrable=True)
    deferral = deferred(task)
    gate.touch()
    _, arguments = deferral.trigger.serialize()
    assert len(str(arguments)) < 1_000
    assert deferral.timeout is not None
    assert event_of(rebuilt(deferral.trigger))["why"] == "complete"


def test_failures_fail_the_task_and_say_which_why_and_where(account: Account, batch_of: Make) -> None:
    inputs = upload_inputs(account, ["a", "fail this"])
    ti = TaskInstanceDouble()
    with pytest.raises(AirflowFailException) as error:
        run_task(lambda: batch_of(inputs, attempts=1), context_for(ti))
    text = str(error.value)
    location = ti.xcom["sagemaker_batch_report_link"]["location"]
    page = account.read(location).decode()
    for part in ("1 of 2 inputs have no output", "ordered to fail: this", ti.dag_id, "CloudWatch logs"):
        assert part in page
    for part in (
        "1 of 2",
        "1 input: failed: ",
        f"first {inputs}00001.txt",
        "ordered to fail: this",
        "failures/",
        "clear this task",
    ):
        assert part in text


def test_failures_can_be_collected(account: Account, batch_of: Make) -> None:
    inputs = upload_inputs(account, ["a", "fail this"])
    result = run_task(lambda: batch_of(inputs, attempts="1", on_failure="collect"))
    assert (result["succeeded"], result["failed"]) == (1, 1)
    assert [row.source for row in rows_at(account, result["failures_location"])] == [f"{inputs}00001.txt"]


def test_another_try_of_the_same_run_sends_nothing_again(
    account: Account, batch_of: Make, endpoint: str
) -> None:
    inputs = upload_inputs(account, ["a", "b"])
    first = run_task(lambda: batch_of(inputs), context_for(ClearedTaskInstance(try_number=1)))
    sent = invocations_of(account, endpoint)
    again = run_task(
        lambda: batch_of(inputs, on_rerun="restart"), context_for(ClearedTaskInstance(try_number=2))
    )
    assert again == first
    assert invocations_of(account, endpoint) == sent


@pytest.mark.parametrize(("on_rerun", "sent_again"), [("resume", 0), ("restart", 2)])
def test_clearing_a_finished_task_does_as_on_rerun_says(
    account: Account, batch_of: Make, endpoint: str, on_rerun: str, sent_again: int
) -> None:
    inputs = upload_inputs(account, ["a", "b"])
    run_task(lambda: batch_of(inputs), context_for(ClearedTaskInstance()))
    sent = invocations_of(account, endpoint)
    cleared = context_for(ClearedTaskInstance(try_number=2, max_tries=1))
    assert run_task(lambda: batch_of(inputs, on_rerun=on_rerun), cleared)["succeeded"] == 2
    assert invocations_of(account, endpoint) == sent + sent_again


def test_deferred_or_not_no_more_than_the_limit_are_in_flight(
    account: Account, batch_of: Make, tmp_path: Path
) -> None:
    """Each input's result comes when its gate is opened, so that what is in flight is known at every step."""
    name = account.deploy(BLOCKING, asynchronous=True)
    gates = [tmp_path / f"gate-{number}" for number in range(10)]
    inputs = upload_inputs(account, [str(gate) for gate in gates])

    def make() -> SageMakerAsyncBatchOperator:
        return batch_of(inputs, endpoint_name=name, deferrable=True, max_in_flight="4")

    deferral, opened, in_flight = deferred(make()), 0, []
    while opened < 8:
        in_flight.append(invocations_of(account, name) - opened)
        assert deferral.trigger.serialize()[1]["until_pending"] == (
            2 if invocations_of(account, name) < 10 else 0
        )
        until = opened + 2 if invocations_of(account, name) < 10 else 10
        for gate in gates[opened:until]:
            gate.touch()
        opened = until
        event = event_of(rebuilt(deferral.trigger))
        assert event["why"] == ("room" if opened < 10 else "complete")
        try:
            result = make().execute_complete(context_for(), event)
        except TaskDeferred as again:
            deferral = again
    assert in_flight == [4, 4, 4, 4]
    assert (result["succeeded"], result["inputs"]) == (10, 10)
    assert [row.status for row in rows_at(account, result["rows_location"])] == ["succeeded"] * 10
    account.sagemaker.delete_endpoint(EndpointName=name)


def test_a_queue_that_is_deleted_ends_the_wait(account: Account, batch_of: Make, gate: Path) -> None:
    inputs = upload_inputs(account, [f"gate {gate}"])
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=account.url)
    queue = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    task = batch_of(inputs, deferrable=True, completion_queue=queue)
    deferral = deferred(task)
    sqs.delete_queue(QueueUrl=queue)
    event = event_of(rebuilt(deferral.trigger))
    gate.touch()
    with pytest.raises(AirflowFailException, match="QueueNotFound"):
        task.execute_complete(context_for(), event)


def test_a_real_time_endpoint_is_refused(account: Account, batch_of: Make) -> None:
    inputs = upload_inputs(account, ["a"])
    with pytest.raises(AirflowFailException, match="EndpointNotAsynchronous"):
        run_task(lambda: batch_of(inputs, endpoint_name=account.deploy(ECHO)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs_type": "Folder"}, "inputs_type"),
        ({"include": []}, "include is an empty list"),
        ({"exclude": "*.csv"}, "exclude must be a list, or text of one as JSON or Python writes it"),
        (
            {"inputs_type": "ManifestFile", "inputs": "s3://b/m", "include": ["x"]},
            "include and exclude choose among",
        ),
        ({"inputs": "here"}, "inputs must look like s3://"),
        ({"ledger_prefix": "there"}, "ledger_prefix must look like s3://"),
        ({"on_unknown": "guess"}, "on_unknown"),
        ({"on_rerun": "again"}, "on_rerun"),
        ({"on_failure": "ignore"}, "on_failure"),
        ({"attempts": "0"}, "attempts"),
        ({"max_rate": 0}, "max_rate"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"concurrency": 0}, "concurrency"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"max_wait_seconds": "soon"}, "max_wait_seconds"),
        ({"request_ttl": 59}, "request_ttl"),
        ({"invocation_timeout": 3_601}, "invocation_timeout"),
        ({"endpoint_name": "not a name"}, "endpoint name"),
        ({"completion_queue": "results"}, "completion_queue must be a queue's URL"),
        ({"check_inputs": "maybe"}, "check_inputs must be true or false, not 'maybe'"),
        ({"failure_text_limit": "-1"}, "failure_text_limit must be a whole number, 0 or more, not '-1'"),
        ({"container_log_lines": "few"}, "container_log_lines must be a whole number, 0 or more, not 'few'"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_sent(
    account: Account, batch_of: Make, endpoint: str, wrong: dict[str, Any], message: str
) -> None:
    before = invocations_of(account, endpoint)
    given = {"inputs": f"s3://{account.bucket}/some/", **wrong}
    with pytest.raises(AirflowFailException, match=message):
        run_task(lambda: batch_of(**given))
    assert invocations_of(account, endpoint) == before


def test_a_queue_that_does_not_exist_is_reported_before_anything_is_sent(
    account: Account, batch_of: Make, endpoint: str
) -> None:
    before, inputs = invocations_of(account, endpoint), upload_inputs(account, ["a"])
    with pytest.raises(AirflowFailException, match=r"QueueNotFound: the completion queue .* does not exist"):
        run_task(lambda: batch_of(inputs, completion_queue=f"{account.url}/123456789012/no-such-queue"))
    assert invocations_of(account, endpoint) == before


def test_custom_attributes_are_masked_in_what_airflow_stores(account: Account, batch_of: Make) -> None:
    task = batch_of(f"s3://{account.bucket}/some/", custom_attributes="{{ params.secret }}/{stem}")
    context = context_for()
    context["params"] = {"secret": "s3cr3t"}
    task.render_template_fields(context)
    assert str(task.custom_attributes) == "***"


TEMPLATED = {
    "include": "{{ none }}",
    "exclude": "{{ none }}",
    "check_inputs": "{{ false }}",
    "content_type": "{{ none }}",
    "accept": "",
    "request_ttl": "{{ 60 * 60 }}",
    "invocation_timeout": "{{ none }}",
    "attempts": "{{ 1 }}",
    "max_rate": "{{ 99.5 }}",
    "max_in_flight": "{{ none }}",
    "concurrency": "{{ 3 }}",
    "on_unknown": "{{ 'resend' }}",
    "on_rerun": "{{ 'restart' }}",
    "on_failure": "{{ 'collect' }}",
    "failure_text_limit": "{{ 10 }}",
    "container_log_lines": "{{ 0 }}",
    "completion_queue": "{{ none }}",
    "poll_interval": "{{ 0.05 }}",
    "max_wait_seconds": "{{ 600 }}",
}
"""Airflow makes text of all of them: of None the word, which means that nothing is given."""


def test_every_argument_may_come_from_a_template(account: Account, batch_of: Make, endpoint: str) -> None:
    line = json.dumps({"source-ref": account.upload("fail at length")})
    unseen = json.dumps({"source-ref": f"s3://{account.bucket}/not/there"})
    arguments = {
        **TEMPLATED,
        "inputs_type": "{{ 'ManifestFile' }}",
        "endpoint_name": f"{{{{ '{endpoint}' }}}}",
    }
    result = run_task(lambda: batch_of(account.upload(f"{line}\n{unseen}\n"), **arguments))
    assert (result["failed"], result["attempts"], result["endpoint_name"]) == (2, 2, endpoint)
    errors = [row.error or "" for row in rows_at(account, result["failures_location"])]
    assert [len(error) for error in errors] == [11, 11]


def test_markers_are_never_sent_and_patterns_choose(account: Account, batch_of: Make, endpoint: str) -> None:
    inputs = upload_inputs(account, ["a", "b", "c"])
    prefix = inputs.removeprefix(f"s3://{account.bucket}/")
    for name in ("_SUCCESS", ".00000.txt.crc", "_temporary/0/00000.txt"):
        account.upload("", f"{prefix}{name}")
    before = invocations_of(account, endpoint)
    chosen = run_task(lambda: batch_of(inputs, include="{{ ['0000[01].txt'] }}", exclude=["00001*"]))
    assert (chosen["inputs"], chosen["inputs_passed_over"]) == (1, 5)
    result = run_task(lambda: batch_of(inputs.rstrip("/"), custom_attributes="{relative}"))
    assert result["inputs_passed_over"] == 3
    assert [row.custom_attributes for row in rows_at(account, result["rows_location"])] == [
        f"0000{number}.txt" for number in range(3)
    ]
    assert invocations_of(account, endpoint) == before + 4


def test_dots_between_slashes_are_names_like_any_others(account: Account, batch_of: Make) -> None:
    inputs = f"s3://{account.bucket}/{unique('dots')}/"
    prefix = inputs.removeprefix(f"s3://{account.bucket}/")
    for name in ("d/../e.csv", "d/./f.csv", "../up.csv"):
        account.upload("x", f"{prefix}{name}")
    result = run_task(lambda: batch_of(inputs, custom_attributes="{relative}"))
    assert (result["succeeded"], result["inputs_passed_over"]) == (3, 0)
    assert {row.source.removeprefix(inputs) for row in rows_at(account, result["rows_location"])} == {
        "d/../e.csv",
        "d/./f.csv",
        "../up.csv",
    }


def test_other_patterns_send_only_what_they_add(account: Account, batch_of: Make, endpoint: str) -> None:
    inputs = upload_inputs(account, ["a", "b", "c"])
    run_task(lambda: batch_of(inputs, exclude=["00002*"]), context_for(ClearedTaskInstance()))
    before = invocations_of(account, endpoint)
    cleared = context_for(ClearedTaskInstance(try_number=2, max_tries=1))
    result = run_task(lambda: batch_of(inputs), cleared)
    assert (result["inputs"], result["succeeded"]) == (3, 3)
    assert invocations_of(account, endpoint) == before + 1


@pytest.mark.parametrize("indent", [None, 2])
def test_manifests_that_people_have_are_read(account: Account, batch_of: Make, indent: int | None) -> None:
    inputs = upload_inputs(account, ["a", "b"])
    array = json.dumps([{"prefix": inputs}, "00001.txt", "00000.txt"], indent=indent)
    labelled = "".join(
        json.dumps(
            {"source-ref": f"{inputs}{name}", "churn": 1, "churn-metadata": {"type": "x"}}, indent=None
        )
        + "\n"
        for name in ("00001.txt", "00000.txt")
    )
    for body in (array, labelled):
        result = run_task(lambda body=body: batch_of(account.upload(body), inputs_type="ManifestFile"))  # type: ignore[misc]
        rows = rows_at(account, result["rows_location"])
        assert [row.source for row in rows] == [f"{inputs}00001.txt", f"{inputs}00000.txt"]
        assert result["succeeded"] == 2


def test_a_manifests_missing_object_fails_the_task_before_anything_is_sent(
    account: Account, batch_of: Make, endpoint: str
) -> None:
    before = invocations_of(account, endpoint)
    manifest = account.upload(json.dumps({"source-ref": f"s3://{account.bucket}/not/there"}))
    with pytest.raises(
        AirflowFailException, match=r"InputNotFound.*line 1: s3://\S+/not/there\. Nothing was sent"
    ):
        run_task(lambda: batch_of(manifest, inputs_type="ManifestFile"))
    assert invocations_of(account, endpoint) == before
