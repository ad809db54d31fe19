"""A deployment's log and errors: asked, InService and its cost, what is left behind, the containers meanwhile."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import EndpointDeadlineExceeded, EndpointFailed
from airflow_sm_plugin.operators.endpoint import SageMakerDeployEndpointOperator
from airflow_sm_plugin.operators.endpoint_deletion import SageMakerDeleteEndpointOperator
from tests.endpoint_trials import control
from tests.support import POLL, Account, Answer, answering, unique
from tests.task_runs import Deferral, context_for, event_of, execute, resume, run_task

pytestmark = pytest.mark.airflow

BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
X = "\u00d7"


def deploy(name: str, model: str, **arguments: Any) -> SageMakerDeployEndpointOperator:  # noqa: ANN401 - the operator's own
    usual: dict[str, Any] = {"poll_interval": POLL, "max_wait_seconds": 600, "aws_conn_id": None}
    usual |= {"instance_type": "ml.m5.xlarge", "deferrable": False}
    return SageMakerDeployEndpointOperator(
        task_id="deploy", endpoint_name=name, model_name=model, **usual | arguments
    )


@pytest.fixture(scope="module")
def model(module_account: Account) -> str:
    """A model whose endpoint takes just as long as the settings say."""
    return module_account.create_model(multi_model=True)


@pytest.fixture
def name(account: Account) -> Iterator[str]:
    """An endpoint's name; what has it in the end is deleted."""
    endpoint_name = unique("endpoint")
    yield endpoint_name
    control(account, "DELETE", "faults")
    control(account, "DELETE", "endpoints")
    if account.status(endpoint_name) in ("InService", "Failed"):
        account.sagemaker.delete_endpoint(EndpointName=endpoint_name)


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@BOTH
def test_the_log_says_what_was_asked_and_then_what_serves_and_costs(
    name: str, model: str, caplog: pytest.LogCaptureFixture, *, deferrable: bool
) -> None:
    run_task(partial(deploy, name, model, deferrable=deferrable))
    log = messages(caplog)
    asked = f"endpoint {name}: asked SageMaker for its creation: ml.m5.xlarge {X} 1, configuration {name}-"
    serves = rf"endpoint {name} \(created\): InService after [\d.]+ m?s, ml\.m5\.xlarge {X} 1; it costs money until"
    (begun,) = [number for number, line in enumerate(log) if line.startswith(asked)]
    (ended,) = [number for number, line in enumerate(log) if re.match(serves, line)]
    assert begun < ended

    caplog.clear()
    run_task(partial(deploy, name, model, deferrable=deferrable))
    assert not [line for line in messages(caplog) if "asked SageMaker" in line]
    assert (
        f"endpoint {name} (unchanged): InService, ml.m5.xlarge {X} 1; it costs money until it is deleted"
        in (messages(caplog))
    )


@BOTH
def test_a_process_logs_its_connection_in_one_line(
    name: str,
    model: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    *,
    deferrable: bool,
) -> None:
    """Each of a deferred task's processes: the task, the triggerer, the resumed task."""
    make, context = (
        partial(deploy, name, model, deferrable=deferrable, aws_conn_id="aws_default"),
        context_for(),
    )
    logs = []

    def logged() -> None:
        logs.append("\n".join(messages(caplog)) + capsys.readouterr().out)
        caplog.clear()

    step = execute(make, context)
    logged()
    while isinstance(step, Deferral):
        event = event_of(step.trigger)
        logged()
        step = resume(make, context, step, event)
        logged()
    assert len(logs) == (3 if deferrable else 1)
    counts = []
    for log in logs:
        lines = {
            line for line in log.splitlines() if re.search(r"(?i)connection|credential|found endpoint", line)
        }
        ours = {re.sub(r".*(AWS: .*?)( \[.*)?$", r"\1", line) for line in lines}
        counts.append(len(ours))  # the same line can be printed, too
        assert all(line.startswith("AWS: ") for line in ours), ours
    assert counts == ([1, 1, 0] if deferrable else [1])  # the resumed task sends no call here


