"""The container's HTTP side: ``GET /ping`` and its models, on loopback, a thread a connection."""

from __future__ import annotations

import hmac
import sys
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_sm_plugin.local.serving.errors import status_of
from airflow_sm_plugin.local.serving.handlers import TEXT, ContainerAnswer, LoadedModel, error_answer

_WITHOUT_BODY = (204, 304)
_FROM_SERVER = "X-Embedded-Token"

Respond = Callable[[str, str, bytes, Mapping[str, str]], ContainerAnswer]
"""Answers method, path, body and headers; what it raises is answered as an error of the archive's code."""


class ContainerServer(ThreadingHTTPServer):
    """Serves callers that know the token, and no others, on a free port (``server_port``)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, respond: Respond, token: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _RequestHandler)
        self.respond = respond
        self.token = token


def one_model(model: LoadedModel) -> Respond:
    def respond(method: str, path: str, body: bytes, headers: Mapping[str, str]) -> ContainerAnswer:
        if (method, path) != ("POST", "/invocations"):
            return ContainerAnswer(404, f"nothing at {path}".encode(), TEXT)
        return model.answer(body, headers)

    return respond


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: ContainerServer

    def do_GET(self) -> None:
        """Answer the health check; the port is known only when what is to be loaded is, so it always passes."""
        self._write(ContainerAnswer(200, b"", {}) if self._is_ping() else self._answer(b""))

    def do_POST(self) -> None:
        self._write(self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0))))

    def do_DELETE(self) -> None:
        self._write(self._answer(b""))

    def _is_ping(self) -> bool:
        return self.path == "/ping" and self._is_permitted()

    def _is_permitted(self) -> bool:
        return hmac.compare_digest(self.headers.get(_FROM_SERVER, "").encode(), self.server.token)

    def _write(self, answer: ContainerAnswer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        body = b"" if answer.status in _WITHOUT_BODY else answer.body
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, body: bytes) -> ContainerAnswer:
        if not self._is_permitted():
            return ContainerAnswer(403, b"this container answers the embedded SageMaker only", TEXT)
        del self.headers[_FROM_SERVER]
        try:
            return self.server.respond(self.command, self.path, body, dict(self.headers.items()))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a handler raises is answered, as in the toolkit
            traceback.print_exc(file=sys.stderr)
            return error_answer(error, status_of(error))
