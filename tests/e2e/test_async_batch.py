"""Two hundred asynchronous inferences on a real scheduler and triggerer, on a bad day.

Some inputs fail, some never end, some are slow. The worker is frozen and left behind while it submits, the next one is
killed while it submits, the triggerer is killed while it waits. Each input is in the report once; the model itself
counts what it was asked.
"""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, cast

import psutil
import pytest

from airflow_sm_plugin.local.stack.airflow_api import Json
from airflow_sm_plugin.local.stack.airflow_settings import COMPONENTS
from airflow_sm_plugin.local.stack.airflow_stack import AirflowStack
from tests.async_inference.batch.async_batches import faults, invocations_of
from tests.e2e.conftest import until
from tests.e2e.workers import Worker
from tests.support import IMAGE, ROLE, Account, unique

pytestmark = pytest.mark.slow

DAG, TASK = "e2e_async_batch", "score"
INPUTS = 200
KILLED_AFTER = 30
"""Inputs that a worker has sent when it is killed."""

NO_MORE_THAN = 40
"""Inputs that a worker can send before it is killed, however late that is."""

LEAST_WAIT = 30
FAILING = {f"{number:04d}" for number in range(7, INPUTS, 40)}
STUCK = {"0033", "0166"}
SLOW = {f"{number:04d}" for number in range(50, INPUTS, 60)}
MODEL = """
import os, time

def model_fn(model_dir):
    return os.open(os.environ["COUNTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def transform_fn(counts, data, content_type, accept):
    text = data.decode() if isinstance(data, bytes) else str(data)
    kind, number = text.split()
    os.write(counts, (number + chr(10)).encode())
    if kind == "fails":
        raise ValueError("input " + number + " cannot be scored")
    time.sleep({"stuck": 100_000, "slow": 3}.get(kind, 0))
    return number, "text/plain"
"""


def _kind(name: str) -> str:
    return "fails" if name in FAILING else "stuck" if name in STUCK else "slow" if name in SLOW else "scores"


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    """Where the model writes each input it was asked about."""
    return tmp_path / "counts"


@pytest.fixture
def endpoint(account: Account, counts: Path) -> Iterator[str]:
    """An asynchronous endpoint of that model, 16 at a time, in its own bucket folder."""
    name = unique("batch")
    container = {
        "Image": IMAGE,
        "ModelDataUrl": account.upload_model(MODEL),
        "Environment": {"COUNTS": str(counts)},
    }
    account.sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=cast("Any", container)
    )
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": name,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 16},
            "OutputConfig": {
                "S3OutputPath": f"s3://{account.bucket}/{name}/outputs/",
                "S3FailurePath": f"s3://{account.bucket}/{name}/failures/",
            },
        },
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    account.wait_for_endpoint(name)
    with account.settings(async_invocation_timeout_seconds=100_000):
        yield name
    account.sagemaker.delete_endpoint(EndpointName=name)


def _try_number(stack: AirflowStack, run_id: str) -> int:
    (task,) = stack.api.task_instances(DAG, run_id)
    return task.try_number


def _asked(counts: Path) -> Counter[str]:
    return Counter(counts.read_text().split()) if counts.exists() else Counter()


def _rows(account: Account, report: dict[str, Any]) -> list[dict[str, Any]]:
    bucket, _, prefix = str(report["rows_location"]).removeprefix("s3://").partition("/")
    found = account.s3.list_objects_v2(Bucket=bucket, Prefix=prefix)
    lines = [
        line
        for one in found["Contents"]
        for line in account.read(f"s3://{bucket}/{one['Key']}").decode().splitlines()
    ]
    return [json.loads(line) for line in lines]


