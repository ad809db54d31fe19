"""The client of Airflow's REST API against an api-server that is slow to answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath

import pytest

from airflow_sm_plugin.local.stack import airflow_api
from airflow_sm_plugin.local.stack.airflow_api import AirflowApi
from airflow_sm_plugin.local.stack.processes import StackError, free_port


class SlowServer(ThreadingHTTPServer):
    """An api-server that leaves the first ``unanswered`` requests, those of a token excepted, without an answer."""

    daemon_threads = True
    unanswered = 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requested: list[str] = []
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Give a token, a run that succeeded, and an id to a run that is started."""

    server: SlowServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"access_token": "token", "state": "success"})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"dag_run_id": "run"})

    def _answer(self, answer: dict[str, str]) -> None:
        name = PurePosixPath(self.path).name
        if name != "token":
            self.server.requested.append(f"{self.command} {name}")
        if name != "token" and len(self.server.requested) <= self.server.unanswered:
            self.server.closed.wait()
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowServer]:
    """A running server; attempts follow each other at once."""
    monkeypatch.setattr(airflow_api, "_RETRY_SECONDS", 0.0)
    with SlowServer() as slow:
        thread = threading.Thread(target=slow.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield slow
        finally:
            slow.closed.set()
            slow.shutdown()
            thread.join()


def test_a_question_that_is_not_answered_in_time_is_asked_again(server: SlowServer) -> None:
    server.unanswered = 2
    assert AirflowApi(server.url, timeout=0.5).run_state("dag", "run") == "success"
    assert server.requested[:3] == ["GET run"] * 3


def test_what_starts_a_run_is_sent_once(server: SlowServer) -> None:
    """The first one may have been carried out."""
    server.unanswered = 1
    with pytest.raises(StackError, match=r"does not answer POST .*/dagRuns"):
        AirflowApi(server.url, timeout=0.2).trigger("dag")
    assert server.requested == ["POST dagRuns"]


def test_an_api_server_that_is_gone_ends_the_attempts(server: SlowServer) -> None:
    with pytest.raises(StackError, match="does not answer GET /auth/token"):
        AirflowApi(f"http://127.0.0.1:{free_port()}").run_state("dag", "run")
