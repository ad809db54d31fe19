"""Rules of every trigger of ours: it survives a restart, blocks no loop, and ends with exactly one event."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from airflow.triggers.base import BaseTrigger

from airflow_sm_plugin.async_inference.watch import group
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.core.failed_polls import MAX_FAILED_POLLS
from airflow_sm_plugin.exceptions import ServiceUnavailable
from airflow_sm_plugin.invoke.async_request import AsyncInvocation
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from airflow_sm_plugin.triggers.autopilot import AutoMLJobTrigger
from airflow_sm_plugin.triggers.endpoint import EndpointChangeableTrigger, EndpointServingTrigger
from tests.stubs.s3 import QUICK, fixed, statuses, stub_s3, use
from tests.support import Account, Answer, answering, closed_port, event_of, rebuilt, unique
from tests.task_runs import event_from

pytestmark = pytest.mark.airflow

AWS: dict[str, Any] = {
    "aws_conn_id": None,
    "region_name": "us-east-1",
    "verify": None,
    "botocore_config": QUICK,
}
NOTE = {"action": "created", "created": ["endpoint"]}
SOON = 3600.0


def _endpoint(name: str, config: str = "none", *, seconds: float = SOON, **aws: object) -> BaseTrigger:
    return EndpointServingTrigger(
        endpoint_name=name,
        wanted_config=config,
        note=NOTE,
        deadline=time.time() + seconds,
        poll_interval=0.02,
        aws=AWS | aws,
    )


def _changeable(name: str, config: str = "none", *, seconds: float = SOON, **aws: object) -> BaseTrigger:
    return EndpointChangeableTrigger(
        endpoint_name=name,
        wanted_config=config,
        note=NOTE,
        deadline=time.time() + seconds,
        poll_interval=0.02,
        aws=AWS | aws,
    )


def _job(name: str, *, seconds: float = SOON, **aws: object) -> BaseTrigger:
    return AutoMLJobTrigger(job_name=name, deadline=time.time() + seconds, poll_interval=0.02, aws=AWS | aws)


def _results(*names: str, seconds: float = SOON, **aws: object) -> BaseTrigger:
    invocations = [AsyncInvocation(f"s3://results/{name}", f"s3://failures/{name}") for name in names]
    watch, _ = group(invocations, [time.time() + seconds] * len(names))
    return AsyncInferenceTrigger(
        watch=watch.as_mapping(),
        deadline=time.time() + seconds,
        poll_interval=0.02,
        note=NOTE,
        aws=AWS | aws,
    )


ALL = {
    "endpoint": _endpoint("absent"),
    "changeable": _changeable("absent"),
    "job": _job("absent"),
    "results": _results("one", "two"),
}


@pytest.mark.parametrize("trigger", ALL.values(), ids=ALL)
def test_a_trigger_is_its_class_path_and_json_arguments(trigger: BaseTrigger) -> None:
    """Both are stored in Airflow's database: they are public API."""
    path, arguments = trigger.serialize()
    assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
    assert json.loads(json.dumps(arguments)) == arguments
    assert rebuilt(trigger).serialize() == (path, arguments)


@pytest.mark.parametrize("trigger", ALL.values(), ids=ALL)
def test_its_arguments_hold_no_credentials(trigger: BaseTrigger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    assert "planted-secret" not in json.dumps(trigger.serialize()[1])


@pytest.mark.parametrize("make", [_endpoint, _changeable, _job, _results])
def test_a_client_that_cannot_be_created_is_one_event(make: Any) -> None:  # noqa: ANN401 - one of the three above
    event = event_of(make("absent", botocore_config={"no_such_option": 1}))
    assert event["status"] == "error"
    assert "no_such_option" in event["message"]


@pytest.mark.parametrize(("make", "error"), [(_endpoint, "EndpointNotFound"), (_job, "RequestRefused")])
def test_what_no_retry_mends_ends_the_wait_at_once_and_by_name(make: Any, error: str, aws: str) -> None:  # noqa: ANN401 - as above
    event = event_of(rebuilt(make("absent")))
    assert (event["status"], event["error"]) == ("error", error)
    assert "absent" in event["message"]


def test_missing_credentials_are_tolerated_for_some_polls_and_then_reported_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, closed_port())
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for make in (_endpoint, _changeable, _job):
        event = event_of(make("absent"))
        assert event["error"] == ServiceUnavailable.__name__
        assert f"{MAX_FAILED_POLLS + 1} failed polls in a row" in event["message"]
        assert (
            "AWS credentials could not be fetched\nReason: Unable to locate credentials" in event["message"]
        )
    assert event_of(_results("absent"))["why"] == "unreachable"


