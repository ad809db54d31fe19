"""A request as botocore would send it, signed and all, without sending it: from botocore's own public events."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders

from airflow_sm_plugin.aws.answers import protocol_of

if TYPE_CHECKING:
    from botocore.signers import RequestSigner

_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/]+)/([^/]+)/aws4_request,")


@dataclass(frozen=True)
class UnsentRequest:
    """A request that botocore would have sent. Header names are in lower case. The repr shows no header's value.

    :param path: the operation's own part of the URL, without the query
    """

    url: str
    headers: Mapping[str, str]
    path: str = ""

    def __repr__(self) -> str:
        return f"UnsentRequest({sorted(self.headers)})"

    @property
    def scope(self) -> tuple[str, str] | None:
        """Region and service of the signature; None unless it is Signature Version 4 with one key."""
        found = _SCOPE.match(self.headers.get("authorization", ""))
        return (found[1], found[2]) if found else None


class UnsentRequests:
    """Run a client's calls up to the point of sending, no further. Calls of other threads are unaffected."""

    def __init__(self, client: BaseClient) -> None:
        self._client = client
        self._here = threading.local()
        self.signer: RequestSigner | None = None
        """Signer of the last unsent request: it holds the credentials."""
        service = client.meta.service_model.service_id.hyphenize()
        client.meta.events.register(f"before-call.{service}", self._remember_path)
        client.meta.events.register(f"before-sign.{service}", self._remember_signer)
        client.meta.events.register(f"before-send.{service}", cast("Callable[..., None]", self._stop))

    def request(self, operation: str, parameters: Mapping[str, object]) -> UnsentRequest:
        """Call an operation, e.g. ``ListObjectsV2``, without sending its request.

        Blocks: credentials may have to be fetched.

        :raises BotoCoreError: as the call itself
        """
        is_xml = protocol_of(self._client.meta.service_model) == "rest-xml"
        self._here.answer, self._here.sent, self._here.path = b"<x/>" if is_xml else b"{}", None, ""
        try:
            getattr(self._client, xform_name(operation))(**parameters)
            sent: AWSPreparedRequest = self._here.sent
        finally:
            self._here.answer = None
        headers = {name.lower(): _text(value) for name, value in sent.headers.items()}
        return UnsentRequest(sent.url, headers, self._here.path)

    def _remember_path(self, params: Mapping[str, str], **_: object) -> None:
        self._here.path = params["url_path"].partition("?")[0]

    def _remember_signer(self, request_signer: RequestSigner, **_: object) -> None:
        self.signer = request_signer

    def _stop(self, request: AWSPreparedRequest, **_: object) -> AWSResponse | None:
        answer: bytes | None = getattr(self._here, "answer", None)
        if answer is None:
            return None
        self._here.sent = request
        return AWSResponse(request.url, 200, HTTPHeaders(), _Raw(answer))


class _Raw(io.BytesIO):
    """The part of urllib3's response that botocore reads."""

    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.getvalue()


def _text(value: Any) -> str:  # noqa: ANN401 - botocore's headers hold text or bytes
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
