"""SageMaker's notifications: the same in an SNS envelope and bare, and other services' messages are refused."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.async_inference.queue import CompletionHints, is_stale
from airflow_sm_plugin.async_inference.watch import AwaitedResults, ListedNames, NumberedNames, ResultFolder
from airflow_sm_plugin.core.notifications import InferenceNotification, check_queue_url, parse
from airflow_sm_plugin.exceptions import InvalidRequest

TRACE = "trace-7b1e"
WATCH = AwaitedResults(
    (
        ResultFolder(
            "s3://b/o/", "s3://b/f/", NumberedNames(0, 2, "{:07}.out", None, "root-r2-{:07}"), (1.0,)
        ),
        ResultFolder("s3://b/o/", None, ListedNames(("x.out",), ids=("i",)), (1.0,)),
    ),
    own_ids="root-",
)
SUCCESS: Mapping[str, object] = {
    "awsRegion": "eu-west-1",
    "eventTime": "2026-01-25T22:46:00.608Z",
    "receivedTime": "2026-01-25T22:45:59.100Z",
    "invocationStatus": "Completed",
    "requestParameters": {
        "accept": "text/csv",
        "contentType": "text/csv",
        "customAttributes": TRACE,
        "endpointName": "churn",
        "inputLocation": "s3://bucket/in.csv",
    },
    "responseParameters": {
        "contentType": "text/csv; charset=utf-8",
        "outputLocation": "s3://bucket/out/1.out",
    },
    "inferenceId": "11bb222c-4444-4444-4444-444444444444",
    "eventVersion": "1.0",
    "eventSource": "aws:sagemaker",
    "eventName": "InferenceResult",
}
FAILURE: Mapping[str, object] = {
    **{key: value for key, value in SUCCESS.items() if key != "responseParameters"},
    "invocationStatus": "Failed",
    "failureReason": "ClientError: the model answered 400",
}
TEST = {"eventVersion": "1.0", "eventSource": "aws:sagemaker", "eventName": "TestNotification"}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def enveloped(body: str) -> str:
    """Return what SNS puts into an SQS queue without raw message delivery."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "e3c4",
            "TopicArn": "arn:aws:sns:eu-west-1:123456789012:done",
            "Message": body,
            "Timestamp": "2026-01-25T22:46:01.000Z",
            "SignatureVersion": "1",
            "Signature": "x",
        }
    )


def test_a_success_tells_where_the_output_is_and_the_requests_attributes() -> None:
    assert parse(json.dumps(SUCCESS)) == InferenceNotification(
        succeeded=True,
        endpoint_name="churn",
        input_location="s3://bucket/in.csv",
        output_location="s3://bucket/out/1.out",
        inference_id="11bb222c-4444-4444-4444-444444444444",
        custom_attributes=TRACE,
        failure_reason=None,
        received_time="2026-01-25T22:45:59.100Z",
        event_time="2026-01-25T22:46:00.608Z",
    )


def test_a_failure_tells_its_reason_and_no_output() -> None:
    notification = parse(json.dumps(FAILURE))
    assert notification is not None
    assert (notification.succeeded, notification.output_location) == (False, None)
    assert notification.failure_reason == "ClientError: the model answered 400"
    assert notification.custom_attributes == TRACE


@pytest.mark.parametrize("event", [SUCCESS, FAILURE, TEST])
def test_an_envelope_means_what_the_raw_body_means(event: Mapping[str, object]) -> None:
    body = json.dumps(event)
    assert parse(enveloped(body)) == parse(body)


def test_the_test_notification_means_nothing() -> None:
    """SageMaker sends it after CreateEndpoint and every update."""
    assert parse(json.dumps(TEST)) is None


@pytest.mark.parametrize("missing", ["accept", "contentType", "customAttributes", "inputLocation"])
def test_optional_request_parameters_may_be_missing(missing: str) -> None:
    request = SUCCESS["requestParameters"]
    assert isinstance(request, dict)
    event = {
        **SUCCESS,
        "requestParameters": {key: value for key, value in request.items() if key != missing},
    }
    notification = parse(json.dumps(event))
    assert notification is not None
    assert notification.succeeded
    assert notification.endpoint_name == "churn"
    assert (notification.custom_attributes is None) == (missing == "customAttributes")
    assert (notification.input_location is None) == (missing == "inputLocation")


FOREIGN = [
    pytest.param("", id="empty"),
    pytest.param("hello", id="no-JSON"),
    pytest.param("[]", id="list"),
    pytest.param('"text"', id="text"),
    pytest.param("null", id="null"),
    pytest.param("[" * 100_000, id="too-deep"),
    pytest.param("{}", id="empty-object"),
    pytest.param('{"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}', id="S3's-own-test"),
    pytest.param('{"eventName": "TestNotification"}', id="test-without-a-source"),
    pytest.param(
        '{"eventSource": "aws:other", "eventName": "TestNotification"}', id="test-of-another-service"
    ),
    pytest.param('{"eventSource": "aws:sagemaker", "eventName": "Other"}', id="another-event"),
    pytest.param('{"eventSource": "aws:other", "eventName": "InferenceResult"}', id="another-service"),
]


