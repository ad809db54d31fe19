"""InvokeEndpointAsync that is waited for, and tried more than once: what comes back, what fails, what is logged."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import (
    AsyncInferenceFailed,
    AsyncInferenceTimedOut,
    EndpointNotFound,
    InvalidRequest,
    QueueNotFound,
    ServiceUnavailable,
)
from airflow_sm_plugin.hooks.runtime import SageMakerRuntimeHook
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
from tests.async_inference.batch.async_batches import calls, invocations_of
from tests.releases import once
from tests.support import (
    BLOCKING,
    FAILING,
    POLL,
    REGION,
    Account,
    Answer,
    Requests,
    TaskInstanceDouble,
    answering,
    context_for,
    deferred,
    event_of,
    rebuilt,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

ATTRIBUTES = "trace-id=4711-secret"
ROW = "1,2,3"


def invoke(endpoint: str, **arguments: Any) -> SageMakerInvokeEndpointAsyncOperator:  # noqa: ANN401 - the operator's own
    defaults: dict[str, Any] = {"poll_interval": POLL, "aws_conn_id": None}
    return SageMakerInvokeEndpointAsyncOperator(
        task_id="invoke", endpoint_name=endpoint, **defaults | arguments
    )


@pytest.fixture(params=["blocking", "deferrable"])
def run(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Run an invocation to its end, waiting in the worker or in the triggerer."""

    def to_its_end(endpoint: str, ti: TaskInstanceDouble | None = None, **arguments: Any) -> Any:  # noqa: ANN401 - the operator's own
        waits = {"wait_for_completion": True, "deferrable": request.param == "deferrable"}
        return run_task(partial(invoke, endpoint, **waits | arguments), context_for(ti))

    return to_its_end


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(asynchronous=True)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def failing(module_account: Account) -> Iterator[str]:
    """An endpoint whose container has failed before, and whose words have reached CloudWatch Logs."""
    name = module_account.deploy(FAILING, asynchronous=True)
    module_account.runtime.invoke_endpoint_async(EndpointName=name, InputLocation=module_account.upload(ROW))
    wait_for_log(module_account, name, "this handler always fails")
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


def wait_for_log(account: Account, endpoint: str, words: str) -> None:
    """Wait until words of a container are in CloudWatch Logs, where they come a little later."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
    logs = boto3.client("logs", endpoint_url=account.url, **keys)  # type: ignore[call-overload] # plain texts
    group, give_up = f"/aws/sagemaker/Endpoints/{endpoint}", time.monotonic() + 600
    while time.monotonic() < give_up:
        try:
            events = logs.filter_log_events(logGroupName=group)["events"]
        except logs.exceptions.ResourceNotFoundException:
            events = []
        if any(f"ValueError: {words}" in event["message"] for event in events):
            return
        time.sleep(POLL)
    raise AssertionError(f"{words!r} did not reach {group}")


def checked_in(account: Account, endpoint: str, times: int) -> bool:
    """Say whether a wait for the endpoint's only invocation has asked so often whether the endpoint is still there."""
    accepted = [call for call in calls(account, "InvokeEndpointAsync", resource=endpoint) if call["effect"]]
    return bool(accepted) and times <= len(
        calls(account, "DescribeEndpoint", since=accepted[0]["sequence"], resource=endpoint)
    )


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return what was logged so far: Airflow 3's task logger writes to stdout, Airflow 2's through logging."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capfd.readouterr())


NO_HEADER_CARRIES = {
    "another alphabet": "in/ársreikningur.csv",
    "a space at its end": "in/trailing ",
    "a line break": "in/a\nb.csv",
    "a carriage return": "in/a\rb.csv",
    "a tab": "in/a\tb.csv",
    "a control character": "in/a\x7fb.csv",
    "a line separator": "in/a\u2028b.csv",
}
ODD = ["%2F", "?", "#", "+", "a//b", "./a", "../a", "a b", " a", "a'b\"", "a=b&c;d", "{}", "\\"]


