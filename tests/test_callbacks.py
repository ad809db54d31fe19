"""Why a transform job failed, logged by a callback of the provider's own operator; never an error of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import SageMakerTransformOperator

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.callbacks import TransformJobLogs
from tests.support import (
    ECHO,
    FAILING,
    Account,
    Answer,
    Requests,
    TaskDeferred,
    TaskInstanceDouble,
    answering,
    closed_port,
    context_for,
    event_of,
    rebuilt,
    unique,
)

pytestmark = pytest.mark.airflow

Logged = Callable[[], str]
BOTH = pytest.mark.parametrize("deferrable", [False, True], ids=["blocking", "deferrable"])
GROUP = "/aws/sagemaker/TransformJobs"


@dataclass
class Instance(TaskInstanceDouble):
    """A task instance that reads its XComs, too, and knows when its try began."""

    start_date: datetime | None = None

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> object:
        """Return what it has pushed."""
        if (task_ids, map_indexes) != (self.task_id, self.map_index):
            raise AssertionError("it is its own XComs that are asked for")
        return self.xcom.get(key)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Logged:
    """All logged text, whichever way this Airflow's loggers go."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capsys.readouterr())


@pytest.fixture
def job(account: Account) -> str:
    """A free job name, whose input is in S3."""
    name = unique("job")
    account.upload("1,2\n", f"{name}/in/a.csv")
    return name


def transform(account: Account, job: str, code: str, **arguments: Any) -> SageMakerTransformOperator:  # noqa: ANN401 - the operator's own
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{account.bucket}/{job}/in"}}
    config: dict[str, Any] = {
        "TransformJobName": job,
        "ModelName": account.create_model(code),
        "TransformInput": {"DataSource": source},
        "TransformOutput": {"S3OutputPath": f"s3://{account.bucket}/{job}/out"},
        "TransformResources": {"InstanceCount": 1, "InstanceType": "ml.m5.large"},
        "ModelClientConfig": {"InvocationsMaxRetries": 0},
    }
    usual: dict[str, Any] = {"deferrable": False, "check_interval": 1, "aws_conn_id": None}
    return SageMakerTransformOperator(task_id="a_task", config=config, **usual | arguments)


def context_of(operator: SageMakerTransformOperator, ti: TaskInstanceDouble) -> Context:
    context = context_for(ti)
    context["task"] = operator
    return context


def run(
    make: Callable[[], SageMakerTransformOperator],
    callback: TransformJobLogs,
    *,
    when_deferred: Callable[[], object] = lambda: None,
) -> Exception | None:
    """Run a task as Airflow does: made again after a deferral, and its callback called when it failed."""
    ti = Instance()
    operator = make()
    try:
        try:
            operator.execute(context_of(operator, ti))
        except TaskDeferred as deferral:
            when_deferred()
            operator = make()
            event = event_of(rebuilt(deferral.trigger))
            getattr(operator, deferral.method_name)(context_of(operator, ti), event=event)
    except Exception as error:  # noqa: BLE001 - the provider's errors differ by version
        callback(context_of(operator, ti))
        return error
    return None


@BOTH
def test_the_last_lines_of_the_job_that_failed_stand_in_the_log(
    account: Account, job: str, logged: Logged, deferrable: bool
) -> None:
    """Not those of the job that had the name before, which made the operator take another."""
    run(lambda: transform(account, job, ECHO), TransformJobLogs())
    ended = partial(account.change_settings, transform_seconds=0)
    with account.settings(transform_seconds=3600 if deferrable else 0):  # or it ends before it defers
        failing = partial(transform, account, job, FAILING, deferrable=deferrable)
        assert run(failing, TransformJobLogs(lines=4), when_deferred=ended)
    text = logged()
    assert f"transform job {job}-1" in text
    assert "is Failed: AlgorithmError: See job logs for more information" in text
    assert f"last lines of {GROUP} {job}-1" in text
    assert "ValueError: this handler always fails" in text
    assert f"last lines of {GROUP} {job}/" not in text


def test_no_lines_cost_no_call(account: Account, job: str, requests: Requests) -> None:
    operator = transform(account, job, FAILING)
    requests.forget()
    TransformJobLogs(lines=0)(context_of(operator, Instance()))
    assert requests.count() == {}
    TransformJobLogs(lines=1)(context_of(operator, Instance()))
    assert requests.count() == {"DescribeTransformJob": 1}


def test_a_job_from_before_this_try_is_not_taken_for_its_own(
    account: Account, job: str, logged: Logged
) -> None:
    """A task that fails before it creates its job has the name in mind that an earlier try's job has."""
    assert run(lambda: transform(account, job, FAILING), TransformJobLogs(lines=0))
    later = Instance(start_date=datetime.now(UTC) + timedelta(hours=1))
    TransformJobLogs()(context_of(transform(account, job, FAILING), later))
    assert f"no logs of a transform job here: {job} is there from before this try" in logged()


def test_a_job_that_completed_explains_nothing(account: Account, job: str, logged: Logged) -> None:
    assert run(lambda: transform(account, job, ECHO), TransformJobLogs()) is None
    TransformJobLogs()(context_of(transform(account, job, ECHO), Instance()))
    text = logged()
    assert f"no logs of a transform job here: {job} is Completed" in text
    assert "last lines of" not in text


def test_a_task_that_created_no_job_says_so(account: Account, job: str, logged: Logged) -> None:
    TransformJobLogs()(context_of(transform(account, job, ECHO), Instance()))
    assert (
        f"sagemaker:DescribeTransformJob {job}: AWS answered with an error. Reason: ValidationException"
        in logged()
    )


def test_a_task_of_another_kind_says_so(logged: Logged) -> None:
    operator = SageMakerTransformOperator(task_id="a_task", config={"TrainingJobName": "x"})
    TransformJobLogs()(context_of(operator, Instance()))
    assert "no logs of a transform job here: task a_task runs none" in logged()


def test_without_permission_one_line_says_which(
    account: Account, job: str, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    with answering(Answer(400, "AccessDeniedException", "not authorized")) as (url, _):
        monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", url)
        assert run(lambda: transform(account, job, FAILING), TransformJobLogs())
    text = logged()
    assert "is Failed: AlgorithmError" in text
    assert "Allow logs:DescribeLogStreams and logs:GetLogEvents" in text


def test_it_uses_the_tasks_own_arguments(account: Account, job: str, logged: Logged) -> None:
    """There is no such job in the other region."""
    assert run(lambda: transform(account, job, FAILING), TransformJobLogs(lines=0))
    elsewhere = transform(account, job, FAILING, region_name="eu-west-1")
    TransformJobLogs()(context_of(elsewhere, Instance()))
    assert (
        f"sagemaker:DescribeTransformJob {job}: AWS answered with an error. Reason: ValidationException"
        in logged()
    )


def test_whatever_goes_wrong_it_raises_nothing(
    account: Account, job: str, monkeypatch: pytest.MonkeyPatch, logged: Logged
) -> None:
    once = {"retries": {"total_max_attempts": 1}}
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", closed_port())
    operator = transform(account, job, ECHO, botocore_config=once)
    TransformJobLogs()(context_of(operator, Instance()))
    assert "the service did not answer" in logged()
    TransformJobLogs()(context_of(transform(account, job, ECHO, aws_conn_id="no such one"), Instance()))
    TransformJobLogs()(context_for())
    assert logged().count("the logs of the transform job could not be read") >= 1