@pytest.mark.parametrize("body", FOREIGN)
def test_a_foreign_message_is_refused_bare_and_in_an_envelope(body: str) -> None:
    for message in (body, enveloped(body)):
        with pytest.raises(InvalidRequest, match="no SageMaker inference notification"):
            parse(message)


def test_an_unknown_status_is_refused_by_name() -> None:
    """Neither a success nor a failure may be made up for it."""
    with pytest.raises(InvalidRequest, match="unknown invocationStatus: 'Paused'"):
        parse(json.dumps({**SUCCESS, "invocationStatus": "Paused"}))


@given(st.text(max_size=30) | json_values.map(json.dumps))
def test_any_other_text_is_refused_and_nothing_else_is_raised(message: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(message)


@given(st.dictionaries(st.sampled_from(sorted(SUCCESS)), json_values, max_size=3))
def test_a_damaged_notification_is_read_or_refused(damage: dict[str, object]) -> None:
    """A queue's consumer sees one kind of error, whatever lies in the queue."""
    try:
        notification = parse(json.dumps({**SUCCESS, **damage}))
    except InvalidRequest:
        return
    assert notification is not None
    assert notification.succeeded


def test_neither_repr_nor_error_shows_custom_attributes() -> None:
    """They are sensitive, and a notification is what one prints first."""
    assert TRACE not in repr(parse(json.dumps(SUCCESS)))
    with pytest.raises(InvalidRequest) as refused:
        parse(json.dumps({**SUCCESS, "eventSource": "aws:other"}))
    assert TRACE not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    ["https://sqs.us-east-1.amazonaws.com/123456789012/results.fifo", "http://127.0.0.1:4791/queue/results"],
)
def test_a_queues_url_passes(url: str) -> None:
    check_queue_url(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "results",
        "arn:aws:sqs:us-east-1:1:results",
        "https://",
        "https://sqs",
        "https://sqs/",
        "https://a b/c",
    ],
)
def test_what_is_no_url_is_no_queue(text: str) -> None:
    with pytest.raises(InvalidRequest, match=f"must be a queue's URL, .* not '{text}'"):
        check_queue_url(text)


_TEXTS = st.text(st.characters(), max_size=8) | st.text(st.characters(categories=["Cs"]), max_size=3)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=6,
)
_FIELDS = sorted({*SUCCESS, "failureReason", "Type", "Message"})


@given(
    kept=st.sampled_from([SUCCESS, FAILURE, TEST, {}]),
    odd=st.dictionaries(st.sampled_from(_FIELDS) | _TEXTS, _VALUES, max_size=4),
    request_parameters=st.dictionaries(st.sampled_from(["endpointName", "inputLocation"]), _VALUES),
    response_parameters=st.dictionaries(st.just("outputLocation"), _VALUES),
)
def test_whatever_a_message_holds_it_is_a_result_or_another_senders(
    kept: Mapping[str, object],
    odd: Mapping[str, object],
    request_parameters: Mapping[str, object],
    response_parameters: Mapping[str, object],
) -> None:
    event = {
        **kept,
        "requestParameters": request_parameters,
        "responseParameters": response_parameters,
        **odd,
    }
    for body in (json.dumps(event), enveloped(json.dumps(event))):
        try:
            notification = parse(body)
        except InvalidRequest:
            continue
        if notification is not None:
            texts = (
                notification.endpoint_name,
                notification.output_location,
                notification.inference_id,
                notification.event_time,
            )
            assert all(text is None or isinstance(text, str) for text in texts)
            is_stale(notification, before=0.0)
            CompletionHints(WATCH).take(notification)


@given(_TEXTS)
def test_any_text_is_classified(body: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        '{"eventSource":"aws:sagemaker","eventName":"InferenceResult","invocationStatus":'
        + "[" * 900
        + "]" * 900
        + "}",
        json.dumps({**SUCCESS, "inferenceId": 7}),
        json.dumps({**SUCCESS, "eventTime": 1_700_000_000}),
        json.dumps({**SUCCESS, "responseParameters": {"outputLocation": ["x"]}}),
        json.dumps({**SUCCESS, "requestParameters": {"endpointName": {}}}),
        '{"eventSource":' + "9" * 5_000 + "}",
    ],
    ids=["deep", "deep field", "id", "time", "location", "endpoint", "huge number"],
)
def test_odd_messages_are_another_senders(body: str) -> None:
    for message in (body, enveloped(body)):
        with pytest.raises(InvalidRequest):
            parse(message)


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "now", "", "\ud83d", "2026-W01-1"]
)
def test_no_time_breaks_a_wait(at: str) -> None:
    notification = parse(json.dumps({**SUCCESS, "eventTime": at}))
    assert notification is not None
    assert is_stale(notification, before=0.0) in (True, False)
