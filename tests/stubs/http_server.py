"""A small HTTP/1.1 server for benchmarks: a request costs it less than any client spends on it.

Sockets are read and written from the event loop directly, TLS by OpenSSL on the socket, without asyncio's protocols
and streams between. It knows bodies with a Content-Length and ``Expect: 100-continue``, no pipelining.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_READ = 1 << 18
_SENDS = 64
"""TLS records sent to a connection before the other connections are served."""

_WAIT = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PHRASES = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    404: "Not Found",
    412: "Precondition Failed",
}


@dataclass(slots=True)
class Request:
    """A request; its target is as it was on the wire."""

    method: str
    path: str
    query: str
    head: bytes
    lower: bytes
    body: bytes

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when there is none.

        :param name: in lower case, with the colon
        """
        at = self.lower.find(b"\r\n" + name)
        if at < 0:
            return ""
        start = at + 2 + len(name)
        end = self.head.find(b"\r\n", start)
        return self.head[start : end if end >= 0 else None].decode().strip()


@dataclass(slots=True)
class Answer:
    """An answer.

    :param body: bytes, or pieces of ``size`` bytes in all
    """

    status: int
    body: bytes | Iterator[bytes] = b""
    headers: str = ""
    size: int = -1


Reply = Callable[[Answer], bool]
"""Sends an answer; False when the client has disconnected."""

Service = Callable[[Request, Reply], None]
"""Answers a request, now or later, by calling the other argument once."""


class Connection:
    """One connection of a client."""

    def __init__(self, peer: socket.socket, service: Service) -> None:
        self._socket = peer
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._descriptor = peer.fileno()
        self._rest = b""
        self._head = b""
        self._parts: list[bytes] = []
        self._missing = 0
        self._out = memoryview(b"")
        self._source: Iterator[bytes] | None = None
        self._is_writing = False
        self._is_open = True
        self._loop.add_reader(self._descriptor, self._readable)

    def close(self) -> None:
        """End it."""
        if self._is_open:
            self._is_open = False
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            self._socket.close()

    # In

    def _readable(self) -> None:
        try:
            data = self._socket.recv(_READ)
        except _WAIT:
            return
        except OSError:
            self.close()
            return
        if not data:
            self.close()
        elif self._missing:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing <= 0:
                parts, self._parts, self._missing = self._parts, [], 0
                self._dispatch(self._head, self._head.lower(), b"".join(parts))
        else:
            self._begin(self._rest + data if self._rest else data)

    def _begin(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._rest = data
            return
        self._rest = b""
        head, body = data[:end], data[end + 4 :]
        lower = head.lower()
        at = lower.find(b"\r\ncontent-length:")
        missing = (int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0) - len(body)
        if missing <= 0:
            self._dispatch(head, lower, body)
            return
        self._head, self._parts, self._missing = head, [body], missing
        if b"100-continue" in lower:
            self._send(_CONTINUE)

    def _dispatch(self, head: bytes, lower: bytes, body: bytes) -> None:
        method, target, _ = head[: head.find(b"\r\n")].decode().split(" ", 2)
        path, _, query = target.partition("?")
        self._service(Request(method, path, query, head, lower, body), self.reply)

    # Out

    def reply(self, answer: Answer) -> bool:
        """Send an answer, unless the client has disconnected."""
        if not self._is_open:
            return False
        body = answer.body
        size = len(body) if isinstance(body, bytes) else answer.size
        head = (
            f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Other')}\r\n{answer.headers}"
            f"Content-Length: {size}\r\n\r\n"
        ).encode()
        if isinstance(body, bytes):
            self._send(head + body)
            return True
        self._source = body
        self._send(head)
        return True

    def _send(self, data: bytes) -> None:
        self._out = memoryview(data)
        self._flush()

    def _flush(self) -> None:
        for _ in range(_SENDS):
            if not self._out and not self._next():
                self._watch(writing=False)
                return
            try:
                sent = self._socket.send(self._out)
            except _WAIT:
                break
            except OSError:
                self.close()
                return
            self._out = self._out[sent:]
        self._watch(writing=bool(self._out) or self._source is not None)

    def _next(self) -> bool:
        piece = next(self._source, b"") if self._source is not None else b""
        if not piece:
            self._source = None
            return False
        self._out = memoryview(piece)
        return True

    def _watch(self, *, writing: bool) -> None:
        if writing == self._is_writing or not self._is_open:
            return
        self._is_writing = writing
        if writing:
            self._loop.add_writer(self._descriptor, self._flush)
        else:
            self._loop.remove_writer(self._descriptor)


def listen(service: Service, tls: ssl.SSLContext | None) -> int:
    """Serve on a free port of loopback, as long as the running loop does; return the port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    listener.setblocking(False)

    def accept() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                return
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer.setblocking(False)
            if tls is not None:
                peer = tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
            Connection(peer, service)

    asyncio.get_running_loop().add_reader(listener.fileno(), accept)
    return int(listener.getsockname()[1])
