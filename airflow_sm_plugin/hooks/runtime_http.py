"""Connections to SageMaker's runtime: our own, or aiohttp's where a proxy stands between."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from airflow_sm_plugin.hooks.direct_http import DirectHttp
from airflow_sm_plugin.hooks.service_access import Address, ServiceAccess, Wire
from airflow_sm_plugin.hooks.signed_http import HttpAnswer, HttpRequest, SignedHttp

Send = Callable[[HttpRequest], Awaitable[HttpAnswer]]
"""Send one request, once; what breaks raises botocore's errors."""


@asynccontextmanager
async def runtime_http(access: ServiceAccess, wire: Wire, address: Address) -> AsyncIterator[Send]:
    """Open connections to one address for the block."""
    if wire.proxy:
        async with SignedHttp(access, wire) as proxied:
            yield functools.partial(proxied.send, address)
        return
    async with DirectHttp(access, wire, address) as direct:
        yield direct.send
