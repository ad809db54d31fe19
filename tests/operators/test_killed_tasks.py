"""A task that Airflow kills (``on_kill``) stops at once, and knows what it did."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_sm_plugin._compat import BaseOperator, BaseSensorOperator
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart
from airflow_sm_plugin.exceptions import TaskKilled
from airflow_sm_plugin.killable import Killable
from airflow_sm_plugin.operators.async_batch import SageMakerAsyncBatchOperator
from airflow_sm_plugin.operators.invoke import (
    SageMakerInvokeEndpointAsyncOperator,
    SageMakerInvokeEndpointOperator,
)
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    calls,
    faults,
    invocations_of,
    rows_at,
    upload_inputs,
)
from tests.endpoint_trials import Verb, begun, control, effects, may_execute, operator_of
from tests.support import ECHO, Account, context_for, run_task, unique

pytestmark = pytest.mark.airflow

COUNT = 60
LONGEST_SECONDS = 800
"""Less than any of these waits would last (an hour), and enough for a busy machine."""


@pytest.fixture
def endpoint(account: Account) -> str:
    return account.deploy(OBEDIENT, asynchronous=True)


class Running:
    """A task that executes in a thread of its own."""

    def __init__(self, task: BaseOperator | BaseSensorOperator) -> None:
        self.task = task
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        may_execute()
        context = context_for()
        self.task.render_template_fields(context)
        try:
            self.task.execute(context)
        except BaseException as error:  # noqa: BLE001 - whatever ends a task
            self.error = error

    def kill(self) -> BaseException | None:
        """Kill it as Airflow does; return what it raised."""
        self.task.on_kill()
        return self.end()

    def end(self) -> BaseException | None:
        """Wait for its end; return what it raised."""
        self._thread.join(LONGEST_SECONDS)
        assert not self._thread.is_alive(), "it goes on"
        return self.error


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 600
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def batch_of(account: Account, endpoint: str, inputs: str, **changes: Any) -> SageMakerAsyncBatchOperator:  # noqa: ANN401 - the operator's own
    given: dict[str, Any] = {
        "ledger_prefix": f"s3://{account.bucket}/ledgers/{inputs.rstrip('/').rpartition('/')[2]}",
        "content_type": "text/plain",
        "deferrable": False,
        "poll_interval": 3600,
        "max_wait_seconds": 7200,
        "container_log_lines": 0,
    }
    return SageMakerAsyncBatchOperator(
        task_id="batch", aws_conn_id=None, endpoint_name=endpoint, inputs=inputs, **given | changes
    )


def ledger(account: Account, prefix: str) -> Ledger:
    """Return the first round's ledger."""
    bucket, _, key = prefix.removeprefix("s3://").partition("/")
    listed_objects = account.s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]
    read = Ledger(COUNT)
    for name in sorted(
        listed_object["Key"] for listed_object in listed_objects if "/round-1/ledger/" in listed_object["Key"]
    ):
        read = read.after(LedgerPart.from_json(account.read(f"s3://{bucket}/{name}")))
    return read


def test_a_batch_that_is_killed_while_it_sends_stops_and_leaves_no_doubts(
    account: Account, endpoint: str
) -> None:
    inputs = upload_inputs(account, [f"n{number}" for number in range(COUNT)])
    task = batch_of(account, endpoint, inputs)
    with throttled(account, endpoint, "InvokeEndpointAsync", after=5):
        running = Running(task)
        wait_until(lambda: len(tried(account, endpoint, "InvokeEndpointAsync")) > 5)
        assert isinstance(running.kill(), TaskKilled)
    assert invocations_of(account, endpoint) == 5
    left = ledger(account, task.ledger_prefix)
    assert left.accepted.bit_count() == 5
    assert not left.doubtful
    result = run_task(lambda: batch_of(account, endpoint, inputs, poll_interval=0.1))
    assert (result["succeeded"], result["attempts"]) == (COUNT, COUNT)
    assert invocations_of(account, endpoint) == COUNT
    assert len(rows_at(account, result["rows_location"])) == COUNT


def test_a_batch_that_is_killed_while_it_waits_ends(account: Account, endpoint: str, gate: Path) -> None:
    inputs = upload_inputs(account, [f"gate {gate}"])
    running = Running(batch_of(account, endpoint, inputs))
    wait_until(lambda: invocations_of(account, endpoint) == 1)
    assert isinstance(running.kill(), TaskKilled)


def test_a_batch_that_is_killed_while_it_plans_sends_nothing(account: Account, endpoint: str) -> None:
    inputs = upload_inputs(account, ["a"])
    slow = {"fault": "latency", "operation": "DescribeEndpoint", "resource": endpoint, "seconds": 3600}
    with faults(account, slow):
        task = batch_of(account, endpoint, inputs)
        running = Running(task)
        wait_until(lambda: any(rule["struck"] for rule in control(account, "GET", "faults")["rules"]))
        task.on_kill()
    assert isinstance(running.end(), TaskKilled)
    assert invocations_of(account, endpoint) == 0


@pytest.mark.parametrize("deferrable", [False, True])
def test_a_batch_that_is_killed_before_it_begins_sends_nothing(
    account: Account, endpoint: str, deferrable: bool
) -> None:
    task = batch_of(account, endpoint, upload_inputs(account, ["a"]), deferrable=deferrable)
    task.on_kill()
    with pytest.raises(TaskKilled):
        task.execute(context_for())
    assert invocations_of(account, endpoint) == 0


