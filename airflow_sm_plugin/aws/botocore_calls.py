"""Botocore's own client in an event loop, in threads: for what the fast transport does not do as botocore does."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from botocore.client import BaseClient

from airflow_sm_plugin.aws.errors import stumbles_as_botocore


class BotocoreCalls:
    """A boto3 client's calls, each in a thread; as many at once as its connection pool holds."""

    def __init__(self, client: BaseClient) -> None:
        self.client: Any = client
        most = int(getattr(client.meta.config, "max_pool_connections", 10) or 10)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="botocore")

    async def call(self, operation: str, /, **parameters: object) -> Mapping[str, Any]:
        """Call a method of the client, e.g. ``head_object``."""
        method = functools.partial(getattr(self.client, operation), **parameters)
        return cast("Mapping[str, Any]", await self.run(method))

    async def run(self, blocking: Callable[[], object]) -> object:
        """Run something blocking in one of the threads."""
        with stumbles_as_botocore():
            return await asyncio.get_running_loop().run_in_executor(self._threads, blocking)

    def close(self) -> None:
        """Let the threads end; what they are doing is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
