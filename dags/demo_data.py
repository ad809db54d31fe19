"""Resources that the example DAGs need around SageMaker: data in S3, a role, a topic with a queue. Not a DAG."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from typing import Any

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}


def aws(service: str) -> Any:  # noqa: ANN401 - a boto3 client
    """Return a boto3 client for the connection ``aws_default``."""
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    return AwsBaseHook(client_type=service).get_conn()


def create_bucket_and_role(bucket: str, role: str) -> str:
    """Create a bucket, and a role for SageMaker, if they do not exist; return the role's ARN."""
    s3, iam = aws("s3"), aws("iam")
    region = s3.meta.region_name
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=bucket, **where)
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
    return str(iam.get_role(RoleName=role)["Role"]["Arn"])


def create_resources(bucket: str, role: str, topic: str) -> dict[str, str]:
    """Create a bucket, a role, and a topic whose messages go to a queue of the same name, if they do not exist."""
    role_arn, sns, sqs = create_bucket_and_role(bucket, role), aws("sns"), aws("sqs")
    arn = str(sns.create_topic(Name=topic)["TopicArn"])
    queue = sqs.create_queue(QueueName=topic)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=attributes["QueueArn"])
    return {"topic": arn, "role": role_arn}


def upload_data(data_set: str, bucket: str, prefix: str) -> dict[str, str]:
    """Upload a data set that ships with scikit-learn: CSV to train on, rows held out, and their labels."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split

    data = getattr(datasets, f"load_{data_set}")()
    labels = [str(data.target_names[number]) for number in data.target]
    train, held_out, train_labels, held_out_labels = train_test_split(
        data.data.tolist(), labels, test_size=0.25, random_state=7, stratify=labels
    )
    header = [name.replace(" ", "_") for name in data.feature_names]
    texts = {
        "train/train.csv": _csv(
            [[*header, "label"], *([*row, name] for row, name in zip(train, train_labels, strict=True))]
        ),
        "held-out/rows.csv": _csv(held_out),
        "labels/labels.csv": _csv([[name] for name in held_out_labels]),
    }
    s3 = aws("s3")
    for key, text in texts.items():
        s3.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=text.encode(), ContentType="text/csv")
    return {key.split("/")[0]: f"s3://{bucket}/{prefix}/{key}" for key in texts}


def upload_inputs(location: str, into: str, files: int) -> list[str]:
    """Distribute the rows of a CSV object over so many files; return their locations."""
    table = rows(location)
    bucket, _, prefix = into.removeprefix("s3://").partition("/")
    keys = [f"{prefix}{number:02d}.csv" for number in range(files)]
    for number, key in enumerate(keys):
        aws("s3").put_object(Bucket=bucket, Key=key, Body=_csv(table[number::files]).encode())
    return [f"s3://{bucket}/{key}" for key in keys]


def transform_config(name: str, model: object, location: object, output_path: str) -> dict[str, Any]:
    """Return the request of a transform job over the CSV rows at ``location``."""
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": location}}
    return {
        "TransformJobName": name,
        "ModelName": model,
        "TransformInput": {"DataSource": source, "ContentType": "text/csv", "SplitType": "Line"},
        "TransformOutput": {"S3OutputPath": output_path, "Accept": "text/csv", "AssembleWith": "Line"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
    }


def find_trace_id(queue: str, trace_id: str, output: str, seconds: float = 60) -> bool:
    """Wait for the success notification of this output; return whether it carries the request's trace id."""
    from airflow_sm_plugin.core.notifications import parse

    sqs = aws("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            notification = parse(message["Body"])
            if notification and notification.output_location == output:
                return notification.succeeded and notification.custom_attributes == trace_id
    raise TimeoutError(f"no success notification for {output} in queue {queue} after {seconds:.0f} s")


def report(
    *,
    export: dict[str, Any],
    labels: str,
    output: str,
    found: bool,
    data_set: str,
    outputs: str,
) -> dict[str, Any]:
    """Compare the predictions with the held-out labels, and batch transform's with the asynchronous ones."""
    expected, predicted = [row[0] for row in rows(labels)], [row[0] for row in rows(output)]
    batch_output = f"{outputs}/batch/rows.csv.out"
    if rows(batch_output) != rows(output):
        raise ValueError(f"batch transform and asynchronous inference disagree: {batch_output}, {output}")
    right = sum(a == b for a, b in zip(expected, predicted, strict=True))
    objective = export["objective"]
    return {
        "data_set": data_set,
        "candidate": export["candidate_name"],
        "objective": f"{objective['name']} {objective['value']:.3f}",
        "response_keys": export["inference_response_keys"],
        "rows": len(predicted),
        "accuracy": round(right / len(expected), 4),
        "trace_id_round_trip": found,
        "outputs": outputs,
    }


def rows(location: str) -> list[list[str]]:
    """Read a CSV object."""
    bucket, _, key = location.removeprefix("s3://").partition("/")
    return list(csv.reader(io.StringIO(aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode())))


def _csv(table: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    return text.getvalue()
