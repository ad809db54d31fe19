"""Calls through botocore's own client, in threads: for requests that the fast carrier cannot send as botocore does."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from typing import Any, TypeVar

from botocore import xform_name
from botocore.client import BaseClient

from airflow_sm_plugin.aws.errors import stumbles_as_botocore

CHUNK_BYTES = 65_536
"""Bytes read or sent at once. Smaller chunks cost more steps of the event loop, or calls in threads, for each megabyte;
larger ones hold more memory for each connection, and the time-out for silence is renewed less often."""

_Result = TypeVar("_Result")


class BotocoreCalls:
    """The calls of a boto3 client, each in a thread; as many at once as its connection pool holds.

    See :class:`~airflow_sm_plugin.aws.calls.AwsCalls`.
    """

    def __init__(self, client: BaseClient) -> None:
        self._client: Any = client
        config = client.meta.config
        self.adds_checksums = getattr(config, "request_checksum_calculation", None) == "when_supported"
        most = int(getattr(config, "max_pool_connections", 10) or 10)
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="botocore")

    def members(self, operation: str) -> frozenset[str]:
        shape = self._client.meta.service_model.operation_model(operation).input_shape
        return frozenset(shape.members if shape else ())

    async def call(self, operation: str, /, **parameters: Any) -> Mapping[str, Any]:  # noqa: ANN401 - botocore's
        return await self._run(functools.partial(self._whole, operation, parameters))

    @asynccontextmanager
    async def opened(
        self,
        operation: str,
        /,
        **parameters: Any,  # noqa: ANN401 - botocore's
    ) -> AsyncIterator[Mapping[str, Any]]:
        response = await self._run(functools.partial(self._called, operation, parameters))
        with closing(response["Body"]) as stream:  # as its own context it is another, that checks nothing
            yield {**response, "Body": self._chunks(stream)}

    def close(self) -> None:
        """Let the threads end, without waiting for calls under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _called(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        response: Mapping[str, Any] = getattr(self._client, xform_name(operation))(**parameters)
        return response

    def _whole(self, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        response = self._called(operation, parameters)
        stream: Any = response.get("Body")
        if stream is None:
            return response
        with closing(stream):  # as above
            return {**response, "Body": stream.read()}

    async def _chunks(self, stream: Any) -> AsyncIterator[bytes]:  # noqa: ANN401 - botocore's stream has no public type
        while chunk := await self._run(functools.partial(stream.read, CHUNK_BYTES)):
            yield chunk

    async def _run(self, blocking: Callable[[], _Result]) -> _Result:
        with stumbles_as_botocore():
            return await asyncio.get_running_loop().run_in_executor(self._threads, blocking)