@pytest.mark.parametrize("make", [_endpoint, _changeable, _job])
def test_a_closed_port_is_tolerated_for_some_polls_and_then_one_event(
    make: Any,  # noqa: ANN401 - as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    no_server = closed_port()
    use(monkeypatch, no_server)
    event = event_of(make("absent"))
    assert event["error"] == ServiceUnavailable.__name__
    assert f"{MAX_FAILED_POLLS + 1} failed polls in a row" in event["message"]
    assert no_server in event["message"]


@pytest.mark.parametrize("make", [_endpoint, _changeable, _job])
def test_an_outage_does_not_outlive_the_deadline(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401 - as above
    use(monkeypatch, closed_port())
    event = event_of(make("absent", seconds=-1))
    assert "1 failed poll in a row" in event["message"]


def test_a_wait_survives_a_restart_of_the_triggerer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that is stopped emits nothing; one that is created again from the database goes on."""
    stopped = _results("one")

    async def stop_at_the_first_poll() -> list[Any]:
        asked, events = asyncio.Event(), []
        loop = asyncio.get_running_loop()

        def answer(_: str) -> int:
            loop.call_soon_threadsafe(asked.set)
            return 404

        async def collect() -> None:
            events.extend([event async for event in stopped.run()])

        s3.answer = answer
        running = asyncio.create_task(collect())
        await asyncio.wait_for(asked.wait(), timeout=600)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return events

    with stub_s3(fixed({})) as s3:
        use(monkeypatch, s3.url)
        assert asyncio.run(stop_at_the_first_poll()) == []
        s3.answer = lambda _: b""
        event = event_of(rebuilt(stopped))
    assert (event["why"], event["counts"]["succeeded"], event["note"]) == ("complete", 1, NOTE)


def test_an_outage_is_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_s3(statuses(503, 503, 503, then=b"")) as s3:
        use(monkeypatch, s3.url)
        assert event_of(rebuilt(_results("one")))["why"] == "complete"


def test_slow_answers_do_not_block_the_triggerers_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop is shared by every trigger: it must run while S3 has not answered."""
    ran: list[bool] = []

    async def watched() -> list[Any]:
        loop = asyncio.get_running_loop()

        def answer_when_the_loop_has_ran(_: str) -> bytes:
            iteration = threading.Event()
            loop.call_soon_threadsafe(iteration.set)
            ran.append(iteration.wait(timeout=600))
            return b""

        s3.answer = answer_when_the_loop_has_ran
        return [event.payload async for event in _results("one", "two").run()]

    with stub_s3(fixed({})) as s3:
        use(monkeypatch, s3.url)
        (event,) = asyncio.run(watched())
    assert event["why"] == "complete"
    assert ran == [True, True]


def test_a_client_that_is_being_created_when_its_trigger_is_killed_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is created in a thread, which goes on; thrown away, it would leave a coroutine that nothing awaits."""
    steps: list[str] = []

    @asynccontextmanager
    async def client() -> AsyncIterator[None]:
        steps.append("opened")
        try:
            yield
        finally:
            steps.append("closed")

    async def run() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def making(_: AwsHook) -> object:
            begun.set()
            await may_end.wait()
            return client()

        monkeypatch.setattr(AwsHook, "get_async_conn", making)
        running = asyncio.ensure_future(event_from(_job("job")))
        await begun.wait()
        running.cancel()
        asyncio.get_running_loop().call_soon(may_end.set)
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()

    asyncio.run(run())
    assert steps == ["opened", "closed"]


@dataclass(frozen=True)
class Job(Answer):
    """A description of a job that has ended."""

    def body(self, *, xml: bool) -> bytes:  # noqa: ARG002 - the base's
        return json.dumps({"AutoMLJobName": "job", "AutoMLJobStatus": "Completed"}).encode()


DENIED = Answer(400, "AccessDeniedException", "not authorized")


@pytest.mark.parametrize(
    ("answers", "event"),
    [
        ([DENIED, Job(200, "")], {"status": "over"}),
        ([DENIED, Answer(400, "ThrottlingException"), DENIED, Job(200, "")], {"status": "over"}),
        ([DENIED, DENIED], {"status": "error", "error": "AccessDenied"}),
    ],
    ids=["permitted", "throttled", "neither"],
)
def test_the_first_version_of_a_job_is_asked_for_only_where_the_second_is_not_permitted(
    monkeypatch: pytest.MonkeyPatch, answers: list[Answer], event: dict[str, str]
) -> None:
    with answering(*answers) as (address, asked):
        use(monkeypatch, address)
        seen = event_of(rebuilt(_job("job")))
    assert seen == event | ({"message": seen["message"]} if "message" in seen else {})
    versions = ["SageMaker.DescribeAutoMLJobV2", "SageMaker.DescribeAutoMLJob"]
    assert asked == versions * (len(answers) // 2)


def test_a_job_that_does_not_end_is_left_to_the_task(account: Account) -> None:
    job, role = unique("job"), "arn:aws:iam::123456789012:role/sagemaker"
    data = account.upload("a,label\n" + "".join(f"{n},{n % 2}\n" for n in range(100)))
    with account.settings(automl_seconds=3600):
        account.sagemaker.create_auto_ml_job_v2(
            AutoMLJobName=job,
            RoleArn=role,
            AutoMLJobInputDataConfig=[
                {
                    "ChannelType": "training",
                    "ContentType": "text/csv;header=present",
                    "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
                }
            ],
            OutputDataConfig={"S3OutputPath": f"s3://{account.bucket}/automl"},
            AutoMLProblemTypeConfig={"TabularJobConfig": {"TargetAttributeName": "label"}},
        )
        assert event_of(rebuilt(_job(job, seconds=0.2))) == {"status": "over"}
        account.sagemaker.stop_auto_ml_job(AutoMLJobName=job)
        assert event_of(rebuilt(_job(job))) == {"status": "over"}
