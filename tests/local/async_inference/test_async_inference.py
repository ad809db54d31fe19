"""Asynchronous endpoints over HTTP: what is answered, stored and published, and when."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped] # it has no annotations
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.async_inference.requests import backlog, output_locations
from tests.local.conftest import changed_settings

if TYPE_CHECKING:
    from airflow_sm_plugin.local.server import EmbeddedSageMaker
    from tests.local.conftest import Clients

TELLTALE = """
import json, pathlib, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    word, _, rest = (data if isinstance(data, str) else data.decode()).strip().partition(" ")
    if word == "raise":
        raise ValueError("the model cannot do " + rest)
    if word == "wait":
        gate = pathlib.Path(rest)
        gate.with_suffix(".reached").touch()
        while not gate.exists():
            time.sleep(0.01)
    seen = {
        "body": word,
        "content_type": content_type,
        "accept": accept,
        "custom_attributes": context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes"),
    }
    return json.dumps(seen), "application/json; charset=utf-8"
"""
"""Says what it was asked with; raises, or waits for a file, on demand."""


def _config(clients: Clients, *, concurrent: int | None = None, **output: object) -> dict[str, object]:
    paths = {"S3OutputPath": f"s3://{clients.bucket}/out", "S3FailurePath": f"s3://{clients.bucket}/failed"}
    client = {"ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrent}} if concurrent else {}
    return {"OutputConfig": {**paths, **output}, **client}


@pytest.fixture(scope="module")
def endpoint(session_clients: Clients) -> str:
    return session_clients.deploy(TELLTALE, AsyncInferenceConfig=_config(session_clients))


def _key(location: str) -> str:
    return location.split("/", 3)[3]


def _stored(clients: Clients, location: str) -> Any:  # noqa: ANN401 - boto3's answer
    """Wait for an object and return what GetObject answers."""
    bucket, key = clients.bucket, _key(location)
    waiter = clients.s3.get_waiter("object_exists")
    waiter.wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 0.05, "MaxAttempts": 12_000})  # type: ignore[typeddict-item] # botocore sleeps for fractions, too
    return clients.s3.get_object(Bucket=bucket, Key=key)


def _exists(clients: Clients, location: str) -> bool:
    listing = clients.s3.list_objects_v2(Bucket=clients.bucket, Prefix=_key(location))
    return listing["KeyCount"] > 0


def _until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does; pytest's time limit ends it."""
    while not condition():
        threading.Event().wait(0.01)


# --- one request


def test_an_input_in_s3_becomes_an_output_in_s3(clients: Clients, endpoint: str) -> None:
    clients.s3.put_object(Bucket=clients.bucket, Key="in/1", Body=b"hello")

    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=endpoint,
        InputLocation=f"s3://{clients.bucket}/in/1",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="Trace ID: 1",
    )

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert "CustomAttributes" not in answer
    assert "x-amzn-sagemaker-custom-attributes" not in answer["ResponseMetadata"]["HTTPHeaders"]
    stored = _stored(clients, answer["OutputLocation"])
    assert stored["ContentType"] == "application/json; charset=utf-8"
    assert json.loads(stored["Body"].read()) == {
        "body": "hello",
        "content_type": "text/csv",
        "accept": "application/json",
        "custom_attributes": "Trace ID: 1",
    }
    assert not _exists(clients, answer["FailureLocation"])


def test_a_body_may_come_inline(clients: Clients, endpoint: str) -> None:
    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"inline")

    stored = json.loads(_stored(clients, answer["OutputLocation"])["Body"].read())
    assert stored["body"] == "inline"
    assert stored["content_type"] == "application/octet-stream"


def test_output_and_failure_share_a_uuid_that_is_not_the_inference_id(
    clients: Clients, endpoint: str
) -> None:
    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"x", InferenceId="mine")

    identity = _key(answer["OutputLocation"]).removeprefix("out/").removesuffix(".out")
    assert answer["InferenceId"] == "mine"
    assert identity != "mine"
    assert answer["FailureLocation"] == f"s3://{clients.bucket}/failed/{identity}-error.out"


def test_the_server_gives_each_request_an_inference_id(clients: Clients, endpoint: str) -> None:
    answers = [clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"x") for _ in range(2)]

    assert len({answer["InferenceId"] for answer in answers}) == 2


def test_the_caller_may_name_the_output(clients: Clients, endpoint: str) -> None:
    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=endpoint, Body=b"x", Filename="row-1.json", S3OutputPathExtension="run/1"
    )

    assert answer["OutputLocation"] == f"s3://{clients.bucket}/out/run/1/row-1.json"
    assert answer["FailureLocation"] == f"s3://{clients.bucket}/failed/run/1/row-1.json"
    assert _stored(clients, answer["OutputLocation"])["Body"].read()


