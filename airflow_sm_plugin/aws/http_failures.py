"""aiohttp's errors as botocore's, so that nobody has to care which transport it was."""

from __future__ import annotations

from collections.abc import Sequence

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)

BROKEN = (aiohttp.ClientError, OSError)
"""What aiohttp raises where a connection broke, or never was."""

_KINDS: Sequence[tuple[type[Exception] | tuple[type[Exception], ...], type[BotoCoreError]]] = (
    (aiohttp.ClientSSLError, SSLError),
    (aiohttp.ClientConnectorError, EndpointConnectionError),
    (aiohttp.ConnectionTimeoutError, ConnectTimeoutError),
    (TimeoutError, ReadTimeoutError),
    ((aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError), ConnectionClosedError),
)
"""The first that fits."""


def as_botocore(error: Exception, url: str, proxy: str | None) -> BotoCoreError:
    """Return botocore's exception: ``ConnectionError`` and its kin mean that nothing was sent.

    :param url: address that was asked
    :param proxy: address of the proxy between, without its password
    """
    if isinstance(error, aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError):
        return ProxyConnectionError(proxy_url=str(proxy), error=error)
    for kinds, kind in _KINDS:
        if isinstance(error, kinds):
            return kind(endpoint_url=url, error=error)
    return HTTPClientError(error=error)
