"""One kept-alive HTTP connection: a request, its whole answer, and the next request.

An :class:`asyncio.Protocol` around httptools' parser. It repeats nothing: a request whose connection breaks may have
been carried out. Errors are botocore's own.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import cast

from botocore.exceptions import BotoCoreError, ConnectionClosedError, HTTPClientError, ReadTimeoutError
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from airflow_sm_plugin.aws.http import HttpResponse

if not hasattr(HttpResponseParser, "set_dangerous_leniencies"):
    raise ImportError("httptools 0.6.3 or later is needed")

_MOST_UNREAD = 65_536
"""Bytes of an answer before its body and between two pieces of it: headers, sizes of chunks, trailers. SageMaker's
headers have less than 2 KB in all, aiohttp permits 8 KB for each. The parser keeps an unfinished header in memory."""

_AT_ONCE = 262_144
"""Bytes of a body that are written at once. Larger, other requests wait for its encryption for more than a fifth of a
millisecond; smaller, the loop goes round more often for nothing."""

_WITHOUT_LENGTH = frozenset({"content-length", "transfer-encoding"})
"""An answer without these ends when its connection does."""

_SWITCHING = 101
_INFORMATIONAL = range(100, 200)


@functools.lru_cache(maxsize=256)
def _name(name: bytes) -> str:
    """Return a header's name in lower case, without the spaces behind it that the parser permits."""
    return name.decode("latin-1").rstrip().lower()


class HttpConnection(asyncio.Protocol):
    """A connection to one address.

    :param url: the address, for errors
    :param idle: called when an answer is complete and the next request can be sent
    :param lost: called once when the connection is closed
    """

    def __init__(
        self, url: str, *, idle: Callable[[HttpConnection], None], lost: Callable[[HttpConnection], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._url = url
        self._idle = idle
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        # What aiohttp permits as well.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self._answer: asyncio.Future[HttpResponse] | None = None
        self._status = 0
        self._is_usable = self._keeps_alive = True
        self._is_paused = False
        self._unsent: memoryview | None = None
        self.active = self._loop.time()
        """Time of the loop at which bytes were last written or received."""
        self._begin()

    def _begin(self) -> None:
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._has_headers = self._is_complete = self._has_surplus = False
        self._unread = 0

    # For the pool

    @property
    def is_usable(self) -> bool:
        """Check whether a request can be sent, as far as is known."""
        return self._is_usable and self._transport is not None and not self._transport.is_closing()

    @property
    def is_busy(self) -> bool:
        return self._answer is not None

    def send(self, head: bytes, body: bytes) -> asyncio.Future[HttpResponse]:
        """Send a request; the future is its answer, or botocore's exception. Whoever gives up calls :meth:`give_up`.

        :param head: up to the empty line
        """
        self._begin()
        self._answer = answer = self._loop.create_future()
        self.active = self._loop.time()
        transport = cast("asyncio.Transport", self._transport)
        if len(body) <= _AT_ONCE:
            transport.write(head + body)
        else:
            self._unsent = memoryview(body)
            transport.write(head)
            self._send_on()
        return answer

    def give_up(self, answer: asyncio.Future[HttpResponse]) -> None:
        """Close the connection if that answer is still to come: it would be taken for the next request's."""
        if self._answer is answer:
            self.abort()

    def end_silence(self) -> None:
        """Close the connection, and fail the request that waits for its answer: no byte came in time."""
        self._fail(ReadTimeoutError(endpoint_url=self._url))

    def abort(self) -> None:
        self._is_usable = False
        self._unsent = None
        if self._transport is not None:
            self._transport.abort()

    # For the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._answer is None or self._parser is None:  # of no request
            self.abort()
            return
        self.active = self._loop.time()
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(HTTPClientError(error=error))
            return
        if self._is_complete:
            self._end()
        elif self._unread > _MOST_UNREAD:
            self._fail(HTTPClientError(error=f"headers of more than {_MOST_UNREAD} bytes"))

    def eof_received(self) -> None:
        self._disconnected(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disconnected(exc)
        self._transport = self._parser = None
        self._lost(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._send_on()

    # For the parser

    def on_message_begin(self) -> None:
        self._has_surplus = self._is_complete  # another answer in the same bytes

    def on_header(self, name: bytes, value: bytes) -> None:
        if b"\0" in value:
            raise ValueError("a header holds a NUL")
        if not self._has_headers:  # else a trailer
            self._headers.setdefault(_name(name), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        if not self._has_surplus:
            self._has_headers = True
            self._status = cast("HttpResponseParser", self._parser).get_status_code()

    def on_body(self, piece: bytes) -> None:
        if not self._has_surplus:
            self._pieces.append(piece)
            self._unread = 0

    def on_message_complete(self) -> None:
        if self._has_surplus:
            return
        if self._status in _INFORMATIONAL and self._status != _SWITCHING:
            self._begin()
            return
        self._is_complete = True
        self._keeps_alive = cast("HttpResponseParser", self._parser).should_keep_alive()

    def _send_on(self) -> None:
        """Write one piece of a large body; the loop serves others before the next one."""
        if self._unsent is None or self._is_paused:
            return
        piece, rest = self._unsent[:_AT_ONCE], self._unsent[_AT_ONCE:]
        self._unsent = rest or None
        self.active = self._loop.time()
        cast("asyncio.Transport", self._transport).write(piece)
        if self._unsent is not None:
            self._loop.call_soon(self._send_on)

    def _end(self) -> None:
        answer = cast("asyncio.Future[HttpResponse]", self._answer)
        self._answer = None
        if not self._keeps_alive or self._has_surplus or self._unsent is not None or answer.done():
            self.abort()
        else:
            self._idle(self)
        if not answer.done():
            answer.set_result(HttpResponse(self._status, self._headers, b"".join(self._pieces)))

    def _disconnected(self, error: Exception | None) -> None:
        """Take the end of the connection for the answer's end if that is how it ends."""
        ends = error is None and self._has_headers and self._headers.keys().isdisjoint(_WITHOUT_LENGTH)
        if self._answer is not None and ends:
            self._keeps_alive = False
            self._end()
        else:
            self._fail(ConnectionClosedError(endpoint_url=self._url, error=error))

    def _fail(self, error: BotoCoreError) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)
