"""The limits that botocore's models hold and botocore does not check."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, RUNTIME, Request
from airflow_sm_plugin.local.protocol.validation import validate


def _message(service: str, operation: str, params: dict[str, object]) -> str:
    with pytest.raises(ValidationFailure) as raised:
        validate(Request(service, operation, "us-east-1", params))
    return raised.value.message


def test_a_good_call_passes() -> None:
    validate(Request(CONTROL_PLANE, "CreateModel", "us-east-1", {"ModelName": "m", "Containers": []}))


@pytest.mark.parametrize(
    ("params", "constraint"),
    [
        ({}, "Value 'null' at 'modelName' failed to satisfy constraint: Member must not be null"),
        ({"ModelName": "m" * 64}, "Member must have length less than or equal to 63"),
        (
            {"ModelName": "a_b"},
            "Value 'a_b' at 'modelName' failed to satisfy constraint: Member must satisfy regular",
        ),
        ({"ModelName": "m", "Containers": [{}] * 16}, "Member must have length less than or equal to 15"),
        ({"ModelName": "m", "Containers": "c"}, "Member must be a list"),
        ({"ModelName": "m", "PrimaryContainer": []}, "Member must be a structure"),
        (
            {"ModelName": "m", "PrimaryContainer": {"Mode": "Both"}},
            "enum value set: [SingleModel, MultiModel]",
        ),
    ],
)
def test_each_kind_of_limit_is_reported_in_the_services_words(
    params: dict[str, object], constraint: str
) -> None:
    message = _message(CONTROL_PLANE, "CreateModel", params)
    assert message.startswith("1 validation error detected: ")
    assert constraint in message


def test_every_broken_limit_is_reported_at_once() -> None:
    message = _message(CONTROL_PLANE, "CreateModel", {"ModelName": "-", "ExecutionRoleArn": "x"})
    assert message.startswith("3 validation errors detected: ")


def test_ranges_are_checked() -> None:
    params = {"EndpointName": "e", "RequestTTLSeconds": 59}
    low = _message(RUNTIME, "InvokeEndpointAsync", params)
    high = _message(RUNTIME, "InvokeEndpointAsync", params | {"RequestTTLSeconds": 21601})
    assert "greater than or equal to 60" in low
    assert "less than or equal to 21600" in high


def test_tags_may_hold_digits_and_letters_of_any_script() -> None:
    tags = [{"Key": "größe-1", "Value": "1.5 µ=x"}]
    validate(
        Request(
            CONTROL_PLANE,
            "AddTags",
            "us-east-1",
            {"ResourceArn": "arn:aws:sagemaker:eu-west-1:123456789012:model/m", "Tags": tags},
        )
    )


def test_secrets_are_not_repeated() -> None:
    secret = "s3cr3t" * 400
    container = {"Environment": {"TOKEN": secret}}
    message = _message(CONTROL_PLANE, "CreateModel", {"ModelName": "m", "PrimaryContainer": container})
    assert "s3cr3t" not in message
    attributes: dict[str, object] = {"EndpointName": "e", "Body": b"s3cr3t", "CustomAttributes": secret}
    assert "s3cr3t" not in _message(RUNTIME, "InvokeEndpoint", attributes)
