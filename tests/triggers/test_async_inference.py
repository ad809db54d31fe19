"""Waiting for results in the triggerer: one deferral, one small event, with or without a queue of notifications."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from airflow_sm_plugin.async_inference.watch import AwaitedResults, NumberedNames, ResultFolder, group
from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from tests.stubs.s3 import QUICK, fixed, stub_s3, use
from tests.support import REGION, Account, closed_port, event_of, rebuilt, unique

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.airflow

AWS: dict[str, Any] = {"aws_conn_id": None, "region_name": REGION, "verify": None, "botocore_config": QUICK}


def _batch(account: Account, count: int, *, seconds: float = 3_600) -> AwaitedResults:
    """Return a watch over numbered results in folders of their own."""
    root = unique("root")
    names = NumberedNames(0, count, "{:07}.out", "{:07}-error.out", f"{root}-{{:07}}")
    folder = ResultFolder(
        f"s3://{account.bucket}/{root}/out/",
        f"s3://{account.bucket}/{root}/bad/",
        names,
        (time.time() + seconds,),
    )
    return AwaitedResults((folder,), own_ids=f"{root}-")


def _trigger(watch: AwaitedResults | None, **arguments: Any) -> AsyncInferenceTrigger:  # noqa: ANN401 - the trigger's own
    defaults: dict[str, Any] = {
        "watch": watch.as_mapping() if watch else None,
        "deadline": time.time() + 3_600,
        "poll_interval": 0.05,
        "note": {"remember": "me"},
        "aws": AWS,
    }
    return AsyncInferenceTrigger(**defaults | arguments)


def _put(account: Account, *locations: str | None) -> None:
    for location in locations:
        bucket, _, key = str(location).removeprefix("s3://").partition("/")
        account.s3.put_object(Bucket=bucket, Key=key, Body=b"x")


def test_outputs_and_failures_are_reported_by_listings(account: Account) -> None:
    watch = _batch(account, 40)
    (folder,) = watch.folders
    _put(account, *(folder.output(n) if n % 4 else folder.failure(n) for n in range(40)))
    event = event_of(rebuilt(_trigger(watch)))
    counts = {"succeeded": 30, "failed": 10, "timed_out": 0, "pending": 0}
    assert event == {
        "status": "over",
        "why": "complete",
        "counts": counts,
        "failed_polls": 0,
        "cause": "",
        "note": {"remember": "me"},
    }


def test_what_is_waited_for_may_lie_in_s3(account: Account) -> None:
    watch = _batch(account, 20, seconds=-1)
    location = account.upload(json.dumps(watch.as_mapping()), f"{unique('ledger')}/wait.json")
    trigger = _trigger(None, watch_location=location)
    assert len(json.dumps(trigger.serialize()[1])) < 600
    event = event_of(rebuilt(trigger))
    assert (event["why"], event["counts"]["timed_out"]) == ("deadline", 20)


def test_a_reference_that_leads_nowhere_ends_the_wait_by_name(account: Account) -> None:
    event = event_of(_trigger(None, watch_location=f"s3://{account.bucket}/nothing.json"))
    assert (event["status"], event["error"], event["note"]) == ("error", "InputNotFound", {"remember": "me"})
    assert event_of(_trigger(None))["error"] == "InvalidRequest"


def test_an_outputs_bucket_that_does_not_exist_ends_the_wait_by_name(account: Account) -> None:
    missing = [AsyncInvocation(f"s3://missing-bucket/{n}") for n in range(20)]
    watch, _ = group(missing, [time.time() + 3_600] * 20)
    event = event_of(_trigger(watch))
    assert event["error"] == "RequestRefused"
    assert "NoSuchBucket" in event["message"]


def test_it_ends_as_soon_as_few_enough_are_pending(account: Account) -> None:
    watch = _batch(account, 40)
    _put(account, *(watch.folders[0].output(n) for n in range(20)))
    event = event_of(rebuilt(_trigger(watch, until_pending=20)))
    assert (event["why"], event["counts"]["pending"]) == ("room", 20)


def test_its_own_deadline_ends_the_wait_with_some_still_pending(account: Account) -> None:
    watch = _batch(account, 20)
    event = event_of(rebuilt(_trigger(watch, deadline=time.time() + 0.2)))
    assert (event["why"], event["counts"]["pending"]) == ("deadline", 20)


def test_an_outage_that_does_not_end_is_reported_without_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _ = group([AsyncInvocation("s3://results/one")], [time.time() + 3_600])
    with stub_s3(fixed({}, otherwise=503)) as s3:
        use(monkeypatch, s3.url)
        event = event_of(_trigger(watch, poll_interval=0.01))
    assert (event["why"], event["failed_polls"]) == ("unreachable", MAX_FAILED_POLLS + 1)
    assert event["counts"]["pending"] == 1


# Notifications


@pytest.fixture
def sqs(aws: str) -> SQSClient:
    """A client of the embedded service's SQS."""
    return boto3.client("sqs", region_name=REGION, endpoint_url=aws)


