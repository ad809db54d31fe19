"""A tiny S3 on loopback whose every answer a test decides: refusals, outages, dropped connections, slow answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from airflow_sm_plugin.local.stack.airflow_settings import AWS_SETTINGS

QUICK = {
    "retries": {"mode": "standard", "total_max_attempts": 1},
    "connect_timeout": 600,
    "read_timeout": 600,
}
"""botocore_config for tests of outages: botocore itself repeats nothing."""

DROP = 0
"""Instead of a status: the connection is closed without an answer."""

Answer = Callable[[str], "int | bytes"]
"""From a path, ``/bucket/key``, to a status, to an object's content, or to :data:`DROP`."""


class StubS3:
    """Answers HEAD and GET as ``answer`` says, which a test may replace at any time; ``asked`` holds the paths."""

    def __init__(self, url: str, answer: Answer) -> None:
        self.url = url
        self.answer = answer
        self.asked: list[str] = []


@contextmanager
def stub_s3(answer: Answer) -> Iterator[StubS3]:
    """Serve for the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._reply()

        def do_GET(self) -> None:
            self._reply()

        def _reply(self) -> None:
            path = self.path.partition("?")[0]
            stub.asked.append(path)
            result = stub.answer(path)
            if result == DROP:
                self.close_connection = True
                return
            status, body = (200, result) if isinstance(result, bytes) else (result, b"")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: the test's own output is what matters."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False  # clients keep connections open
    stub = StubS3(f"http://127.0.0.1:{server.server_address[1]}", answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def use(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Point every AWS client of a test at ``url``."""
    for name, value in {**AWS_SETTINGS, "AWS_ENDPOINT_URL": url}.items():
        monkeypatch.setenv(name, value)


def fixed(objects: Mapping[str, bytes], *, otherwise: int = 404) -> Answer:
    """Return an answer that knows some objects, by path, and gives one status for all others."""
    return lambda path: objects.get(path, otherwise)


def statuses(*first: int, then: int | bytes) -> Answer:
    """Return an answer that gives each of ``first`` once, in order, whatever the path, and ``then`` for ever."""
    left = iter(first)
    return lambda _: next(left, then)
