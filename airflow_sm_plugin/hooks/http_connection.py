"""One HTTP/1.1 connection: a request after the other, each with its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from airflow_sm_plugin.hooks.http_answer_reader import AnswerReader, BadAnswer

_PIECE = 262_144
"""Larger bodies go in pieces, so that others get their turn between, and buffers stay small."""

_NEVER = float("inf")


class ConnectionGone(Exception):
    """The connection ended, or was ended, before the answer was complete."""


class NothingCame(Exception):
    """No byte came, or went, for as long as the pool waits."""


class HttpConnection(asyncio.Protocol):
    """A connection of a pool.

    :param read_timeout: seconds between two signs of life; the pool looks at :attr:`deadline`
    :param lost: called once when it is gone
    """

    def __init__(self, read_timeout: float, lost: Callable[[HttpConnection], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_timeout = read_timeout
        self._lost = lost
        self._reader: AnswerReader | None = None
        self._done: asyncio.Future[AnswerReader] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None
        self.deadline = _NEVER
        self.idle_since = 0.0
        self.usable = False

    async def exchange(self, head: bytes, body: bytes) -> AnswerReader:
        """Send a request and return its whole answer; whatever is raised, the connection ends.

        :raises ConnectionGone: it broke
        :raises NothingCame: nothing happened for too long
        :raises BadAnswer: what came is no HTTP answer
        """
        if self._transport is None or not self.usable:
            raise ConnectionGone("it was closed before")
        self._reader = AnswerReader()
        self._done = self._loop.create_future()
        self.deadline = self._loop.time() + self._read_timeout
        try:
            if len(body) <= _PIECE:
                self._transport.write(head + body)
            else:
                await self._written(self._transport, head, body)
            answer = await self._done
        except BaseException:
            self.abort()
            raise
        finally:
            self.deadline, self._done, self._reader = _NEVER, None, None
        if not (answer.reusable and self.usable):
            self.abort()
        self.idle_since = self._loop.time()
        return answer

    async def _written(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Write until all is on its way, or an answer is there before: it says why the rest is not wanted."""
        transport.write(head)
        view = memoryview(body)
        for start in range(0, len(body), _PIECE):
            if self._done is None or self._done.done():
                self.usable = False  # what was not sent would be taken for another request
                return
            transport.write(view[start : start + _PIECE])
            self.deadline = self._loop.time() + self._read_timeout
            if self._drained is not None:
                await self._drained

    def abort(self) -> None:
        """End it at once."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def expire(self) -> None:
        """End it because its deadline is over."""
        self._fail(NothingCame())
        self.abort()

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        self.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be open."""
        self._transport = cast("asyncio.Transport", transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        """Read on; what nobody asked for ends the connection."""
        reader, done = self._reader, self._done
        if reader is None or done is None or done.done():
            self.abort()
            return
        try:
            reader.feed(data)
        except BadAnswer as error:
            self._fail(error)
            self.abort()
            return
        if reader.complete:
            done.set_result(reader)
            self.resume_writing()  # perhaps before the request is through: the rest is not wanted
        else:
            self.deadline = self._loop.time() + self._read_timeout

    def eof_received(self) -> bool:
        """Let the connection close."""
        self.usable = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits, unless the end was all that its answer lacked."""
        self.usable = False
        reader, done = self._reader, self._done
        if exc is None and reader is not None and done is not None and not done.done() and reader.ended():
            done.set_result(reader)
        self._fail(ConnectionGone(str(exc) if exc else "it was closed without an answer"))
        self._lost(self)

    def pause_writing(self) -> None:
        """Have :meth:`exchange` wait: the peer is slow."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let it write on."""
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None
