"""One failed call of SageMaker's runtime, as far as anybody decides by it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Literal

from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.invoke.container_errors import container_error
from airflow_sm_plugin.invoke.request import MAX_SERVERLESS_PAYLOAD_BYTES

FailureKind = Literal["answered", "unreachable", "unanswered", "local"]
"""An error answer; nothing was sent (no connection, no credentials); it was sent and no answer came; nothing could ever
be sent (no region, a malformed request)."""


@dataclass(frozen=True)
class CallFailure:
    """What a failed call tells. The repr leaves out the texts: a container may have put records into them.

    :param code: ``Error.Code`` of an answer, else the name of botocore's exception
    :param message: ``Error.Message`` of an answer, else the exception's text
    :param status: HTTP status; 0 when there was no answer
    :param original_status: what the container answered, of a ModelError; 0 is its time-out
    :param original_message: what the container said, of a ModelError
    """

    code: str
    message: str = field(repr=False)
    status: int = 0
    original_status: int | None = None
    original_message: str | None = field(default=None, repr=False)
    kind: FailureKind = "answered"

    @property
    def attempt(self) -> Attempt:
        """What it asks for; what may have been carried out is worth another attempt, too."""
        if self.kind == "answered":
            return attempt_after(
                self.code,
                self.message,
                self.status,
                original_status=self.original_status,
                original_message=self.original_message or "",
            )
        return Attempt.FINAL if self.kind == "local" else Attempt.AGAIN

    @property
    def words(self) -> str:
        """What the container said, else AWS's message, code or status: throttling comes without a message."""
        return self.original_message or self.message or self.code or f"HTTP status {self.status}"


def is_size_suspect(failure: CallFailure, size: int) -> bool:
    """Say whether a payload's size may be why no answer came: AWS may reset the connection of a body that is too large.

    :param size: bytes of the payload
    """
    return failure.code == "ConnectionClosedError" and size > MAX_SERVERLESS_PAYLOAD_BYTES


class Attempt(enum.Enum):
    """What a failed attempt asks for."""

    AGAIN = "again, a few times"
    MODEL_LOADS = "again until the model's own deadline"
    FINAL = "no other attempt"


_PASSING = frozenset({Meaning.CREDENTIALS_EXPIRED, Meaning.THROTTLED, Meaning.UNAVAILABLE})


def attempt_after(
    code: str,
    message: str,
    status: int,
    *,
    original_status: int | None = None,
    original_message: str = "",
) -> Attempt:
    """Say what an error answer of InvokeEndpoint asks for.

    :param code: ``Error.Code``
    :param status: HTTP status
    :param original_status: ``OriginalStatusCode`` of a ModelError, what the container answered
    :param original_message: ``OriginalMessage`` of a ModelError
    """
    if code == "ModelNotReadyException":
        return Attempt.MODEL_LOADS
    if code == "ModelError":
        passes = container_error(original_status, original_message).passes
        return Attempt.AGAIN if passes else Attempt.FINAL
    meaning = meaning_of(code, message, status)
    if meaning is Meaning.NO_CAPACITY:
        return Attempt.MODEL_LOADS
    return Attempt.AGAIN if meaning in _PASSING else Attempt.FINAL
