"""InvokeEndpointAsync: what goes in, what comes out, what breaks a limit before the call, and what stays secret."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from airflow_sm_plugin._compat import AirflowFailException
from airflow_sm_plugin.exceptions import (
    EndpointNotAsynchronous,
    EndpointNotFound,
    EndpointNotInService,
    InputNotFound,
    InvalidCustomAttributes,
    ServiceUnavailable,
)
from airflow_sm_plugin.operators.invoke import SageMakerInvokeEndpointAsyncOperator
from airflow_sm_plugin.sensors.async_inference import SageMakerAsyncInferenceSensor
from tests.support import (
    POLL,
    Account,
    Answer,
    Requests,
    TaskInstanceDouble,
    answering,
    botocore_knows,
    closed_port,
    context_for,
    run_task,
    unique,
)

pytestmark = pytest.mark.airflow

ATTRIBUTES = "trace-id=4711-secret; team=churn"
BODY = "payload-no-one-may-read,1,2"

THROUGH_BOTOCORE = {"client_cert": "unused-on-loopback.pem"}
"""botocore_config with something that only botocore itself can do."""

HANDLER = """
import json

def model_fn(model_dir):
    return "recording"

def transform_fn(model, data, content_type, accept, context):
    text = data.decode() if isinstance(data, bytes) else data
    request = {"data": text, "content_type": content_type, "accept": accept}
    request["custom_attributes"] = context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")
    return json.dumps(request), "application/json"
