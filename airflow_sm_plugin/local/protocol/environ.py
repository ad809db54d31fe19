"""Read a WSGI request, and leave it readable for moto."""

from __future__ import annotations

import io
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from airflow_sm_plugin.local.protocol.access import ServedNames, Signature, host_of, is_of_aws, signature_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


@dataclass(frozen=True)
class ReceivedRequest:
    """An HTTP request. Header names are lower-case, ``path`` is decoded, ``target`` is as it was sent.

    :param bucket: of a virtual-host style address of S3, else None
    :param request_id: the answer's ``x-amzn-RequestId``
    """

    environ: WSGIEnvironment = field(repr=False)
    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    signature: Signature
    bucket: str | None
    request_id: str

    @classmethod
    def of(cls, environ: WSGIEnvironment, served: ServedNames) -> ReceivedRequest:
        headers, query = _headers_of(environ), environ.get("QUERY_STRING", "")
        signature = signature_of(headers.get("authorization", ""), query)
        path = _decoded(_raw_path_of(environ["REQUEST_URI"]))
        is_s3 = signature.service in ("", "s3") and "x-amz-target" not in headers
        host = host_of(headers.get("host", "")) or ""
        names_account = "x-amz-account-id" in headers or ".s3-control." in host
        is_control = path.startswith(_S3_CONTROL) and names_account
        bucket = served.bucket_of(host) if is_s3 and not is_control else None
        return cls(
            environ,
            environ["REQUEST_METHOD"],
            environ["REQUEST_URI"],
            path if bucket is not None else f"/{path.lstrip('/')}",
            query,
            headers,
            signature,
            bucket,
            str(uuid.uuid4()),
        )

    @property
    def is_s3_control(self) -> bool:
        """Check whether moto treats the request as S3 Control: each path-style request with this prefix."""
        return self.bucket is None and self.path.startswith(_S3_CONTROL)

    @property
    def shown_path(self) -> str:
        """The path for logs: as it was sent, without query and control characters."""
        return ascii(_raw_path_of(self.target))[1:-1]

    def body(self) -> bytes:
        length = int(self.environ.get("CONTENT_LENGTH") or 0)
        content: bytes = self.environ["wsgi.input"].read(length)
        self.environ["wsgi.input"] = io.BytesIO(content)
        return content

    def for_moto(self) -> WSGIEnvironment:
        """Copy the environment, add the variables that moto's own server adds, and write S3's addresses in path style.

        Moto reads a key from ``RAW_URI``, still percent-encoded, and a bucket from almost every host name with a dot.
        """
        raw_path = _raw_path_of(self.target)
        environ = dict(self.environ)
        if self.bucket is not None:
            raw_path = f"/{self.bucket}{raw_path}"
            environ["PATH_INFO"] = f"/{self.bucket}{environ['PATH_INFO']}"
        if self.signature.service in ("", "s3"):
            # moto's routes match no line breaks
            environ["PATH_INFO"] = environ["PATH_INFO"].replace("\n", "_")
            if self.bucket is not None or not is_of_aws(host_of(self.headers.get("host", "")) or ""):
                environ["HTTP_HOST"] = f"localhost:{environ['SERVER_PORT']}"
        environ["RAW_URI"] = f"{raw_path}?{self.query}" if self.query else raw_path
        return environ


_S3_CONTROL = "/v20180820/"
"""The path of S3 Control, which is signed as S3, and whose host names begin with an account, not a bucket.

A key can begin so as well. S3 Control's requests have their account in a header, or go to ``<account>.s3-control.…``.
"""


def _headers_of(environ: WSGIEnvironment) -> dict[str, str]:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        headers["content-type"] = environ["CONTENT_TYPE"]
    return headers


def _raw_path_of(target: str) -> str:
    """Extract the path of a request target as it was sent: percent-encoded, with repeated slashes."""
    return target.partition("?")[0] if target.startswith("/") else urlsplit(target).path or "/"


def _decoded(raw_path: str) -> str:
    """Decode a percent-encoded path. WSGI has each of its bytes as a character."""
    return unquote_to_bytes(raw_path.encode("latin-1")).decode(errors="replace")
