"""The container's HTTP side: ``GET /ping`` and ``POST /invocations`` on loopback, a thread a connection."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from airflow_sm_plugin.local.serving.errors import status_of
from airflow_sm_plugin.local.serving.handlers import Answer, LoadedModel

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}


class ContainerServer(ThreadingHTTPServer):
    """Serves one loaded model on a port of its own choice (``server_port``)."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(("127.0.0.1", 0), _RequestHandler)
        self.model = model


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: ContainerServer

    def do_GET(self) -> None:
        """Answer the health check; the model is loaded before the port is known, so it always passes."""
        self._write(Answer(200, b"", {}) if self.path == "/ping" else _not_found(self.path))

    def do_POST(self) -> None:
        """Answer an invocation."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path != "/invocations":
            self._write(_not_found(self.path))
            return
        self._write(_answer(self.server.model, body, dict(self.headers.items())))

    def _write(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)


def _answer(model: LoadedModel, body: bytes, headers: Mapping[str, str]) -> Answer:
    try:
        return model.answer(body, headers)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises is answered, as in SageMaker's toolkit
        traceback.print_exc(file=sys.stderr)
        return Answer(status_of(error), (str(error) or type(error).__name__).encode(), _TEXT)


def _not_found(path: str) -> Answer:
    return Answer(404, f"nothing at {path}".encode(), _TEXT)