"""
"""It answers with its request."""


def invoke(endpoint: str, **arguments: Any) -> SageMakerInvokeEndpointAsyncOperator:  # noqa: ANN401 - the operator's own
    return SageMakerInvokeEndpointAsyncOperator(
        task_id="invoke", endpoint_name=endpoint, **{"aws_conn_id": None} | arguments
    )


def output_of(account: Account, invocation: dict[str, Any]) -> dict[str, Any]:
    sensor = SageMakerAsyncInferenceSensor(
        task_id="await",
        invocations=invocation,
        poke_interval=POLL,
        timeout=600,
        deferrable=False,
        aws_conn_id=None,
    )
    request: dict[str, Any] = json.loads(account.read(sensor.execute(context_for())))
    return request


def refusal(operator: SageMakerInvokeEndpointAsyncOperator) -> AirflowFailException:
    with pytest.raises(AirflowFailException) as caught:
        operator.execute(context_for())
    return caught.value


@pytest.fixture(scope="module")
def endpoint(module_account: Account) -> Iterator[str]:
    name = module_account.deploy(HANDLER, asynchronous=True)
    yield name
    module_account.sagemaker.delete_endpoint(EndpointName=name)


@pytest.fixture(scope="module")
def input_location(module_account: Account) -> str:
    return module_account.upload("1,2,3")


def test_an_input_in_s3_is_answered_and_the_task_says_where(
    account: Account, endpoint: str, input_location: str
) -> None:
    ti = TaskInstanceDouble(task_id="invoke")

    result = run_task(
        partial(
            invoke,
            endpoint,
            input_location=input_location,
            content_type="text/csv",
            accept="application/json",
            custom_attributes=ATTRIBUTES,
        ),
        context_for(ti),
    )

    assert set(result) == {
        "output_location",
        "failure_location",
        "inference_id",
        "input_location",
        "submitted_at",
        "endpoint_name",
    }
    assert result["input_location"] == input_location
    assert result["endpoint_name"] == endpoint
    assert result["failure_location"].startswith(f"s3://{account.bucket}/")
    assert json.loads(json.dumps(result)) == result
    assert output_of(account, result) == {
        "data": "1,2,3",
        "content_type": "text/csv",
        "accept": "application/json",
        "custom_attributes": ATTRIBUTES,
    }
    assert ti.xcom["sagemaker_endpoint_link"]["endpoint_name"] == endpoint


@pytest.mark.parametrize("body", [BODY, BODY.encode()])
def test_a_body_goes_inline_and_leaves_no_object(account: Account, endpoint: str, body: str | bytes) -> None:
    result = run_task(partial(invoke, endpoint, body=body, content_type="text/csv"))
    assert result["input_location"] is None
    assert output_of(account, result)["data"] == BODY


def test_every_other_parameter_is_sent(account: Account, endpoint: str, input_location: str) -> None:
    name = unique("day")
    result = run_task(
        partial(
            invoke,
            endpoint,
            input_location=input_location,
            inference_id="an id of mine",
            request_ttl=60,
            invocation_timeout=5,
            filename="result.json",
            s3_output_path_extension=f"{name}/shard-1",
        )
    )
    assert result["inference_id"] == "an id of mine"
    assert result["output_location"].endswith(f"/outputs/{name}/shard-1/result.json")
    assert output_of(account, result)["data"] == "1,2,3"


def test_the_inference_id_stays_over_retries_and_differs_by_task_run_and_map_index(
    endpoint: str, input_location: str
) -> None:
    def sent(**task: Any) -> str:  # noqa: ANN401 - the double's own
        operator = invoke(endpoint, input_location=input_location)
        return str(operator.execute(context_for(TaskInstanceDouble(**task)))["inference_id"])

    first = sent()
    assert sent(try_number=2) == first
    others = [sent(map_index=0), sent(run_id="another"), sent(task_id="another")]
    assert len({first, *others}) == 4
    assert all(len(one) <= 64 for one in (first, *others))


@pytest.mark.parametrize("botocore_config", [None, THROUGH_BOTOCORE], ids=["fast", "through botocore"])
def test_a_body_is_sent_whatever_botocore_is_installed_where_it_may_be_uploaded(
    account: Account, endpoint: str, botocore_config: dict[str, str] | None
) -> None:
    folder = f"s3://{account.bucket}/{unique('uploads')}/"
    result = run_task(
        partial(invoke, endpoint, body=BODY, upload_prefix=folder, botocore_config=botocore_config)
    )
    assert output_of(account, result)["data"] == BODY
    inline = botocore_config is None or botocore_knows("Body")
    assert (result["input_location"] is None) == inline


@pytest.mark.skipif(botocore_knows("Body"), reason="the installed botocore knows inline bodies")
def test_a_body_that_the_installed_botocore_cannot_send_is_refused_with_a_remedy(endpoint: str) -> None:
    """Only where the call must go through it: the transport of our own knows every parameter."""
    message = str(refusal(invoke(endpoint, body=BODY, botocore_config=THROUGH_BOTOCORE)))
    assert "the installed botocore does not know Body of InvokeEndpointAsync: upgrade boto3" in message
    assert "can be uploaded and passed as input_location" in message
    assert BODY not in message


def test_the_longest_custom_attributes_are_sent(account: Account, endpoint: str, input_location: str) -> None:
    attributes = "".join(chr(0x21 + number % 94) for number in range(1024))
    result = run_task(partial(invoke, endpoint, input_location=input_location, custom_attributes=attributes))
    assert output_of(account, result)["custom_attributes"] == attributes


def test_nothing_secret_is_logged_pushed_or_stored(
    endpoint: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, logger="airflow_sm_plugin")
    caplog.set_level(logging.DEBUG, logger="airflow.task")
    ti = TaskInstanceDouble()
    context = context_for(ti)
    operator = invoke(endpoint, body=BODY, custom_attributes=ATTRIBUTES)
    operator.render_template_fields(context)
    result = operator.execute(context)
    rendered = [str(getattr(operator, field)) for field in operator.template_fields]
    out, err = capsys.readouterr()
    seen = f"{caplog.text}{out}{err}{result}{ti.xcom}{rendered}{operator!r}"
    assert str(result["inference_id"]) in seen  # it does log and return something
    assert BODY not in seen
    assert "4711" not in seen


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (
                {"custom_attributes": "x" * 1025},
                "are 1025 characters long, SageMaker takes up to 1024: send an id",
            ),
            (
                {"custom_attributes": "trace=\u00fc"},
                "character 7 of the CustomAttributes is U+00FC; only visible US-ASCII",
            ),
            ({"custom_attributes": "secret\nline"}, "character 7 of the CustomAttributes is U+000A"),
            ({"custom_attributes": " secret"}, "begin or end with a space, which HTTP drops: strip them"),
            ({"custom_attributes": ""}, "CustomAttributes are empty: pass None to send none"),
            ({"endpoint_name": "my_endpoint"}, "the endpoint name 'my_endpoint' holds '_'"),
            ({"body": None}, "give exactly one of input_location and body, not neither"),
            ({"input_location": "s3://b/k"}, "give exactly one of input_location and body, not both"),
            ({"body": "x" * 128_001}, "has 128001 bytes, SageMaker takes up to 128000: upload it to S3"),
            (
                {"body": None, "input_location": "s3://bucket/prefix/"},
                "input_location must name an object, not a bucket or prefix: 's3://bucket/prefix/'",
            ),
            (
                {"body": None, "input_location": "/data/in.csv"},
                "input_location must look like s3://bucket/key, not '/data/in.csv'",
            ),
            ({"request_ttl": 59}, "request_ttl is 59 s, SageMaker takes 60 to 21600 s"),
            ({"invocation_timeout": 3601}, "invocation_timeout is 3601 s, SageMaker takes 1 to 3600 s"),
            (
                {"content_type": "text/csv "},
                "content_type 'text/csv ' is not allowed: it holds U+0020 at its end",
            ),
            ({"inference_id": "i" * 65}, "has 65 characters, SageMaker takes 1 to 64"),
            ({"filename": "a.tar.gz"}, "filename 'a.tar.gz' is not allowed"),
            ({"s3_output_path_extension": "s3://b"}, "s3_output_path_extension 's3://b' is not allowed"),
        ],
    )
    def test_a_broken_limit_is_reported_before_any_call_and_without_secrets(
        self, requests: Requests, arguments: dict[str, Any], says: str
    ) -> None:
        operator = SageMakerInvokeEndpointAsyncOperator(
            task_id="invoke",
            **{"endpoint_name": "endpoint", "body": "x", "aws_conn_id": None} | arguments,
        )
        error = refusal(operator)
        assert says in str(error)
        assert "secret" not in str(error)
        assert not requests.count()

    def test_custom_attributes_have_an_error_of_their_own(self) -> None:
        assert isinstance(
            refusal(invoke("e", body="x", custom_attributes="\t")).__context__, InvalidCustomAttributes
        )

    def test_an_input_that_does_not_exist(self, account: Account, endpoint: str, requests: Requests) -> None:
        missing = f"s3://{account.bucket}/no/such/input.csv"
        error = refusal(invoke(endpoint, input_location=missing))
        assert isinstance(error.__context__, InputNotFound)
        assert f"the input object {missing} does not exist\nDo: upload it first" in str(error)
        assert not requests.count()

    def test_a_bucket_that_does_not_exist(self, endpoint: str) -> None:
        error = refusal(invoke(endpoint, input_location="s3://no-such-bucket-anywhere/input.csv"))
        assert isinstance(error.__context__, InputNotFound)
        assert "the bucket of the input object s3://no-such-bucket-anywhere/input.csv does not exist" in str(
            error
        )

    def test_the_check_of_the_input_can_be_switched_off(self, account: Account, endpoint: str) -> None:
        missing = f"s3://{account.bucket}/no/such/input.csv"
        assert run_task(partial(invoke, endpoint, input_location=missing, check_input=False))

    def test_an_endpoint_that_does_not_exist(self, input_location: str) -> None:
        error = refusal(invoke("no-such-endpoint", input_location=input_location))
        assert isinstance(error.__context__, EndpointNotFound)
        assert "no endpoint no-such-endpoint serves in this account and region\nDo: deploy it first" in str(
            error
        )

    def test_an_endpoint_that_is_not_asynchronous(self, account: Account, input_location: str) -> None:
        name = account.deploy()
        error = refusal(invoke(name, input_location=input_location))
        assert isinstance(error.__context__, EndpointNotAsynchronous)
        assert f"endpoint {name} is not asynchronous\nDo: deploy it with async_output_path" in str(error)
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_an_endpoint_that_is_still_created_may_be_retried(
        self, account: Account, input_location: str
    ) -> None:
        with account.settings(endpoint_creating_seconds=600):  # longer than any test takes
            name = account.start_endpoint(asynchronous=True)
            with pytest.raises(EndpointNotInService) as caught:
                run_task(partial(invoke, name, input_location=input_location))
        assert f"endpoint {name} is Creating, it serves only InService\nDo: wait for it first" in str(
            caught.value
        )


class TestService:
    def test_an_unreachable_service_may_be_retried_and_is_named(
        self, monkeypatch: pytest.MonkeyPatch, endpoint: str, input_location: str
    ) -> None:
        closed_address = closed_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", closed_address)
        with pytest.raises(ServiceUnavailable) as caught:
            invoke(endpoint, input_location=input_location).execute(context_for())
        assert f"sagemaker:InvokeEndpointAsync {endpoint}: the service did not answer" in str(caught.value)
        assert closed_address in str(caught.value)

    def test_an_input_that_may_not_be_read_is_sent_all_the_same(
        self,
        monkeypatch: pytest.MonkeyPatch,
        endpoint: str,
        input_location: str,
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The task's role may lack what the endpoint's role has."""
        with answering(Answer(403, "AccessDenied")) as (forbidding, _):
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", forbidding)
            assert run_task(partial(invoke, endpoint, input_location=input_location))["output_location"]
        out, err = capsys.readouterr()
        assert f"could not check the input {input_location} (forbidden)" in caplog.text + out + err

    def test_throttling_is_repeated_until_it_is_accepted(
        self, account: Account, monkeypatch: pytest.MonkeyPatch, endpoint: str, input_location: str
    ) -> None:
        refusals = [Answer(400, "ThrottlingException"), Answer(503, "ServiceUnavailable")]
        with answering(*refusals, otherwise=account.url) as (busy, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", busy)
            result = run_task(partial(invoke, endpoint, input_location=input_location))
        assert asked == [f"POST /endpoints/{endpoint}/async-invocations"] * 3
        assert output_of(account, result)["data"] == "1,2,3"

    def test_an_answer_that_forbids_is_not_retried(
        self, monkeypatch: pytest.MonkeyPatch, endpoint: str, input_location: str
    ) -> None:
        with answering(Answer(403, "AccessDeniedException", "User is not authorized")) as (forbidding, asked):
            monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", forbidding)
            error = refusal(invoke(endpoint, input_location=input_location))
        assert (
            "AccessDeniedException: User is not authorized\nDo: allow this action to the task's role"
            in str(error)
        )
        assert len(asked) == 1


def test_a_body_of_another_kind_shows_nothing_of_itself() -> None:
    """Neither in the message nor in the chained errors, which Airflow logs as well."""
    body: Any = {"TOPSECRET"}
    operator = SageMakerInvokeEndpointAsyncOperator(
        task_id="invoke", endpoint_name="any", body=body, aws_conn_id=None
    )
    with pytest.raises(AirflowFailException, match="body must be text, not set") as caught:
        operator.execute(context_for())
    assert "TOPSECRET" not in "".join(traceback.format_exception(caught.value))
