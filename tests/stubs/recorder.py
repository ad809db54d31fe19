"""A server on loopback that writes down what it is asked, and answers as a test decides; also as an HTTP proxy."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TRANSPORTS: Mapping[str, Mapping[str, Any]] = {
    "fast": {},
    "botocore": {"proxies_config": {"proxy_use_forwarding_for_https": False}},
}
"""Botocore configurations: the second has an option that changes nothing here, but that only botocore knows."""


@dataclass(frozen=True)
class Asked:
    """A request as it came. ``target`` is the path, or the whole address when it came as to a proxy."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Said:
    """An answer; ``cut`` announces more bytes than come, ``status`` 0 closes the connection without an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass
class Recorder:
    """The requests so far, and the function that answers them."""

    url: str
    answer: Callable[[Asked], Said]
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def recording(answer: Callable[[Asked], Said], *, tls: ssl.SSLContext | None = None) -> Iterator[Recorder]:
    """Serve for the block, over TLS when a context is given."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length", "0")))
            recorder.asked.append(asked := Asked(self.command, self.path, headers, body))
            answer = recorder.answer(asked)
            if not answer.status:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != 204:
                self.send_header("Content-Length", str(len(answer.body) + answer.cut))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self.close_connection = self.close_connection or bool(answer.cut)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = _reply  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False  # clients keep connections open
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    recorder = Recorder(f"{scheme}://127.0.0.1:{server.server_address[1]}", answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
