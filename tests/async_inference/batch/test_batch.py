"""A batch against the embedded SageMaker: every input ends as one row, and no accepted request is sent again."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_sm_plugin.async_inference.batch import submission as async_submission
from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.async_inference.batch.report import Row
from airflow_sm_plugin.async_inference.batch.run import Finished, Waiting
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.exceptions import (
    EndpointNotAsynchronous,
    EndpointNotFound,
    InvalidRequest,
    RequestRefused,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest
from tests.async_inference.batch.async_batches import (
    OBEDIENT,
    advance_batch,
    advance_until_pending,
    calls,
    faults,
    invocations_of,
    rows_at,
    run_batch,
    settings_for,
    upload_inputs,
)
from tests.support import ECHO, POLL, Account, unique

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> str:
    return module_account.deploy(OBEDIENT, asynchronous=True)


@pytest.fixture
def own_endpoint(account: Account) -> str:
    return account.deploy(OBEDIENT, asynchronous=True)


def failures_of(account: Account, done: Finished) -> list[Row]:
    return rows_at(account, done.report.failures_location)


def test_every_input_ends_as_one_row_and_the_counts_add_up(account: Account, endpoint: str) -> None:
    inputs = upload_inputs(account, ["one", "fail two", "three", "once four"])
    done = run_batch(settings_for(account, endpoint, inputs))
    rows = rows_at(account, done.report.rows_location)
    assert [row.status for row in rows] == ["succeeded", "failed", "succeeded", "succeeded"]
    assert [row.attempts for row in rows] == [1, 2, 1, 2]
    assert account.read(rows[3].output_location or "") == b"ONCE FOUR"
    assert "ordered to fail: two" in (rows[1].error or "")
    assert rows_at(account, done.report.failures_location) == [rows[1]]
    assert (done.report.counts.succeeded, done.report.counts.failed, done.report.counts.total) == (3, 1, 4)
    assert [(group.error, group.count, group.message) for group in done.report.failures] == [
        ("failed", 1, rows[1].error)
    ]
    page = account.read(done.report.report_page_location or "").decode()
    for text in ("1 of 4 inputs have no output", "ordered to fail: two", f"{inputs}00001.txt", "Then waited"):
        assert text in page


def test_failure_texts_are_cut_and_can_be_switched_off(account: Account, endpoint: str) -> None:
    inputs = upload_inputs(account, ["fail at once"])
    for limit in (10, 0):
        settings = settings_for(account, endpoint, inputs, failure_text_limit=limit, attempts=1)
        (row,) = failures_of(account, run_batch(settings))
        error = row.error
        assert error is None if limit == 0 else len(error or "") == limit + 1


def test_custom_attributes_are_made_for_each_input_and_stand_in_its_row(
    account: Account, endpoint: str
) -> None:
    inputs = upload_inputs(account, ["a", "b"])
    settings = settings_for(account, endpoint, inputs)
    source = settings.source.__class__(
        location=inputs, custom_attributes="{dag_id}/{stem}/{number}", run={"dag_id": "scores"}
    )
    done = run_batch(settings_for(account, endpoint, inputs, source=source))
    rows = rows_at(account, done.report.rows_location)
    assert [row.custom_attributes for row in rows] == ["scores/00000/0", "scores/00001/1"]


def test_a_retry_of_a_finished_batch_reports_it_again(account: Account, own_endpoint: str) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, ["a", "fail b"]))
    first = run_batch(settings)
    sent = invocations_of(account, own_endpoint)
    assert run_batch(settings) == first
    assert invocations_of(account, own_endpoint) == sent


def test_a_batch_that_runs_again_sends_what_is_new_changed_or_failed(
    account: Account, own_endpoint: str
) -> None:
    prefix = f"batches/{unique('inputs')}/"
    inputs = upload_inputs(account, ["a", "fail b", "c", "d"], prefix)
    settings = settings_for(account, own_endpoint, inputs, attempts=1)
    first = rows_at(account, run_batch(settings).report.rows_location)
    account.s3.put_object(Bucket=account.bucket, Key=f"{prefix}00001.txt", Body="mended")
    account.s3.put_object(Bucket=account.bucket, Key=f"{prefix}00002.txt", Body="changed")
    account.s3.put_object(Bucket=account.bucket, Key=f"{prefix}00000-new.txt", Body="new")
    sent = invocations_of(account, own_endpoint)
    cleared = settings_for(account, own_endpoint, inputs, attempts=1, owner=settings.owner, run="another")
    done = run_batch(cleared)
    rows = rows_at(account, done.report.rows_location)
    assert invocations_of(account, own_endpoint) == sent + 3
    assert [account.read(row.output_location or "") for row in rows] == [
        b"NEW",
        b"A",
        b"MENDED",
        b"CHANGED",
        b"D",
    ]
    assert [rows[1], rows[4]] == [first[0], first[3]]
    assert done.report.counts.succeeded == 5


def test_a_batch_that_is_restarted_sends_everything(account: Account, own_endpoint: str) -> None:
    inputs = upload_inputs(account, ["a", "b"])
    settings = settings_for(account, own_endpoint, inputs)
    run_batch(settings)
    run_batch(settings_for(account, own_endpoint, inputs, owner=settings.owner, run="other", restart=True))
    assert invocations_of(account, own_endpoint) == 4


def test_inputs_are_checked_before_anything_is_sent(account: Account, endpoint: str) -> None:
    before = invocations_of(account, endpoint)
    nothing = f"s3://{account.bucket}/{unique('nothing')}/"
    with pytest.raises(InvalidRequest, match="no inputs below"):
        advance_batch(settings_for(account, endpoint, nothing))
    assert invocations_of(account, endpoint) == before


def test_an_endpoint_that_is_not_there_yet_loses_nothing(account: Account) -> None:
    name = unique("endpoint")
    settings = settings_for(account, name, upload_inputs(account, ["a", "b", "c"]))
    with pytest.raises(EndpointNotFound, match=name):
        advance_batch(settings)
    account.deploy(OBEDIENT, asynchronous=True, name=name)
    assert run_batch(settings).report.counts.succeeded == 3
    assert invocations_of(account, name) == 3


def test_a_real_time_endpoint_is_refused(account: Account) -> None:
    name = account.deploy(ECHO)
    with pytest.raises(EndpointNotAsynchronous, match=name):
        advance_batch(settings_for(account, name, upload_inputs(account, ["a"])))


def test_throttling_slows_and_drops_nothing(account: Account, own_endpoint: str) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, [f"n{n}" for n in range(40)]))
    rule = {"fault": "throttle", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "times": 30}
    outage = {**rule, "fault": "error", "status": 503, "times": 10}
    with faults(account, rule, outage):
        done = run_batch(settings)
    assert done.report.counts.succeeded == 40
    assert invocations_of(account, own_endpoint) == 40


def test_credentials_that_stay_expired_for_a_while_end_no_submission(
    account: Account, own_endpoint: str
) -> None:
    """Each refused call is signed and sent once more at once, and put off when that is refused as well."""
    words = "The security token included in the request is expired"
    rule = {"fault": "error", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "status": 403}
    inputs = upload_inputs(account, [f"n{n}" for n in range(4)])
    with faults(account, {**rule, "code": "ExpiredTokenException", "message": words, "times": 12}):
        done = run_batch(settings_for(account, own_endpoint, inputs))
    assert done.report.counts.succeeded == 4
    assert len(calls(account, "InvokeEndpointAsync", resource=own_endpoint)) == 12 + 4


@pytest.mark.parametrize("resend", [False, True])
def test_lost_answers_lose_no_input(account: Account, own_endpoint: str, resend: bool) -> None:
    inputs = upload_inputs(account, [f"n{n}" for n in range(20)])
    settings = settings_for(account, own_endpoint, inputs, resend=resend)
    rule = {"fault": "lost_answer", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "times": 5}
    with faults(account, rule):
        done = run_batch(settings)
    rows = rows_at(account, done.report.rows_location)
    assert [account.read(row.output_location or "") for row in rows] == [f"N{n}".encode() for n in range(20)]
    assert invocations_of(account, own_endpoint) == (25 if resend else 20)


def test_an_input_that_sagemaker_refuses_is_a_row(account: Account, own_endpoint: str) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, ["a", "b", "c"]), at_once=1)
    rule = {"fault": "error", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "status": 400}
    with faults(account, {**rule, "times": 1}):
        done = run_batch(settings)
    (row,) = failures_of(account, done)
    assert row.status == "refused"
    assert "RequestRefused" in (row.error or "")
    assert done.report.counts.succeeded == 2


def test_an_endpoint_that_refuses_everything_ends_the_task(account: Account, own_endpoint: str) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, ["x"] * 120), at_once=8)
    rule = {"fault": "error", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "status": 400}
    with faults(account, rule), pytest.raises(RequestRefused, match="each of the first"):
        advance_batch(settings)
    tried = calls(account, "InvokeEndpointAsync", resource=own_endpoint)
    assert 100 <= len(tried) < 100 + 8


def test_expired_requests_are_sent_again_and_are_no_failures(
    account: Account, own_endpoint: str, gate: Path
) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, [f"gate {gate}", "b"]))
    advance_until_pending(settings, 1)
    done = run_batch(replace(settings, wait_seconds=0.1))
    (row,) = failures_of(account, done)
    assert (row.status, row.attempts) == ("expired", 2)
    assert "deadline" in (row.error or "")
    assert done.report.counts.succeeded == 1
    assert invocations_of(account, own_endpoint) == 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [({"fault": "throttle"}, Throttled), ({"fault": "error", "status": 503}, ServiceUnavailable)],
    ids=["throttled", "out of service"],
)
def test_an_endpoint_that_accepts_nothing_for_long_ends_the_task_and_loses_nothing(
    account: Account, own_endpoint: str, fault: dict[str, object], error: type[Exception]
) -> None:
    inputs = upload_inputs(account, ["a", "b", "c"])
    settings = settings_for(account, own_endpoint, inputs, patience_seconds=1)
    rule = {**fault, "operation": "InvokeEndpointAsync", "resource": own_endpoint}
    began = time.monotonic()
    with faults(account, rule), pytest.raises(error):
        advance_batch(settings)
    assert time.monotonic() - began > 1
    assert run_batch(settings).report.counts.succeeded == 3
    assert invocations_of(account, own_endpoint) == 3


def test_a_submission_goes_on_as_long_as_some_requests_are_accepted(
    account: Account, own_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The patience counts from the last accepted request; here each answer takes 400 s."""
    clock, invoke = Clock(), AsyncInvoker.invoke

    async def slow(invoker: AsyncInvoker, request: AsyncRequest) -> AsyncInvocation:
        clock.ahead += 400
        return await invoke(invoker, request)

    monkeypatch.setattr(async_submission, "time", clock)
    monkeypatch.setattr(AsyncInvoker, "invoke", slow)
    inputs = upload_inputs(account, [f"n{n}" for n in range(5)])
    settings = settings_for(account, own_endpoint, inputs, patience_seconds=600, at_once=1)
    rule = {"fault": "throttle", "operation": "InvokeEndpointAsync", "resource": own_endpoint}
    with faults(account, {**rule, "after": 3, "times": 1}):
        assert run_batch(settings).report.counts.succeeded == 5
    assert len(calls(account, "InvokeEndpointAsync", resource=own_endpoint)) == 6


