"""Serve an unpacked model archive, or many: ``python -m airflow_sm_plugin.local.serving --model-dir D``.

The port is written to ``--port-fd`` as a line once the model is loaded (with ``--multi-model``: at once); then
``/ping`` is answered. The first line of standard input is a token: requests without it are refused. When standard
input closes, the process ends, with its process group if it leads one. It listens on loopback, with a thread per
connection.
"""

from __future__ import annotations

import argparse
import hmac
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from airflow_sm_plugin.local.serving.handlers import (
    TEXT,
    ContainerAnswer,
    LoadedModel,
    NoHandlers,
    error_answer,
    status_of,
)
from airflow_sm_plugin.local.serving.hosted import HostedModels

_WITHOUT_BODY = (204, 304)
_FROM_SERVER = "X-Embedded-Token"

Respond = Callable[[str, str, bytes, Mapping[str, str]], ContainerAnswer]
"""Answers method, path, body and headers; its exceptions are answered as errors of the archive's code."""


class ContainerServer(ThreadingHTTPServer):
    """Serves callers with the token, on a free port (``server_port``)."""

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
        """Answer the health check. It always passes: the port is reported only after the model is loaded."""
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
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a handler's exceptions are answered, as by the toolkit
            traceback.print_exc(file=sys.stderr)
            return error_answer(error, status_of(error))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m airflow_sm_plugin.local.serving")
    served = parser.add_mutually_exclusive_group(required=True)
    served.add_argument("--model-dir", type=Path, help="folder of the unpacked archive")
    served.add_argument("--multi-model", action="store_true", help="serve the models that POST /models names")
    parser.add_argument("--code-dir", type=Path, help="folder of the code, when it is not in the archive")
    parser.add_argument("--port-fd", type=int, default=1, help="file descriptor the port is written to")
    parser.add_argument("--scratch", type=Path, help="folder to remove when standard input closes")
    options = parser.parse_args()
    token = _first_line()
    threading.Thread(target=_end_with_stdin, args=(options.scratch,), name="stdin", daemon=True).start()
    try:
        respond = (
            _many_models(options.code_dir)
            if options.multi_model
            else one_model(LoadedModel(options.model_dir, os.environ, code_dir=options.code_dir))
        )
    except NoHandlers as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception:  # noqa: BLE001 - the archive's own code failed; its traceback belongs into the container's log
        traceback.print_exc(file=sys.stderr)
        return 1
    server = ContainerServer(respond, token)
    with os.fdopen(options.port_fd, "w", closefd=options.port_fd > 2) as report:
        report.write(f"{server.server_port}\n")
    server.serve_forever()
    return 0


def _many_models(code_dir: Path | None) -> Respond:
    sys.dont_write_bytecode = True  # every load has a folder of its own
    return HostedModels(os.environ, code_dir=code_dir).respond


def _first_line() -> bytes:
    """Read a line of standard input, without buffering the rest."""
    line = b""
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line


def _end_with_stdin(scratch: Path | None) -> None:
    """End the process when standard input ends, as it does with the server's end, however that came."""
    while os.read(0, 4096):
        pass
    if scratch is not None:
        shutil.rmtree(scratch, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
