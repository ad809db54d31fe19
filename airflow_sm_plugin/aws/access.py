"""The installed botocore's way to a service, for a faster transport that does the same or leaves it to botocore.

Address, region and signature come from a request that botocore's client builds and does not send, the rest from the
client's configuration. An option that is neither mapped nor harmless makes botocore's own client carry the calls.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

import botocore.session
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from asgiref.sync import sync_to_async
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from airflow_sm_plugin.aws.errors import stumbles_as_botocore
from airflow_sm_plugin.aws.hook import AwsHook
from airflow_sm_plugin.aws.signer import Keys, Signer
from airflow_sm_plugin.aws.unsent import UnsentRequest, UnsentRequests
from airflow_sm_plugin.exceptions import InvalidRequest

if TYPE_CHECKING:
    from botocore.auth import SigV4Auth
    from botocore.client import BaseClient
    from botocore.credentials import Credentials, ReadOnlyCredentials

_MAPPED = frozenset(
    {
        "account_id_endpoint_mode",
        "auth_scheme_preference",
        "client_context_params",
        "connect_timeout",
        "ignore_configured_endpoint_urls",
        "inject_host_prefix",
        "max_pool_connections",
        "proxies",
        "read_timeout",
        "region_name",
        "request_checksum_calculation",
        "response_checksum_validation",
        "s3",
        "s3_disable_express_session_auth",
        "signature_version",
        "sigv4a_signing_region_set",
        "use_dualstack_endpoint",
        "use_fips_endpoint",
        "user_agent",
        "user_agent_appid",
        "user_agent_extra",
    }
)
"""Options of botocore's Config that the unsent request shows, or that this module reads."""

_HARMLESS = frozenset(
    {
        "defaults_mode",
        "disable_request_compression",
        "endpoint_discovery_enabled",
        "parameter_validation",
        "request_min_compression_size_bytes",
        "retries",
        "tcp_keepalive",
    }
)
"""Options without effect here: the callers repeat, limits are checked before, no operation used is compressed."""

_OWN_HEADERS = ("x-amz-", "x-amzn-", "amz-sdk-")
_PLAIN_HEADERS = frozenset({"authorization", "content-length", "content-type", "user-agent", "expect"})
_SESSION_OF_A_BUCKET = "x-amz-s3session-token"
_FRESH_SECONDS = 30.0
"""Seconds for which a signer is used. botocore renews temporary credentials long before they expire, so that half a
minute is safe; shorter, a thread is asked for credentials more often than needed."""


class UnrepeatedHook(AwsHook):
    """The provider's hook with a client that does not retry: the caller decides about repeats.

    :param least_read_timeout: seconds; a shorter read time-out is raised to it
    :param max_connections: size of the connection pool; None takes it from the botocore configuration
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - handed on
        least_read_timeout: float = 0,
        max_connections: int | None = None,
        **kwargs: Any,  # noqa: ANN401 - handed on
    ) -> None:
        super().__init__(*args, **kwargs)
        self._least_read_timeout = least_read_timeout
        self._most_connections = max_connections

    def _get_config(self, config: Config | None = None) -> Config:
        merged = (
            super()._get_config(config).merge(Config(retries={"mode": "standard", "total_max_attempts": 1}))
        )
        if self._most_connections is not None:
            merged = merged.merge(Config(max_pool_connections=self._most_connections))
        read_timeout: float | None = vars(merged)["read_timeout"]
        if read_timeout is not None and read_timeout < self._least_read_timeout:
            return merged.merge(Config(read_timeout=self._least_read_timeout))
        return merged


@dataclass(frozen=True)
class Address:
    """Target of requests (scheme, host and perhaps a path, without a slash at the end), and their signature."""

    url: str
    region: str
    service: str

    @cached_property
    def host(self) -> str:
        """Host as signed: with the port, unless it is the scheme's default."""
        parts = urlsplit(self.url)
        own = {"http": 80, "https": 443}.get(parts.scheme)
        name = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else str(parts.hostname)
        return name if parts.port in (None, own) else f"{name}:{parts.port}"

    @cached_property
    def path(self) -> str:
        """Path that belongs to the address: a bucket's name in path style."""
        return urlsplit(self.url).path

    @cached_property
    def root(self) -> str:
        return self.url.removesuffix(self.path)


