"""The queue of notifications: own, foreign and missing messages, and a missing queue."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import boto3
import pytest

from airflow_sm_plugin.async_inference.queue import CompletionQueue, QueueMessage, check_queue
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InvalidRequest,
    QueueNotFound,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from tests.stubs.recorder import TRANSPORTS, Said, recording
from tests.support import unique

pytestmark = [pytest.mark.usefixtures("account"), pytest.mark.airflow]

Result = TypeVar("Result")
QUEUE = "https://sqs.us-east-1.amazonaws.com/123456789012/results"
EVENT = {
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "InferenceResult",
    "invocationStatus": "Completed",
    "requestParameters": {
        "endpointName": "e",
        "inputLocation": "s3://b/i",
        "customAttributes": "attribute-secret",
    },
    "responseParameters": {"contentType": "text/csv", "outputLocation": "s3://b/o"},
    "inferenceId": "an-id",
}
TEST_EVENT = {"eventVersion": "1.0", "eventSource": "aws:sagemaker", "eventName": "TestNotification"}


@pytest.fixture(params=TRANSPORTS)
def options(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """A botocore configuration for each of the two transports."""
    return {"connect_timeout": 600, **TRANSPORTS[request.param]}


@pytest.fixture
def queue_url(aws: str) -> str:
    """A new queue of the embedded service; what was received stays invisible for an hour."""
    created = boto3.client("sqs").create_queue(
        QueueName=unique("queue"), Attributes={"VisibilityTimeout": "3600"}
    )
    return str(created["QueueUrl"])


def run(
    options: Mapping[str, Any], queue_url: str, use: Callable[[CompletionQueue], Awaitable[Result]]
) -> Result:
    async def opened() -> Result:
        connection = AwsConnection(aws_conn_id=None, botocore_config=options)
        async with CompletionQueue.open(connection, queue_url) as queue:
            return await use(queue)

    return asyncio.run(opened())


def send(queue_url: str, *bodies: object) -> None:
    for body in bodies:
        text = body if isinstance(body, str) else json.dumps(body)
        boto3.client("sqs").send_message(QueueUrl=queue_url, MessageBody=text)


def test_notifications_tests_and_foreign_messages_are_distinguished(
    queue_url: str, options: Mapping[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    send(queue_url, {"Type": "Notification", "Message": json.dumps(EVENT)}, TEST_EVENT, "body-secret")
    messages = run(options, queue_url, lambda queue: queue.receive(wait_seconds=1))
    kinds = sorted((each.notification is not None, each.foreign) for each in messages)
    assert kinds == [(False, False), (False, True), (True, False)]
    ours = next(each.notification for each in messages if each.notification)
    assert (ours.succeeded, ours.inference_id, ours.output_location) == (True, "an-id", "s3://b/o")
    assert all(each.receipt and each.receipt not in repr(each) for each in messages)
    assert "secret" not in f"{messages!r} {caplog.text}"


def test_what_is_deleted_does_not_come_back_and_what_is_not_does(
    queue_url: str, options: Mapping[str, Any]
) -> None:
    """Twelve, since SQS deletes at most ten at once; which of them come back is seen once they are visible again."""
    sqs = boto3.client("sqs")
    send(queue_url, *[{**EVENT, "inferenceId": f"id-{n}"} for n in range(12)], "foreign")

    async def use(queue: CompletionQueue) -> list[QueueMessage]:
        messages = [*await queue.receive(wait_seconds=1), *await queue.receive(wait_seconds=1)]
        assert len(messages) == 13
        await queue.delete([each.receipt for each in messages if not each.foreign])
        await queue.delete([])
        for each in messages:
            if each.foreign:
                sqs.change_message_visibility(
                    QueueUrl=queue_url, ReceiptHandle=each.receipt, VisibilityTimeout=0
                )
        return await queue.receive(wait_seconds=1)

    assert [each.foreign for each in run(options, queue_url, use)] == [True]
    left = sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
    )
    assert sum(int(number) for number in left["Attributes"].values()) == 1


def test_an_empty_queue_gives_nothing(queue_url: str, options: Mapping[str, Any]) -> None:
    assert run(options, queue_url, lambda queue: queue.receive(wait_seconds=0)) == []


def test_a_receipt_that_has_no_message_any_more_is_no_error(
    options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    failed = {
        "Failed": [{"Id": "0", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}],
        "Successful": [],
    }
    with recording(lambda _: Said(200, json.dumps(failed).encode())) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", recorder.url)
        run(options, QUEUE, lambda queue: queue.delete(["receipt-secret"]))
    assert "could not be deleted: ReceiptHandleIsInvalid" in caplog.text
    assert "receipt-secret" not in caplog.text


def test_a_queue_that_does_not_exist_is_named(queue_url: str, options: Mapping[str, Any]) -> None:
    missing = f"{queue_url}-not"
    for use in (lambda queue: queue.receive(wait_seconds=0), lambda queue: queue.delete(["x"])):
        with pytest.raises(QueueNotFound, match=f"{missing} does not exist in this region and account"):
            run(options, missing, use)


def test_a_queue_can_be_asked_for_without_taking_anything_from_it(
    queue_url: str,
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    send(queue_url, EVENT)

    async def use(queue: CompletionQueue) -> list[QueueMessage]:
        await queue.check_it_exists()
        return await queue.receive(wait_seconds=0)

    assert len(run(options, queue_url, use)) == 1, "it stays visible"
    with pytest.raises(QueueNotFound):
        asyncio.run(check_queue(AwsConnection(aws_conn_id=None, botocore_config=options), f"{queue_url}-not"))
    with recording(lambda _: Said(503, b"{}")) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", recorder.url)
        run(options, QUEUE, lambda queue: queue.check_it_exists())
    assert len(recorder.asked) == 1
    assert "could not check the completion queue beforehand" in caplog.text


def test_what_is_no_url_is_refused_before_anything_is_asked() -> None:
    for wrong in ("results", "arn:aws:sqs:us-east-1:123456789012:results", ""):
        with pytest.raises(InvalidRequest, match="must be a queue's URL"):
            run({}, wrong, lambda queue: queue.receive())


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", AccessDenied),
        (400, "RequestThrottled", Throttled),
        (400, "ThrottlingException", Throttled),
        (503, "ServiceUnavailable", ServiceUnavailable),
        (0, "", ServiceUnavailable),
    ],
)
def test_trouble_is_reported_at_once(
    status: int,
    code: str,
    kind: type[SageMakerInferenceError],
    options: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = json.dumps({"__type": code, "message": "from the test"}).encode()
    with recording(lambda _: Said(status, body)) as recorder:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", recorder.url)
        with pytest.raises(kind, match="sqs:ReceiveMessage"):
            run(options, QUEUE, lambda queue: queue.receive())
    assert len(recorder.asked) == 1


def test_a_short_read_time_out_does_not_cut_a_long_poll(queue_url: str, options: Mapping[str, Any]) -> None:
    """The poll asks for longer than the configured time-out, and ends by itself."""
    short = {**options, "read_timeout": 0.3}
    assert run(short, queue_url, lambda queue: queue.receive(wait_seconds=1)) == []
