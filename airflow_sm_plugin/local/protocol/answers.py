"""The answer to a client: of this service, of moto, or an error of the called service.

An error is written in the request's protocol, so that any client can read its code and message.
"""

from __future__ import annotations

import dataclasses
import http
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qsl, quote
from xml.sax.saxutils import escape

from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.protocol import Response

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication

_REQUEST_ID = "x-amzn-RequestId"
_NO_SUCH_PATH = (404, 405)
_FIRST_ERROR = 400
_START_AFTER = re.compile(b"<StartAfter>.*?</StartAfter>", re.DOTALL)
_MARKUP = re.compile("html|svg|xml", re.IGNORECASE)
"""Content types that can hold scripts which a browser runs, also a browser that sends no ``Sec-Fetch-Dest``."""
_SANDBOX = ("Content-Security-Policy", "sandbox allow-scripts")
"""A header for objects that a browser shows: their scripts get an origin of their own, whose requests are refused."""

ErrorForm = Literal["json", "rest-json", "cbor", "query", "ec2", "s3"]
_XML_SERVICES = ("cloudfront", "route53")
"""The only REST-XML services beside S3; their errors have the form of the query protocol."""
_QUERY_SERVICES = (
    *("autoscaling", "cloudformation", "elasticloadbalancing"),
    *("iam", "rds", "redshift", "sns", "sts"),
)
"""Services that have only the query protocol; a request need not show it."""
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class ClientAnswer:
    """An HTTP answer that can be written once, or discarded. ``error`` is an error's code, where moto gives one."""

    status: int
    error: str | None
    request_id: str
    line: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    content: Iterable[bytes] = field(repr=False)

    def write(self, start_response: StartResponse, after: OptExcInfo | None = None) -> Iterable[bytes]:
        start_response(self.line, list(self.headers), *([after] if after else []))
        return self.content

    def discard(self) -> None:
        close: Callable[[], None] | None = getattr(self.content, "close", None)
        if close is not None:
            close()


def of_response(response: Response, error: str | None, request_id: str) -> ClientAnswer:
    headers = {**response.headers, _REQUEST_ID: request_id}
    if response.status != 204:
        headers["Content-Length"] = str(len(response.body))
    line = _line(response.status)
    return ClientAnswer(response.status, error, request_id, line, list(headers.items()), [response.body])


def of_stream(
    status: int, headers: Mapping[str, str], content: Iterable[bytes], request_id: str
) -> ClientAnswer:
    """Answer with content that is made while it is sent; the headers have its length."""
    with_id = [*headers.items(), (_REQUEST_ID, request_id)]
    return ClientAnswer(status, None, request_id, _line(status), with_id, content)


def passed_on(application: WSGIApplication, request: ReceivedRequest) -> ClientAnswer:
    """Have moto carry a request out, and return its answer, not yet written.

    The CORS headers that moto adds, and those of a bucket's CORS configuration, are removed: no page is permitted to
    read this service. Raises UnicodeEncodeError for a header that HTTP cannot hold.
    """
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start(line: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        started.append((line, headers))
        return lambda _: None  # the imperative half of WSGI, which moto does not use

    content = application(request.for_moto(), start)
    line, given = started[-1]
    headers = [(name, value) for name, value in given if not name.lower().startswith("access-control-")]
    is_shown = "sec-fetch-dest" in request.headers or _MARKUP.search(_header(headers, "Content-Type") or "")
    if is_shown and not request.path.startswith("/moto-api/"):
        headers.append(_SANDBOX)
    request_id = _header(headers, _REQUEST_ID)
    if request_id is None:
        request_id = request.request_id
        headers.append((_REQUEST_ID, request_id))
    status = int(line.split()[0])
    for name, value in headers:
        name.encode("ascii"), value.encode("latin-1")  # waitress would fail too late for another answer
    if status >= _FIRST_ERROR:
        content = [b"".join(content)]
    return ClientAnswer(status, _header(headers, "x-amzn-ErrorType"), request_id, line, headers, content)


def is_unknown_path(answer: ClientAnswer) -> bool:
    """Detect moto's answer to a method and path that no operation has."""
    return answer.status in _NO_SUCH_PATH and is_without_message(answer)


def is_without_message(answer: ClientAnswer) -> bool:
    """Detect an error that moto answers with a page of HTML, or without a body."""
    content = b"".join(answer.content) if answer.status >= _FIRST_ERROR else b"a success"
    return not content or content.startswith(b"<!doctype html>")


def with_encoded_start(answer: ClientAnswer, query: str) -> ClientAnswer:
    """Encode StartAfter in moto's listing as requested; moto does not. A key can have characters that XML lacks."""
    parameters = dict(parse_qsl(query))
    if (
        answer.status >= _FIRST_ERROR
        or parameters.get("encoding-type") != "url"
        or "start-after" not in parameters
    ):
        return answer
    start = f"<StartAfter>{quote(parameters['start-after'])}</StartAfter>".encode()
    content = _START_AFTER.sub(lambda _: start, b"".join(answer.content))
    headers = [
        (name, str(len(content)) if name.lower() == "content-length" else value)
        for name, value in answer.headers
    ]
    return dataclasses.replace(answer, headers=headers, content=[content])


def in_form(request: ReceivedRequest, service: str, *, status: int, code: str, message: str) -> ClientAnswer:
    form = form_of(service, request.headers, request.query)
    response = error_in_form(form, status=status, code=code, message=message, request_id=request.request_id)
    if request.method == "HEAD":
        response = dataclasses.replace(response, body=b"")
    return of_response(response, code, request.request_id)


def _header(headers: Iterable[tuple[str, str]], wanted: str) -> str | None:
    return next((value for name, value in headers if name.lower() == wanted.lower()), None)


def _line(status: int) -> str:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return f"{status} {phrase}"


def form_of(service: str, headers: Mapping[str, str], query: str) -> ErrorForm:
    """Choose the protocol of a request's errors by its service (empty for an unsigned one) and its headers."""
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
    """Write a map of texts (RFC 8949); botocore can only read this format."""
    texts = (_cbor_text(text) for member in members.items() for text in member)
    return bytes([0xA0 + len(members)]) + b"".join(texts)


def _cbor_text(value: str) -> bytes:
    content = value.encode(errors="replace")
    return b"\x7a" + len(content).to_bytes(4, "big") + content