def test_an_endpoint_that_cannot_be_cleaned_up_is_in_the_error(
    account: Account, name: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Callbacks and e-mails carry the error, not the log's warnings."""
    denial = {
        "operation": "DeleteEndpoint",
        "resource": f"*{name}*",
        "fault": "error",
        "code": "AccessDeniedException",
    }
    control(account, "POST", "faults", [denial])
    control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
    with pytest.raises(EndpointFailed) as raised:
        run_task(partial(deploy, name, model))
    what, reason, left, do = str(raised.value).split("\n")
    assert what == f"endpoint {name} is Failed with configuration {raised.value.args[0].split()[-1]}"
    assert reason.startswith("Reason: ")
    assert left.startswith(f"Left behind: endpoint {name} (Failed, ml.m5.xlarge {X} 1) ")
    assert "This task created it and could not delete it: sagemaker:DeleteEndpoint" in left
    assert "AccessDeniedException" in left
    assert do.startswith("Do: ")
    assert raised.value.__cause__ is None
    assert account.status(name) == "Failed"


def test_an_endpoint_that_is_still_being_created_is_in_the_error(
    account: Account, name: str, model: str
) -> None:
    with account.settings(endpoint_creating_seconds=3600):
        with pytest.raises(EndpointDeadlineExceeded) as raised:
            run_task(partial(deploy, name, model, max_wait_seconds=0.1, cleanup_on_failure=False))
        assert account.status(name) == "Creating"
    assert f"Left behind: endpoint {name} (Creating, ml.m5.xlarge {X} 1) costs money once" in str(
        raised.value
    )


def test_what_was_cleaned_up_is_not_left_behind(account: Account, name: str, model: str) -> None:
    control(account, "PUT", f"endpoints/{name}/next", {"on": "create", "end": "Failed"})
    with pytest.raises(EndpointFailed) as raised:
        run_task(partial(deploy, name, model))
    assert account.status(name) is None
    assert "Left behind" not in str(raised.value)


def test_a_deletion_that_is_denied_names_the_endpoint_that_stays(
    account: Account, name: str, model: str
) -> None:
    run_task(partial(deploy, name, model))
    denial = {
        "operation": "DeleteEndpoint",
        "resource": f"*{name}*",
        "fault": "error",
        "code": "AccessDeniedException",
    }
    control(account, "POST", "faults", [denial])
    with pytest.raises(AirflowFailException) as raised:
        run_task(partial(_delete, name))
    assert (
        f"Left behind: endpoint {name} (InService, ml.m5.xlarge {X} 1) costs money until it is deleted"
        in (str(raised.value))
    )


def test_a_deletion_says_what_it_deleted_and_what_stays(
    name: str, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    run_task(partial(deploy, name, model))
    caplog.clear()
    run_task(partial(_delete, name))
    log = "\n".join(messages(caplog))
    assert f"deleted: endpoint {name}, endpoint configuration {name}-" in log
    assert f"stays, and costs nothing: model {model}" in log


def _delete(name: str) -> SageMakerDeleteEndpointOperator:
    return SageMakerDeleteEndpointOperator(
        task_id="delete", endpoint_name=name, poll_interval=POLL, aws_conn_id=None
    )


@BOTH
def test_while_creating_the_containers_first_errors_are_shown(
    account: Account,
    name: str,
    model: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    *,
    deferrable: bool,
) -> None:
    monkeypatch.setattr("airflow_sm_plugin.resources.container_start.CHECK_SECONDS", 0.0)
    logs, group = boto3.client("logs"), f"/aws/sagemaker/Endpoints/{name}"
    make = partial(deploy, name, model, deferrable=deferrable, max_wait_seconds=3, cleanup_on_failure=False)
    logs.create_log_group(logGroupName=group)

    def crash(*_: object) -> None:
        logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-1")
        now = int(time.time() * 1000) + 60_000  # later than what the endpoint's own container logs
        events: Any = [
            {"timestamp": now, "message": text} for text in ("Loading", "ImportError: torchx", "giving up")
        ]
        logs.put_log_events(logGroupName=group, logStreamName="AllTraffic/i-1", logEvents=events)

    with account.settings(endpoint_creating_seconds=3600), monkeypatch.context() as patched:
        patched.setattr("airflow_sm_plugin.endpoints.cleanup.CreatedByTask.endpoint_created", crash)
        with pytest.raises(EndpointDeadlineExceeded):
            run_task(make)
    (report,) = [record for record in caplog.records if "its container reports errors" in record.getMessage()]
    assert report.levelno == logging.WARNING
    assert report.getMessage().split("\n")[1:] == ["ImportError: torchx", "giving up"]


def test_without_the_permission_for_logs_the_wait_goes_on(
    account: Account,
    name: str,
    model: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("airflow_sm_plugin.resources.container_start.CHECK_SECONDS", 0.0)
    with (
        account.settings(endpoint_creating_seconds=1),
        answering(Answer(400, "AccessDeniedException", "not authorized")) as (url, asked),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        run_task(partial(deploy, name, model))
    assert len(asked) == 1
    hints = [
        record for record in caplog.records if "log while it is Creating is not shown" in record.getMessage()
    ]
    assert [hint.levelno for hint in hints] == [logging.INFO]
