"""SageMaker's two wire protocols, with botocore's service models.

The control plane speaks AWS JSON 1.1 (``X-Amz-Target: SageMaker.CreateModel``), the runtime REST-JSON
(``POST /endpoints/{EndpointName}/invocations``, parameters in headers). Both sign as ``sagemaker``.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape, StructureShape

from airflow_sm_plugin.local.protocol.errors import ServiceFailure, ValidationFailure

CONTROL_PLANE = "sagemaker"
RUNTIME = "sagemaker-runtime"


@dataclass(frozen=True)
class Request:
    """A call. ``params`` have the API reference's names; ``Body`` is the payload of runtime calls, as bytes."""

    service: str
    operation: str
    region: str
    params: Mapping[str, object]


@dataclass(frozen=True)
class Response:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@functools.cache
def service_model(service: str) -> ServiceModel:
    return ServiceModel(Loader().load_service_model(service, "service-2"))


def parse_request(
    *, method: str, path: str, headers: Mapping[str, str], body: bytes, region: str
) -> Request | None:
    """Parse a call; None for an operation that the models lack. ``headers`` have lower-case names."""
    target = headers.get("x-amz-target", "")
    if target.startswith("SageMaker."):
        return Request(CONTROL_PLANE, target.removeprefix("SageMaker."), region, json_object(body))
    for operation in _rest_operations():
        params = _match_uri(operation, method, path)
        if params is not None:
            params |= _from_headers(operation, headers) | ({"Body": body} if body else {})
            return Request(RUNTIME, operation.name, region, params)
    return None


def json_object(body: bytes) -> Mapping[str, object]:
    """Read the parameters of a JSON 1.1 request. Raises ValidationFailure."""
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError):  # RecursionError for a thousand brackets
        value = None
    if not isinstance(value, dict):
        raise ValidationFailure("The request body is not a JSON object")
    return value


@functools.cache
def _rest_operations() -> tuple[OperationModel, ...]:
    model = service_model(RUNTIME)
    return tuple(model.operation_model(name) for name in model.operation_names)


def _match_uri(operation: OperationModel, method: str, path: str) -> dict[str, object] | None:
    template = operation.http["requestUri"]
    pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(template))
    match = re.fullmatch(pattern, path) if method == operation.http["method"] else None
    return {name: unquote(value) for name, value in match.groupdict().items()} if match else None


def _from_headers(operation: OperationModel, headers: Mapping[str, str]) -> dict[str, object]:
    params: dict[str, object] = {}
    for name, shape in _members(operation.input_shape):
        value = headers.get(str(shape.serialization.get("name", "")).lower())
        if shape.serialization.get("location") == "header" and value is not None:
            params[name] = _scalar(name, shape, value)
    return params


def _scalar(name: str, shape: Shape, value: str) -> object:
    if shape.type_name != "integer":
        return value
    try:
        return int(value)
    except ValueError:
        raise ValidationFailure(f"{name} is not an integer: {value}") from None


def _members(shape: Shape | None) -> Iterable[tuple[str, Shape]]:
    return shape.members.items() if isinstance(shape, StructureShape) else ()


def control_plane_response(result: Mapping[str, object]) -> Response:
    body = json.dumps(result, default=_json_value).encode()
    return Response(200, body, {"Content-Type": "application/x-amz-json-1.1"})


def _json_value(value: object) -> object:
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} cannot be in an answer")


def runtime_response(operation: str, result: Mapping[str, object]) -> Response:
    """Write an answer of the runtime: header members as headers, ``Body`` or all other members as body."""
    model = service_model(RUNTIME).operation_model(operation)
    headers: dict[str, str] = {}
    rest: dict[str, object] = {}
    for name, shape in _members(model.output_shape):
        if result.get(name) is None:
            continue
        if shape.serialization.get("location") == "header":
            text = str(result[name])
            if name.endswith("Location"):  # S3 keys have any letters, headers bytes (invented)
                text = text.encode().decode("latin-1")
            headers[shape.serialization["name"]] = text
        else:
            rest[name] = result[name]
    status = int(model.http.get("responseCode", 200))
    payload = rest.get("Body")
    if isinstance(payload, bytes):
        return Response(status, payload, headers)
    return Response(status, json.dumps(rest).encode(), {"Content-Type": "application/json"} | headers)


def error_response(error: ServiceFailure, service: str) -> Response:
    """Write an error in the protocol of ``service``: the code in ``__type`` (JSON 1.1) or in a header (REST-JSON)."""
    body = json.dumps(error.body_for(service)).encode()
    if service == CONTROL_PLANE:
        return Response(error.status, body, {"Content-Type": "application/x-amz-json-1.1"})
    headers = {"Content-Type": "application/json", "x-amzn-ErrorType": error.code_for(service)}
    return Response(error.status, body, headers)
