"""InvokeEndpoint: what is passed on, what is refused, and the form of failures."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from aiobotocore.session import get_session  # type: ignore[import-untyped] # it has no stubs
from botocore.exceptions import ClientError

from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.server import EmbeddedSageMaker
from tests.local.conftest import ECHO, IMAGE, REGION, ROLE, Clients, clients_of, unique

LIMIT = 26_214_400

FAILS = """
import threading
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept, context):
    if data == b"wait":
        threading.Event().wait(60)
    if data == b"big":
        return b"x" * (26_214_400 + 1)
    if data == b"full":
        return b"x" * 26_214_400
    if data == b"status":
        context.set_response_status(418)
        return "a teapot"
    raise KeyError("lost")
"""


@pytest.fixture(scope="module")
def echo(session_clients: Clients) -> str:
    """Deploy an endpoint that answers what it gets."""
    return session_clients.deploy(ECHO)


@pytest.fixture(scope="module")
def failing(session_clients: Clients) -> str:
    """Deploy an endpoint that fails as asked."""
    return session_clients.deploy(FAILS)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Clients]:
    """Run a service whose containers must answer within 0.3 seconds."""
    with EmbeddedSageMaker(settings=Settings(invocation_timeout_seconds=0.3)) as server:
        yield clients_of(server.url)


def _error(clients: Clients, endpoint: str, body: bytes = b"x", **parameters: str) -> dict[str, object]:
    with pytest.raises(ClientError) as raised:
        clients.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **parameters)
    return dict(raised.value.response)


def _raw_error(clients: Clients, endpoint: str, **headers: str) -> dict[str, str]:
    """Return an error's body as it is on the wire: boto3 shows only the members it knows."""
    scope = f"Credential=test/20260101/{REGION}/sagemaker/aws4_request"
    request = urllib.request.Request(
        f"{clients.runtime.meta.endpoint_url}/endpoints/{endpoint}/invocations",
        data=b"x",
        headers={"Authorization": f"AWS4-HMAC-SHA256 {scope}", **headers},
    )
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(request)
    with refused.value:
        body: dict[str, str] = json.load(refused.value)
    return body


def _code_and_message(response: dict[str, object]) -> tuple[str, str]:
    error = response["Error"]
    assert isinstance(error, dict)
    return error["Code"], error["Message"]


def test_a_missing_endpoint_is_a_validation_error_with_its_own_code(clients: Clients) -> None:
    message = "Endpoint missing of account 123456789012 not found."
    assert _code_and_message(_error(clients, "missing")) == ("ValidationError", message)
    assert _raw_error(clients, "missing") == {"ErrorCode": "NO_SUCH_ENDPOINT", "Message": message}


def test_an_asynchronous_endpoint_does_not_answer(clients: Clients) -> None:
    name = clients.deploy(AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://bucket/out"}})
    message = f"Endpoint {name} does not support this inference type."
    assert _code_and_message(_error(clients, name)) == ("ValidationError", message)


def test_a_target_model_is_for_multi_model_endpoints_only(clients: Clients, echo: str) -> None:
    message = f"Endpoint {echo} is not a multi-model endpoint and does not support target model header."
    code = _code_and_message(_error(clients, echo, TargetModel="a.tar.gz"))
    assert code == ("ValidationError", message)
    raw = _raw_error(clients, echo, **{"X-Amzn-SageMaker-Target-Model": "a.tar.gz"})
    assert raw == {"ErrorCode": "TARGET_MODEL_HEADER_NOT_SUPPORTED", "Message": message}


def test_a_multi_model_endpoint_wants_a_target_model(clients: Clients) -> None:
    model = unique("many")
    url = f"s3://{clients.bucket}/many/"
    container = {"Image": IMAGE, "Mode": "MultiModel", "ModelDataUrl": url}
    clients.sagemaker.create_model(ModelName=model, ExecutionRoleArn=ROLE, PrimaryContainer=container)  # type: ignore[arg-type] # a plain dict
    name = unique("endpoint")
    clients.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=clients.create_config(model))
    clients.wait_for_endpoint(name)
    assert clients.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["Mode"] == "MultiModel"
    code, message = _code_and_message(_error(clients, name))
    assert code == "ValidationError"
    assert "is missing a target model header" in message


