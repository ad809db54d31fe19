"""Answers as botocore reads them, by its own parser; of error answers exceptions of its own classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from botocore.awsrequest import HeadersDict
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParser, create_parser

from airflow_sm_plugin.hooks.signed_http import HttpAnswer

if TYPE_CHECKING:
    from botocore.model import Shape


class ErrorAnswers:
    """Read answers, make a client's exceptions.

    :param protocol: botocore's name of the protocol that requests are made in: ``rest-xml``, ``rest-json``, ``json``
    """

    def __init__(self, client: BaseClient, protocol: str) -> None:
        self._client = client
        self._parser: ResponseParser = create_parser(protocol)

    def parsed(self, answer: HttpAnswer, operation: str) -> dict[str, Any]:
        """Return an answer as botocore's client returns it.

        :param operation: e.g. ``GetObject``
        """
        model = self._client.meta.service_model.operation_model(operation)
        return cast(
            "dict[str, Any]",
            self._parser.parse(_response(answer, operation), cast("Shape", model.output_shape)),
        )

    def error(self, answer: HttpAnswer, operation: str) -> ClientError:
        """Return the exception of an error answer.

        :param operation: e.g. ``GetObject``
        """
        parsed = self.parsed(answer, operation)
        said = parsed.get("Error", {})
        shape = self._client.meta.service_model.shape_for_error_code(said.get("Code"))
        if shape is not None:  # the error's own members, as OriginalStatusCode of a ModelError
            parsed.update(self._parser.parse(_response(answer, operation), shape))
        code = said.get("QueryErrorCode") or said.get("Code")
        kind = cast("type[ClientError]", self._client.exceptions.from_code(code))
        return kind(cast("Any", parsed), operation)


def _response(answer: HttpAnswer, operation: str) -> dict[str, Any]:
    return {
        "headers": HeadersDict(dict(answer.headers)),
        "status_code": answer.status,
        "body": answer.body,
        "context": {"operation_name": operation},
    }
