"""Serve the embedded SageMaker on loopback, from Python.

::

    with EmbeddedSageMaker() as sagemaker:
        client = boto3.client("sagemaker", endpoint_url=sagemaker.url, region_name="us-east-1")
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import re
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import waitress
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from waitress import wasyncore

from airflow_sm_plugin.local import saved_state
from airflow_sm_plugin.local.account import operations
from airflow_sm_plugin.local.account.aws import AwsClients
from airflow_sm_plugin.local.account.settings import Settings
from airflow_sm_plugin.local.account.state import Account
from airflow_sm_plugin.local.front.app import EmbeddedApplication
from airflow_sm_plugin.local.front.http_channel import ClientChannel, Dispatcher
from airflow_sm_plugin.local.protocol.access import ServedNames

if TYPE_CHECKING:
    from flask import Flask
    from waitress.server import BaseWSGIServer

log = logging.getLogger(__name__)

_THREADS = 512
"""Requests answered in parallel; an InvokeEndpoint needs a thread while its model loads and answers."""

_CONNECTIONS = 4_096
"""Open connections. waitress's default of 100 is too low for several batch tasks: when full, it accepts none."""

_SERVER = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?/?")
"""An address without user, path and query."""

_STOP_SECONDS = 5
"""How long stop() waits for requests in progress."""

_REMOTE = (
    "everyone who reaches the port runs code on this machine as you, without login, because the service runs the "
    "archives that it is given."
)


class _Moto(DomainDispatcherApplication):
    """Moto's application. Raises NotImplementedError for a request of a service that moto lacks."""

    @functools.lru_cache(maxsize=1_000)  # noqa: B019 - a single object, which lives as long as the process
    def get_backend_for_host(self, host: str | None) -> Any:  # noqa: ANN401 - moto's
        """Cache the service of a host: moto lists its own folder for each request, while others wait."""
        return super().get_backend_for_host(host)

    def get_application(self, environ: dict[str, Any]) -> Flask:
        try:
            return super().get_application(environ)
        except Exception as error:
            raise NotImplementedError(f"moto knows no service for this request: {error}") from error


