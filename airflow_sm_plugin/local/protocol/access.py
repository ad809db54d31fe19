"""Decide by its headers whether a request is permitted to use the embedded SageMaker, which runs code.

A browser adds ``Origin`` or ``Sec-Fetch-Site`` to every request that a web page makes, and ``Host`` is the name under
which the page reached the service. AWS clients send neither of the first two (:func:`refusal`). AWS's clients sign
what they send (:func:`needs_signature`). Pure decisions.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote, urlsplit

_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d{1,5}))?")
_AWS = (".amazonaws.com", ".amazonaws.com.cn")
"""Names of AWS, under which a client that was given a proxy or a hosts file reaches the service."""
_AWS_BUCKET = re.compile(
    r"(?P<bucket>.+?)\.s3(?!-control|-accesspoint)(?:[.-][a-z0-9-]+)*\.amazonaws\.com(?:\.cn)?"
)
_SHOWN = 100
"""Characters of a header's value that a message repeats."""
PAGES = "/_embedded/ui/"
"""The path of the pages for people, ``local/pages``."""
STYLESHEET = f"{PAGES}style.css"
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
        """Normalise names. Raises ValueError for a name with a port, a scheme or a glob."""
        given = [name.strip() for name in names]
        for name in given:
            match = _AUTHORITY.fullmatch(name)
            if _address(name.strip("[]")) is None and (match is None or match["port"]):
                raise ValueError(
                    f"{name!r} is not a host name: give it without scheme and port, e.g. sagemaker"
                )
        return cls(frozenset(name.strip("[]").rstrip(".").lower() for name in given))

    def is_own(self, host: str) -> bool:
        """Recognize a loopback name, a served name, and a bucket's name below one of them."""
        address = _address(host)
        is_loopback = host == "localhost" or (address is not None and address.is_loopback)
        return is_loopback or host in (*self.names, *self._parents()) or self._bucket_below(host) is not None

    def serves(self, host: str) -> bool:
        return self.is_own(host) or is_of_aws(host)

    def bucket_of(self, host: str) -> str | None:
        """Extract the bucket of a virtual-host style address: ``<bucket>.localhost``, ``<bucket>.s3.amazonaws.com``."""
        match = _AWS_BUCKET.fullmatch(host)
        return match["bucket"] if match else self._bucket_below(host)

    def _bucket_below(self, host: str) -> str | None:
        parents = self._parents()
        if host in parents:
            return None
        parent = next((parent for parent in parents if host.endswith(f".{parent}")), None)
        return (host.removesuffix(f".{parent}") or None) if parent else None

    def _parents(self) -> list[str]:
        """List the names that can follow a bucket's name, the longest first."""
        names = [name for name in ("localhost", *self.names) if _address(name) is None]
        return sorted((f"{prefix}{name}" for name in names for prefix in ("", "s3.")), key=len, reverse=True)


def host_of(authority: str) -> str | None:
    """Extract the lower-case host of ``host[:port]``, without brackets and final dot; None when it is not valid."""
    match = _AUTHORITY.fullmatch(authority)
    return match["host"].strip("[]").rstrip(".").lower() if match else None


def is_of_aws(host: str) -> bool:
    return host.endswith(_AWS)


