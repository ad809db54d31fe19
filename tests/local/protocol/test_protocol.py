"""The wire: requests read and answers written as botocore's models say."""

from __future__ import annotations

import datetime
import json

import pytest

from airflow_sm_plugin.local.protocol.access import signature_of
from airflow_sm_plugin.local.protocol.errors import (
    ModelFailure,
    ResourceNotFoundFailure,
    ValidationFailure,
)
from airflow_sm_plugin.local.protocol.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    Request,
    control_plane_response,
    error_response,
    parse_request,
    runtime_response,
)

SIGNED = "AWS4-HMAC-SHA256 Credential=AKID/20260101/eu-west-1/{service}/aws4_request, SignedHeaders=host"


def test_a_call_is_ours_when_it_is_signed_for_sagemaker() -> None:
    signature = signature_of(SIGNED.format(service="sagemaker"), "")
    assert (signature.service, signature.region) == ("sagemaker", "eu-west-1")
    assert signature_of(SIGNED.format(service="s3"), "").service == "s3"
    assert signature_of("", "").service == ""
    presigned = "X-Amz-Credential=key%2F20260101%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Signature=x"
    assert signature_of("", presigned).service == "s3"


def test_the_control_plane_speaks_json_with_the_operation_in_a_header() -> None:
    request = parse_request(
        method="POST",
        path="/",
        headers={"x-amz-target": "SageMaker.DeleteModel"},
        body=b'{"ModelName": "m"}',
        region="us-east-1",
    )
    assert request == Request(CONTROL_PLANE, "DeleteModel", "us-east-1", {"ModelName": "m"})


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff"])
def test_a_body_that_is_no_json_object_is_a_validation_failure(body: bytes) -> None:
    with pytest.raises(ValidationFailure):
        parse_request(
            method="POST",
            path="/",
            headers={"x-amz-target": "SageMaker.DeleteModel"},
            body=body,
            region="us-east-1",
        )


def test_the_runtime_has_its_parameters_in_path_and_headers() -> None:
    headers = {
        "content-type": "text/csv",
        "x-amzn-sagemaker-custom-attributes": "Trace ID: 1",
        "x-amzn-sagemaker-target-variant": "v",
        "user-agent": "none of its parameters",
    }
    request = parse_request(
        method="POST",
        path="/endpoints/my-endpoint/invocations",
        headers=headers,
        body=b"1",
        region="us-east-1",
    )
    assert request is not None
    assert (request.service, request.operation) == (RUNTIME, "InvokeEndpoint")
    assert request.params == {
        "EndpointName": "my-endpoint",
        "ContentType": "text/csv",
        "CustomAttributes": "Trace ID: 1",
        "TargetVariant": "v",
        "Body": b"1",
    }


def test_a_number_in_a_header_is_a_number() -> None:
    headers = {"x-amzn-sagemaker-requestttlseconds": "60"}
    path = "/endpoints/e/async-invocations"
    request = parse_request(method="POST", path=path, headers=headers, body=b"", region="us-east-1")
    assert request is not None
    assert request.params == {"EndpointName": "e", "RequestTTLSeconds": 60}
    with pytest.raises(ValidationFailure, match="RequestTTLSeconds is not an integer: soon"):
        parse_request(
            method="POST", path=path, headers=dict.fromkeys(headers, "soon"), body=b"", region="us-east-1"
        )


def test_a_path_of_no_operation_is_none_of_ours() -> None:
    assert parse_request(method="GET", path="/elsewhere", headers={}, body=b"", region="us-east-1") is None


def test_times_are_written_as_epoch_seconds() -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    response = control_plane_response({"CreationTime": moment})
    assert json.loads(response.body) == {"CreationTime": moment.timestamp()}


def test_a_runtime_answer_has_its_payload_as_body_and_the_rest_as_headers() -> None:
    result = {
        "Body": b"\x00\x01",
        "ContentType": "application/x",
        "InvokedProductionVariant": "v",
        "CustomAttributes": None,
    }
    response = runtime_response("InvokeEndpoint", result)
    assert (response.status, response.body) == (200, b"\x00\x01")
    assert response.headers == {"Content-Type": "application/x", "x-Amzn-Invoked-Production-Variant": "v"}


def test_an_asynchronous_invocation_is_accepted_not_answered() -> None:
    response = runtime_response("InvokeEndpointAsync", {"InferenceId": "i", "OutputLocation": "s3://b/o"})
    assert (response.status, json.loads(response.body)) == (202, {"InferenceId": "i"})
    assert response.headers["X-Amzn-SageMaker-OutputLocation"] == "s3://b/o"


def test_each_plane_spells_errors_its_own_way() -> None:
    failure = ValidationFailure("wrong", ErrorCode="NO_SUCH_ENDPOINT")
    control, runtime = error_response(failure, CONTROL_PLANE), error_response(failure, RUNTIME)
    assert json.loads(control.body)["__type"] == "ValidationException"
    assert runtime.headers["x-amzn-ErrorType"] == "ValidationError"
    assert json.loads(runtime.body) == {"ErrorCode": "NO_SUCH_ENDPOINT", "Message": "wrong"}
    missing = error_response(ResourceNotFoundFailure("gone"), CONTROL_PLANE)
    assert (missing.status, json.loads(missing.body)["__type"]) == (400, "ResourceNotFound")
    model = ModelFailure("m", original_status=0, original_message="o", log_stream_arn="a")
    answer = error_response(model, RUNTIME)
    assert answer.status == 424
    assert json.loads(answer.body)["OriginalStatusCode"] == 0
