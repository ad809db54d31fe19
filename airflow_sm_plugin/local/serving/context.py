"""The optional last argument of handlers: what is known of the request, what is wanted of the response.

The methods are those of the multi-model server's context, which SageMaker's inference toolkit hands on; a
request is a batch of one, so every ``idx`` is 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OF_THE_SERVER = frozenset({"content-length", "transfer-encoding", "connection"})
"""Headers that say how the answer is sent, which a handler does not know."""
_STATUSES = range(200, 600)


class RequestProcessor:
    """The request's headers (any spelling of a name finds them) and the response's status and headers."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)
        self._by_name = {name.lower(): value for name, value in headers.items()}
        self.status = 200
        self.phrase = ""
        self.response_headers: dict[str, str] = {}

    def get_request_property(self, key: str) -> str | None:
        """Return a request header, None when it was not sent."""
        return self._by_name.get(key.lower())

    def get_request_properties(self) -> dict[str, str]:
        return dict(self._headers)

    def add_response_property(self, key: str, value: str) -> None:
        """Set a response header. Raises ValueError for a name or value no header can carry."""
        if not _HEADER_NAME.fullmatch(key) or key.lower() in _OF_THE_SERVER:
            raise ValueError(f"{key!r} is no response header that a handler can set")
        if not value.isprintable() or not value.isascii():
            raise ValueError(f"the value of response header {key!r} is not printable US-ASCII")
        for name in [name for name in self.response_headers if name.lower() == key.lower()]:
            del self.response_headers[name]
        self.response_headers[key] = value

    def report_status(self, code: int, reason_phrase: str = "") -> None:
        """Set the response's HTTP status. Raises ValueError for a number that is none of a final answer."""
        if code not in _STATUSES:
            raise ValueError(f"{code!r} is no HTTP status from {_STATUSES.start} to {_STATUSES.stop - 1}")
        self.status = int(code)
        self.phrase = reason_phrase


class RequestContext:
    """What handlers with a ``context`` argument get."""

    def __init__(self, headers: Mapping[str, str], model_dir: str) -> None:
        self.request_processor = [RequestProcessor(headers)]
        self.system_properties: dict[str, object] = {"model_dir": model_dir, "gpu_id": None, "batch_size": 1}

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self.request_processor[idx].get_request_property(key)

    def get_all_request_header(self, idx: int) -> dict[str, str]:
        return self.request_processor[idx].get_request_properties()

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "Content-Type", value)

    def get_response_content_type(self, idx: int) -> str | None:
        headers = self.request_processor[idx].response_headers.items()
        return next((value for name, value in headers if name.lower() == "content-type"), None)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        """Set a response header. Raises ValueError for a value no header can carry."""
        self.request_processor[idx].add_response_property(key, value)

    def get_response_headers(self, idx: int) -> dict[str, str]:
        return dict(self.request_processor[idx].response_headers)

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.request_processor[idx].report_status(code, phrase)