def test_a_payload_at_the_limit_passes_and_one_beyond_does_not(clients: Clients, echo: str) -> None:
    answer = clients.runtime.invoke_endpoint(EndpointName=echo, Body=b"x" * LIMIT)
    assert len(answer["Body"].read()) == LIMIT
    assert "CustomAttributes" not in dict(answer)
    code, message = _code_and_message(_error(clients, echo, b"x" * (LIMIT + 1)))
    assert (code, message) == ("ValidationError", f"HTTP content length exceeded {LIMIT} bytes.")
    assert "xxx" not in message


def test_a_response_at_the_limit_passes_and_one_beyond_does_not(clients: Clients, failing: str) -> None:
    answer = clients.runtime.invoke_endpoint(EndpointName=failing, Body=b"full")
    assert len(answer["Body"].read()) == LIMIT
    response = _error(clients, failing, b"big")
    assert _code_and_message(response)[0] == "ModelError"
    assert str(LIMIT) in str(response["OriginalMessage"])


@pytest.mark.parametrize("attributes", ["x" * 1025, "ü"])
def test_custom_attributes_beyond_the_limits_are_refused_without_being_repeated(
    clients: Clients, echo: str, attributes: str
) -> None:
    response = _error(clients, echo, CustomAttributes=attributes)
    code, message = _code_and_message(response)
    assert code == "ValidationError"
    assert "customAttributes" in message
    assert attributes not in message


def test_what_the_code_raises_is_a_model_error_that_names_the_log(clients: Clients, failing: str) -> None:
    response = _error(clients, failing)
    group = f"/aws/sagemaker/Endpoints/{failing}"
    message = (
        "Received server error (500) from primary with message \"'lost'\". "
        "See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:"
        f"group={group} in account 123456789012 for more information."
    )
    assert _code_and_message(response) == ("ModelError", message)
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (500, "'lost'")
    assert response["LogStreamArn"] == f"arn:aws:logs:us-east-1:123456789012:log-group:{group}"
    metadata = response["ResponseMetadata"]
    assert isinstance(metadata, dict)
    assert metadata["HTTPStatusCode"] == 424


def test_a_status_set_by_the_code_is_passed_on(clients: Clients, failing: str) -> None:
    response = _error(clients, failing, b"status")
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (418, "a teapot")
    assert _code_and_message(response)[1].startswith("Received client error (418) from primary")


def test_a_container_that_takes_too_long_is_a_model_error_of_status_zero(impatient: Clients) -> None:
    response = _error(impatient, impatient.deploy(FAILS), b"wait")
    assert response["OriginalStatusCode"] == 0
    assert "timed out while waiting for a response from container primary" in str(response["OriginalMessage"])


def test_the_failing_container_of_a_pipeline_is_named(clients: Clients) -> None:
    name = clients.deploy(ECHO, FAILS)
    message = _code_and_message(_error(clients, name))[1]
    assert message.startswith('Received server error (500) from container_2 with message "')


async def _invoke_asynchronously(url: str, endpoint: str) -> tuple[bytes, str]:
    session = get_session()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    async with session.create_client(
        "sagemaker-runtime", endpoint_url=url, region_name=REGION, **keys
    ) as client:
        answer = await client.invoke_endpoint(EndpointName=endpoint, Body=b"1,2", ContentType="text/csv")
        return await answer["Body"].read(), answer["ContentType"]


def test_aiobotocore_invokes_as_boto3_does(sagemaker_server: EmbeddedSageMaker, echo: str) -> None:
    answered = asyncio.run(_invoke_asynchronously(sagemaker_server.url, echo))
    assert answered == (b"1,2", "text/csv")
