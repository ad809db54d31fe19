"""Recorded answers of InvokeEndpoint, as botocore reads them off the wire."""

from __future__ import annotations

from typing import cast

from botocore.exceptions import ClientError
from botocore.model import Shape
from botocore.parsers import create_parser

from airflow_sm_plugin.local.protocol import RUNTIME, error_response, service_model
from airflow_sm_plugin.local.recorded import recorded_answers, recorded_for_rule

OPERATION = "InvokeEndpoint"
SITUATIONS = tuple(name for name, row in recorded_answers().items() if row.operation == OPERATION)


def recorded_error(situation: str) -> ClientError:
    """Return the error that botocore raises for a recorded answer."""
    response = error_response(recorded_for_rule(situation, endpoint="e"), RUNTIME)
    wire = {
        "status_code": response.status,
        "headers": {name.lower(): value for name, value in response.headers.items()},
        "body": response.body,
    }
    model, parser = service_model(RUNTIME), create_parser("rest-json")
    answer_shape = model.operation_model(OPERATION).output_shape
    assert answer_shape is not None
    parsed = parser.parse(wire, answer_shape)
    error_shape = cast("Shape | None", model.shape_for_error_code(parsed["Error"]["Code"]))
    return ClientError(parsed if error_shape is None else parsed | parser.parse(wire, error_shape), OPERATION)
