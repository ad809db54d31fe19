"""Serve the embedded SageMaker on loopback, from Python.

::

    with EmbeddedSageMaker() as sagemaker:
        client = boto3.client("sagemaker", endpoint_url=sagemaker.url, region_name="us-east-1")
"""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

import waitress
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from waitress import wasyncore

from airflow_sm_plugin.local import operations
from airflow_sm_plugin.local.app import EmbeddedApplication
from airflow_sm_plugin.local.aws import AwsClients
from airflow_sm_plugin.local.calls import CallLog
from airflow_sm_plugin.local.faults import FaultPlan
from airflow_sm_plugin.local.http_channel import Channel, Dispatcher
from airflow_sm_plugin.local.outcomes import Outcomes
from airflow_sm_plugin.local.settings import Settings
from airflow_sm_plugin.local.state import Account

if TYPE_CHECKING:
    from waitress.server import BaseWSGIServer

_THREADS = 512
"""Requests answered at the same time; an InvokeEndpoint holds one for as long as its model loads and answers."""

_CONNECTIONS = 4_096
"""Open at the same time: waitress's 100 are few for several batch tasks, and once full it accepts none for seconds."""

_STOP_SECONDS = 5
"""How long stop() waits for requests that are being answered."""


class EmbeddedSageMaker:
    """A running embedded SageMaker, a context manager.

    ``url``, ``settings``, ``faults``, ``outcomes``, ``calls``, ``reset()``.

    Two in one process keep their SageMaker resources apart, but share moto's (buckets, topics, logs, …).

    :param host: address to bind, loopback by default: it runs the archives it is given
    :param port: 0 picks a free one
    :param settings: delays; see :class:`~airflow_sm_plugin.local.settings.Settings`
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, settings: Settings | None = None) -> None:
        self._host = host
        self._port = port
        self.settings = settings or Settings()
        self._account = Account(AwsClients(lambda: self.own_url), self.settings)
        self._server: BaseWSGIServer | None = None
        self._stopping = threading.Event()
        self._sockets: dict[int, object] = {}
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address clients use as ``endpoint_url`` or ``AWS_ENDPOINT_URL``."""
        return f"http://{self._host}:{self._port}"

    @property
    def faults(self) -> FaultPlan:
        """The fault plan: ``faults.replace([{"operation": "CreateEndpoint", "fault": "throttle"}])``."""
        return self._account.faults

    @property
    def outcomes(self) -> Outcomes:
        """What endpoints' next deployments come to: ``outcomes.replace("mine", [Outcome(end="RolledBack")])``."""
        return self._account.outcomes

    @property
    def calls(self) -> CallLog:
        """The call log: ``calls.calls(operation="Create*")``."""
        return self._account.calls

    @property
    def own_url(self) -> str:
        """The address under which it reaches itself, also when bound to every interface."""
        host = "127.0.0.1" if self._host == "0.0.0.0" else self._host  # noqa: S104 - compared, not bound
        return f"http://{host}:{self._port}"

    def start(self) -> None:
        """Bind and serve in a thread of its own; when this returns, requests are answered."""
        operations.load()
        application = EmbeddedApplication(self._account, DomainDispatcherApplication(create_backend_app))
        server = waitress.create_server(
            application,
            host=socket.gethostbyname(self._host),  # one address: "localhost" can be two
            port=self._port,
            _dispatcher=Dispatcher(_THREADS),
            asyncore_use_poll=True,
            channel_timeout=600,
            connection_limit=_CONNECTIONS,
            max_request_body_size=5 * 1024**3,
            clear_untrusted_proxy_headers=True,
            map=self._sockets,
        )
        server.channel_class = Channel
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
        for channel in [one for one in self._sockets.values() if isinstance(one, Channel)]:
            channel.handle_close()  # clients keep theirs open; long answers are in temporary files
        wasyncore.close_all(self._sockets, ignore_all=True)

    def stop(self) -> None:
        """Stop the containers, then the server."""
        self._account.reset()
        self._stopping.set()
        if self._server is not None:
            self._server.pull_trigger()  # wakes the loop
            self._server = None
        if self._thread is not None:
            self._thread.join(timeout=2 * _STOP_SECONDS)
            self._thread = None

    def reset(self) -> None:
        """Forget every SageMaker resource and stop what runs; ``POST /moto-api/reset`` clears moto too."""
        self._account.reset()

    def __enter__(self) -> Self:
        """Start serving."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.stop()