@dataclass(frozen=True)
class Wire:
    """Settings of connections. Times in seconds, None waits for ever.

    :param tls: None where the address is not of HTTPS
    """

    connect_timeout: float | None
    read_timeout: float | None
    max_connections: int
    proxy: str | None
    proxy_headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    user_agent: str


class ServiceAccess:
    """A service as one hook's client reaches it. The constructor blocks; :meth:`connect` does not."""

    def __init__(self, hook: AwsHook) -> None:
        self._hook = hook
        self.client: BaseClient = cast("BaseClient", hook.get_conn())
        self.options: Mapping[str, Any] = vars(self.client.meta.config)
        self._unsent = UnsentRequests(self.client)

    @classmethod
    async def connect(cls, hook: AwsHook) -> ServiceAccess:
        """Create one from within an event loop."""
        # As the provider does it: in a triggerer, Airflow's connections come through the event loop.
        await sync_to_async(lambda: hook.conn_config)()
        return await asyncio.to_thread(cls, hook)

    def unsent(self, operation: str, parameters: Mapping[str, object]) -> UnsentRequest:
        """Build a request without sending it, e.g. of ``ListObjectsV2``. Blocks."""
        with stumbles_as_botocore():
            return self._unsent.request(operation, parameters)

    def unmapped(self, request: UnsentRequest) -> str | None:
        """Give the reason why requests like this one must go through botocore; None when there is none."""
        known = _MAPPED | _HARMLESS
        unknown = [
            name
            for name, value in self.options.items()
            if not name.startswith("_") and name not in known and value not in (None, False)
        ]
        if unknown:
            return f"botocore_config sets {', '.join(sorted(unknown))}"
        if request.scope is None:
            return "requests are not signed with Signature Version 4"
        if _SESSION_OF_A_BUCKET in request.headers:
            return "it is a directory bucket, with sessions of its own"
        added = [n for n in request.headers if n not in _PLAIN_HEADERS and not n.startswith(_OWN_HEADERS)]
        if added:
            return f"something adds the headers {', '.join(sorted(added))}"
        proxy = self._proxy(request.url)
        if proxy and (not proxy.startswith("http:") or ("@" in proxy and request.url.startswith("http:"))):
            return "the proxy wants what only botocore does"
        return None

    def address(self, request: UnsentRequest) -> Address:
        region, service = cast("tuple[str, str]", request.scope)
        url = request.url.partition("?")[0]
        return Address(url.removesuffix(request.path).rstrip("/"), region, service)

    def wire(self) -> Wire:
        """Read the settings of connections. Blocks: certificates are read."""
        url = str(self.client.meta.endpoint_url)
        proxy = self._proxy(url)
        return Wire(
            connect_timeout=_seconds(self.options["connect_timeout"]),
            read_timeout=_seconds(self.options["read_timeout"]),
            max_connections=int(self.options["max_pool_connections"]),
            proxy=_without_secret(proxy) if proxy else None,
            proxy_headers=_proxy_headers(proxy) if proxy else {},
            tls=self._tls() if urlsplit(url).scheme == "https" else None,
            user_agent=str(self.options["user_agent"]),
        )

    def keys(self, address: Address) -> Keys:
        """Get valid credentials. Blocks when they must be fetched.

        :raises BotoCoreError: there are none, or they could not be fetched
        """
        signer = self._unsent.signer
        if signer is None:
            raise RuntimeError("no request was built before")
        with stumbles_as_botocore():
            auth = cast("SigV4Auth", signer.get_auth_instance(address.service, address.region, "v4"))
        credentials = cast("Credentials | ReadOnlyCredentials | None", auth.credentials)
        if credentials is None or not credentials.access_key or not credentials.secret_key:
            raise NoCredentialsError
        return Keys(credentials.access_key, credentials.secret_key, credentials.token)

    def renew_credentials(self) -> None:
        """Fetch fresh credentials, even if botocore considers the present ones valid. Blocks."""
        if self._hook.credentials is not None:
            self._hook.credentials.renew()

    def _tls(self) -> ssl.SSLContext:
        verify = _verify(self._hook)
        if verify is False:
            return _trusting()
        return _certificates(str(get_cert_path(verify)))  # type: ignore[arg-type]  # it hands a path through

    def _proxy(self, url: str) -> str | None:
        """Find the proxy as botocore does: by the client's endpoint, not by the bucket's own host."""
        proxies = self.options["proxies"]
        if proxies is None:
            proxies = get_environ_proxies(self.client.meta.endpoint_url)
        proxy: str | None = proxies.get(urlsplit(url).scheme)
        if not proxy or proxy.startswith(("http:", "https:")):
            return proxy or None
        return f"http:{proxy}" if proxy.startswith("//") else f"http://{proxy}"