class Clock:
    """A clock that a test puts ahead."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def monotonic(self) -> float:
        """Return its time."""
        return time.monotonic() + self.ahead


def test_an_endpoint_deleted_while_waiting_is_no_time_out(
    account: Account, own_endpoint: str, gate: Path
) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, ["quick", f"gate {gate}"]))
    assert isinstance(advance_batch(settings), Waiting)
    account.sagemaker.delete_endpoint(EndpointName=own_endpoint)
    with pytest.raises(EndpointNotFound, match="deleted while"):
        advance_batch(settings)
    account.wait_for_endpoint(own_endpoint, "endpoint_deleted")
    account.deploy(ECHO, asynchronous=True, name=own_endpoint)
    assert run_batch(settings).report.counts.succeeded == 2


def test_a_long_wait_asks_now_and_then_whether_the_endpoint_is_still_there(
    account: Account, own_endpoint: str, gate: Path
) -> None:
    """It is deleted once the wait has asked twice."""
    inputs = upload_inputs(account, [f"gate {gate}"])
    settings = settings_for(account, own_endpoint, inputs, check_in_seconds=0.5, wait_seconds=86_400)
    folder = BatchFolder.below(settings.ledger_prefix, owner=settings.owner, arguments=settings.arguments)
    step = advance_batch(settings)
    assert isinstance(step, Waiting)
    assert step.deadline < time.time() + 3_600
    over, begin = threading.Event(), asked(account, own_endpoint) + 1

    def delete() -> None:
        while asked(account, own_endpoint) < begin + 2:
            if over.wait(POLL):
                return
        account.sagemaker.delete_endpoint(EndpointName=own_endpoint)

    deleting = threading.Thread(target=delete)
    deleting.start()
    try:
        with pytest.raises(EndpointNotFound, match="was deleted while 1 of its requests had no result"):
            run_batch(settings, poll_interval=300)
        page = account.read(folder.plan(0).report_page).decode()
        for text in (
            "Unfinished: 0 of 1 input done, 1 left",
            f"EndpointNotFound: endpoint {own_endpoint} was deleted",
            f"Deploy endpoint {own_endpoint} again, then clear this task",
        ):
            assert text in page
    finally:
        over.set()
        deleting.join()


def asked(account: Account, endpoint: str) -> int:
    """Return how often an endpoint was described."""
    return len(calls(account, "DescribeEndpoint", resource=endpoint))


def test_an_endpoint_deleted_at_the_last_attempt_is_the_reason_in_the_rows(
    account: Account, own_endpoint: str, gate: Path
) -> None:
    settings = settings_for(account, own_endpoint, upload_inputs(account, [f"gate {gate}"]), attempts=1)
    assert isinstance(advance_batch(settings), Waiting)
    account.sagemaker.delete_endpoint(EndpointName=own_endpoint)
    done = advance_batch(settings)
    assert isinstance(done, Finished)
    assert done.report.counts.expired == 1
    (row,) = failures_of(account, done)
    assert "deleted" in (row.error or "")


@pytest.mark.usefixtures("_growing_patience")
@pytest.mark.parametrize("attempts", [1, 20])
def test_the_row_of_a_doubt_that_expires_says_that_it_may_never_have_been_sent(
    account: Account, own_endpoint: str, attempts: int
) -> None:
    """Where attempts remain it is sent again; where none does, nothing claims that it was sent."""
    inputs = upload_inputs(account, ["a"])
    settings = settings_for(account, own_endpoint, inputs, attempts=attempts, wait_seconds=0.5)
    dropped = {"fault": "drop", "operation": "InvokeEndpointAsync", "resource": own_endpoint, "times": 1}
    with faults(account, dropped):
        done = run_batch(settings)
    if attempts > 1:
        assert done.report.counts.succeeded == 1
        return
    (row,) = failures_of(account, done)
    assert row.status == "expired"
    assert "it may never have been sent" in (row.error or "")
    assert invocations_of(account, own_endpoint) == 0