@pytest.fixture
def queue(sqs: SQSClient) -> Iterator[str]:
    """A queue's URL."""
    url = sqs.create_queue(QueueName=unique("queue"))["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


def _result(
    *, location: str | None = None, inference_id: str = "", succeeded: bool = True, at: str | None = None
) -> str:
    event: dict[str, object] = {
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
        "invocationStatus": "Completed" if succeeded else "Failed",
        "inferenceId": inference_id,
        "requestParameters": {"endpointName": "e"},
    }
    if location:
        event["responseParameters"] = {"outputLocation": location}
    if at:
        event["eventTime"] = at
    return json.dumps(event)


TEST_NOTIFICATION = json.dumps({"eventSource": "aws:sagemaker", "eventName": "TestNotification"})


def _left(sqs: SQSClient, queue: str) -> int:
    names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)


def test_notifications_end_the_wait_long_before_the_next_poll_would(
    account: Account, sqs: SQSClient, queue: str
) -> None:
    """The slow poll comes after an hour, later than ``event_of`` waits. It ends as S3 says."""
    watch = _batch(account, 20)
    (folder,) = watch.folders
    sqs.send_message(QueueUrl=queue, MessageBody=TEST_NOTIFICATION)
    trigger = rebuilt(_trigger(watch, completion_queue=queue, poll_interval=3_600))

    def finish() -> None:
        _put(account, *(folder.output(n) for n in range(19)), folder.failure(19))
        for n in [*range(19), 3]:
            sqs.send_message(QueueUrl=queue, MessageBody=_result(location=folder.output(n)))
        failed = _result(inference_id=folder.names.id_form.format(19), succeeded=False)  # type: ignore[union-attr]
        sqs.send_message(QueueUrl=queue, MessageBody=failed)

    event = _event_after_polls(1, trigger, finish)
    assert (event["why"], event["counts"]["succeeded"], event["counts"]["failed"]) == ("complete", 19, 1)
    assert _left(sqs, queue) <= 1, "own messages are deleted; a duplicate may have come too late"


def _event_after_polls(number: int, trigger: Any, then: Any) -> dict[str, Any]:  # noqa: ANN401 - a trigger, a callable
    """Run a trigger; call ``then`` when it has polled so many times in vain and sleeps: it must come to that."""
    poll_until_over = trigger._poll_until_over
    reached: list[int] = []

    class CountingWatcher:
        def __init__(self, watcher: Any) -> None:  # noqa: ANN401 - a ResultWatcher
            self.watcher, self.polls = watcher, 0

        async def poll(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the watcher's
            state = await self.watcher.poll(*args, **kwargs)
            self.polls += 1
            if self.polls == number:
                then()
                reached.append(number)
            return state

    trigger._poll_until_over = lambda watcher, watch, wakeup: poll_until_over(
        CountingWatcher(watcher), watch, wakeup
    )
    event = event_of(trigger)
    assert reached == [number], f"it ended before it had polled {number} times: {event}"
    return event


def test_foreign_messages_are_left_where_they_are_and_reported_once(
    account: Account, sqs: SQSClient, queue: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = _batch(account, 1)
    (folder,) = watch.folders
    yesterday = _result(inference_id="an earlier run's", at="2026-01-01T00:00:00Z")
    foreign = ("hello", _result(location="s3://elsewhere/1.out"), _result(inference_id="another"))
    for body in (yesterday, *foreign):
        sqs.send_message(QueueUrl=queue, MessageBody=body)

    def finish() -> None:
        _put(account, folder.output(0))
        sqs.send_message(QueueUrl=queue, MessageBody=_result(location=folder.output(0)))

    event = _event_after_polls(1, _trigger(watch, completion_queue=queue, poll_interval=3_600), finish)
    assert event["why"] == "complete"
    assert _left(sqs, queue) == len(foreign), "what an earlier run left behind is deleted"
    reported = [record.getMessage() for record in caplog.records if "completion queue" in record.getMessage()]
    assert len(reported) == 1
    assert "queue of its own" in reported[0]


def test_a_hint_that_is_not_true_yet_ends_nothing(account: Account, sqs: SQSClient, queue: str) -> None:
    """It is worth a poll, the second one here, and the wait goes on until S3 says the same."""
    watch = _batch(account, 1)
    location = watch.folders[0].output(0)

    def report() -> None:
        sqs.send_message(QueueUrl=queue, MessageBody=_result(location=location))

    def finish() -> None:
        _put(account, location)
        report()

    report()
    event = _event_after_polls(2, _trigger(watch, completion_queue=queue), finish)
    assert (event["why"], event["counts"]["succeeded"]) == ("complete", 1)


def test_a_queue_that_does_not_exist_ends_the_wait_by_name(account: Account, queue: str) -> None:
    event = event_of(_trigger(_batch(account, 1), completion_queue=f"{queue}-gone"))
    assert event["error"] == "QueueNotFound"
    assert f"{queue}-gone" in event["message"]


def test_a_queue_that_fails_leaves_the_wait_to_polling(
    account: Account, queue: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    no_server = closed_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", no_server)
    watch = _batch(account, 1)
    trigger = _trigger(watch, completion_queue=f"{no_server}/123456789012/queue")
    event = _event_after_polls(1, trigger, lambda: _put(account, watch.folders[0].output(0)))
    assert event["why"] == "complete"
    assert "the completion queue fails" in caplog.text
