"""Read answers by botocore's own parsers, even a proxy's page, JSON of another shape, or bytes that are no text.

An error answer that cannot be read keeps its HTTP status, and that decides; a successful one that cannot be read is
:class:`UnreadableAnswer`. Both transports use these parsers, botocore's clients by a component of their session
(:mod:`airflow_sm_plugin.aws.hook`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import TYPE_CHECKING, Any, NoReturn, cast

from botocore.exceptions import HTTPClientError
from botocore.parsers import ResponseParser, ResponseParserFactory, create_parser

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.service_errors import FOREIGN_PAGE, UNREADABLE, text_of
from airflow_sm_plugin.exceptions import InvalidS3Uri, ServiceUnavailable

if TYPE_CHECKING:
    from botocore.model import OperationModel, ServiceModel, Shape

ERROR = 300
"""HTTP statuses from here on are errors: redirects are not followed."""

_PAGE_BEGINS = (b"<!doctype html", b"<html")
_REQUEST_IDS = ("x-amzn-requestid", "x-amz-request-id", "x-amzn-request-id")
_LONGEST_MESSAGE = 2_000
"""Characters kept of an error's text that may be none of AWS's: enough to see who answered, and short in a log."""
_SERVER_ERROR = 500
_TYPES: Mapping[str, type] = {"string": str, "integer": int, "long": int, "boolean": bool}


class UnreadableAnswer(HTTPClientError):
    """A successful answer, of AWS or of a proxy, that cannot be read. The request may have been carried out."""

    fmt = "{error}"


def result_locations(output: object, failure: object) -> tuple[str, str | None]:
    """Read the locations of output and failure object from a successful answer.

    :raises UnreadableAnswer: a location is missing, or names no object in S3: the answer counts as lost
    """
    if not output:
        raise UnreadableAnswer(error="the answer does not say where the result will be")
    locations = _as_sent(str(output)), _as_sent(str(failure)) if failure else None
    for location in filter(None, locations):
        try:
            S3Uri.parse_object(location)
        except InvalidS3Uri as error:
            raise UnreadableAnswer(
                error=f"the answer puts the result at {location!r:.200}, which is no object in S3"
            ) from error
    return locations


def _as_sent(header: str) -> str:
    """Decode a header that was sent in UTF-8: botocore reads each of its bytes as a character."""
    try:
        return header if header.isascii() else header.encode("latin-1").decode()
    except UnicodeError:
        return header


class ParsedResponse(dict[str, Any]):
    """A part of a successful answer. A missing member raises one of this package's errors, no KeyError."""

    def __missing__(self, name: str) -> NoReturn:
        raise ServiceUnavailable(
            f"AWS's answer has no {name}, or something else answered instead: check the endpoint URL and proxies; "
            f"a later retry may fare better"
        )


def protocol_of(service: ServiceModel) -> str:
    return str(getattr(service, "resolved_protocol", None) or service.metadata["protocol"])


