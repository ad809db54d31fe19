"""The sensor with many invocations: listings instead of polls at each, failures collected, references in S3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import AsyncInferenceTimedOut, InvalidRequest
from tests.sensors.conftest import sensor
from tests.support import FAILING, REGION, Account, context_for, deferred, event_of, rebuilt, unique

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("aws")]


def _many(account: Account, count: int) -> list[dict[str, Any]]:
    """Return what mapped invoke tasks leave: results side by side, none there yet."""
    folder = f"s3://{account.bucket}/{unique('many')}"
    return [
        {
            "output_location": f"{folder}/out/{n:04}.out",
            "failure_location": f"{folder}/bad/{n:04}-error.out",
            "inference_id": f"id-{n}",
            "input_location": f"s3://inputs/{n}.csv",
            "submitted_at": time.time(),
        }
        for n in range(count)
    ]


def _put(account: Account, location: str, body: bytes = b"x") -> None:
    bucket, _, key = location.removeprefix("s3://").partition("/")
    account.s3.put_object(Bucket=bucket, Key=key, Body=body)


def test_many_are_awaited_in_their_order(account: Account, run: Callable[..., Any]) -> None:
    many = _many(account, 60)[::-1]
    for invocation in many:
        _put(account, invocation["output_location"])
    assert run(invocations=many) == [invocation["output_location"] for invocation in many]


def test_failures_among_many_are_reported_with_input_and_reason(
    account: Account, run: Callable[..., Any]
) -> None:
    many = _many(account, 60)
    for invocation in many[:-2]:
        _put(account, invocation["output_location"])
    for invocation in many[-2:]:
        _put(account, invocation["failure_location"], b"out of memory")
    with pytest.raises(AirflowFailException, match=r"(?s)2 of 60 .*s3://inputs/58.csv: out of memory"):
        run(invocations=many)


def test_failed_and_timed_out_ones_are_collected_where_asked(
    account: Account, run: Callable[..., Any]
) -> None:
    good, bad, late = _many(account, 3)
    late["submitted_at"] = time.time() - 100
    _put(account, good["output_location"])
    _put(account, bad["failure_location"], b"out of memory")
    assert run(invocations=[late, bad, good], on_failure="collect", timeout=99) == {
        "succeeded": [good["output_location"]],
        "failed": [
            {
                "input": "s3://inputs/1.csv",
                "inference_id": "id-1",
                "failure_location": bad["failure_location"],
                "error": "out of memory",
            }
        ],
        "timed_out": [
            {
                "input": "s3://inputs/2.csv",
                "inference_id": "id-2",
                "output_location": late["output_location"],
            }
        ],
    }


def test_collecting_reads_a_bounded_number_of_texts(account: Account) -> None:
    many = _many(account, 103)
    for invocation in many:
        _put(account, invocation["failure_location"], b"no")
    collected = sensor(invocations=many, on_failure="collect").execute(context_for())
    errors = [failure["error"] for failure in collected["failed"]]
    assert (errors.count("no"), errors.count("see its failure object")) == (100, 3)


def test_an_unknown_wish_is_refused(run: Callable[..., Any]) -> None:
    with pytest.raises(AirflowFailException, match="on_failure must be one of fail, collect") as raised:
        run(output_location="s3://b/1", on_failure="ignore")
    assert isinstance(raised.value.__context__, InvalidRequest)


def test_a_deferred_wait_for_many_keeps_what_it_waits_for_in_s3_where_asked(account: Account) -> None:
    many = _many(account, 51)
    prefix = f"s3://{account.bucket}/{unique('ledgers')}"

    def make() -> Any:  # noqa: ANN401 - a sensor
        return sensor(invocations=many, deferrable=True, ledger_prefix=prefix)

    deferral = deferred(make())
    arguments = deferral.trigger.serialize()[1]
    assert arguments["watch"] is None
    assert arguments["watch_location"].startswith(f"{prefix}/")
    assert len(json.dumps(arguments)) < 800
    assert deferred(make()).trigger.serialize()[1]["watch_location"] == arguments["watch_location"], (
        "a retry's is the same"
    )
    for invocation in many:
        _put(account, invocation["output_location"])
    event = event_of(rebuilt(deferral.trigger))
    assert len(json.dumps(event)) < 300
    assert make().execute_complete(context_for(), event) == [
        invocation["output_location"] for invocation in many
    ]


def test_without_a_prefix_the_arguments_report_each_name_once_and_a_warning_the_remedy(
    account: Account, logged: Callable[[], str]
) -> None:
    arguments = deferred(sensor(invocations=_many(account, 1_000), deferrable=True)).trigger.serialize()[1]
    assert len(json.dumps(arguments)) < 1_000 * 40
    size = len(json.dumps(arguments["watch"]))
    reported = logged()
    assert f"{size} bytes about 1000 invocations go into Airflow's database" in reported
    assert "give ledger_prefix" in reported


def test_few_go_into_the_database_without_a_word(account: Account, logged: Callable[[], str]) -> None:
    assert deferred(sensor(invocations=_many(account, 50), deferrable=True)).trigger.serialize()[1]["watch"]
    assert "Airflow's database" not in logged()


def test_an_endpoint_that_is_gone_is_the_reason_when_time_is_up(
    account: Account, run: Callable[..., Any]
) -> None:
    there, gone = account.deploy(asynchronous=True), unique("gone")
    late = [
        invocation | {"endpoint_name": name} for invocation in _many(account, 4) for name in (there, gone)
    ]
    with pytest.raises(AsyncInferenceTimedOut) as caught:
        run(invocations=late, timeout=0.3)
    assert f"There is no endpoint {gone}: its queue went with it" in str(caught.value)
    assert there not in str(caught.value)
    account.sagemaker.delete_endpoint(EndpointName=there)


def test_a_bucket_that_does_not_exist_is_named_when_time_is_up(run: Callable[..., Any]) -> None:
    with pytest.raises(AsyncInferenceTimedOut) as caught:
        run(output_location="s3://missing-bucket/one.out", timeout=0.3)
    assert "S3 answers there: s3:ListObjectsV2 s3://missing-bucket" in str(caught.value)
    assert "NoSuchBucket" in str(caught.value)
    assert "a retry with this one ends at once" in str(caught.value)


def test_a_deferred_wait_listens_to_its_queue(account: Account, aws: str) -> None:
    sqs = boto3.client("sqs", region_name=REGION, endpoint_url=aws)
    url = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    (invocation,) = _many(account, 1)
    waiting = sensor(invocations=invocation, deferrable=True, completion_queue=url)
    assert deferred(waiting).trigger.serialize()[1]["completion_queue"] == url
    gone = sensor(invocations=invocation, deferrable=True, completion_queue=f"{url}-gone")
    event = event_of(rebuilt(deferred(gone).trigger))
    with pytest.raises(AirflowFailException, match="QueueNotFound"):
        gone.execute_complete(context_for(), event)


def test_time_is_counted_from_the_first_poll_also_after_a_deferral(account: Account) -> None:
    """The resumed task is another process: it must not begin to count again."""
    location = _many(account, 1)[0]["output_location"]

    def make() -> Any:  # noqa: ANN401 - a sensor
        return sensor(output_location=location, deferrable=True, timeout=0.3)

    event = event_of(rebuilt(deferred(make()).trigger))
    assert event["why"] == "deadline"
    with pytest.raises(Exception, match="neither output nor failure object after 0 s"):
        make().execute_complete(context_for(), event)


def test_a_failed_container_is_heard_where_the_endpoint_is_known(
    account: Account, run: Callable[..., Any], logged: Callable[[], str], caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = account.deploy(FAILING, asynchronous=True)
    answer = account.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=account.upload("x"))
    invocation = {
        "output_location": answer["OutputLocation"],
        "failure_location": answer["FailureLocation"],
        "endpoint_name": endpoint,
    }
    with pytest.raises(AirflowFailException, match="this handler always fails"):
        run(invocations=[invocation])
    assert f"last lines of /aws/sagemaker/Endpoints/{endpoint}" in logged()
    caplog.clear()
    with pytest.raises(AirflowFailException):
        run(invocations=[invocation], container_log_lines=0)
    assert "last lines of" not in logged()