@pytest.mark.parametrize(
    ("extension", "filename", "output"),
    [
        (None, "a.json", "s3://b/out/a.json"),
        ("day=1", "a.json", "s3://b/out/day=1/a.json"),
        ("/day=1/", "a.json", "s3://b/out/day=1/a.json"),
    ],
)
def test_names_are_joined_with_one_slash(extension: str | None, filename: str, output: str) -> None:
    location, failure = output_locations(
        {"S3OutputPath": "s3://b/out/"}, extension=extension, filename=filename
    )

    assert location.uri == output
    assert failure is None


def test_without_a_failure_path_no_failure_location_is_answered(clients: Clients) -> None:
    config = {"OutputConfig": {"S3OutputPath": f"s3://{clients.bucket}/out"}}
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=config)

    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"raise x")

    assert "FailureLocation" not in answer


# --- failures


def test_the_failure_object_is_the_models_own_error_response(clients: Clients, endpoint: str) -> None:
    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"raise this")

    assert _stored(clients, answer["FailureLocation"])["Body"].read() == b"the model cannot do this"
    assert not _exists(clients, answer["OutputLocation"])


def test_a_failure_is_in_the_data_log(clients: Clients, endpoint: str) -> None:
    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=endpoint, Body=b"raise loudly", InferenceId="loud"
    )
    _stored(clients, answer["FailureLocation"])

    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    streams = [
        stream["logStreamName"]
        for stream in clients.logs.describe_log_streams(logGroupName=group)["logStreams"]
        if stream["logStreamName"].endswith("/data-log")
    ]
    log_text = [
        event["message"]
        for stream in streams
        for event in clients.logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    ]
    expected = '[sagemaker logs] [loud] Received server error (500) from primary with message "the model'
    assert any(expected in line for line in log_text)


def test_a_missing_input_is_accepted_and_fails_later(clients: Clients, endpoint: str) -> None:
    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=endpoint, InputLocation=f"s3://{clients.bucket}/nowhere"
    )

    failure = _stored(clients, answer["FailureLocation"])["Body"].read().decode()
    assert f"s3://{clients.bucket}/nowhere" in failure
    assert "NoSuchKey" in failure


def test_a_model_that_takes_too_long_fails(clients: Clients, endpoint: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=endpoint, Body=f"wait {gate}".encode(), InvocationTimeoutSeconds=1
    )

    assert b"timed out" in _stored(clients, answer["FailureLocation"])["Body"].read()
    gate.touch()


def test_a_request_that_waits_too_long_fails_without_being_run(
    clients: Clients, sagemaker_server: EmbeddedSageMaker, tmp_path: Path
) -> None:
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients, concurrent=1))
    gate, second_gate = tmp_path / "gate", tmp_path / "second"
    clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=f"wait {gate}".encode())
    _until(gate.with_suffix(".reached").exists)

    with changed_settings(sagemaker_server, async_request_ttl_seconds=0.1):
        answer = clients.runtime.invoke_endpoint_async(
            EndpointName=endpoint, Body=f"wait {second_gate}".encode()
        )

    assert b"RequestTTLSeconds" in _stored(clients, answer["FailureLocation"])["Body"].read()
    gate.touch()
    assert not second_gate.with_suffix(".reached").exists()


# --- refusals


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Exactly one of Body and InputLocation"),
        ({"Body": b"x", "InputLocation": "s3://b/k"}, "Exactly one of Body and InputLocation"),
        ({"Body": b"x" * 128_001}, "less than or equal to 128000"),
        ({"InputLocation": "ftp://b/k"}, "regular expression pattern"),
        ({"Body": b"x", "RequestTTLSeconds": 21_601}, "less than or equal to 21600"),
        ({"Body": b"x", "InvocationTimeoutSeconds": 3_601}, "less than or equal to 3600"),
        ({"Body": b"x", "Filename": "two.dots.here"}, "regular expression pattern"),
        ({"Body": b"x", "S3OutputPathExtension": "s3://other"}, "regular expression pattern"),
        ({"Body": b"x", "CustomAttributes": "x" * 1025}, "less than or equal to 1024"),
    ],
)
def test_a_bad_request_is_refused(
    clients: Clients, endpoint: str, arguments: dict[str, object], text: str
) -> None:
    with pytest.raises(ClientError, match=text) as refused:
        clients.runtime.invoke_endpoint_async(EndpointName=endpoint, **arguments)  # type: ignore[arg-type] # bad on purpose

    assert refused.value.response["Error"]["Code"] == "ValidationError"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_custom_attributes_are_not_repeated_in_a_refusal(clients: Clients, endpoint: str) -> None:
    with pytest.raises(ClientError) as refused:
        clients.runtime.invoke_endpoint_async(
            EndpointName=endpoint, Body=b"x", CustomAttributes="secret" * 200
        )

    assert "secret" not in str(refused.value)


