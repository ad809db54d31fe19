"""Serve the embedded SageMaker on loopback, from Python.

::

    with EmbeddedSageMaker() as sagemaker:
        client = boto3.client("sagemaker", endpoint_url=sagemaker.url, region_name="us-east-1")
"""

from __future__ import annotations

import contextlib
import threading
from types import TracebackType
from typing import TYPE_CHECKING

import waitress
from moto.server import DomainDispatcherApplication, create_backend_app

from airflow_sm_plugin.local import operations
from airflow_sm_plugin.local.app import EmbeddedApplication
from airflow_sm_plugin.local.aws import AwsClients
from airflow_sm_plugin.local.settings import Settings
from airflow_sm_plugin.local.state import Account

if TYPE_CHECKING:
    from waitress.server import BaseWSGIServer

_THREADS = 64
"""Requests answered at the same time; an InvokeEndpoint holds one for as long as its containers take."""


class EmbeddedSageMaker:
    """A running embedded SageMaker: ``url``, ``settings``, ``reset()``; a context manager.

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
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address clients use as ``endpoint_url`` or ``AWS_ENDPOINT_URL``."""
        return f"http://{self._host}:{self._port}"

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
            host=self._host,
            port=self._port,
            threads=_THREADS,
            asyncore_use_poll=True,
            channel_timeout=600,
            max_request_body_size=5 * 1024**3,
            clear_untrusted_proxy_headers=True,
        )
        self._port = int(server.effective_port)
        self._server = server
        self._thread = threading.Thread(target=self._serve, args=(server,), name="embedded-sagemaker", daemon=True)
        self._thread.start()

    @staticmethod
    def _serve(server: BaseWSGIServer) -> None:
        with contextlib.suppress(OSError):  # the listening socket is closed under its loop to end it
            server.run()

    def stop(self) -> None:
        """Stop the containers, then the server."""
        self._account.reset()
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def reset(self) -> None:
        """Forget every SageMaker resource and stop what runs; ``POST /moto-api/reset`` clears moto as
        well."""
        self._account.reset()

    def __enter__(self) -> EmbeddedSageMaker:
        """Start serving."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop serving."""
        self.stop()
