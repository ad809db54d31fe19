"""An HTTP client of a container: kept-alive connections, a total time limit, no retries."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from airflow_sm_plugin.local.containers.containers import ContainerInput

CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
FROM_SERVER = "X-Embedded-Token"
"""Proves that a request comes from the server: a web page, or another user, can connect to the port as well."""


class Unreachable(Exception):
    """The container gave no answer: its process has ended, or it closed the connection."""


class TooSlow(Exception):
    """The container gave no answer in time."""


@dataclass(frozen=True)
class RawAnswer:
    """A container's HTTP answer."""

    status: int
    body: bytes
    content_type: str
    custom_attributes: str | None


class ContainerClient:
    """A container's address with its idle connections. Thread-safe.

    :param is_alive: whether the container still runs; another process can get the port of a container that has ended
    :param token: proves to the container that a request comes from the server
    """

    def __init__(self, port: int, is_alive: Callable[[], bool], token: str = "") -> None:
        self.port = port
        self._token = token
        self._is_alive = is_alive
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False

    def ping(self, *, timeout: float) -> int:
        try:
            return self._send("GET", "/ping", b"", {}, timeout).status
        except TooSlow as error:
            raise Unreachable from error

    def invoke(self, payload: ContainerInput, *, timeout: float, path: str = "/invocations") -> RawAnswer:
        """Send an invocation. As for all requests, any status is an answer. Raises Unreachable or TooSlow."""
        headers = {
            "Content-Type": payload.content_type,
            "Accept": payload.accept or None,
            CUSTOM_ATTRIBUTES: payload.custom_attributes,
            TARGET_MODEL: payload.target_model,
        }
        given = {name: value for name, value in headers.items() if value is not None}
        return self._send("POST", path, payload.body, given, timeout)

    def load_model(self, name: str, url: str, *, timeout: float) -> RawAnswer:
        body = json.dumps({"model_name": name, "url": url}).encode()
        return self._send("POST", "/models", body, {"Content-Type": "application/json"}, timeout)

    def unload_model(self, name: str, *, timeout: float) -> RawAnswer:
        return self._send("DELETE", f"/models/{name}", b"", {}, timeout)

    def close(self) -> None:
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection in idle:
            connection.close()

    def _send(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> RawAnswer:
        connection = self._connection(timeout)
        try:
            connection.request(method, path, body, {**headers, FROM_SERVER: self._token})
            response = connection.getresponse()
            answer = RawAnswer(
                status=response.status,
                body=response.read(),
                content_type=response.getheader("Content-Type") or "application/octet-stream",
                custom_attributes=response.getheader(CUSTOM_ATTRIBUTES),
            )
        except TimeoutError as error:
            connection.close()
            raise TooSlow from error
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unreachable from error
        self._keep(connection)
        return answer

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None or connection.sock is None:
            if not self._is_alive():
                raise Unreachable
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.timeout = timeout
        connection.sock.settimeout(timeout)
        return connection