def _bad_day(stack: AirflowStack, account: Account, endpoint: str, conf: Mapping[str, Json]) -> str:
    """Freeze and orphan the first worker, kill the second, thaw the orphan, kill the triggerer; return the run."""

    def limited(resource: str) -> AbstractContextManager[None]:
        rule = {"fault": "throttle", "operation": "InvokeEndpointAsync", "resource": resource}
        return faults(account, {**rule, "after": NO_MORE_THAN})

    with ExitStack() as second:
        with limited(endpoint):
            run_id = stack.api.trigger(DAG, conf=conf)
            until(lambda: invocations_of(account, endpoint) >= KILLED_AFTER)
            orphan = Worker(stack, DAG, run_id, TASK)
            orphan.freeze_and_orphan()
            before = invocations_of(account, endpoint)
            second.enter_context(limited(f"{endpoint}*"))  # another text: rules are forgotten by it
        until(lambda: _try_number(stack, run_id) == 2)
        until(lambda: invocations_of(account, endpoint) >= before + KILLED_AFTER)
        orphan.task.send_signal(signal.SIGCONT)
        Worker(stack, DAG, run_id, TASK).kill()
    psutil.wait_procs([orphan.task], timeout=1700)
    assert not orphan.task.is_running(), "the orphan goes on"
    until(lambda: stack.api.task_instances(DAG, run_id)[0].state == "deferred")
    triggerer = stack._started["triggerer"]
    triggerer.kill()
    triggerer.wait(timeout=1700)
    stack._launch("triggerer", COMPONENTS["triggerer"])
    return run_id


def test_a_batch_survives_a_bad_day(
    airflow_stack: AirflowStack, account: Account, endpoint: str, counts: Path
) -> None:
    names = [f"{number:04d}" for number in range(INPUTS)]
    began = time.monotonic()
    for name in names:
        account.upload(f"{_kind(name)} {name}", f"{endpoint}/inputs/{name}")
    # A machine that is slow to take the inputs is as slow to score them.
    max_wait_seconds = max(LEAST_WAIT, 10 * (time.monotonic() - began))
    airflow_stack.api.wait_for_dag(DAG)
    conf: dict[str, Json] = {
        "max_wait_seconds": max_wait_seconds,
        "endpoint": endpoint,
        "inputs": f"s3://{account.bucket}/{endpoint}/inputs/",
        "ledger": f"s3://{account.bucket}/{endpoint}/ledger/",
    }
    run_id = _bad_day(airflow_stack, account, endpoint, conf)
    run_status = airflow_stack.api.wait_for_run(DAG, run_id, seconds=1700)
    tries = run_status.tasks[0].try_number
    log = "\n".join(
        airflow_stack.api.log_text(DAG, run_id, TASK, try_number=number) for number in range(1, tries + 1)
    )
    assert (run_status.state, tries) == ("success", 3), log
    assert "planted-trace" not in log
    report = airflow_stack.api.xcom(DAG, run_id, TASK)
    assert isinstance(report, dict)
    assert "planted-trace" not in json.dumps(report)

    rows = _rows(account, report)
    assert sorted(row["source"].rpartition("/")[2] for row in rows) == names
    status = {row["source"].rpartition("/")[2]: row["status"] for row in rows}
    assert {name for name, found in status.items() if found == "failed"} == FAILING
    assert {name for name, found in status.items() if found == "expired"} == STUCK
    assert (report["inputs"], report["failed"], report["expired"]) == (INPUTS, len(FAILING), len(STUCK))
    assert report["succeeded"] == INPUTS - len(FAILING) - len(STUCK)
    asked = _asked(counts)
    for row in rows:
        name = row["source"].rpartition("/")[2]
        # Of what a kill left in doubt, some was never sent: waited for in vain, then sent in the second round.
        assert 1 <= asked[name] <= row["attempts"], (name, asked[name], row)
        assert row["custom_attributes"] == f"planted-trace/{name}"
        if row["status"] == "succeeded":
            assert account.read(row["output_location"]).decode() == name
    assert Counter(row["attempts"] for row in rows)[1] > INPUTS / 2
