"""InvokeEndpoint in real time: what goes in and comes out, where it is kept, what is retried, what stays secret."""

from __future__ import annotations

import inspect
import itertools
import json
import logging
import random
import threading
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import (
    EndpointNotInService,
    ModelLoadTimeout,
    ModelUnavailable,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointOperator
from tests.endpoint_trials import call_log
from tests.support import (
    REGION,
    Account,
    Answer,
    Requests,
    TaskInstanceDouble,
    answering,
    closed_port,
    context_for,
    run_task,
)

pytestmark = pytest.mark.airflow

ATTRIBUTES = "trace-id=4711-secret; team=churn"
BODY = "payload-no-one-may-read,1,2"
CONTAINER_LINE = "the container says why"

HANDLER = """
import json

def model_fn(model_dir):
    return "recording"

def transform_fn(model, data, content_type, accept, context):
    text = data.decode("latin-1") if isinstance(data, bytes) else data
    if text.startswith("status "):
        error = ValueError("raised-by-the-container " + "x" * 2000)
        error.status_code = int(text.split()[1])
        print("the container says why", flush=True)
        raise error
    if text.startswith("bytes "):
        return b"\\xff" * int(text.split()[1]), "application/octet-stream"
    attributes = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    if attributes:
        context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "answered " + attributes)
    return json.dumps({"data": text, "content_type": content_type, "accept": accept}), "application/json"
"""
"""It answers with its request, answers so many bytes that are no text, or fails with a status."""


def invoke(endpoint: str, **arguments: Any) -> SageMakerInvokeEndpointOperator:  # noqa: ANN401 - the operator's own
    return SageMakerInvokeEndpointOperator(
        task_id="invoke",
        endpoint_name=endpoint,
        **{"aws_conn_id": None, "content_type": "text/csv"} | arguments,
    )


def run(endpoint: str, **arguments: Any) -> dict[str, Any]:  # noqa: ANN401 - the operator's own
    result: dict[str, Any] = run_task(partial(invoke, endpoint, **arguments))
    return result


def refusal(endpoint: str, **arguments: Any) -> AirflowFailException:  # noqa: ANN401 - the operator's own
    with pytest.raises(AirflowFailException) as caught:
        run(endpoint, **arguments)
    return caught.value


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are full-jitter: dice that always show nothing make them nothing."""
    monkeypatch.setattr(random, "random", lambda: 0.0)


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(HANDLER)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


Faults = Callable[..., None]


@pytest.fixture
def faults(account: Account, endpoint: str) -> Iterator[Faults]:
    """Have the next invocations of this module's endpoint fare badly."""

    def change(method: str, rules: object = None) -> None:
        body = None if rules is None else json.dumps(rules).encode()
        request = urllib.request.Request(f"{account.url}/_embedded/faults", data=body, method=method)
        urllib.request.urlopen(request, timeout=600).close()

    def plan(*rules: Mapping[str, object]) -> None:
        change("PUT", [{"operation": "InvokeEndpoint", "resource": endpoint, **rule} for rule in rules])

    yield plan
    change("DELETE")


@pytest.fixture
def calls(account: Account, endpoint: str) -> Callable[[], list[dict[str, Any]]]:
    """The invocations of this module's endpoint since the test began."""
    since = call_log(account, operation="-")["sequence"]

    def requests() -> list[dict[str, Any]]:
        log: Any = call_log(account, since=since, operation="InvokeEndpoint")["calls"]
        return [call for call in log if call["resource"] == endpoint]

    return requests


class TestWhatGoesInAndOut:
    def test_a_body_is_answered_and_the_answer_is_kept_only_where_asked(self, endpoint: str) -> None:
        assert run(endpoint, body="1,2") == {
            "endpoint_name": endpoint,
            "output_location": None,
            "output": None,
            "content_type": "application/json",
            "invoked_production_variant": "AllTraffic",
            "custom_attributes": None,
            "attempts": 1,
            "new_session_id": None,
            "closed_session_id": None,
        }

    @pytest.mark.parametrize("body", ["1,2", b"1,2", "{{ params.row }}"])
    def test_a_body_may_be_text_bytes_or_rendered_from_another_tasks_xcom(
        self, endpoint: str, body: str | bytes
    ) -> None:
        context = context_for()
        context["params"] = {"row": "1,2"}
        result = run_task(
            partial(invoke, endpoint, body=body, accept="application/json", return_output=True), context
        )
        assert json.loads(result["output"]) == {
            "data": "1,2",
            "content_type": "text/csv",
            "accept": "application/json",
        }

    def test_a_body_may_lie_in_s3_and_the_answer_go_there(self, account: Account, endpoint: str) -> None:
        output = f"s3://{account.bucket}/answers/one.json"
        result = run(endpoint, body_location=account.upload("7,8"), output_location=output)
        assert (result["output_location"], result["output"]) == (output, None)
        assert json.loads(account.read(output))["data"] == "7,8"
        bucket, _, key = output.removeprefix("s3://").partition("/")
        assert account.s3.head_object(Bucket=bucket, Key=key)["ContentType"] == "application/json"

    def test_custom_attributes_go_both_ways_and_onto_xcom_only_where_asked(self, endpoint: str) -> None:
        asked = {"body": "1", "custom_attributes": ATTRIBUTES}
        assert run(endpoint, **asked)["custom_attributes"] is None
        result = run(endpoint, **asked, return_custom_attributes=True)
        assert result["custom_attributes"] == f"answered {ATTRIBUTES}"
        assert run(endpoint, body="1", return_custom_attributes=True)["custom_attributes"] is None

    def test_every_header_is_sent_and_every_header_of_the_answer_is_read(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _recording() as (url, seen):
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", closed_port())  # there is nothing to describe
            result = run(
                "anywhere",
                body="1",
                accept="application/json",
                custom_attributes="Trace ID: 1",
                target_model="a/shop-1.tar.gz",
                target_variant="blue",
                target_container_hostname="second",
                inference_id="an id of mine",
                enable_explanations="`[0]`",
                inference_component_name="a-component",
                session_id="NEW_SESSION",
                return_custom_attributes=True,
                return_output=True,
            )
        (headers,) = seen
        sent = {
            name.lower().removeprefix("x-amzn-sagemaker-"): value
            for name, value in headers.items()
            if name.lower().startswith(("x-amzn-sagemaker-", "accept", "content-type"))
        }
        sent.pop("accept-encoding", None)
        assert sent == {
            "content-type": "text/csv",
            "accept": "application/json",
            "custom-attributes": "Trace ID: 1",
            "target-model": "a/shop-1.tar.gz",
            "target-variant": "blue",
            "target-container-hostname": "second",
            "inference-id": "an id of mine",
            "enable-explanations": "`[0]`",
            "inference-component": "a-component",
            "session-id": "NEW_SESSION",
        }
        assert result == {
            "endpoint_name": "anywhere",
            "output_location": None,
            "output": "answer",
            "content_type": "text/plain",
            "invoked_production_variant": "green",
            "custom_attributes": "from the model",
            "attempts": 1,
            "new_session_id": "s1; Expires=2026-01-01T00:00:00Z",
            "closed_session_id": "s0",
        }

    def test_a_prefix_aware_id_is_sent_or_refused_where_botocore_is_too_old(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = boto3.Session().client("sagemaker-runtime", region_name=REGION).meta.service_model
        shape = model.operation_model("InvokeEndpoint").input_shape
        assert shape is not None
        with _recording() as (url, seen):
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            if "PrefixAwareId" in shape.members:
                run("anywhere", body="1", prefix_aware_id="p1")
                assert seen[0]["X-Amzn-SageMaker-Prefix-Aware-Id"] == "p1"
            else:
                assert "does not know PrefixAwareId" in str(
                    refusal("anywhere", body="1", prefix_aware_id="p1")
                )
                assert seen == []

    def test_a_retry_of_the_task_sends_the_same_inference_id_and_another_task_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with _recording() as (url, seen):
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", url)
            for ti in (
                TaskInstanceDouble(try_number=1),
                TaskInstanceDouble(try_number=2),
                TaskInstanceDouble(map_index=3),
            ):
                run_task(partial(invoke, "anywhere", body="1"), context_for(ti))
        first, second, other = [headers["X-Amzn-SageMaker-Inference-Id"] for headers in seen]
        assert first == second != other


class TestTemplates:
    def test_nothing_secret_goes_onto_xcom_where_a_template_says_no(self, endpoint: str) -> None:
        """The text "False" is true to Python: the answer is a secret that no argument asked for."""
        context = context_for()
        context["params"] = {"keep": False}
        keep = dict.fromkeys(("return_output", "return_custom_attributes"), "{{ params.keep }}")
        asked = partial(invoke, endpoint, body="1", custom_attributes=ATTRIBUTES, **keep)
        result = run_task(asked, context)
        assert (result["output"], result["custom_attributes"]) == (None, None)
        context["params"] = {"keep": True}
        result = run_task(asked, context)
        assert json.loads(result["output"])["data"] == "1"
        assert result["custom_attributes"] == f"answered {ATTRIBUTES}"

    def test_numbers_are_read_off_text(self, faults: Faults, endpoint: str) -> None:
        context = context_for()
        context["params"] = {"few": 2, "none": 0}
        faults({"fault": "throttle", "times": 1})
        numbers = {"attempts": "{{ params.few }}", "model_load_seconds": "{{ params.none }}"}
        assert run_task(partial(invoke, endpoint, body="1", **numbers), context)["attempts"] == 2
        limits = {"error_text_limit": "{{ params.none }}", "container_log_lines": "{{ params.none }}"}
        with pytest.raises(AirflowFailException) as caught:
            run_task(partial(invoke, endpoint, body="status 500", **limits), context)
        assert "raised-by-the-container" not in str(caught.value)
        with pytest.raises(AirflowFailException, match=r"return_output_limit \(2\)"):
            run_task(
                partial(
                    invoke,
                    endpoint,
                    body="1",
                    return_output="yes",
                    return_output_limit="{{ params.few }}",
                ),
                context,
            )

    def test_every_argument_is_one(self) -> None:
        own = set(inspect.signature(SageMakerInvokeEndpointOperator.__init__).parameters) - {"self", "kwargs"}
        assert own <= set(SageMakerInvokeEndpointOperator.template_fields)


class TestWhatIsTooMuchForXCom:
    def test_an_answer_up_to_the_limit_goes_there_and_a_larger_one_to_s3(
        self, account: Account, endpoint: str
    ) -> None:
        length = len(run(endpoint, body="1", return_output=True)["output"])
        kept = {"body": "1", "return_output": True, "output_location": f"s3://{account.bucket}/limit.json"}
        at_limit = run(endpoint, **kept, return_output_limit=length)
        above = run(endpoint, **kept, return_output_limit=length - 1)
        assert len(at_limit["output"]) == length
        assert above["output"] is None
        assert len(account.read(above["output_location"])) == length
        error = refusal(endpoint, body="1", return_output=True, return_output_limit=length - 1)
        assert f"{length} bytes" in str(error)
        assert f"return_output_limit ({length - 1})" in str(error)

    def test_what_is_no_text_goes_to_s3_only(self, account: Account, endpoint: str) -> None:
        output = f"s3://{account.bucket}/answers/binary"
        result = run(endpoint, body="bytes 4", return_output=True, output_location=output)
        assert result["output"] is None
        assert account.read(output) == b"\xff" * 4
        assert "no UTF-8 text" in str(refusal(endpoint, body="bytes 4", return_output=True))


class TestWhatIsTriedAgain:
    @pytest.mark.parametrize(
        "fault",
        [
            {"fault": "throttle"},
            {"fault": "error", "status": 503, "code": "ServiceUnavailable"},
            {"fault": "error", "status": 500, "code": "InternalFailure"},
            {"fault": "error", "status": 502, "code": "502"},
            {"fault": "error", "situation": "an internal dependency failed"},
            {"fault": "drop"},
            {"fault": "lost_answer"},
        ],
        ids=lambda fault: str(fault.get("code", fault["fault"])),
    )
    def test_what_passes_is_tried_again_up_to_the_attempts_in_all(
        self, faults: Faults, calls: Callable[[], list[Any]], endpoint: str, fault: dict[str, object]
    ) -> None:
        faults({**fault, "times": 2})
        assert run(endpoint, body="1", attempts=3)["attempts"] == 3
        assert len(calls()) == 3
        faults(fault)
        with pytest.raises((Throttled, ServiceUnavailable)):
            run(endpoint, body="1", attempts=2)
        assert len(calls()) == 5

    @pytest.mark.parametrize(
        "setting",
        [
            *({"AWS_RETRY_MODE": mode} for mode in ("legacy", "standard", "adaptive")),
            *({"AWS_NEW_RETRIES_2026": value} for value in ("true", "false")),
            {"AWS_MAX_ATTEMPTS": "7"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize(
        ("fault", "error"),
        [
            ({"fault": "throttle"}, Throttled),
            ({"fault": "error", "status": 429, "code": "ModelNotReadyException"}, ModelLoadTimeout),
        ],
        ids=["throttled", "cold"],
    )
    def test_botocores_retries_stay_off_whatever_the_environment_says(
        self,
        *,
        faults: Faults,
        calls: Callable[[], list[Any]],
        endpoint: str,
        monkeypatch: pytest.MonkeyPatch,
        setting: dict[str, str],
        fault: dict[str, object],
        error: type[Exception],
    ) -> None:
        for name, value in setting.items():
            monkeypatch.setenv(name, value)
        faults(fault)
        with pytest.raises(error):
            run(endpoint, body="1", attempts=1, model_load_seconds=0)
        assert len(calls()) == 1

    def test_a_cold_model_costs_no_attempt_and_is_waited_for_until_its_own_deadline(
        self, faults: Faults, calls: Callable[[], list[Any]], endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cold = {"fault": "error", "status": 429, "code": "ModelNotReadyException"}
        faults({**cold, "times": 4})
        assert run(endpoint, body="1", attempts=1)["attempts"] == 5
        faults(cold)
        halves = itertools.count(0.0, 0.5)
        clock = SimpleNamespace(monotonic=lambda: next(halves))
        monkeypatch.setattr("airflow_sm_plugin.hooks.runtime.time", clock)
        with pytest.raises(ModelLoadTimeout, match=f"endpoint {endpoint} did not load its model in time"):
            run(endpoint, body="1", attempts=1, model_load_seconds=2)
        # It reads the clock when it begins and after each call.
        assert len(calls()) == 5 + 4

    @pytest.mark.parametrize("status", [429, 502, 503, 504])
    def test_a_container_that_is_busy_may_answer_at_a_later_attempt_or_task(
        self, calls: Callable[[], list[Any]], endpoint: str, status: int
    ) -> None:
        with pytest.raises(ModelUnavailable, match=f"answered {status}\nReason: .*raised-by-the-container"):
            run(endpoint, body=f"status {status}", attempts=2, container_log_lines=0)
        assert len(calls()) == 2

    def test_a_refusal_is_not_sent_again(
        self, faults: Faults, calls: Callable[[], list[Any]], endpoint: str
    ) -> None:
        faults({"fault": "error", "status": 403, "code": "AccessDeniedException", "message": "no"})
        assert "allow this action to the task's role" in str(refusal(endpoint, body="1"))
        assert len(calls()) == 1


class TestTheEndpoint:
    def test_one_that_is_missing_and_one_of_the_other_kind_are_distinguished(self, account: Account) -> None:
        assert "EndpointNotFound: no endpoint no-such-endpoint serves" in str(
            refusal("no-such-endpoint", body="1")
        )
        name = account.deploy(asynchronous=True)
        assert f"EndpointNotRealTime: endpoint {name} is asynchronous" in str(refusal(name, body="1"))
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_one_that_does_not_serve_yet_may_be_retried(self, account: Account) -> None:
        with account.settings(endpoint_creating_seconds=3600):
            name = account.start_endpoint()
            with pytest.raises(EndpointNotInService, match=f"endpoint {name} is Creating"):
                run(name, body="1")

    def test_one_that_was_not_found_a_moment_ago_is_reported_with_its_status_now(
        self, faults: Faults, endpoint: str
    ) -> None:
        """The runtime's knowledge of an endpoint can be older than the control plane's."""
        faults({"fault": "error", "situation": "no such endpoint at the runtime", "times": 1})
        with pytest.raises(EndpointNotInService) as caught:
            run(endpoint, body="1")
        assert f"did not find endpoint {endpoint} when it was invoked, and it is InService now" in str(
            caught.value
        )
        assert "wait for it" not in str(caught.value)

    def test_a_target_model_is_for_a_multi_model_endpoint(self, endpoint: str) -> None:
        logged = str(refusal(endpoint, body="1", target_model="m.tar.gz"))
        assert f"EndpointNotMultiModel: endpoint {endpoint} serves no target models" in logged


def wait_for_line(account: Account, endpoint: str, *, since: float = 0.0) -> None:
    """Wait until a line that the container wrote then or later is in CloudWatch Logs."""
    logs = boto3.client(
        "logs",
        endpoint_url=account.url,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    give_up = time.monotonic() + 600
    while time.monotonic() < give_up:
        events = logs.filter_log_events(
            logGroupName=f"/aws/sagemaker/Endpoints/{endpoint}", startTime=int(since * 1_000)
        )["events"]
        if any(CONTAINER_LINE in event["message"] for event in events):
            return
        time.sleep(0.05)
    raise AssertionError("the container's line did not reach CloudWatch Logs")


@pytest.fixture(scope="module")
def failed_before(module_account: Account, endpoint: str) -> None:
    """Logs reach CloudWatch a little later than the answer: here they are there."""
    account = module_account
    with pytest.raises(account.runtime.exceptions.ModelError):
        account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"status 500", ContentType="text/csv")
    wait_for_line(account, endpoint)


@pytest.fixture
def patient(account: Account, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Have a pause between two polls of an endpoint's log last until a line written from now on is there."""

    def poll_patiently(endpoint: str) -> None:
        now = time.time()
        clock = SimpleNamespace(sleep=lambda _: wait_for_line(account, endpoint, since=now))
        monkeypatch.setattr("airflow_sm_plugin.hooks.container_logs.time", clock)

    return poll_patiently


class TestAContainerThatFails:
    def test_the_lines_of_a_fresh_one_are_waited_for(
        self, account: Account, logged: Callable[[], str], patient: Callable[[str], None]
    ) -> None:
        """Lines reach CloudWatch after the answer: the first poll of the first failure finds nothing."""
        fresh = account.deploy(HANDLER)
        patient(fresh)
        assert "answered 500" in str(refusal(fresh, body="status 500"))
        account.sagemaker.delete_endpoint(EndpointName=fresh)
        assert CONTAINER_LINE in logged()
        assert "wrote nothing" not in logged()

    @pytest.mark.usefixtures("failed_before")
    def test_its_last_log_lines_stand_in_the_tasks_log_and_the_start_of_its_text_in_the_error(
        self,
        endpoint: str,
        logged: Callable[[], str],
        calls: Callable[[], list[Any]],
        patient: Callable[[str], None],
    ) -> None:
        patient(endpoint)
        message = str(refusal(endpoint, body="status 500"))
        assert message.startswith(
            f"ModelError: a container of endpoint {endpoint} answered 500\nReason: raised-by-the-container xxx"
        )
        assert len(message) < 1200
        assert CONTAINER_LINE in logged()
        assert f"last lines of /aws/sagemaker/Endpoints/{endpoint} AllTraffic/" in logged()
        assert len(calls()) == 1

    @pytest.mark.usefixtures("failed_before")
    def test_both_can_be_switched_off_down_to_the_traceback(
        self, endpoint: str, logged: Callable[[], str], requests: Requests
    ) -> None:
        error = refusal(endpoint, body="status 500", container_log_lines=0, error_text_limit=0)
        shown = "".join(traceback.format_exception(error)) + logged()
        assert f"a container of endpoint {endpoint} answered 500" in shown
        assert "raised-by-the-container" not in shown
        assert CONTAINER_LINE not in shown
        assert not any("Logs_" in operation for operation in requests.count())

    def test_without_permission_one_line_hints_and_the_error_stays(
        self, endpoint: str, logged: Callable[[], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with answering(Answer(400, "AccessDeniedException", "not authorized")) as (forbidding, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", forbidding)
            assert "answered 500" in str(refusal(endpoint, body="status 500"))
        assert "no container logs here" in logged()
        assert "Allow logs:DescribeLogStreams and logs:GetLogEvents" in logged()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """All that was logged or printed, whichever way this Airflow's loggers go."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="airflow_sm_plugin")
    caplog.set_level(logging.DEBUG, logger="airflow.task")
    printed: list[str] = []

    def text() -> str:
        printed.extend(capsys.readouterr())
        return caplog.text + "".join(printed)

    return text


def test_nothing_secret_is_logged_pushed_or_stored(
    account: Account, endpoint: str, faults: Faults, logged: Callable[[], str]
) -> None:
    faults({"fault": "throttle", "times": 1})  # so that it logs a retry as well
    ti = TaskInstanceDouble()
    context = context_for(ti)
    operator = invoke(
        endpoint, body=BODY, custom_attributes=ATTRIBUTES, output_location=f"s3://{account.bucket}/kept"
    )
    operator.render_template_fields(context)
    result = operator.execute(context)
    rendered = [str(getattr(operator, field)) for field in operator.template_fields]
    seen = f"{logged()}{result}{ti.xcom}{rendered}{operator!r}"
    assert f"endpoint {endpoint}, variant AllTraffic, answered" in seen
    assert "again in" in seen
    assert BODY not in seen
    assert "4711" not in seen
    assert ti.xcom["sagemaker_endpoint_link"]["endpoint_name"] == endpoint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"return_output": "perhaps"}, "return_output must be true or false, not 'perhaps'"),
        ({"return_custom_attributes": "maybe"}, "return_custom_attributes must be true or false"),
        ({"attempts": "many"}, "attempts must be a whole number, 1 or more, not 'many'"),
        ({"body": None}, "give exactly one of body and body_location"),
        ({"body_location": "s3://b/k"}, "give exactly one of body and body_location"),
        ({"body": {"rows"}}, "body must be text, not set: write it as text in the task before"),
        ({"body": "x" * 26_214_401}, "the payload has 26214401 bytes, SageMaker takes up to 26214400"),
        ({"endpoint_name": "my_endpoint"}, "the endpoint name 'my_endpoint' holds '_'"),
        ({"custom_attributes": "x" * 1025}, "are 1025 characters long"),
        ({"custom_attributes": "secret\nline"}, "character 7 of the CustomAttributes is U+000A"),
        ({"target_variant": "a_b"}, "target_variant 'a_b' is not allowed"),
        ({"target_model": "7 "}, "target_model '7 ' is not allowed: it holds U+0020 at its end"),
        ({"inference_id": "x" * 65}, "inference_id has 65 characters, SageMaker takes 1 to 64"),
        ({"enable_explanations": "a\nb"}, "enable_explanations 'a\\nb' is not allowed"),
        ({"output_location": "s3://bucket/prefix/"}, "output_location must name an object"),
        ({"body": None, "body_location": "https://x"}, "body_location must look like s3://bucket/key"),
        (
            {"body": None, "body_location": "s3://b/k", "output_location": "s3://b/k"},
            "output_location is body_location, s3://b/k: the answer would replace the payload",
        ),
        ({"attempts": 0}, "attempts must be a whole number, 1 or more, not 0"),
        ({"model_load_seconds": -1}, "model_load_seconds must be 0 or more seconds, not -1"),
        ({"return_output_limit": 0}, "return_output_limit must be a whole number, 1 or more, not 0"),
        ({"container_log_lines": -1}, "container_log_lines must be a whole number, 0 or more, not -1"),
        ({"error_text_limit": -1}, "error_text_limit must be a whole number, 0 or more, not -1"),
    ],
)
def test_bad_input_is_reported_before_anything_is_called(
    requests: Requests, arguments: dict[str, Any], says: str
) -> None:
    error = refusal(**{"endpoint": arguments.pop("endpoint_name", "e"), "body": "1", **arguments})
    assert says in str(error)
    assert not requests.count()


def test_a_header_that_breaks_a_limit_costs_no_read_of_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(Answer(404, "NoSuchKey")) as (s3, asked):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3)
        assert "inference_id has 65" in str(refusal("e", body_location="s3://b/k", inference_id="x" * 65))
        assert asked == []
        assert "InputNotFound: the object s3://b/k does not exist" in str(
            refusal("e", body_location="s3://b/k")
        )


def test_a_connection_that_is_reset_says_that_a_large_body_is_too_large(
    endpoint: str, faults: Faults
) -> None:
    """More than 4 MB are not taken by every endpoint; up to that, a reset is a lost connection."""
    faults({"fault": "drop"})
    assert "RecordTooLarge" in str(refusal(endpoint, body="x" * 4_194_305))
    with pytest.raises(ServiceUnavailable):
        run(endpoint, body="x" * 4_194_304)


def test_an_object_too_large_for_real_time_is_not_sent(
    account: Account, endpoint: str, calls: Callable[[], list[Any]]
) -> None:
    location = account.upload(bytes(26_214_410))
    assert "the payload has 26214401 bytes" in str(refusal(endpoint, body_location=location))
    assert calls() == []


@contextmanager
def _recording() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Answer every invocation on loopback with every header that there is; yield the address and the headers seen."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(dict(self.headers))
            self.send_response(200)
            for name, value in {
                "Content-Type": "text/plain",
                "Content-Length": "6",
                "x-Amzn-Invoked-Production-Variant": "green",
                "X-Amzn-SageMaker-Custom-Attributes": "from the model",
                "X-Amzn-SageMaker-New-Session-Id": "s1; Expires=2026-01-01T00:00:00Z",
                "X-Amzn-SageMaker-Closed-Session-Id": "s0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"answer")

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()
