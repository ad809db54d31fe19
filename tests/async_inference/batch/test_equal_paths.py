"""An endpoint with one S3 path for outputs and failures: the results would be ambiguous, so nothing more is sent."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.async_inference.batch.run import Finished
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    advance_batch,
    invocations_of,
    rows_at,
    run_batch,
    settings_for,
    upload_inputs,
)
from tests.support import POLL, Account, TaskInstanceDouble, context_for, run_task, unique


@dataclasses.dataclass
class ClearedTaskInstance(TaskInstanceDouble):
    """A task instance with ``max_tries``, which Airflow raises when a task is cleared."""

    max_tries: int = 0


EQUAL_LOCATIONS = r"the same location as OutputLocation and as FailureLocation, s3://\S+/results/"


@pytest.fixture
def equal_paths(account: Account) -> str:
    """An endpoint with one path for both."""
    return deploy(account, unique("endpoint"), "results", "results")


def deploy(account: Account, name: str, outputs: str, failures: str) -> str:
    """Create the endpoint, or update it, to write there."""
    config = unique("config")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            {
                "VariantName": "AllTraffic",
                "ModelName": account.create_model(OBEDIENT),
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
            }
        ],
        AsyncInferenceConfig={
            "OutputConfig": {
                "S3OutputPath": f"s3://{account.bucket}/{name}/{outputs}",
                "S3FailurePath": f"s3://{account.bucket}/{name}/{failures}/",
            }
        },
    )
    if account.status(name) is None:
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    else:
        account.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    account.wait_for_endpoint(name)
    return name


def test_a_batch_stops_with_the_remedy(account: Account, equal_paths: str) -> None:
    inputs = upload_inputs(account, ["a"] * 100)
    settings = settings_for(account, equal_paths, inputs, at_once=2, max_rate=20)
    with pytest.raises(InvalidRequest, match=EQUAL_LOCATIONS) as caught:
        advance_batch(settings)
    assert "async_failure_path" in str(caught.value)
    assert equal_paths in str(caught.value)
    assert invocations_of(account, equal_paths) <= 4


def test_once_the_endpoint_is_mended_everything_has_a_result_that_can_be_trusted(
    account: Account, equal_paths: str
) -> None:
    """Requests sent before are sent again: their failures are at the location of their outputs."""
    inputs = upload_inputs(account, ["fail a", "b", "c"])
    settings = settings_for(account, equal_paths, inputs)
    with pytest.raises(InvalidRequest, match=EQUAL_LOCATIONS):
        advance_batch(settings)
    deploy(account, equal_paths, "results", "failures")
    done = run_batch(settings)
    rows = rows_at(account, done.report.rows_location)
    assert [str(row.status) for row in rows] == ["failed", "succeeded", "succeeded"]
    assert "ordered to fail: a" in (rows[0].error or "")
    assert [account.read(row.output_location or "") for row in rows[1:]] == [b"B", b"C"]


def test_as_long_as_the_paths_are_equal_nothing_counts_as_success(account: Account, equal_paths: str) -> None:
    inputs = upload_inputs(account, ["fail a"])
    settings = settings_for(account, equal_paths, inputs, attempts=1)
    with pytest.raises(InvalidRequest, match=EQUAL_LOCATIONS):
        advance_batch(settings)
    done = advance_batch(settings)
    assert isinstance(done, Finished)
    (row,) = rows_at(account, done.report.failures_location)
    assert row.status == "expired"
    assert "one location" in (row.error or "")


@pytest.mark.parametrize("with_state", [True, False])
@pytest.mark.parametrize("waits", [True, False])
def test_a_single_invocation_says_so_too(
    account: Account, equal_paths: str, with_state: bool, waits: bool
) -> None:
    state = f"s3://{account.bucket}/{unique('state')}" if with_state else None
    run_id = unique("run")

    def invoke(try_number: int, on_rerun: str) -> Any:  # noqa: ANN401 - what the task returns
        ti = ClearedTaskInstance(run_id=run_id, try_number=try_number, max_tries=try_number - 1)
        make = partial(
            SageMakerInvokeEndpointAsyncOperator,
            task_id="invoke",
            endpoint_name=equal_paths,
            body="fail this",
            state_prefix=state,
            on_rerun=on_rerun,
            wait_for_completion=waits,
            deferrable=False,
            poll_interval=POLL,
            aws_conn_id=None,
        )
        return run_task(make, context_for(ti))

    for try_number in (1, 2):
        with pytest.raises(AirflowFailException, match=EQUAL_LOCATIONS) as caught:
            invoke(try_number, "resume")
    assert ("on_rerun='restart'" in str(caught.value)) == (not with_state)
    deploy(account, equal_paths, "results", "failures")
    on_rerun = "resume" if with_state else "restart"
    if waits:
        with pytest.raises(AirflowFailException, match="ordered to fail: this"):
            invoke(3, on_rerun)
    else:
        assert "/failures/" in invoke(3, on_rerun)["failure_location"]
