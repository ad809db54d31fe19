"""Requests of one service over the fast transport, their answers as botocore's own client would give them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from botocore.awsrequest import HeadersDict
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.access import Address
from airflow_sm_plugin.aws.answers import ERROR, AnswerParser, check_no_page
from airflow_sm_plugin.aws.errors import has_expired_in_words
from airflow_sm_plugin.aws.http import HttpAnswer, HttpRequest, OpenAnswer, SignedHttp


class ServiceRequests:
    """Send requests; raise exceptions of botocore's own classes for error answers, whatever is in them.

    Where AWS says that the credentials have expired, fresh ones are fetched and the request is sent once more.

    :param protocol: botocore's name of the protocol that requests are made in: ``rest-xml``, ``rest-json``, ``json``
    """

    def __init__(self, client: BaseClient, http: SignedHttp, protocol: str) -> None:
        self._client = client
        self._http = http
        self._parser = AnswerParser(protocol)

    async def send(self, address: Address, request: HttpRequest, operation: str) -> HttpAnswer:
        """Send one request and return its answer.

        :param operation: e.g. ``GetObject``
        :raises ClientError: of a class of the client's: an error answer
        :raises UnreadableAnswer: an HTML page that is not AWS's
        :raises BotoCoreError: as :meth:`SignedHttp.send`
        """
        answer = await self._http.send(address, request)
        if answer.status >= ERROR and self._has_expired(answer, operation):
            await self.renew_credentials()
            answer = await self._http.send(address, request)
        if answer.status >= ERROR:
            raise self.error(answer, operation)
        check_no_page(answer.status, answer.headers, answer.body)
        return answer

    @asynccontextmanager
    async def opened(
        self, address: Address, request: HttpRequest, operation: str
    ) -> AsyncIterator[OpenAnswer]:
        """Send one request and hand over its answer before the body is read; errors as :meth:`send`."""
        async with self._http.opened(address, request) as answer:
            if answer.status < ERROR:
                check_no_page(answer.status, answer.headers, None)
                yield answer
                return
            failed = await _whole(answer)
        if not self._has_expired(failed, operation):
            raise self.error(failed, operation)
        await self.renew_credentials()
        async with self._http.opened(address, request) as answer:
            if answer.status >= ERROR:
                raise self.error(await _whole(answer), operation)
            yield answer

    async def renew_credentials(self) -> None:
        """Fetch fresh credentials for what is sent from now on."""
        await self._http.renew_credentials()

    def parsed(self, answer: HttpAnswer, operation: str) -> dict[str, Any]:
        """Return an answer as botocore's client returns it.

        :raises UnreadableAnswer: it is not what the operation answers
        """
        model = self._client.meta.service_model.operation_model(operation)
        return self._parser.parse(_response(answer, operation), model.output_shape)

    def error(self, answer: HttpAnswer, operation: str) -> ClientError:
        """Return the exception of an error answer."""
        parsed = self.parsed(answer, operation)
        said = parsed["Error"]
        shape = self._client.meta.service_model.shape_for_error_code(said["Code"])
        if shape is not None:  # the error's own members, as OriginalStatusCode of a ModelError
            parsed.update(self._parser.parse(_response(answer, operation), shape))
        code = said.get("QueryErrorCode") or said["Code"]
        kind = cast("type[ClientError]", self._client.exceptions.from_code(code))
        return kind(cast("Any", parsed), operation)

    def _has_expired(self, answer: HttpAnswer, operation: str) -> bool:
        return has_expired_in_words(self.error(answer, operation))


def _response(answer: HttpAnswer, operation: str) -> dict[str, Any]:
    return {
        "headers": HeadersDict(dict(answer.headers)),
        "status_code": answer.status,
        "body": answer.body,
        "context": {"operation_name": operation},
    }


async def _whole(answer: OpenAnswer) -> HttpAnswer:
    return HttpAnswer(answer.status, answer.headers, b"".join([chunk async for chunk in answer.chunks]))
