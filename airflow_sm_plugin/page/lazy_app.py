"""The ASGI application that the plugin registers. Airflow's processes all load plugins, few serve pages."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

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
                from airflow_sm_plugin.page.app import make_app

                self._made = make_app()
            return self._made
