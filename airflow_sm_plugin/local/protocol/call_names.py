"""Name a call of any AWS service: the service, the operation, and the resource, for the fault plan and the call log.

A body is read only where it has the operation's or the resource's name. A request of S3 does not name its operation:
method, path, query and headers together identify it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, parse_qsl

from botocore.model import OperationModel, StructureShape

from airflow_sm_plugin.local.protocol.access import OWN_ACCESS_KEY, is_runtime_call, only_reads
from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    Request,
    json_object,
    service_model,
)

_NAMES_A_RESOURCE = ("ResourceId", "AlarmName", "TopicArn", "QueueUrl", "QueueName", "logGroupName")
"""Members of other services' requests that name a resource. The first one that is present counts."""

_CONFUSED_BY_MOTO = """
    CreateBucketMetadataConfiguration CreateBucketMetadataTableConfiguration CreateSession
    DeleteBucketAnalyticsConfiguration DeleteBucketIntelligentTieringConfiguration
    DeleteBucketInventoryConfiguration DeleteBucketMetadataConfiguration
    DeleteBucketMetadataTableConfiguration DeleteBucketMetricsConfiguration DeleteObjectAnnotation
    GetBucketAbac GetBucketAnalyticsConfiguration GetBucketIntelligentTieringConfiguration
    GetBucketMetadataConfiguration GetBucketMetadataTableConfiguration GetBucketMetricsConfiguration
    GetBucketRequestPayment GetObjectAnnotation GetObjectRetention GetObjectTorrent
    ListBucketAnalyticsConfigurations ListBucketIntelligentTieringConfigurations
    ListBucketMetricsConfigurations ListObjectAnnotations PutBucketAbac PutBucketAnalyticsConfiguration
    PutBucketIntelligentTieringConfiguration PutBucketMetricsConfiguration PutBucketRequestPayment
    PutObjectAnnotation RenameObject UpdateBucketMetadataAnnotationTableConfiguration
    UpdateBucketMetadataInventoryTableConfiguration UpdateBucketMetadataJournalTableConfiguration
    UpdateObjectEncryption WriteGetObjectResponse
"""
NOT_IN_MOTO = frozenset(_CONFUSED_BY_MOTO.split())
"""Operations that moto 5.2.5 confuses with another, as it ignores the sub-resource: getting a bucket's metrics lists
its objects, deleting its inventory deletes the bucket."""


@dataclass(frozen=True)
class CallName:
    """The name of a call.

    :param service: for which the call is signed, or ``sagemaker-runtime``; empty for an unsigned call
    :param operation: the API reference's name, else method and path
    :param resource: the resource's name, ``bucket/key`` in S3; None for a call without a name
    :param is_own: whether the embedded SageMaker itself calls
    :param body: of an invocation, empty for all other calls; it is secret
    """

    service: str
    operation: str
    resource: str | None
    region: str
    method: str
    path: str
    is_own: bool = False
    target_model: str | None = None
    body: bytes = field(default=b"", repr=False)

    @property
    def changes_something(self) -> bool:
        return not (only_reads(self.operation) or self.operation.startswith(("GET ", "HEAD ", "OPTIONS ")))


def name_call(http: ReceivedRequest, request: Request | None, *, reads_body: bool = True) -> CallName:
    """Name a call. *request* is None for other services, and for a call of SageMaker that cannot be parsed."""
    target = http.headers.get("x-amz-target", "")
    is_sagemaker = http.signature.service == CONTROL_PLANE or target.startswith("SageMaker.")
    is_own = http.signature.access_key == OWN_ACCESS_KEY
    sent = (http.signature.region, http.method, http.path, is_own)
    if not is_sagemaker and (http.signature.service or not is_runtime_call(http.method, http.path)):
        operation, resource = _other_operation(http, http.body if reads_body else bytes)
        service = http.signature.service or "s3"
        return CallName(service, operation, resource, *sent)
    if request is None:
        service = CONTROL_PLANE if target else RUNTIME
        operation = target.removeprefix("SageMaker.") or f"{http.method} {http.path}"
        return CallName(service, operation, None, *sent)
    target_model, body = request.params.get("TargetModel"), request.params.get("Body")
    target_model = target_model if isinstance(target_model, str) else None
    body = body if isinstance(body, bytes) else b""
    return CallName(
        request.service, request.operation, _sagemaker_resource(request), *sent, target_model, body
    )


