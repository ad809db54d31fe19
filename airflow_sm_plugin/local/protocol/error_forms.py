"""Write an error in the protocol that a request speaks, so that any client reads its code and message."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Literal
from xml.sax.saxutils import escape

from airflow_sm_plugin.local.protocol.protocol import Response

ErrorForm = Literal["json", "rest-json", "cbor", "query", "ec2", "s3"]

_XML_SERVICES = ("cloudfront", "route53")
"""Beside S3 the only ones that speak REST-XML; their errors look like those of the query protocol."""
_QUERY_SERVICES = (
    "autoscaling",
    "cloudformation",
    "elasticloadbalancing",
    "iam",
    "rds",
    "redshift",
    "sns",
    "sts",
)
"""Services that speak nothing but the query protocol, whatever a request looks like."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def form_of(service: str, headers: Mapping[str, str], query: str) -> ErrorForm:
    """Return the protocol of a request's errors, by what the request looks like.

    :param service: what it is signed for, empty when it is not signed
    :param headers: lower-case names
    """
    if "smithy-protocol" in headers:
        return "cbor"
    if "x-amz-target" in headers:
        return "json"
    if service == "ec2":
        return "ec2"
    if service in (*_XML_SERVICES, *_QUERY_SERVICES) or "Action=" in query:
        return "query"
    if service not in ("", "s3") and "x-www-form-urlencoded" in headers.get("content-type", ""):
        return "query"
    return "s3" if service in ("", "s3") else "rest-json"


def error_in_form(form: ErrorForm, *, status: int, code: str, message: str, request_id: str) -> Response:
    """Write an error as the clients of ``form`` read it."""
    headers = {"x-amzn-ErrorType": code}
    if form == "cbor":
        headers |= {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
        return Response(status, _cbor({"__type": code, "message": message}), headers)
    if form in ("json", "rest-json"):
        headers["Content-Type"] = f"application/{'x-amz-json-1.1' if form == 'json' else 'json'}"
        return Response(status, json.dumps({"__type": code, "message": message}).encode(), headers)
    headers["Content-Type"] = "text/xml"
    return Response(status, _xml(form, status, code, message, request_id).encode(), headers)


def _xml(form: ErrorForm, status: int, code: str, message: str, request_id: str) -> str:
    error = f"<Code>{_text(code)}</Code><Message>{_text(message)}</Message>"
    if form == "s3":
        return f"<Error>{error}<RequestId>{request_id}</RequestId></Error>"
    if form == "ec2":
        return (
            f"<Response><Errors><Error>{error}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
        )
    kind = "Sender" if status < 500 else "Receiver"
    return (
        f"<ErrorResponse><Error><Type>{kind}</Type>{error}</Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )


def _text(value: str) -> str:
    return escape(_NOT_XML.sub("?", value))


def _cbor(members: Mapping[str, str]) -> bytes:
    """Write a map of texts (RFC 8949); botocore only reads this format."""
    return bytes([0xA0 + len(members)]) + b"".join(
        _cbor_text(one) for member in members.items() for one in member
    )


def _cbor_text(value: str) -> bytes:
    content = value.encode(errors="replace")
    return b"\x7a" + len(content).to_bytes(4, "big") + content