class AnswerParser:
    """A botocore parser that no answer can break.

    :param protocol: botocore's name: ``rest-xml``, ``rest-json``, ``json`` …
    """

    def __init__(self, protocol: str) -> None:
        self._parser: ResponseParser = create_parser(protocol)
        self._is_json = protocol in ("json", "rest-json")

    def parse(self, response: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
        """Parse an answer as botocore does.

        :param response: ``status_code``, ``headers``, ``body``, ``context``
        :raises UnreadableAnswer: it is no error answer, and not what its shape says
        """
        if response["status_code"] >= ERROR:
            return self._parse_error(response, shape)
        try:
            self._check(response, shape)
            parsed = self._parser.parse(response, cast("Shape", shape))
            _check_types(parsed, shape)
        except Exception as error:  # whatever a parser stumbles over: they do not expect such answers
            _close(response["body"])
            if isinstance(error, UnreadableAnswer):
                raise
            raise UnreadableAnswer(
                error=f"the answer of status {response['status_code']} cannot be read ({type(error).__name__})"
            ) from error
        metadata = parsed.pop("ResponseMetadata", {})
        return ParsedResponse(_guarded(parsed), ResponseMetadata=metadata)

    def _parse_error(self, response: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
        try:
            parsed: dict[str, Any] = self._parser.parse(response, cast("Shape", shape))
        except Exception:  # noqa: BLE001 - as above; the status alone decides then
            parsed = {}
        if shape is None or not shape.metadata.get("exception"):
            return _error(parsed, response)
        # For a 5xx without a body botocore returns the bare status, which is known.
        parsed.pop("Error", None)
        return parsed  # the error's own members, as OriginalStatusCode of a ModelError

    def _check(self, response: Mapping[str, Any], shape: Shape | None) -> None:
        """Refuse an answer that a parser would take for an empty one."""
        check_no_page(response["status_code"], response["headers"], response["body"])
        body = response["body"]
        if not (self._is_json and isinstance(body, bytes) and body.strip()):
            return
        if shape is not None and not shape.serialization.get("payload") and not _is_object(body):
            raise UnreadableAnswer(error=f"the answer of status {response['status_code']} is no JSON object")


def check_no_page(status: int, headers: Mapping[str, str], body: object) -> None:
    """Refuse an HTML page instead of a successful answer: a proxy that wants a login sends one.

    A model, or an object in S3, can be HTML: then AWS's request id comes with it.

    :raises UnreadableAnswer: it is such a page
    """
    if _is_page(headers, body) and not _is_from_aws(headers):
        raise UnreadableAnswer(
            error=f"the answer of status {status} is an HTML page and bears no request id of AWS: a proxy, or another "
            f"server at that address"
        )


def _is_from_aws(headers: Mapping[str, str]) -> bool:
    return any(name in headers for name in _REQUEST_IDS)


def _is_page(headers: Mapping[str, str], body: object) -> bool:
    if isinstance(body, bytes) and body[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE_BEGINS):
        return True
    named = str(headers.get("content-type", "")).lower().startswith("text/html")
    return named and not (isinstance(body, bytes) and _is_object(body))


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _check_types(value: object, shape: Shape | None) -> None:
    """Refuse members of another JSON type than their shape says: botocore passes them on unchecked.

    :raises TypeError: there is one
    """
    kind = getattr(shape, "type_name", None)
    if isinstance(kind, str) and not isinstance(value, _TYPES.get(kind, object)):
        raise TypeError(f"no {kind}")
    if kind == "structure" and isinstance(value, dict):
        for name, member in cast("Any", shape).members.items():
            if name in value:
                _check_types(value[name], member)
    elif kind == "list" and isinstance(value, list):
        for item in value:
            _check_types(item, cast("Any", shape).member)


def _guarded(value: Any) -> Any:  # noqa: ANN401 - JSON or XML, parsed
    if isinstance(value, dict):
        return ParsedResponse((name, _guarded(item)) for name, item in value.items())
    return [_guarded(item) for item in value] if isinstance(value, list) else value


def _error(parsed: dict[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    """Parse an error answer as botocore does, with a code that :mod:`core.service_errors` can trust."""
    status: int = response["status_code"]
    error_element = parsed.get("Error")
    details: dict[str, Any] = error_element if isinstance(error_element, dict) else {}
    found_code, message = details.get("Code"), text_of(details.get("Message"))
    code = found_code if isinstance(found_code, str) else ""
    if code in ("", str(status)):  # not every protocol of botocore reads that header
        code = str(response["headers"].get("x-amzn-errortype", "")).partition(":")[0] or code
    if code in ("", str(status)):
        code, message = _without_code(message, response)
    metadata = parsed.get("ResponseMetadata")
    return {
        **parsed,
        "Error": {**details, "Code": code, "Message": message},
        "ResponseMetadata": {
            **(metadata if isinstance(metadata, dict) else {}),
            "HTTPStatusCode": status,
            "HTTPHeaders": {str(name).lower(): value for name, value in response["headers"].items()},
        },
    }


def _without_code(message: str, response: Mapping[str, Any]) -> tuple[str, str]:
    """Make code and message for an error answer without an AWS code.

    The bare status is a code only as a last resort: ``404`` means that a resource is missing, which a proxy's page of
    that status does not prove.
    """
    status, is_page = response["status_code"], _is_page(response["headers"], response["body"])
    if status >= _SERVER_ERROR:
        return str(status), responses.get(status, "") if is_page or not message else message[
            :_LONGEST_MESSAGE
        ]
    if _is_head(response) and (_is_from_aws(response["headers"]) or not is_page):
        return str(status), message
    if is_page:
        return FOREIGN_PAGE, f"status {status} with an HTML page, which is none of AWS's"
    return UNREADABLE, f"status {status} without an error of AWS; {message[:_LONGEST_MESSAGE]}".rstrip("; ")


def _is_head(response: Mapping[str, Any]) -> bool:
    return str((response.get("context") or {}).get("operation_name", "")).startswith("Head")


def _close(body: object) -> None:
    if hasattr(body, "close"):
        body.close()


def as_botocore_reads(header: str) -> str:
    """Decode a header's value as botocore does: byte by byte, where aiohttp decodes UTF-8."""
    return header if header.isascii() else header.encode("utf-8", "surrogateescape").decode("latin-1")


@dataclass(frozen=True)
class ResponseHeaders:
    """Reader of a response whose members are headers, beside a body that is not parsed, or has one level of JSON.

    botocore's parser takes 130 µs for one, more than all the rest of a small request; 50 of them are for dates. Dates
    and switches are left out here: no caller reads them.

    :param texts: the members that are text, by their headers in lower case
    :param numbers: the members that are whole numbers
    :param prefix: prefix of the headers of the object's own metadata; empty if there are none
    :param in_body: the members that are text in a JSON body; without them the body is a member itself
    """

    texts: Mapping[str, str]
    numbers: Mapping[str, str]
    prefix: str
    in_body: frozenset[str]

    def read(self, headers: Mapping[str, str], body: Any) -> ParsedResponse:  # noqa: ANN401 - bytes or a stream
        """Read the response as botocore parses it.

        :raises UnreadableAnswer: a number, or the JSON body, is malformed
        """
        parsed = _json_members(body, self.in_body) if self.in_body else ParsedResponse(Body=body)
        for header, name in self.texts.items():
            if (value := headers.get(header)) is not None:
                parsed[name] = as_botocore_reads(value)
        for header, name in self.numbers.items():
            if (value := headers.get(header)) is not None:
                parsed[name] = _whole_number(header, value)
        if self.prefix and (metadata := self._metadata(headers)):
            parsed["Metadata"] = metadata
        return parsed

    def _metadata(self, headers: Mapping[str, str]) -> dict[str, str]:
        names = ((header.lower(), value) for header, value in headers.items())
        return {
            name.removeprefix(self.prefix): as_botocore_reads(value)
            for name, value in names
            if name.startswith(self.prefix)
        }


@functools.lru_cache(maxsize=64)
def response_headers(model: OperationModel) -> ResponseHeaders | None:
    """Make a reader of an operation's response; None when botocore must parse its body."""
    shape: Any = model.output_shape
    texts, numbers, prefix = dict[str, str](), dict[str, str](), ""
    if shape.serialization.get("payload") and not model.has_streaming_output:
        return None
    in_body = set[str]()
    for name, member in shape.members.items():
        location, header = member.serialization.get("location"), member.serialization.get("name", "").lower()
        if location == "headers":
            prefix = header
        elif location == "header" and member.type_name == "string":
            texts[header] = name
        elif location == "header" and member.type_name in ("integer", "long"):
            numbers[header] = name
        elif location != "header" and name != shape.serialization.get("payload"):
            if member.type_name != "string" or model.service_model.metadata["protocol"] != "rest-json":
                return None
            in_body.add(member.serialization.get("name", name))
    return ResponseHeaders(texts, numbers, prefix, frozenset(in_body))


def _json_members(body: bytes, names: frozenset[str]) -> ParsedResponse:
    """Read the named members of a JSON body; an empty one has none.

    :raises UnreadableAnswer: it is no JSON object, or such a member is no text
    """
    parsed = ParsedResponse()
    try:
        body_members = json.loads(body) if body.strip() else {}
        for name in names:
            if (value := body_members.get(name)) is not None:
                parsed[name] = value
    except (ValueError, RecursionError, AttributeError) as error:
        raise UnreadableAnswer(error="the answer's body is no JSON object") from error
    for value in parsed.values():
        if not isinstance(value, str):
            raise UnreadableAnswer(error="a member of the answer's body is no text")
    return parsed


def _whole_number(header: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise UnreadableAnswer(error=f"the answer's {header} is no whole number")
    return int(text)


class AnswerParsers(ResponseParserFactory):
    """Factory of parsers for botocore's clients."""

    def create_parser(self, protocol_name: str) -> Any:  # noqa: ANN401 - as much of a parser as botocore needs
        return AnswerParser(protocol_name)


class _AwaitedParser(AnswerParser):
    async def parse(self, response: dict[str, Any], shape: Shape | None) -> dict[str, Any]:  # type: ignore[override]
        return super().parse(response, shape)


class AwaitedParsers(ResponseParserFactory):
    """Factory of parsers for aiobotocore's clients, which await their parsers."""

    def create_parser(self, protocol_name: str) -> Any:  # noqa: ANN401 - as above
        return _AwaitedParser(protocol_name)