class TestKeys:
    @pytest.mark.parametrize("key", NO_HEADER_CARRIES.values(), ids=NO_HEADER_CARRIES)
    def test_a_key_that_no_header_carries_is_refused_before_anything_is_sent(
        self, account: Account, endpoint: str, requests: Requests, key: str
    ) -> None:
        location = account.upload(ROW, key)
        requests.forget()
        with pytest.raises(AirflowFailException, match=r"InvalidRequest: input_location .* cannot be sent"):
            run_task(partial(invoke, endpoint, input_location=location), context_for(None))
        with pytest.raises(AirflowFailException, match=r"InvalidRequest: .* upload_prefix .* cannot be sent"):
            run_task(
                partial(invoke, endpoint, body=ROW, upload_prefix=location.replace("trailing ", "é")),
                context_for(None),
            )
        with pytest.raises(InvalidRequest, match="cannot be sent"):
            SageMakerRuntimeHook(aws_conn_id=None).invoke_endpoint_async(
                AsyncRequest(endpoint_name=endpoint, input_location=location)
            )
        assert not requests.count()

    def test_any_other_key_is_sent_as_it_is(self, account: Account, endpoint: str) -> None:
        """The model gets the very object: nothing in a key is decoded, normalised or cut."""
        folder = unique("in")
        for key in ODD:
            location = account.upload(key, f"{folder}/{key}.csv")
            result = run_task(
                partial(
                    invoke,
                    endpoint,
                    input_location=location,
                    wait_for_completion=True,
                    deferrable=False,
                    return_output=True,
                ),
                context_for(TaskInstanceDouble(task_id=unique("t"))),
            )
            assert (result["output"], result["input_location"]) == (key, location)


