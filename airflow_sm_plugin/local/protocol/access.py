"""Decide by its headers whether a request is permitted to drive the embedded SageMaker, which runs code.

A browser adds ``Origin`` or ``Sec-Fetch-Site`` to every request that a web page makes, and ``Host`` is the name under
which the page reached the service. AWS clients send neither of the first two. Pure decisions; nothing else is read.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_AWS = (".amazonaws.com", ".amazonaws.com.cn")
"""Names of AWS, under which a client that was given a proxy or a hosts file reaches the service."""
_AWS_BUCKET = re.compile(
    r"(?P<bucket>.+?)\.s3(?!-control|-accesspoint)(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?"
)
_SHOWN = 100
"""Characters of a header's value that a message repeats."""
_FORM_TYPES = ("multipart/form-data", "text/plain")
"""Content types that only a page's form gives a POST of ``/_embedded/``; curl's ``-d`` is the third, urlencoded."""


@dataclass(frozen=True)
class ServedNames:
    """The host names under which the service answers, beside loopback's and AWS's.

    :param names: lower-case host names or addresses: the bound one, and those of ``--serve-as``
    """

    names: frozenset[str] = frozenset()

    @classmethod
    def of(cls, names: Iterable[str]) -> ServedNames:
        """Normalise names. Raises ValueError for one that is no host name (a port or a scheme beside it, a glob)."""
        given = [name.strip() for name in names]
        for name in given:
            match = _AUTHORITY.fullmatch(name)
            if _address(name.strip("[]")) is None and (match is None or match["port"]):
                raise ValueError(
                    f"{name!r} is not a host name: give it without scheme and port, e.g. sagemaker"
                )
        return cls(frozenset(name.strip("[]").rstrip(".").lower() for name in given))

    def is_own(self, host: str) -> bool:
        """Whether ``host`` is a loopback name, one that was given, or a bucket's name below one."""
        address = _address(host)
        is_loopback = host == "localhost" or (address is not None and address.is_loopback)
        return is_loopback or host in (*self.names, *self._parents()) or self._bucket_below(host) is not None

    def serves(self, host: str) -> bool:
        """Whether a request for ``host`` is answered: one of the service's own names, or one of AWS."""
        return self.is_own(host) or is_of_aws(host)

    def bucket_of(self, host: str) -> str | None:
        """Return the bucket of a virtual-host style address: ``<bucket>.localhost``, ``<bucket>.s3.amazonaws.com``."""
        match = _AWS_BUCKET.fullmatch(host)
        return match["bucket"] if match else self._bucket_below(host)

    def _bucket_below(self, host: str) -> str | None:
        parents = self._parents()
        if host in parents:
            return None
        parent = next((parent for parent in parents if host.endswith(f".{parent}")), None)
        return (host.removesuffix(f".{parent}") or None) if parent else None

    def _parents(self) -> list[str]:
        """Return the names that a bucket's name can stand before, the longest first."""
        names = [name for name in ("localhost", *self.names) if _address(name) is None]
        return sorted((f"{prefix}{name}" for name in names for prefix in ("", "s3.")), key=len, reverse=True)


def host_of(authority: str) -> str | None:
    """Return the lower-case host of ``host[:port]``, without brackets and final dot; None when it is none."""
    match = _AUTHORITY.fullmatch(authority)
    return match["host"].strip("[]").rstrip(".").lower() if match else None


def is_of_aws(host: str) -> bool:
    return host.endswith(_AWS)


def refusal(
    served: ServedNames, *, method: str, target: str, path: str, headers: Mapping[str, str]
) -> str | None:
    """Return why a request is refused and what to do about it, None for one that is to be answered.

    :param target: the request target as it was sent: a path, or an absolute URL
    :param path: the decoded path
    :param headers: lower-case names; a name that was sent twice has its values joined by a comma
    """
    return (
        _foreign_host(served, target, headers.get("host", ""))
        or _foreign_page(served, method, path, headers)
        or _form(method, path, headers)
    )


def _foreign_host(served: ServedNames, target: str, authority: str) -> str | None:
    authorities = [authority]
    if not target.startswith("/") and target != "*":
        parts = urlsplit(target)
        if parts.scheme not in ("http", "https"):
            return f"The request target {_shown(target)} is neither a path nor an http address."
        authorities.append(parts.netloc)
    for name in authorities:
        host = host_of(name)
        if host is None or not served.serves(host):
            return (
                f"Host {_shown(name)} is not a name of this service, which runs code and therefore answers only its "
                "own names. Use 127.0.0.1 or localhost, or start it with --serve-as <name> (serve_as=[...] in Python)."
            )
    return None


def _foreign_page(served: ServedNames, method: str, path: str, headers: Mapping[str, str]) -> str | None:
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if origin is not None:
        return f"Origin {_shown(origin)}{_NO_PAGES}"
    if site == "none" or _is_navigation(served, method, path, headers):
        return None
    return f"Sec-Fetch-Site {_shown(site)}{_NO_PAGES}"


_NO_PAGES = (
    " means that a web page sent this. The embedded SageMaker runs code, so no page is permitted to drive it; it "
    "answers no CORS requests. Call it from a program (boto3, the AWS CLI, curl) that sends neither Origin nor "
    "Sec-Fetch-Site."
)


def _is_navigation(served: ServedNames, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether a person follows a link to a page below ``/_embedded/``, which a GET only reads."""
    host = host_of(headers["host"])
    return (
        method == "GET"
        and path.startswith("/_embedded/")
        and host is not None
        and served.bucket_of(host) is None
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _form(method: str, path: str, headers: Mapping[str, str]) -> str | None:
    """Refuse a form's POST to our or moto's own interface, of a browser too old to name its page."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if method == "POST" and path.startswith(("/_embedded/", "/moto-api/")) and kind in _FORM_TYPES:
        return (
            f"A POST of {kind} is what a web page's form sends. Send JSON (Content-Type: application/json)."
        )
    return None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _shown(value: str) -> str:
    return ascii(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
