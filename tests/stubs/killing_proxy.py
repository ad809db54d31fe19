"""A proxy in front of a service at which a process "dies": just before a request is passed on, or just after.

It signals the test, which cancels what runs until it has ended: nothing that it still asks for is passed on, so nothing
is tidied up. That is what SIGKILL leaves behind, at a point that the test chooses. Or the process stops there, as by
SIGSTOP, until it is let go on.
"""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeVar

_Result = TypeVar("_Result")
_POLL_SECONDS = 0.02
_DYING_SECONDS = 1.0
"""A client that waits in a thread of its own, where nothing cancels it, learns then that there is no answer."""


class KillingProxy:
    """Passes requests on; ``asked`` holds them as ``METHOD path``, without queries."""

    def __init__(self, service: str) -> None:
        self._host, _, port = service.removeprefix("http://").partition(":")
        self._port = int(port)
        self._kill_at: tuple[int, bool] | None = None
        self._killed = threading.Event()
        self._ended = threading.Event()
        self._counting = threading.Lock()
        self._stop_at: int | None = None
        self._gone_on = threading.Event()
        self._stopped = threading.Event()
        self.ended = threading.Event()
        """For the process that may be stopped: set it at its end."""
        self.url = ""
        self.asked: list[str] = []

    def kill_at(self, number: int | None, *, after: bool = False) -> None:
        """Die at the request of this number (from 0, counted from now on); None never.

        :param after: the request is carried out, and only its answer is lost
        """
        self.asked.clear()
        self._killed.clear()
        self._ended.clear()
        self._kill_at = None if number is None else (number, after)

    @property
    def has_killed(self) -> bool:
        """Check whether the process has died."""
        return self._killed.is_set()

    def stop_at(self, number: int | None) -> None:
        """Stop before the request of this number (from 0, counted from now on); None never."""
        self.kill_at(None)
        self._stop_at = number
        self.ended.clear()
        self._stopped.clear()
        self._gone_on.clear()

    def has_stopped(self) -> bool:
        """Wait until the process stops; return False when it has ``ended`` without having come so far."""
        while not self._stopped.wait(_POLL_SECONDS):
            if self.ended.is_set():
                return self._stopped.is_set()
        return True

    def let_go_on(self) -> None:
        """Have the process go on."""
        self._gone_on.set()

    def take(self, step: Callable[[], _Result], kill: Callable[[], object]) -> _Result | None:
        """Do something in this thread until it ends or dies; None when it died.

        :param kill: has it end soon; called again and again, so that it does not wait for answers that never come
        """
        ended = threading.Event()

        def kill_it() -> None:
            while not ended.wait(_POLL_SECONDS):
                if self._killed.is_set():
                    kill()

        killer = threading.Thread(target=kill_it)
        killer.start()
        try:
            result = step()
        except BaseException:
            if not self._killed.is_set():
                raise
            return None
        finally:
            ended.set()
            killer.join()
            self._ended.set()
        return None if self._killed.is_set() else result

    def run(self, work: Coroutine[object, object, _Result]) -> _Result | None:
        """Run something until it ends or dies; None when it died."""

        async def until_killed() -> _Result | None:
            working = asyncio.ensure_future(work)
            while not working.done() and not self._killed.is_set():
                await asyncio.wait({working}, timeout=_POLL_SECONDS)
            if not self._killed.is_set():
                return working.result()
            while not working.done():
                working.cancel()
                await asyncio.wait({working}, timeout=_POLL_SECONDS)
            return None

        try:
            return asyncio.run(until_killed())
        finally:
            self._ended.set()

    def reply(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes] | None:
        """Return the service's answer; None, when the process is dead, and no caller waits for it."""
        if self._killed.is_set() and not self._ended.is_set():
            return None
        with self._counting:
            number = len(self.asked)
            self.asked.append(f"{request.command} {request.path.partition('?')[0]}")
        dies, after = (
            (False, False) if self._kill_at is None else (self._kill_at[0] == number, self._kill_at[1])
        )
        if self._stop_at is not None and number >= self._stop_at:
            self._stopped.set()
            self._gone_on.wait()
        answer = None if dies and not after else self._passed_on(request, body)
        if not dies:
            return answer
        self._killed.set()
        self._ended.wait(timeout=_DYING_SECONDS)
        return None

    def _passed_on(
        self, request: BaseHTTPRequestHandler, body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=600)
        with closing(connection):
            connection.request(request.command, request.path, body, dict(request.headers))
            got = connection.getresponse()
            return got.status, got.getheaders(), got.read()


@contextmanager
def killing_proxy(service: str) -> Iterator[KillingProxy]:
    """Serve on loopback for the block."""
    proxy = KillingProxy(service)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits until its head is acknowledged

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = proxy.reply(self, body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in (
                    "content-length",
                    "connection",
                    "transfer-encoding",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _pass_on  # noqa: N815 - the standard library's names

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False  # clients keep connections open
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