def refusal(
    served: ServedNames, *, method: str, target: str, path: str, headers: Mapping[str, str]
) -> str | None:
    """Explain why a request is refused and what to do about it; None for a permitted request.

    :param target: the request target as it was sent: a path, or an absolute URL
    :param path: the decoded path
    :param headers: lower-case names; a header that was sent twice has its values joined by a comma
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
    if site == "none" or _is_navigation(served, method, path, headers) or _is_style(method, path, headers):
        return None
    return f"Sec-Fetch-Site {_shown(site)}{_NO_PAGES}"


_NO_PAGES = (
    " means that a web page sent this. The embedded SageMaker runs code, so no page is permitted to drive it; it "
    "answers no CORS requests. Call it from a program (boto3, the AWS CLI, curl) that sends neither Origin nor "
    "Sec-Fetch-Site."
)


def _is_navigation(served: ServedNames, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Detect a person who follows a link to a page below ``/_embedded/``, which a GET only reads."""
    host = host_of(headers["host"])
    return (
        method == "GET"
        and path.startswith("/_embedded/")
        and host is not None
        and served.bucket_of(host) is None
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _is_style(method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Detect that a page of this service fetches the stylesheet. A stored object's page has another origin."""
    return (
        method == "GET"
        and path == STYLESHEET
        and headers.get("sec-fetch-site") == "same-origin"
        and headers.get("sec-fetch-dest") == "style"
    )


def is_browser_at_root(method: str, path: str, query: str, headers: Mapping[str, str]) -> bool:
    """Detect a person who opens the service's bare address. A client of AWS signs, and does not accept HTML."""
    accepts = headers.get("accept", "")
    return (
        (method, path, query) == ("GET", "/", "")
        and "authorization" not in headers
        and "text/html" in accepts
    )


def _form(method: str, path: str, headers: Mapping[str, str]) -> str | None:
    """Refuse a form's POST to ``/_embedded/`` or ``/moto-api/`` from a browser too old to send Origin."""
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


_CREDENTIAL = re.compile(r"(?P<key>[^/=\s]+)/\d{8}/(?:(?P<region>[^/]+)/)?(?P<service>[^/]+)/aws4_request")
"""The scope of Signature Version 4; Version 4A has no region in it."""
_VERSION_2 = re.compile(r"AWS [^:\s]+:\S+")
"""Signature Version 2, which S3 alone still takes; it names no service."""
_UNSIGNED_TARGETS = ("AWSCognitoIdentityService.", "AWSCognitoIdentityProviderService.")
"""Services whose JSON operations an app's user calls before there are credentials."""
_UNSIGNED_ACTIONS = ("AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "ConfirmSubscription", "Unsubscribe")
"""STS's operations that give the first credentials, and the links in messages of SNS."""
_PAGE_TYPES = ("", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
"""Content types that a web page can POST without asking first."""
_POLICY_FIELDS = (b'name="policy"', b'name="file"')
_RUNTIME_PATH = re.compile(
    r"/endpoints/[^/]+/(async-invocations|invocations|invocations-response-stream|invocations-bidirectional-stream)"
)
_READING = ("Describe", "List", "Get", "Head", "Search", "BatchGet", "Filter", "Query")


@dataclass(frozen=True)
class Signature:
    """The scope of a signature; empty parts where a request has none."""

    access_key: str
    region: str
    service: str


def signature_of(authorization: str, query: str) -> Signature:
    """Read a signature's scope from the header, or from a presigned URL; empty parts when there is none."""
    match = _CREDENTIAL.search(authorization) or _CREDENTIAL.search(unquote(query))
    if not match:
        return Signature("", "us-east-1", "")
    return Signature(match["key"], match["region"] or "us-east-1", match["service"])


def only_reads(operation: str) -> bool:
    return operation.startswith(_READING)


def is_runtime_call(method: str, path: str) -> bool:
    return method == "POST" and _RUNTIME_PATH.fullmatch(path) is not None


def needs_signature(
    signature: Signature,
    *,
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    body: Callable[[], bytes],
) -> bool:
    """Decide whether AWS would refuse this request for its signature: missing, or unreadable.

    No signature is verified: any credentials do. What counts is that a client of AWS sent the request: no web page's
    form or link can have an ``Authorization`` header. Unsigned requests are permitted for S3 (reads, writes, browser
    upload forms with a policy), Cognito, the few operations of STS and SNS that AWS answers unsigned, and operations
    that only read. ``body`` is called for unsigned forms only.
    """
    authorization = headers.get("authorization")
    if authorization is not None:
        return not (_CREDENTIAL.search(authorization) or _VERSION_2.fullmatch(authorization))
    if "x-amz-target" in headers:
        return not headers["x-amz-target"].startswith(_UNSIGNED_TARGETS)
    if "smithy-protocol" in headers or (not signature.service and is_runtime_call(method, path)):
        return True
    action = parse_qs(query).get("Action", [""])[0]
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = method == "POST" and kind in _PAGE_TYPES
    if not action and is_form and "urlencoded" in kind:
        action = parse_qs(body().decode(errors="replace")).get("Action", [""])[0]
    if action:
        return not (only_reads(action) or action in _UNSIGNED_ACTIONS)
    return (
        is_form and signature.service != "s3" and not (kind.startswith("multipart/") and _has_policy(body()))
    )


def _has_policy(form: bytes) -> bool:
    """Detect S3's browser upload with a signed policy. The file is the last field of such a form."""
    policy, file = (form.find(name) for name in _POLICY_FIELDS)
    return (
        0 <= policy < (file if file >= 0 else len(form))
        and b'signature"' in form[: file if file >= 0 else None]
    )


OWN_ACCESS_KEY = "embedded-server"
"""Signs this server's own calls: the fault plan spares them, the call log leaves them out."""
