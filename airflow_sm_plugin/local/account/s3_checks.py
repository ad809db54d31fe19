"""Refuse S3 requests that moto would crash at, or accept and crash at later, with S3's own codes.

:func:`check` runs before moto gets the request. A crash of moto is then either a mistake in the request that only moto
can find (:func:`failure_of_crash`), or an InternalError that names the exception.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import parse_qsl
from xml.parsers import expat

from botocore.model import OperationModel

from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.errors import S3Failure
from airflow_sm_plugin.local.protocol.protocol import service_model

_LARGEST_COUNT = 2**31 - 1
_HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"
_CANNED_ACLS = (
    *("private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read"),
    *("bucket-owner-read", "bucket-owner-full-control", "log-delivery-write"),
)
_GRANTEES = re.compile(r'\s*(id|uri|url|emailAddress)\s*=\s*("[^"]+"|[^",\s]+)\s*(,(?=.)|$)', re.IGNORECASE)
_STATEMENT_MEMBERS = ("Principal", "Action", "Resource")

ValueRule = tuple[Callable[[str], object], str]
"""A test of a value, and the description of a valid one."""


def check(operation: str, http: ReceivedRequest) -> None:
    headers = http.headers
    for name, value in parse_qsl(http.query, keep_blank_values=True):
        if name in _COUNTS:
            _check_count(name, value)
        _check_argument(name, value, _QUERY.get(name))
    for name, value in headers.items():
        _check_argument(name, value, _GRANT if name.startswith("x-amz-grant-") else _HEADERS.get(name))
    if headers.get("x-amz-content-sha256", "").startswith("STREAMING-"):
        if "x-amz-decoded-content-length" not in headers:
            raise S3Failure("MissingContentLength", "You must provide x-amz-decoded-content-length.", 411)
        return
    if "content-md5" in headers:
        _check_digest(headers["content-md5"], http.body())
    if operation == "PutBucketPolicy":
        _check_policy(http.body())
    if operation in _documents():
        _check_document(operation, http.body())


def failure_of_crash(crash: Exception, operation: str, http: ReceivedRequest) -> S3Failure | None:
    """Find the mistake in a request that moto crashed at; None for a mistake of moto."""
    given = dict(parse_qsl(http.query, keep_blank_values=True))
    reason = f"{type(crash).__name__}: {crash}"
    if isinstance(crash, KeyError) and crash.args[0] == given.get("uploadId"):
        return S3Failure("NoSuchUpload", f"The specified upload does not exist: {crash.args[0]!r}.", 404)
    if operation.startswith("POST "):
        if http.headers.get("content-type", "").startswith("multipart/form-data"):
            return S3Failure("InvalidArgument", f"Not a form that uploads an object to a bucket ({reason}).")
        return failure_of_status(405, operation)
    if operation == "ListObjectsV2" and "continuation-token" in given:
        return S3Failure("InvalidArgument", f"The continuation token provided is incorrect ({reason}).")
    if operation in _documents() and "versionId" not in given:
        return _malformed(reason)
    return None


def failure_of_status(status: int, operation: str) -> S3Failure:
    """Choose the error for an error status that moto answers with a page of HTML, or without a body."""
    if operation == "PutBucketVersioning":
        return _malformed("Status must be Enabled or Suspended")
    code, message = _OF_STATUS.get(status, ("InvalidRequest", "The request is not valid."))
    return S3Failure(code, message, status)


_OF_STATUS = {
    403: ("AccessDenied", "Access Denied"),
    404: ("NoSuchKey", "The specified key does not exist."),
    405: ("MethodNotAllowed", "The specified method is not allowed against this resource."),
    416: ("InvalidPartNumber", "The requested partnumber is not satisfiable."),
}


def _check_argument(name: str, value: str, rule: ValueRule | None) -> None:
    if rule is not None and not rule[0](value):
        raise S3Failure("InvalidArgument", f"{name} must be {rule[1]}, not {value[:100]!r}.")


def _check_count(name: str, value: str) -> None:
    if not re.fullmatch("-?[0-9]{1,19}", value) or int(value) > _LARGEST_COUNT:
        raise S3Failure("InvalidArgument", f"Provided {name} not an integer or within integer range")
    if int(value) < 0 and name != "partNumber":  # moto answers this as S3 does
        raise S3Failure(
            "InvalidArgument", f"Argument {name} must be an integer between 0 and {_LARGEST_COUNT}"
        )


def _is_date(value: str) -> bool:
    try:
        datetime.datetime.strptime(value, _HTTP_DATE)  # noqa: DTZ007 - only whether it is one
    except ValueError:
        return False
    return True


def _are_grantees(value: str) -> bool:
    end = 0
    while match := _GRANTEES.match(value, end):
        end = match.end()
    return bool(value) and end == len(value)


_COUNTS = ("max-keys", "max-parts", "max-uploads", "max-buckets", "part-number-marker", "partNumber")
_DATE: ValueRule = (_is_date, "a date such as 'Wed, 21 Oct 2026 07:28:00 GMT'")
_GRANT: ValueRule = (_are_grantees, "a list of grantees such as 'id=\"…\"'")
_QUERY: Mapping[str, ValueRule] = {
    "encoding-type": (lambda value: value == "url", "'url'"),
    "list-type": (lambda value: value == "2", "'2'"),
}
_HEADERS: Mapping[str, ValueRule] = {
    "x-amz-acl": (lambda value: value in ("", *_CANNED_ACLS), f"one of {', '.join(_CANNED_ACLS)}"),
    "x-amz-copy-source": (lambda value: re.fullmatch("/?[^/]+/.+", value, re.DOTALL), "'<bucket>/<key>'"),
    "x-amz-copy-source-range": (
        lambda value: re.fullmatch(r"(bytes=)?\d{1,19}-\d{1,19}", value),
        "'bytes=<first>-<last>'",
    ),
    "x-amz-decoded-content-length": (lambda value: re.fullmatch("[0-9]{1,19}", value), "a number of bytes"),
    "range": (lambda value: not value or "=" in value, "'bytes=<first>-<last>'"),
    "if-modified-since": _DATE,
    "if-unmodified-since": _DATE,
}


def _check_digest(given: str, body: bytes) -> None:
    try:
        digest = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 16:
        raise S3Failure("InvalidDigest", f"The Content-MD5 you specified is not valid: {given[:100]!r}.")
    if hashlib.md5(body, usedforsecurity=False).digest() != digest:
        raise S3Failure("BadDigest", "The Content-MD5 you specified did not match what we received.")


def _check_policy(body: bytes) -> None:
    try:
        policy = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise S3Failure(
            "MalformedPolicy", f"Policies must be valid JSON and the first byte must be '{{' ({error})."
        ) from None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    if not isinstance(statements, list) or not statements:
        raise S3Failure("MalformedPolicy", "A policy must be an object with a list of statements, Statement.")
    for statement in statements:
        _check_statement(statement)


def _check_statement(statement: object) -> None:
    if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
        raise S3Failure("MalformedPolicy", "Each Statement must be an object with Effect Allow or Deny.")
    for member in _STATEMENT_MEMBERS:
        value = statement.get(member, statement.get(f"Not{member}"))
        items = value if isinstance(value, list) else [value]
        is_map = member == "Principal" and isinstance(value, dict)
        if not (is_map or (items and all(isinstance(item, str) for item in items))):
            raise S3Failure("MalformedPolicy", f"Each Statement needs {member}, as text or a list of texts.")


def _check_document(operation: str, body: bytes) -> None:
    root, is_required = _documents()[operation]
    if not body and not is_required:
        return
    names: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda name, _: names.append(name)
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(body, True)  # noqa: FBT003 - the last piece; expat takes no keyword
    except expat.ExpatError as error:
        raise _malformed(str(error)) from None
    if names[0].rpartition(":")[2] != root:
        raise _malformed(f"the document is {names[0]}, not {root}")


def _refuse_doctype(*_: object) -> None:
    raise _malformed("it has a document type")


def _malformed(reason: str) -> S3Failure:
    return S3Failure(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema "
        f"({reason}).",
    )


@functools.cache
def _documents() -> Mapping[str, tuple[str, bool]]:
    model = service_model("s3")
    return {
        name: document
        for name in model.operation_names
        for document in _document(model.operation_model(name))
    }


def _document(operation: OperationModel) -> Iterator[tuple[str, bool]]:
    shape = operation.input_shape
    if shape is None:
        return
    payload = shape.serialization.get("payload")
    if payload is None and "name" in shape.serialization:
        yield shape.serialization["name"], True
    elif payload and shape.members[payload].type_name == "structure":
        yield shape.members[payload].serialization["name"], payload in shape.required_members
