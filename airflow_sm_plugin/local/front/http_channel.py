"""Corrections of waitress's handling of connections, messages and threads."""

from __future__ import annotations

import uuid
from typing import Any

from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, ThreadedTaskDispatcher, WSGITask


class Dropped(ClientDisconnected):  # type: ignore[misc] # waitress has no annotations
    """Close this connection without an answer: waitress then acts as if the client had disconnected."""


class RequestParser(HTTPRequestParser):  # type: ignore[misc] # waitress has no annotations
    """A request whose S3 metadata can have underscores in their names.

    Waitress drops every header with an underscore, because WSGI's names do not distinguish it from a dash. S3's do.
    ``metadata`` has the dropped headers, by WSGI's name: the name as it was sent, and the value.
    """

    def __init__(self, adj: object) -> None:
        super().__init__(adj)
        self.metadata: dict[str, tuple[str, str]] = {}

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and the headers, then collect the dropped ones. Raises ParsingError."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # for a wrong address in brackets
            raise ParsingError(str(error)) from error
        for line in header_plus.split(b"\r\n")[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            if should_preserve_original_header_name(name):
                self.metadata[environ_key_for_header(name)] = name, value.strip(" \t")


class RequestTask(WSGITask):  # type: ignore[misc] # waitress has no annotations
    """A request and its answer, with header names as the client and the application wrote them.

    Waitress capitalises the names of answers. HTTP does not care, but S3's metadata come back as keys of a dict:
    ``x-amz-meta-owner-name``, not ``X-Amz-Meta-Owner-Name``.
    """

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        kept = {key: pair for key, pair in self.request.metadata.items() if key not in environ}
        if kept:
            environ |= {key: value for key, (_, value) in kept.items()}
            environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = {key: name for key, (name, _) in kept.items()}
        return environ

    def build_response_header(self) -> bytes:
        """Build status line and headers, with names in the application's letters."""
        names = {name.lower(): name for name, _ in self.response_headers}
        lines = super().build_response_header().decode("latin-1").split("\r\n")
        for index, line in enumerate(lines[1:], start=1):
            name, colon, value = line.partition(":")
            lines[index] = names.get(name.lower(), name) + colon + value
        return "\r\n".join(lines).encode("latin-1")


class RefusalTask(ErrorTask):  # type: ignore[misc] # waitress has no annotations
    """An answer with a request id to a message that is not HTTP, or too large; the application does not get it."""

    def execute(self) -> None:
        self.response_headers.append(("x-amzn-RequestId", str(uuid.uuid4())))
        super().execute()


class ClientChannel(HTTPChannel):  # type: ignore[misc] # waitress has no annotations
    """A connection on which ``Expect: 100-continue`` without a body is answered.

    Waitress (3.0) answers such a request with ``100 Continue`` and then waits for the body that does not come;
    boto3 sends every empty object that way. The ``100 Continue`` itself must be sent: botocore up to 1.42 takes a
    final answer instead for that of the connection's next request as well, and hangs.
    """

    parser_class = RequestParser
    task_class = RequestTask
    error_task_class = RefusalTask

    def send_continue(self) -> None:
        complete = self.request.body_rcv is None
        super().send_continue()
        self.request.completed = complete


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc] # waitress has no annotations
    """Up to *most* threads, each started when there is work for it.

    Calls can wait long (for a model to be loaded, for a container to answer), and can wait for other calls that need
    threads, too: the server reads S3 through itself.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def add_task(self, task: object) -> None:
        with self.lock:
            self.queue.append(task)
            self.queue_cv.notify()
            threads = len(self.threads)
            is_short = len(self.queue) > threads - self.active_count
            grows = is_short and threads < self._most and not self.stop_count
        if grows:
            self.set_thread_count(threads + 1)
