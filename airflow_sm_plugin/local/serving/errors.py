"""The errors of a container, with the HTTP status of the answer.

::

    HandlerError                    its ``status_code``, 500 by default
    ├── UnsupportedContentType      415
    └── UnsupportedAccept           406
    NoHandlers                      the archive cannot be served; the container ends

An archive's own exception can choose its status, too, with an integer attribute ``status_code``.
"""

from __future__ import annotations

from typing import ClassVar


class HandlerError(Exception):
    """A handler refuses the request; ``status_code`` is the HTTP status of the answer."""

    status_code: ClassVar[int] = 500


class UnsupportedContentType(HandlerError):
    """The default input_fn cannot read this content type."""

    status_code = 415

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"Content type {content_type} is not supported by the default input_fn; write an input_fn"
        )


class UnsupportedAccept(HandlerError):
    """The default output_fn cannot write this content type."""

    status_code = 406

    def __init__(self, accept: str) -> None:
        super().__init__(
            f"Accept type {accept} is not supported by the default output_fn; write an output_fn"
        )


class NoHandlers(Exception):
    """The archive has no usable code. Retrying does not help: correct the archive."""


def status_of(error: BaseException) -> int:
    """Read an exception's ``status_code``; 500 unless that is an HTTP error status."""
    status = getattr(error, "status_code", None)
    is_status = isinstance(status, int) and not isinstance(status, bool) and 400 <= status <= 599
    return status if isinstance(status, int) and is_status else 500