def test_an_endpoint_that_does_not_exist_is_not_found(clients: Clients) -> None:
    with pytest.raises(ClientError, match="Endpoint nowhere of account 123456789012 not found") as refused:
        clients.runtime.invoke_endpoint_async(EndpointName="nowhere", Body=b"x")

    assert refused.value.response["Error"]["Code"] == "ValidationError"


def test_a_real_time_endpoint_is_of_the_wrong_kind(clients: Clients) -> None:
    endpoint = clients.deploy(TELLTALE)

    with pytest.raises(ClientError, match=f"Endpoint {endpoint} does not support this inference type"):
        clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"x")


# --- the queue


def test_no_more_run_at_once_than_configured(
    clients: Clients, sagemaker_server: EmbeddedSageMaker, tmp_path: Path
) -> None:
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients, concurrent=2))
    gates = [tmp_path / name for name in ("a", "b", "c")]
    answers = [
        clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=f"wait {gate}".encode())
        for gate in gates
    ]
    region = sagemaker_server._account.region("us-east-1")
    _until(lambda: gates[0].with_suffix(".reached").exists() and gates[1].with_suffix(".reached").exists())
    assert not gates[2].with_suffix(".reached").exists()
    assert backlog(region, endpoint).size == 3
    assert backlog(region, endpoint).per_instance == 3

    gates[0].touch()
    _stored(clients, answers[0]["OutputLocation"])
    _until(gates[2].with_suffix(".reached").exists)
    gates[1].touch()
    gates[2].touch()
    for answer in answers:
        _stored(clients, answer["OutputLocation"])
    _until(lambda: backlog(region, endpoint).size == 0)


def test_without_instances_a_request_waits_and_an_update_keeps_it(
    clients: Clients, sagemaker_server: EmbeddedSageMaker
) -> None:
    model = clients.create_model(TELLTALE)
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients))
    clients.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}],
    )
    clients.wait_for_endpoint(endpoint)

    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"patient")
    assert backlog(sagemaker_server._account.region("us-east-1"), endpoint).without_capacity

    config = clients.create_config(model, AsyncInferenceConfig=_config(clients))
    clients.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    assert json.loads(_stored(clients, answer["OutputLocation"])["Body"].read())["body"] == "patient"


def test_deleting_the_endpoint_drops_its_queue(
    clients: Clients, sagemaker_server: EmbeddedSageMaker, tmp_path: Path
) -> None:
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients, concurrent=1))
    gate = tmp_path / "gate"
    answers = [
        clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=f"wait {gate}".encode())
        for _ in range(2)
    ]
    _until(gate.with_suffix(".reached").exists)

    clients.sagemaker.delete_endpoint(EndpointName=endpoint)
    clients.wait_until_deleted(endpoint)

    for thread in threading.enumerate():
        if thread.name in {f"async-{answer['InferenceId']}" for answer in answers}:
            thread.join()
    assert backlog(sagemaker_server._account.region("us-east-1"), endpoint).size == 0
    for answer in answers:
        assert not _exists(clients, answer["OutputLocation"])
        assert not _exists(clients, answer["FailureLocation"])


def test_outputs_are_encrypted_with_the_configured_key(clients: Clients) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients, KmsKeyId=key))

    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"x")

    stored = _stored(clients, answer["OutputLocation"])
    assert stored["ServerSideEncryption"] == "aws:kms"
    assert stored["SSEKMSKeyId"] == key


# --- notifications


class Mailbox:
    """An SNS topic and a queue that gets its messages raw."""

    def __init__(self, clients: Clients, name: str) -> None:
        self._sqs = clients.sqs
        self.topic = clients.sns.create_topic(Name=name)["TopicArn"]
        self._queue = clients.sqs.create_queue(QueueName=name)["QueueUrl"]
        clients.sns.subscribe(
            TopicArn=self.topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:us-east-1:123456789012:{name}",
            Attributes={"RawMessageDelivery": "true"},
        )

    def next(self) -> Any:  # noqa: ANN401 - JSON
        """Wait for a message, take it out of the queue and return it."""
        while True:
            answer = self._sqs.receive_message(QueueUrl=self._queue, WaitTimeSeconds=1)
            for message in answer.get("Messages", ()):
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
                return json.loads(message["Body"])

    def is_empty(self) -> bool:
        """Say whether nothing waits."""
        attributes = self._sqs.get_queue_attributes(
            QueueUrl=self._queue, AttributeNames=["ApproximateNumberOfMessages"]
        )
        return attributes["Attributes"]["ApproximateNumberOfMessages"] == "0"


