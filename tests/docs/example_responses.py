"""What exported Autopilot models answer, for each choice of response keys: ``make example-responses``.

Every answer is real: the embedded SageMaker trains the jobs, and serves the candidates with the containers that
``select_response_keys`` prepares.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import boto3

from airflow_sm_plugin.core.response_keys import select_response_keys
from airflow_sm_plugin.exceptions import ResponseKeysNotSupported
from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS
from airflow_sm_plugin.local.stack.embedded_process import EmbeddedProcess

PAGE = Path(__file__).parents[2] / "docs" / "response-keys.md"
BEGIN, END = "<!-- made by make example-responses -->", "<!-- up to here -->"
ROLE = "arn:aws:iam::123456789012:role/sagemaker"
BUCKET = "example-responses"

ALL_KEYS = ("predicted_label", "probability", "probabilities", "labels")
EACH_KEY: tuple[tuple[str, ...], ...] = ((), *((key,) for key in ALL_KEYS), ALL_KEYS[:2], ALL_KEYS)
DATA: dict[str, tuple[str, Callable[[int], str], tuple[tuple[str, ...], ...]]] = {
    "two classes": ("churn", lambda calls: "yes" if calls > 20 else "no", EACH_KEY),
    "three classes": (
        "size",
        lambda calls: ("small", "medium", "large")[calls // 14],
        ((), ALL_KEYS[:2], ALL_KEYS),
    ),
    "a number": ("cost", lambda calls: f"{calls * 1.5 + 2:g}", ((), ("predicted_label",), ("probability",))),
}
MODES = ("HYPERPARAMETER_TUNING", "ENSEMBLING")
LONG_NUMBER = re.compile(r"\d+\.\d{4,}(?:e-?\d+)?")
COLUMNS = ("predicts", "job's mode", "response keys", "`text/csv`", "`application/json`")


def table() -> str:
    """Train, deploy and ask each combination; return the answers as a table."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder, EmbeddedProcess(Path(folder) / "log") as process:
        os.environ.update(AWS_SETTINGS, AWS_ENDPOINT_URL=process.url)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        containers = {(kind, mode): _train(kind, mode) for kind in DATA for mode in MODES}
        lines += [
            f"{beginning} {' | '.join(_ask(containers[kind, mode], keys))} |"
            for (kind, mode, keys), beginning in combinations().items()
        ]
    return "\n".join(lines)


def combinations() -> dict[tuple[str, str, tuple[str, ...]], str]:
    """Map each combination of problem, mode and keys to the beginning of its row."""
    return {
        (kind, mode, keys): f"| {kind} | {mode} | {', '.join(f'`{key}`' for key in keys) or 'none given'} |"
        for kind, (_, _, choices) in DATA.items()
        for mode in MODES
        for keys in choices
    }


REFUSED = "refused: `ResponseKeysNotSupported`"


def _ask(containers: Sequence[dict[str, Any]], keys: Sequence[str]) -> Iterator[str]:
    sagemaker, runtime = _client("sagemaker"), _client("sagemaker-runtime")
    try:
        selected = select_response_keys(containers, keys)
    except ResponseKeysNotSupported:
        yield from (REFUSED, REFUSED)
        return
    name = f"example-{time.time_ns()}"
    model = {"Containers": selected} if len(selected) > 1 else {"PrimaryContainer": selected[0]}
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, **model)
    variant = {"VariantName": "AllTraffic", "ModelName": name}
    instances = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[{**variant, **instances}])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    for accept in ("text/csv", "application/json"):
        try:
            answer = runtime.invoke_endpoint(
                EndpointName=name, Body=b"30,2\n", ContentType="text/csv", Accept=accept
            )
            text = answer["Body"].read().decode().strip()
        except runtime.exceptions.ModelError as error:
            text = f"{error.response['OriginalStatusCode']} {error.response['OriginalMessage']}"
        yield f"`{LONG_NUMBER.sub(lambda number: f'{float(number[0]):.3f}', text)}`"
    sagemaker.delete_endpoint(EndpointName=name)


def _train(kind: str, mode: str) -> list[dict[str, Any]]:
    target, value, _ = DATA[kind]
    sagemaker = _client("sagemaker")
    name = f"{target}-{mode.lower()[:8]}"
    rows = [f"{calls},{months},{value(calls)}" for calls in range(42) for months in range(4)]
    csv = "\n".join([f"calls,months,{target}", *rows])
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{name}/train.csv", Body=csv.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{name}/"}}
    sagemaker.create_auto_ml_job(
        AutoMLJobName=name,
        RoleArn=ROLE,
        InputDataConfig=[{"DataSource": source, "TargetAttributeName": target}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/autopilot"},
        AutoMLJobConfig={"CompletionCriteria": {"MaxCandidates": 1}, "Mode": mode},
    )
    while (job := sagemaker.describe_auto_ml_job_v2(AutoMLJobName=name))["AutoMLJobStatus"] == "InProgress":
        time.sleep(0.5)
    containers: list[dict[str, Any]] = job["BestCandidate"]["InferenceContainers"]
    return containers


def _client(service: str) -> Any:  # noqa: ANN401 - the requests are put together here, which its types do not follow
    client: Any = boto3.client(service)  # type: ignore[call-overload]
    return client


def listed(page: str) -> str:
    """Return what a page has between the marks."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def main() -> None:
    """Write the table between the page's marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")
    sys.stdout.write(f"written: {PAGE}\n")


if __name__ == "__main__":
    main()