def _other_operation(http: ReceivedRequest, body: Callable[[], bytes]) -> tuple[str, str | None]:
    """Name operation and resource of another service's call; *body* is called only where it has these names."""
    target, kind = http.headers.get("x-amz-target", ""), http.headers.get("content-type", "")
    by_path = f"{http.method} {http.path}"
    if http.signature.service in ("", "s3"):
        address = http.path if http.bucket is None else f"/{http.bucket}{http.path}"
        return s3_operation(http.method, address, http.query, http.headers), address[1:] or None
    if target:
        return target.rpartition(".")[2], _resource(_json_members(body()))
    if "x-www-form-urlencoded" in kind or "Action=" in http.query:
        fields = parse_qs(f"{http.query}&{body().decode(errors='replace')}")
        form = {name: values[0] for name, values in fields.items()}
        return form.get("Action", by_path), _resource(form)
    if "/operation/" in http.path:  # Smithy RPC: CloudWatch speaks CBOR
        return http.path.rpartition("/")[2], None
    return by_path, None


def _sagemaker_resource(request: Request) -> str | None:
    """Find the resource: the first member whose name ends with Name or Arn, required members first."""
    model = service_model(request.service)
    is_modelled = request.operation in model.operation_names
    shape = model.operation_model(request.operation).input_shape if is_modelled else None
    required = shape.required_members if isinstance(shape, StructureShape) else []
    for name in (*required, *request.params):
        value = request.params.get(name)
        if name.endswith(("Name", "Arn")) and isinstance(value, str):
            return value
    return None


def _json_members(body: bytes) -> Mapping[str, object]:
    with contextlib.suppress(ValidationFailure):
        return json_object(body)
    return {}


def _resource(members: Mapping[str, object]) -> str | None:
    return next((str(members[name]) for name in _NAMES_A_RESOURCE if members.get(name)), None)


def s3_operation(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Identify the S3 operation of a path-style request: of those that fit, the one with the most conditions.

    Conditions are in botocore's model: a sub-resource, parameters, a copy's source.

    :param path: ``/bucket/key``, decoded
    """
    bucket, _, key = path[1:].partition("/")
    level = 2 if key else 1 if bucket else 0
    parameters = dict(parse_qsl(query, keep_blank_values=True))
    operations = [
        operation
        for operation in _s3_operations()
        if (operation.method, operation.level) == (method, level) and operation.holds(parameters, headers)
    ]
    best = max(operations, key=lambda operation: operation.conditions, default=None)
    return best.name if best else f"{method} {path}"


@dataclass(frozen=True)
class _S3Operation:
    name: str
    method: str
    level: int
    parameters: Mapping[str, str | None]
    required_headers: frozenset[str]

    @property
    def conditions(self) -> int:
        return len(self.parameters) + len(self.required_headers)

    def holds(self, query: Mapping[str, str], headers: Mapping[str, str]) -> bool:
        return all(
            name in query and value in (None, query[name]) for name, value in self.parameters.items()
        ) and all(name in headers for name in self.required_headers)


@functools.cache
def _s3_operations() -> tuple[_S3Operation, ...]:
    model = service_model("s3")
    return tuple(_s3(model.operation_model(name)) for name in sorted(model.operation_names))


def _s3(operation: OperationModel) -> _S3Operation:
    path, _, literal = operation.http["requestUri"].partition("?")
    parameters: dict[str, str | None] = {
        name: value or None for name, value in parse_qsl(literal, keep_blank_values=True)
    }
    parameters.update(dict.fromkeys(_required(operation, "querystring")))
    return _S3Operation(
        operation.name,
        operation.http["method"],
        ("{Bucket}" in path) + ("{Key+}" in path),
        parameters,
        frozenset(name.lower() for name in _required(operation, "header")),
    )


def _required(operation: OperationModel, location: str) -> Iterator[str]:
    shape = operation.input_shape
    if shape is None:
        return
    for name in shape.required_members:
        serialization = shape.members[name].serialization
        if serialization.get("location") == location:
            yield serialization["name"]