TEST_NOTIFICATION = {"eventVersion": "1.0", "eventSource": "aws:sagemaker", "eventName": "TestNotification"}


@pytest.fixture(scope="module")
def mailboxes(session_clients: Clients) -> tuple[Mailbox, Mailbox]:
    return Mailbox(session_clients, "success"), Mailbox(session_clients, "error")


@pytest.fixture(scope="module")
def announcing(session_clients: Clients, mailboxes: tuple[Mailbox, Mailbox]) -> str:
    """Return an endpoint that announces on the topics; its test notifications are taken out."""
    success, error = mailboxes
    topics = {
        "SuccessTopic": success.topic,
        "ErrorTopic": error.topic,
        "IncludeInferenceResponseIn": ["ERROR_NOTIFICATION_TOPIC"],
    }
    endpoint = session_clients.deploy(
        TELLTALE, AsyncInferenceConfig=_config(session_clients, NotificationConfig=topics)
    )
    assert [success.next(), error.next()] == [TEST_NOTIFICATION, TEST_NOTIFICATION]
    return endpoint


def test_a_success_is_announced_with_the_requests_custom_attributes(
    clients: Clients, announcing: str, mailboxes: tuple[Mailbox, Mailbox]
) -> None:
    clients.s3.put_object(Bucket=clients.bucket, Key="in/2", Body=b"hello")
    answer = clients.runtime.invoke_endpoint_async(
        EndpointName=announcing,
        InputLocation=f"s3://{clients.bucket}/in/2",
        ContentType="text/csv",
        CustomAttributes="trace=2",
        InferenceId="two",
    )

    message = mailboxes[0].next()
    assert message.pop("eventTime") >= message.pop("receivedTime")
    assert message == {
        "awsRegion": "us-east-1",
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "text/csv",
            "customAttributes": "trace=2",
            "endpointName": announcing,
            "inputLocation": f"s3://{clients.bucket}/in/2",
        },
        "responseParameters": {
            "contentType": "application/json; charset=utf-8",
            "outputLocation": answer["OutputLocation"],
        },
        "inferenceId": "two",
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }
    assert _exists(clients, answer["OutputLocation"])
    assert mailboxes[1].is_empty()


def test_a_failure_is_announced_with_its_reason_and_the_models_response(
    clients: Clients, announcing: str, mailboxes: tuple[Mailbox, Mailbox]
) -> None:
    clients.runtime.invoke_endpoint_async(EndpointName=announcing, Body=b"raise this", InferenceId="three")

    message = mailboxes[1].next()
    assert message["inferenceId"] == "three"
    assert message["invocationStatus"] == "Failed"
    assert message["failureReason"].startswith("ClientError: Received server error (500) from model.")
    assert message["requestParameters"] == {"endpointName": announcing}
    assert "responseParameters" not in message
    assert message["responseBody"]["content"] == "dGhlIG1vZGVsIGNhbm5vdCBkbyB0aGlz"
    assert mailboxes[0].is_empty()


def test_an_update_is_announced_as_well(
    clients: Clients, announcing: str, mailboxes: tuple[Mailbox, Mailbox]
) -> None:
    topics = {"SuccessTopic": mailboxes[0].topic}
    config = clients.create_config(
        clients.create_model(TELLTALE), AsyncInferenceConfig=_config(clients, NotificationConfig=topics)
    )

    clients.sagemaker.update_endpoint(EndpointName=announcing, EndpointConfigName=config)

    assert mailboxes[0].next() == TEST_NOTIFICATION
    clients.wait_for_endpoint(announcing)
    assert mailboxes[1].is_empty()


def test_a_topic_that_is_not_there_does_no_harm(clients: Clients) -> None:
    topics = {"SuccessTopic": "arn:aws:sns:us-east-1:123456789012:nowhere"}
    endpoint = clients.deploy(TELLTALE, AsyncInferenceConfig=_config(clients, NotificationConfig=topics))

    answer = clients.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"x")

    assert _stored(clients, answer["OutputLocation"])["Body"].read()


# --- another client


def test_aiobotocore_gets_the_same(
    clients: Clients, endpoint: str, sagemaker_server: EmbeddedSageMaker
) -> None:
    async def invoke() -> Any:  # noqa: ANN401 - aiobotocore's answer
        session = get_session()
        async with session.create_client(
            "sagemaker-runtime",
            endpoint_url=sagemaker_server.url,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        ) as runtime:
            return await runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"async")

    answer = asyncio.run(invoke())

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert json.loads(_stored(clients, answer["OutputLocation"])["Body"].read())["body"] == "async"