class EmbeddedSageMaker:
    """A running embedded SageMaker, a context manager.

    It has ``url``, ``settings`` and ``reset()``; injected faults, e.g. ``faults.replace([{"operation":
    "CreateEndpoint", "fault": "throttle"}])``; the ends of the next deployments, e.g. ``outcomes.replace("mine",
    [DeploymentOutcome(end="RolledBack")])``; and the call log, e.g. ``calls.calls(operation="Create*")``.

    Two in a process have separate SageMaker resources, but share moto's (buckets, topics, logs, …).

    :param host: address to bind, loopback by default, since the service runs the archives of its models
    :param port: 0 picks a free one
    :param settings: delays; see :class:`~airflow_sm_plugin.local.account.settings.Settings`
    :param serve_as: further host names to answer, such as a container's, also with a bucket's name before them. Other
        values of ``Host`` are refused
    :param allow_remote: permit a *host* that is not loopback
    :param training_cache: a folder for trained AutoML jobs; a job with the same data and settings is taken from it.
        None: every job trains
    :param public_url: the address under which a browser reaches the service where it is another than its clients'
        (``http://127.0.0.1:4566`` before a container); the links of tasks in Airflow lead there

    Raises ValueError for a *host* beyond loopback without *allow_remote*, a *host* without address, a wrong name in
    *serve_as*, and a *public_url* that is no address of a server.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Settings | None = None,
        serve_as: Sequence[str] = (),
        allow_remote: bool = False,
        training_cache: Path | None = None,
        public_url: str = "",
    ) -> None:
        self._address = _address_of(host)
        self._is_remote = not ipaddress.ip_address(self._address).is_loopback
        if self._is_remote and not allow_remote:
            raise ValueError(
                f"host {host} is not loopback: {_REMOTE} Bind 127.0.0.1, or permit it with --allow-remote "
                "(allow_remote=True in Python)."
            )
        self._served = ServedNames.of([host, *serve_as])
        self._host = host
        self._port = port
        self.settings = settings or Settings()
        self._account = Account(
            AwsClients(lambda: self.own_url),
            self.settings,
            training_cache,
            public_url=_checked_url(public_url),
        )
        self.faults = self._account.faults
        self.outcomes = self._account.outcomes
        self.calls = self._account.calls
        self._server: BaseWSGIServer | None = None
        self._stopping = threading.Event()
        self._waking = threading.Lock()
        self._sockets: dict[int, object] = {}
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address for clients: their ``endpoint_url`` or ``AWS_ENDPOINT_URL``."""
        return f"http://{_in_url(self._host)}:{self._port}"

    @property
    def own_url(self) -> str:
        address = ipaddress.ip_address(self._address)
        host = ("127.0.0.1" if address.version == 4 else "::1") if address.is_unspecified else self._address
        return f"http://{_in_url(host)}:{self._port}"

    def start(self) -> None:
        operations.load()
        if self._is_remote:
            log.warning("WARNING: %s is not loopback: %s", self._host, _REMOTE)
        application = EmbeddedApplication(self._account, _Moto(create_backend_app), self._served)
        server = waitress.create_server(
            application,
            host=self._address,
            port=self._port,
            _dispatcher=Dispatcher(_THREADS),
            asyncore_use_poll=True,
            channel_timeout=600,
            connection_limit=_CONNECTIONS,
            max_request_body_size=5 * 1024**3,
            clear_untrusted_proxy_headers=True,
            map=self._sockets,
        )
        server.channel_class = ClientChannel
        self._port = int(server.effective_port)
        self._server = server
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._serve, args=(server,), name="embedded-sagemaker", daemon=True
        )
        self._thread.start()

    def _serve(self, server: BaseWSGIServer) -> None:
        while not self._stopping.is_set():
            wasyncore.loop(timeout=1, map=self._sockets, use_poll=True, count=1)
        server.task_dispatcher.shutdown(timeout=_STOP_SECONDS)
        for channel in [channel for channel in self._sockets.values() if isinstance(channel, ClientChannel)]:
            channel.handle_close()  # clients keep connections open; long answers are in temporary files
        with self._waking:
            wasyncore.close_all(self._sockets, ignore_all=True)

    def stop(self) -> None:
        self._account.reset()
        with self._waking:  # else the loop could end and close the trigger before it is pulled
            self._stopping.set()
            if self._server is not None:
                self._server.pull_trigger()
                self._server = None
        if self._thread is not None:
            self._thread.join(timeout=2 * _STOP_SECONDS)
            self._thread = None

    def reset(self) -> None:
        """Drop every SageMaker resource and stop all background work; ``POST /moto-api/reset`` clears moto, too."""
        self._account.reset()

    def load(self, folder: Path) -> None:
        """Read the state that :meth:`save` wrote, if any, into this service, which runs and has no records.

        Raises ValueError for a state that cannot be read.
        """
        saved_state.load(self._account, folder)

    def save(self, folder: Path) -> None:
        """Write S3 objects, models, endpoints and ended jobs to a folder, instead of an earlier state there."""
        saved_state.save(self._account, folder)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _address_of(host: str) -> str:
    """Choose an address of a host, IPv4 if possible: "localhost" can have two. Raises ValueError."""
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"host {host!r} has no address on this machine: {error}") from None
    addresses = [str(entry[4][0]) for entry in entries]
    return next((address for address in addresses if ":" not in address), addresses[0])


def _checked_url(url: str) -> str:
    if url and not _SERVER.fullmatch(url):
        raise ValueError(
            f"public URL {url!r} is not the address of a server: write, e.g., http://127.0.0.1:4566"
        )
    return url.rstrip("/")


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
