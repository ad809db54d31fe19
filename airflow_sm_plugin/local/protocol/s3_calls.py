"""Name S3's operations, which the protocol does not: method, path, query and headers together say which it is."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel

NOT_IN_MOTO = frozenset(
    {
        "CreateBucketMetadataConfiguration",
        "CreateBucketMetadataTableConfiguration",
        "CreateSession",
        "DeleteBucketAnalyticsConfiguration",
        "DeleteBucketIntelligentTieringConfiguration",
        "DeleteBucketInventoryConfiguration",
        "DeleteBucketMetadataConfiguration",
        "DeleteBucketMetadataTableConfiguration",
        "DeleteBucketMetricsConfiguration",
        "DeleteObjectAnnotation",
        "GetBucketAbac",
        "GetBucketAnalyticsConfiguration",
        "GetBucketIntelligentTieringConfiguration",
        "GetBucketMetadataConfiguration",
        "GetBucketMetadataTableConfiguration",
        "GetBucketMetricsConfiguration",
        "GetBucketRequestPayment",
        "GetObjectAnnotation",
        "GetObjectRetention",
        "GetObjectTorrent",
        "ListBucketAnalyticsConfigurations",
        "ListBucketIntelligentTieringConfigurations",
        "ListBucketMetricsConfigurations",
        "ListObjectAnnotations",
        "PutBucketAbac",
        "PutBucketAnalyticsConfiguration",
        "PutBucketIntelligentTieringConfiguration",
        "PutBucketMetricsConfiguration",
        "PutBucketRequestPayment",
        "PutObjectAnnotation",
        "RenameObject",
        "UpdateBucketMetadataAnnotationTableConfiguration",
        "UpdateBucketMetadataInventoryTableConfiguration",
        "UpdateBucketMetadataJournalTableConfiguration",
        "UpdateObjectEncryption",
        "WriteGetObjectResponse",
    }
)
"""Operations that moto 5.2.5 takes for another, as it ignores the sub-resource: to get a bucket's metrics lists its
objects, to delete its inventory deletes the bucket."""


def s3_operation(method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Return the S3 operation of a path-style request, by what botocore's model says of each.

    The one with the most conditions (sub-resource, parameters, a copy's source) that all hold.

    :param path: ``/bucket/key``, decoded
    """
    bucket, _, key = path[1:].partition("/")
    level = 2 if key else 1 if bucket else 0
    there = dict(parse_qsl(query, keep_blank_values=True))
    best = max(
        (
            one
            for one in _s3_operations()
            if one.method == method and one.level == level and one.holds(there, headers)
        ),
        key=lambda one: one.conditions,
        default=None,
    )
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
    model = ServiceModel(Loader().load_service_model("s3", "service-2"))
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
