"""Recorded answers, as botocore reads them off the wire."""

from __future__ import annotations

from typing import cast

from botocore.exceptions import ClientError
from botocore.model import Shape
from botocore.parsers import create_parser

from airflow_sm_plugin.local.faults.recorded import recorded_answers, recorded_for_rule
from airflow_sm_plugin.local.protocol.answers import error_in_form
from airflow_sm_plugin.local.protocol.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    error_response,
    service_model,
)

ALL_SITUATIONS = tuple(recorded_answers())
SITUATIONS = tuple(name for name, row in recorded_answers().items() if row.operation == "InvokeEndpoint")
"""Of InvokeEndpoint."""

_AUTOSCALING = "application-autoscaling"


def recorded_error(situation: str) -> ClientError:
    """Return the error that botocore raises for a recorded answer."""
    operation = recorded_answers()[situation].operation
    service = next(
        name
        for name in (RUNTIME, CONTROL_PLANE, _AUTOSCALING)
        if operation in service_model(name).operation_names
    )
    error = recorded_for_rule(situation, endpoint="e")
    if service == _AUTOSCALING:
        response = error_in_form(
            "json", status=error.status, code=error.code, message=error.message, request_id="r"
        )
    else:
        response = error_response(error, service)
    wire = {
        "status_code": response.status,
        "headers": {name.lower(): value for name, value in response.headers.items()},
        "body": response.body,
    }
    model = service_model(service)
    parser = create_parser(model.metadata["protocol"])
    parsed = parser.parse(wire, cast("Shape", model.operation_model(operation).output_shape))
    error_shape = cast("Shape | None", model.shape_for_error_code(parsed["Error"]["Code"]))
    return ClientError(parsed if error_shape is None else parsed | parser.parse(wire, error_shape), operation)
