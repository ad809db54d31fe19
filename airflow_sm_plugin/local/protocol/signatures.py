"""Read a request's signature, and refuse requests that AWS does not answer without one.

No signature is verified: any credentials do. What counts is that a client of AWS sent the request: no web page's form
or link can have an ``Authorization`` header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, unquote

_CREDENTIAL = re.compile(r"(?P<key>[^/=\s]+)/\d{8}/(?:(?P<region>[^/]+)/)?(?P<service>[^/]+)/aws4_request")
"""The scope of Signature Version 4; Version 4A has no region in it."""
_VERSION_2 = re.compile(r"AWS [^:\s]+:\S+")
"""Signature Version 2, which S3 alone still takes; it names no service."""
_UNSIGNED_TARGETS = ("AWSCognitoIdentityService.", "AWSCognitoIdentityProviderService.")
"""Services whose JSON operations an app's user calls before there are credentials."""
_UNSIGNED_ACTIONS = ("AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "ConfirmSubscription", "Unsubscribe")
"""STS's operations that give the first credentials, and the links in messages of SNS."""
_FORM_TYPES = ("", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain")
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
    """Read a signature's scope off the header, or off a presigned address; empty parts when there is none."""
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
    """Return whether AWS would not answer this request as it is signed, or not signed.

    Unsigned are permitted: S3's reads, writes and browser upload forms with a policy, Cognito, the few operations of
    STS and SNS that AWS answers so, and operations that only read. ``body`` is read of unsigned forms only.
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
    is_form = method == "POST" and kind in _FORM_TYPES
    if not action and is_form and "urlencoded" in kind:
        action = parse_qs(body().decode(errors="replace")).get("Action", [""])[0]
    if action:
        return not (only_reads(action) or action in _UNSIGNED_ACTIONS)
    return (
        is_form and signature.service != "s3" and not (kind.startswith("multipart/") and _has_policy(body()))
    )


def _has_policy(form: bytes) -> bool:
    """Whether a form is S3's browser upload with a signed policy; the file is its last field."""
    policy, file = (form.find(name) for name in _POLICY_FIELDS)
    return (
        0 <= policy < (file if file >= 0 else len(form))
        and b'signature"' in form[: file if file >= 0 else None]
    )


OWN_ACCESS_KEY = "embedded-server"
"""Signs this server's own calls: the fault plan spares them, the call log leaves them out."""
