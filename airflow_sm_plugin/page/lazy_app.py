"""The ASGI application that the plugin registers. Airflow's processes all load plugins, few serve pages."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from airflow_sm_plugin._log import get_log

log = get_log(__name__)

_Application = Callable[..., Awaitable[None]]


class LazyPage:
    """Imports and makes the application when the first request arrives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: _Application | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
        await self._application()(scope, receive, send)

    def _application(self) -> _Application:
        with self._lock:
            if self._made is None:
                try:
                    from airflow_sm_plugin.page.app import make_app
                except ImportError as error:
                    log.warning("the page of SageMaker endpoints is not available: %s", error)
                    self._made = _not_available
                else:
                    self._made = make_app()
            return self._made


async def _not_available(scope: MutableMapping[str, Any], _receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's
    """Answer where this Airflow lacks what the page is built on."""
    if scope["type"] != "http":
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 501, "headers": headers})
    await send({"type": "http.response.body", "body": b"This page needs Airflow 3.1 or later."})