def invocation_of(
    account: Account,
    endpoint: str,
    body: str,
    **changes: Any,  # noqa: ANN401 - the operator's own
) -> SageMakerInvokeEndpointAsyncOperator:
    given: dict[str, Any] = {
        "input_location": account.upload(body),
        "content_type": "text/plain",
        "state_prefix": f"s3://{account.bucket}/{unique('state')}",
        "deferrable": False,
        "poll_interval": 3600,
    }
    return SageMakerInvokeEndpointAsyncOperator(
        task_id="invoke", aws_conn_id=None, endpoint_name=endpoint, **given | changes
    )


def test_an_invocation_that_is_killed_while_it_waits_ends_and_is_taken_up(
    account: Account, endpoint: str, gate: Path
) -> None:
    task = invocation_of(account, endpoint, f"gate {gate}", wait_for_completion=True)
    running = Running(task)
    wait_until(lambda: invocations_of(account, endpoint) == 1)
    assert isinstance(running.kill(), TaskKilled)
    gate.touch()
    given = {"input_location": task.input_location, "state_prefix": task.state_prefix}
    result = run_task(
        lambda: invocation_of(account, endpoint, "", wait_for_completion=True, poll_interval=0.1, **given)
    )
    assert account.read(result["output_location"]).decode() == f"gate {gate}".upper()
    assert invocations_of(account, endpoint) == 1


def test_an_invocation_that_is_killed_before_it_was_accepted_leaves_no_doubt(
    account: Account, endpoint: str
) -> None:
    task = invocation_of(account, endpoint, "a")
    with throttled(account, endpoint, "InvokeEndpointAsync"):
        running = Running(task)
        wait_until(lambda: bool(tried(account, endpoint, "InvokeEndpointAsync")))
        assert isinstance(running.kill(), TaskKilled)
    prefix = str(task.state_prefix).partition(f"{account.bucket}/")[2]
    assert "Contents" not in account.s3.list_objects_v2(Bucket=account.bucket, Prefix=prefix)


def test_a_real_time_invocation_that_is_killed_is_not_repeated(account: Account) -> None:
    endpoint = account.deploy(ECHO)
    task = SageMakerInvokeEndpointOperator(
        task_id="invoke", aws_conn_id=None, endpoint_name=endpoint, body="a", attempts=1_000
    )
    with throttled(account, endpoint, "InvokeEndpoint"):
        running = Running(task)
        wait_until(lambda: len(tried(account, endpoint, "InvokeEndpoint")) > 1)
        assert isinstance(running.kill(), TaskKilled)
        before = len(tried(account, endpoint, "InvokeEndpoint"))
    assert len(tried(account, endpoint, "InvokeEndpoint")) == before


def test_a_sensor_that_is_killed_while_it_waits_ends(account: Account) -> None:
    sensor = SageMakerAsyncInferenceSensor(
        task_id="wait",
        aws_conn_id=None,
        output_location=f"s3://{account.bucket}/never.out",
        poke_interval=3600,
        deferrable=False,
    )
    running = Running(sensor)
    wait_until(lambda: sensor._running is not None)
    assert isinstance(running.kill(), TaskKilled)


@pytest.mark.parametrize("verb", ["update", "delete"])
def test_a_deployment_or_deletion_that_is_killed_while_it_waits_changes_nothing_more(
    account: Account, verb: Verb
) -> None:
    trial = begun(account, verb)
    control(account, "PUT", f"endpoints/{trial.name}/status", {"status": "SystemUpdating"})
    arguments = {"remove_scaling": False} if verb == "delete" else {}
    running = Running(operator_of(trial, poll_interval=0.05, max_wait_seconds=3600, **arguments))
    described = len(calls(account, "DescribeEndpoint"))
    wait_until(lambda: len(calls(account, "DescribeEndpoint")) > described + 3)
    assert isinstance(running.kill(), TaskKilled)
    assert not effects(account, trial)
    control(account, "PUT", f"endpoints/{trial.name}/status", {"status": "InService"})


@contextmanager
def throttled(account: Account, endpoint: str, operation: str, *, after: int = 0) -> Iterator[None]:
    with faults(account, {"fault": "throttle", "operation": operation, "resource": endpoint, "after": after}):
        yield


def tried(account: Account, endpoint: str, operation: str) -> list[Any]:
    return [call for call in calls(account, operation) if call["resource"] == endpoint]


def is_in(thread: int, function: str) -> bool:
    """Say whether a thread is in a function, or in what that calls."""
    frames = traceback.walk_stack(sys._current_frames()[thread])
    return any(frame.f_code.co_qualname == function for frame, _ in frames)


def test_an_exception_right_after_work_has_begun_lets_it_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminated(BaseException):
        """An exception such as Airflow raises."""

    ended: list[str] = []
    submit = ThreadPoolExecutor.submit

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("in order")

    def interrupted(*args: Any) -> None:  # noqa: ANN401 - submit's
        submit(*args)
        raise Terminated

    monkeypatch.setattr(ThreadPoolExecutor, "submit", interrupted)
    with pytest.raises(Terminated):
        Killable().run_until_killed(work())
    assert ended in (["in order"], []), "it was cancelled before it began, or after"


def test_an_exception_that_a_signal_handler_raises_lets_what_is_on_its_way_end() -> None:
    """Airflow 2 raises after ``on_kill``, and every Airflow at ``execution_timeout``, in the main thread."""

    class Terminated(BaseException):
        """An exception such as Airflow raises."""

    ended: list[str] = []
    main = threading.get_ident()

    async def work() -> None:
        try:
            while not is_in(main, "Future.result"):  # noqa: ASYNC110 - another thread
                await asyncio.sleep(0.01)
            signal.pthread_kill(main, signal.SIGUSR1)
            await asyncio.sleep(3600)
        finally:
            ended.append("in order")

    killable = Killable()

    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGUSR1, terminate)
    try:
        with pytest.raises(Terminated):
            killable.run_until_killed(work())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert ended == ["in order"]
    with pytest.raises(TaskKilled):
        killable.pause(3600)
