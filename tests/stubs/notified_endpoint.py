"""An asynchronous endpoint whose SNS topics fan out into one SQS queue, as a user sets it up for a completion queue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3

from tests.support import REGION, Account, unique

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

_KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}


@dataclass(frozen=True)
class NotifiedEndpoint:
    """An endpoint's name, its queue's URL, and a client for the queue."""

    name: str
    queue: str
    sqs: SQSClient

    def say(self, *bodies: str) -> None:
        """Put messages into the queue."""
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.queue, MessageBody=body)

    def left(self) -> int:
        """Return how many messages the queue holds, those included that a consumer has just received."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)


@contextmanager
def notified_endpoint(account: Account, code: str) -> Iterator[NotifiedEndpoint]:
    """Have an endpoint of this code with two topics, both subscribed by one queue that others cannot see."""
    made: dict[str, Any] = {"endpoint_url": account.url, **_KEYS}
    sns, sqs = boto3.client("sns", **made), boto3.client("sqs", **made)
    # A message that was received and left alone comes back at once: whoever leaves it must not spin.
    queue = sqs.create_queue(QueueName=unique("queue"), Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topics = [sns.create_topic(Name=unique("topic"))["TopicArn"] for _ in range(2)]
    for topic in topics:
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    name = _deploy(account, code, *topics)
    try:
        yield NotifiedEndpoint(name, queue, sqs)
    finally:
        account.sagemaker.delete_endpoint(EndpointName=name)
        sqs.delete_queue(QueueUrl=queue)
        for topic in topics:
            sns.delete_topic(TopicArn=topic)


def _deploy(account: Account, code: str, success_topic: str, error_topic: str) -> str:
    name = unique("endpoint")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": account.create_model(code),
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{account.bucket}/{name}/outputs",
                "S3FailurePath": f"s3://{account.bucket}/{name}/failures",
                "NotificationConfig": {"SuccessTopic": success_topic, "ErrorTopic": error_topic},
            }
        },
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.wait_for_endpoint(name)
    return name


def notification_of(endpoint: str, *, output_location: str = "", inference_id: str = "") -> str:
    """Return a success notification, as SageMaker words it."""
    event: dict[str, object] = {
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
        "invocationStatus": "Completed",
        "inferenceId": inference_id,
        "requestParameters": {"endpointName": endpoint},
        "responseParameters": {"outputLocation": output_location},
    }
    return json.dumps(event)
