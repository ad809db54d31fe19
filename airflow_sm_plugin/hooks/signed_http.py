"""Signed requests over one aiohttp session: a third of what they cost through botocore.

No retries, no redirects, nothing decompressed. A broken connection raises botocore's own exceptions, so that nobody has
to care which transport it was: ``ConnectionError`` and its kin mean that nothing was sent, ``HTTPClientError`` and its
kin that the request may have been carried out.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import aiohttp
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ProxyConnectionError,
    ReadTimeoutError,
    SSLError,
)
from yarl import URL

from airflow_sm_plugin.hooks.service_access import Address, FreshSigners, ServiceAccess, Wire
from airflow_sm_plugin.hooks.sigv4 import Clock, ToSign

_NOT_BY_ITSELF = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CHUNK = 65_536
_LARGE = 1_048_576


@dataclass(frozen=True, repr=False)
class HttpAnswer:
    """A whole answer. It has no repr: the body may be secret.

    :param headers: to be asked for by names in lower case
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json_object(self) -> dict[str, object]:
        """Read the body as a JSON object; none at all is an empty one.

        :raises HTTPClientError: it is something else, as a proxy's page is
        """
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise HTTPClientError(error=f"the answer of status {self.status} is no JSON") from error
        if not isinstance(value, dict):
            raise HTTPClientError(error=f"the answer of status {self.status} is no JSON object")
        return value


@dataclass(frozen=True, repr=False)
class OpenAnswer:
    """An answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, repr=False)
class HttpRequest:
    """A request before it is signed. It has no repr: headers and body may be secret.

    :param path: what follows the address, percent-encoded
    :param query: names and values, not encoded; None is a name without a value
    :param sign_body: False leaves the body out of the signature, as S3 allows
    """

    method: str
    path: str = ""
    query: Sequence[tuple[str, str | None]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    sign_body: bool = True


class SignedHttp:
    """One session of HTTP connections, as many at once as ``wire`` says; further requests wait for one of them.

    :param is_s3: S3 is signed a little differently
    """

    def __init__(self, access: ServiceAccess, wire: Wire, *, is_s3: bool = False) -> None:
        self._wire = wire
        self._signers = FreshSigners(access, is_s3=is_s3)
        self._clock = Clock()
        self._session: aiohttp.ClientSession | None = None
        self._by_itself = {"User-Agent": wire.user_agent, "Accept-Encoding": "identity"}
        proxy = {"proxy": wire.proxy, "proxy_headers": wire.proxy_headers} if wire.proxy else {}
        self._options: dict[str, Any] = {"allow_redirects": False, **proxy}

    async def __aenter__(self) -> Self:
        """Open the session; connections are made when they are needed."""
        wire = self._wire
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=wire.max_connections, ssl=wire.tls),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=wire.connect_timeout, sock_read=wire.read_timeout
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_NOT_BY_ITSELF,
            auto_decompress=False,
            trust_env=False,
        )
        # Else it sends GET and PUT again by itself when the connection breaks, and nobody learns that it did.
        self._session._retry_connection = False  # noqa: SLF001 - there is no public way; a test holds it
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def send(self, address: Address, request: HttpRequest) -> HttpAnswer:
        """Send one request and read its answer, whatever its status.

        :raises EndpointConnectionError: and its like: nothing was sent
        :raises HTTPClientError: ReadTimeoutError, ConnectionClosedError: it was sent, or part of it; nobody knows more
        :raises BotoCoreError: no credentials
        """
        async with self._answer(address, request) as response:
            return HttpAnswer(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def opened(self, address: Address, request: HttpRequest) -> AsyncIterator[OpenAnswer]:
        """Send one request and hand over its answer before its body is read; errors as :meth:`send`."""
        async with self._answer(address, request) as response:
            yield OpenAnswer(response.status, response.headers, response.content.iter_chunked(_CHUNK))

    @asynccontextmanager
    async def _answer(self, address: Address, request: HttpRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("SignedHttp is used outside of its block")
        signer = await self._signers.for_address(address)
        query = encoded_query(request.query)
        body = request.body if request.sign_body else None
        path = f"{address.path}{request.path}" or "/"
        unsigned = ToSign(request.method, address.host, path, query, request.headers, body)
        headers = signer.signed(unsigned, self._clock.timestamp())
        headers |= self._by_itself
        url = f"{address.root}{path}?{query}" if query else f"{address.root}{path}"
        with _as_botocore(address.url, self._wire.proxy):
            async with self._session.request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                data=_data(request.body),
                **self._options,
            ) as response:
                yield response


def encoded_path(key: str) -> str:
    """Return a key as botocore spells it in a path."""
    return "/" + quote(key, safe="/~")


def _data(body: bytes) -> bytes | io.BytesIO | None:
    """Return a body as aiohttp wants it: a large one in pieces, so that others get their turn between."""
    return (io.BytesIO(body) if len(body) > _LARGE else body) or None


def encoded_query(query: Sequence[tuple[str, str | None]]) -> str:
    """Return a query as botocore spells it."""
    return "&".join(
        _quoted(name) if value is None else f"{_quoted(name)}={_quoted(value)}" for name, value in query
    )


def _quoted(text: str) -> str:
    return quote(text, safe="-._~")


@contextmanager
def _as_botocore(url: str, proxy: str | None) -> Iterator[None]:
    """Raise botocore's exceptions instead of aiohttp's."""
    try:
        yield
    except aiohttp.ClientSSLError as error:
        raise SSLError(endpoint_url=url, error=error) from error
    except (aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError) as error:
        raise ProxyConnectionError(proxy_url=str(proxy), error=error) from error
    except aiohttp.ClientConnectorError as error:
        raise EndpointConnectionError(endpoint_url=url, error=error) from error
    except aiohttp.ConnectionTimeoutError as error:
        raise ConnectTimeoutError(endpoint_url=url, error=error) from error
    except TimeoutError as error:
        raise ReadTimeoutError(endpoint_url=url, error=error) from error
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as error:
        raise ConnectionClosedError(endpoint_url=url, error=error) from error
    except aiohttp.ClientError as error:
        raise HTTPClientError(error=error) from error