class TestWaiting:
    def test_it_returns_the_output_where_asked(self, endpoint: str, run: Callable[..., Any]) -> None:
        result = run(endpoint, body=ROW, return_output=True)
        assert result["output"] == ROW
        assert json.loads(json.dumps(result)) == result
        assert set(result) == {
            "output_location",
            "failure_location",
            "inference_id",
            "input_location",
            "submitted_at",
            "endpoint_name",
            "output",
        }

    def test_a_payload_stays_off_xcom_unless_it_is_asked_for(
        self, account: Account, endpoint: str, run: Callable[..., Any]
    ) -> None:
        result = run(endpoint, body=ROW)
        assert result["output"] is None
        assert account.read(result["output_location"]) == ROW.encode()

    @pytest.mark.parametrize(("body", "limit"), [(ROW, 4), (b"\xff\xfe", 100)])
    def test_what_cannot_go_on_xcom_stays_in_s3(
        self, endpoint: str, run: Callable[..., Any], logged: Callable[[], str], body: str | bytes, limit: int
    ) -> None:
        result = run(endpoint, body=body, return_output=True, return_output_limit=limit)
        assert result["output"] is None
        log_text = logged()
        assert f"no UTF-8 text or larger than return_output_limit ({limit} bytes)" in log_text
        assert f"read {result['output_location']}" in log_text

    def test_an_output_of_the_limit_goes_there(self, endpoint: str, run: Callable[..., Any]) -> None:
        assert run(endpoint, body=ROW, return_output=True, return_output_limit=len(ROW))["output"] == ROW

    def test_a_failed_inference_says_what_the_model_said_and_shows_its_log(
        self, failing: str, run: Callable[..., Any], logged: Callable[[], str]
    ) -> None:
        with pytest.raises(AirflowFailException) as caught:
            run(failing, body=ROW, inference_id="an-id")
        assert isinstance(caught.value.__context__, AsyncInferenceFailed)
        text = str(caught.value)
        assert f"inference an-id of endpoint {failing} failed; input inline, failure object s3://" in text
        assert "\nReason: " in text
        assert "this handler always fails" in text
        assert "\nDo: correct the input, its content_type or the model" in text
        log_text = logged()
        assert f"last lines of /aws/sagemaker/Endpoints/{failing}" in log_text
        assert "ValueError: this handler always fails" in log_text

    def test_failure_texts_and_logs_can_be_switched_off(
        self, failing: str, run: Callable[..., Any], logged: Callable[[], str]
    ) -> None:
        with pytest.raises(AirflowFailException) as caught:
            run(failing, body=ROW, failure_text_limit=0, container_log_lines=0)
        assert "this handler always fails" not in str(caught.value) + logged()
        assert "see its failure object" in str(caught.value)

    def test_no_result_in_time_is_reported_and_may_be_retried(
        self, account: Account, gate: Path, run: Callable[..., Any]
    ) -> None:
        name = account.deploy(BLOCKING, asynchronous=True)
        with pytest.raises(AsyncInferenceTimedOut) as caught:
            run(name, body=str(gate), max_wait_seconds="0.5")
        assert f"of endpoint {name} had neither output nor failure object 0.5 s after it was sent" in str(
            caught.value
        )
        assert "it may still come up to 22500 s after it was sent" in str(caught.value)
        assert "raise max_wait_seconds, or clear the task later" in str(caught.value)
        gate.touch()
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_an_endpoint_deleted_meanwhile_is_no_time_out(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, gate: Path, run: Callable[..., Any]
    ) -> None:
        name = account.deploy(BLOCKING, asynchronous=True)
        wait = AsyncInferenceTrigger.run

        def delete() -> None:
            account.sagemaker.delete_endpoint(EndpointName=name)
            account.wait_for_endpoint(name, "endpoint_deleted")

        async def wait_for_the_deleted(trigger: AsyncInferenceTrigger) -> AsyncIterator[Any]:
            await asyncio.to_thread(delete)
            async for event in wait(trigger):
                yield event

        monkeypatch.setattr(AsyncInferenceTrigger, "run", wait_for_the_deleted)
        with pytest.raises(AirflowFailException) as caught:
            run(name, body=str(gate), max_wait_seconds=0.5)
        gate.touch()
        assert isinstance(caught.value.__context__, EndpointNotFound)
        assert f"endpoint {name} was deleted while inference" in str(caught.value)

    def test_a_deletion_is_noticed_long_before_the_deadline_and_what_is_deployed_again_gets_the_input_again(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, gate: Path, run: Callable[..., Any]
    ) -> None:
        monkeypatch.setattr("airflow_sm_plugin.operators.invoke_async.CHECK_IN_SECONDS", 0.2)
        name = account.deploy(BLOCKING, asynchronous=True)
        state, run_id = f"s3://{account.bucket}/{unique('state')}", unique("run")

        def run_try(number: int) -> Any:  # noqa: ANN401 - the operator's own
            ti = TaskInstanceDouble(run_id=run_id, try_number=number)
            return run(
                name, ti, body=str(gate), state_prefix=state, return_output=True, max_wait_seconds=3600
            )

        with (
            once(
                lambda: checked_in(account, name, 2),
                partial(account.sagemaker.delete_endpoint, EndpointName=name),
            ),
            pytest.raises(AirflowFailException, match=r"EndpointNotFound: endpoint .* was deleted while"),
        ):
            run_try(1)
        assert invocations_of(account, name) == 1
        account.wait_for_endpoint(name, "endpoint_deleted")
        account.deploy(BLOCKING, asynchronous=True, name=name)
        gate.touch()
        assert run_try(2)["output"] == "done"
        assert run_try(3)["output"] == "done"
        assert invocations_of(account, name) == 2
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_a_wait_outlives_its_check_ins(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, gate: Path, run: Callable[..., Any]
    ) -> None:
        monkeypatch.setattr("airflow_sm_plugin.operators.invoke_async.CHECK_IN_SECONDS", 0.2)
        name = account.deploy(BLOCKING, asynchronous=True)
        with once(lambda: checked_in(account, name, 2), gate.touch):
            assert run(name, body=str(gate), return_output=True)["output"] == "done"
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_a_bucket_that_does_not_exist_is_named_when_time_is_up(
        self, account: Account, gate: Path, run: Callable[..., Any]
    ) -> None:
        nobodys = f"{unique('nobodys')}-bucket"
        name = unique("endpoint")
        account.sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": account.create_model(BLOCKING),
                    "InstanceType": "ml.m5.large",
                    "InitialInstanceCount": 1,
                }
            ],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{nobodys}/out"}},
        )
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        account.wait_for_endpoint(name)
        with pytest.raises(AsyncInferenceTimedOut, match=f"S3 answers there: .*{nobodys}.*NoSuchBucket"):
            run(name, body=str(gate), max_wait_seconds=0.5)
        gate.touch()
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_a_queue_that_does_not_exist_is_reported_before_anything_is_sent(
        self, account: Account, endpoint: str, run: Callable[..., Any]
    ) -> None:
        before = invocations_of(account, endpoint)
        with pytest.raises(AirflowFailException) as caught:
            run(endpoint, body=ROW, completion_queue=f"{account.url}/123456789012/no-such-queue")
        assert isinstance(caught.value.__context__, QueueNotFound)
        assert invocations_of(account, endpoint) == before

    def test_the_deferral_is_small_holds_no_secret_and_knows_the_longest_regular_wait(
        self, endpoint: str
    ) -> None:
        task = invoke(
            endpoint, body=ROW, custom_attributes=ATTRIBUTES, wait_for_completion=True, deferrable=True
        )
        began = time.time()
        deferral = deferred(task)
        took = time.time() - began
        path, arguments = deferral.trigger.serialize()
        assert path == "airflow_sm_plugin.triggers.async_inference.AsyncInferenceTrigger"
        stored = json.dumps(arguments)
        assert len(stored) < 2_000
        assert ATTRIBUTES not in stored
        assert ROW not in stored
        assert deferral.timeout is not None
        assert 1_800 - took <= deferral.timeout.total_seconds() - 120 <= 1_800, "until the next check-in"
        assert 22_500 <= arguments["note"]["deadline"] - began <= 22_500 + took
        event = event_of(rebuilt(deferral.trigger))
        assert event["status"] == "over"

    def test_times_come_from_templates_as_text(self, endpoint: str) -> None:
        task = invoke(
            endpoint,
            body=ROW,
            request_ttl="{{ 60 }}",
            invocation_timeout="{{ 5 }}",
            wait_for_completion=True,
            deferrable=True,
        )
        context = context_for()
        task.render_template_fields(context)
        began = time.time()
        timeout = deferred(task, context).timeout
        took = time.time() - began
        assert timeout is not None
        assert 65 - took <= timeout.total_seconds() - 120 <= 65

    def test_every_argument_may_come_from_a_template(
        self, account: Account, endpoint: str, run: Callable[..., Any]
    ) -> None:
        """Airflow makes text of all of them: of None the word, which means that nothing is given."""
        result = run(
            f"{{{{ '{endpoint}' }}}}",
            input_location="{{ none }}",
            body="{{ 'x' * 130_000 }}",
            content_type="{{ none }}",
            accept="",
            inference_id="{{ none }}",
            filename="{{ none }}",
            s3_output_path_extension="{{ none }}",
            check_input="{{ false }}",
            state_prefix="{{ none }}",
            upload_prefix=f"{{{{ 's3://{account.bucket}' }}}}/{unique('uploads')}",
            on_unknown="{{ 'resend' }}",
            on_rerun="{{ 'restart' }}",
            wait_for_completion="{{ true }}",
            poll_interval="{{ 0.05 }}",
            max_wait_seconds="{{ 600 }}",
            completion_queue="{{ none }}",
            return_output="{{ true }}",
            return_output_limit="{{ 1_000 }}",
            failure_text_limit="{{ 10 }}",
            container_log_lines="{{ 0 }}",
        )
        assert result["output"] is None, "it is larger than the limit"
        assert result["endpoint_name"] == endpoint
        assert account.read(result["output_location"]) == b"x" * 130_000

    def test_an_output_that_s3_does_not_report_is_polled_again_by_a_retry(
        self, monkeypatch: pytest.MonkeyPatch, endpoint: str
    ) -> None:
        make = partial(invoke, endpoint, body=ROW, wait_for_completion=True, deferrable=True)
        deferral = deferred(make())
        event = event_of(rebuilt(deferral.trigger))
        with answering(Answer(503, "SlowDown")) as (busy, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", busy)
            monkeypatch.setattr("airflow_sm_plugin.async_inference.single.result.MAX_POLLS", 1)
            with pytest.raises(
                ServiceUnavailable, match="S3 does not answer whether the output of inference"
            ):
                make().execute_complete(context_for(), event)


class TestRetries:
    def test_with_state_a_retry_goes_on_waiting_for_the_same_invocation(
        self, account: Account, endpoint: str, requests: Requests, run: Callable[..., Any]
    ) -> None:
        state = f"s3://{account.bucket}/{unique('state')}/"
        run_id = unique("run")
        sent = run_task(
            partial(invoke, endpoint, body=ROW, state_prefix=state),
            context_for(TaskInstanceDouble(run_id=run_id)),
        )
        again = run(
            endpoint,
            TaskInstanceDouble(run_id=run_id, try_number=2),
            body=ROW,
            state_prefix=state,
            return_output=True,
        )
        assert again["output_location"] == sent["output_location"]
        assert again["submitted_at"] == sent["submitted_at"]
        assert again["output"] == ROW
        assert requests.count()[f"/endpoints/{endpoint}/async-invocations"] == 1

    def test_without_state_a_retry_finds_the_output(
        self, endpoint: str, requests: Requests, run: Callable[..., Any], logged: Callable[[], str]
    ) -> None:
        run_id = unique("run")
        sent = run(endpoint, TaskInstanceDouble(run_id=run_id), body=ROW)
        again = run(endpoint, TaskInstanceDouble(run_id=run_id, try_number=2), body=ROW, return_output=True)
        assert again["output_location"] == sent["output_location"]
        assert again["output"] == ROW
        assert requests.count()[f"/endpoints/{endpoint}/async-invocations"] == 1
        assert "is not sent again: its output is there" in logged()

    def test_a_cleared_task_resumes_unless_it_is_to_restart(
        self, account: Account, endpoint: str, requests: Requests
    ) -> None:
        """Airflow raises ``max_tries`` when a task is cleared: the third try is the first since then."""
        state = f"s3://{account.bucket}/{unique('state')}"

        def sent(try_number: int, max_tries: int, on_rerun: str) -> str:
            ti = TaskInstanceDouble(run_id=run_id, try_number=try_number)
            ti.max_tries = max_tries  # type: ignore[attr-defined] # of Airflow's own
            task = invoke(endpoint, body=ROW, state_prefix=state, on_rerun=on_rerun, retries=1)
            return str(task.execute(context_for(ti))["output_location"])

        run_id = unique("run")
        first = sent(1, 1, "resume")
        assert sent(2, 1, "resume") == first
        assert sent(3, 3, "resume") == first
        run_id = unique("run")
        first = sent(1, 1, "restart")
        assert sent(2, 1, "restart") == first
        restarted = sent(3, 3, "restart")
        assert restarted != first
        assert sent(4, 3, "restart") == restarted
        assert requests.count()[f"/endpoints/{endpoint}/async-invocations"] == 3

    def test_a_task_cleared_after_a_failed_inference_sends_again(
        self, account: Account, failing: str, requests: Requests, run: Callable[..., Any]
    ) -> None:
        state, run_id = f"s3://{account.bucket}/{unique('state')}", unique("run")
        for try_number in (1, 2):
            ti = TaskInstanceDouble(run_id=run_id, try_number=try_number)
            with pytest.raises(AirflowFailException, match="AsyncInferenceFailed"):
                run(failing, ti, body=ROW, state_prefix=state)
        assert requests.count()[f"/endpoints/{failing}/async-invocations"] == 2


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ({"on_unknown": "guess"}, "on_unknown must be one of wait, resend, not 'guess'"),
            ({"on_rerun": "skip"}, "on_rerun must be one of resume, restart, not 'skip'"),
            ({"state_prefix": "/tmp/state"}, "state_prefix must look like s3://bucket/key"),  # noqa: S108 - refused
            ({"upload_prefix": "https://b/k"}, "upload_prefix must look like s3://bucket/key"),
            ({"request_ttl": "an hour"}, "request_ttl must be a whole number, 0 or more, not 'an hour'"),
            ({"invocation_timeout": "0"}, "invocation_timeout is 0 s, SageMaker takes 1 to 3600 s"),
            ({"max_wait_seconds": "0"}, "max_wait_seconds must be more than 0 seconds"),
            ({"poll_interval": 0}, "poll_interval must be more than 0 seconds"),
            ({"return_output_limit": 0}, "return_output_limit must be a whole number, 1 or more, not 0"),
            ({"failure_text_limit": -1}, "failure_text_limit must be a whole number, 0 or more, not -1"),
            ({"container_log_lines": -1}, "container_log_lines must be a whole number, 0 or more, not -1"),
            ({"completion_queue": "results"}, "completion_queue must be a queue's URL, https://sqs."),
            ({"completion_queue": "https://sqs"}, "completion_queue must be a queue's URL, https://sqs."),
            ({"return_output": "perhaps"}, "return_output must be true or false, not 'perhaps'"),
            ({"check_input": "perhaps"}, "check_input must be true or false, not 'perhaps'"),
            ({"wait_for_completion": "perhaps"}, "wait_for_completion must be true or false, not 'perhaps'"),
        ],
    )
    def test_it_is_reported_before_any_call(
        self, requests: Requests, arguments: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(AirflowFailException) as caught:
            invoke("endpoint", **{"body": "x"} | arguments).execute(context_for())
        assert isinstance(caught.value.__context__, InvalidRequest)
        assert says in str(caught.value)
        assert not requests.count()

    def test_a_state_that_may_not_be_read_sends_nothing(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, endpoint: str, requests: Requests
    ) -> None:
        with answering(Answer(403, "AccessDenied")) as (forbidding, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", forbidding)
            with pytest.raises(AirflowFailException, match="AccessDenied: s3:ListObjectsV2 s3://"):
                invoke(endpoint, body=ROW, state_prefix=f"s3://{account.bucket}/state").execute(context_for())
        assert not requests.count()