class FreshSigners:
    """Signers by address, replaced every 30 s so that rotated credentials are used; other requests go on meanwhile."""

    def __init__(self, access: ServiceAccess, *, is_s3: bool) -> None:
        self._access = access
        self._is_s3 = is_s3
        self._made: dict[Address, tuple[Signer, float]] = {}

    async def for_address(self, address: Address) -> Signer:
        """Return the address's signer, with credentials fetched at most about 30 s ago.

        :raises BotoCoreError: no credentials, or they could not be fetched
        """
        signer, until = self._made.get(address, (None, 0.0))
        now = time.monotonic()
        if signer is not None and now < until:
            return signer
        if signer is not None:  # others go on with these: botocore renews them long before they expire
            self._made[address] = (signer, now + _FRESH_SECONDS)
        keys = await asyncio.to_thread(self._access.keys, address)
        signer = Signer(keys, region=address.region, service=address.service, is_s3=self._is_s3)
        self._made[address] = (signer, time.monotonic() + _FRESH_SECONDS)
        return signer

    async def renew(self) -> None:
        """Fetch fresh credentials, and sign with them from now on."""
        await asyncio.to_thread(self._access.renew_credentials)
        self._made.clear()


def _verify(hook: AwsBaseHook) -> bool | str:
    """Read whether, or against which certificates, TLS is verified, in botocore's order of sources."""
    verify = hook.verify
    if verify is None:
        session = botocore.session.Session(profile=hook.conn_config.profile_name)
        verify = session.get_config_variable("ca_bundle")
    if verify is None:
        verify = os.environ.get("REQUESTS_CA_BUNDLE")
    return True if verify is None else verify


def _certificates(path: str) -> ssl.SSLContext:
    try:
        return _shared_context(path, Path(path).stat().st_mtime_ns)
    except OSError as error:  # ssl's own errors among them
        raise InvalidRequest(
            f"the CA bundle {path} cannot be used: {error}; correct verify, AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE"
        ) from error


@functools.cache
def _trusting() -> ssl.SSLContext:
    """Make a context that verifies no certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@functools.lru_cache(maxsize=4)
def _shared_context(path: str, changed_at: int) -> ssl.SSLContext:
    """Read certificates, once for all services: they take 10 ms and a megabyte."""
    del changed_at
    is_folder = Path(path).is_dir()
    return ssl.create_default_context(cafile=None if is_folder else path, capath=path if is_folder else None)


def _seconds(value: float | None) -> float | None:
    return None if value is None else float(value)


def _without_secret(proxy: str) -> str:
    scheme, _, rest = proxy.partition("//")
    return f"{scheme}//{rest.rpartition('@')[2]}"


def _proxy_headers(proxy: str) -> Mapping[str, str]:
    try:
        parts = urlsplit(proxy)
    except ValueError as error:
        raise InvalidRequest(
            f"the proxy's URL in botocore_config or the environment is none: {error}; percent-encode user and password"
        ) from None
    if not (parts.username and parts.password):
        return {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password)}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(secret).decode()}"}
