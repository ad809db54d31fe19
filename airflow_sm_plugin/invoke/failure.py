"""A failed call of SageMaker's runtime: its meaning, and whether another attempt is worth it."""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, field
from typing import Literal

from airflow_sm_plugin.core.service_errors import Meaning, meaning_of
from airflow_sm_plugin.invoke.request import MAX_SERVERLESS_PAYLOAD_BYTES


class ContainerError(enum.Enum):
    """Meaning of a serving container's error answer, by status and words of the original answer of a ModelError.

    MMS and TorchServe answer 503 for a handler's bug and for overload, and 507 for a worker killed for its memory,
    a payload that does not fit, and a model without free memory. Only the words differ; source: both servers' code
    and real transcripts.
    """

    REFUSED = "the handler raised, or refused the request: the same request fails again"
    OVERLOADED = "the container has no time for the request now"
    GONE = "the process that worked on the request died, or gave no answer in time"
    TOO_LARGE = "the request does not fit in the container's memory"
    NO_ROOM = "the container has no memory for the target model"

    @property
    def passes(self) -> bool:
        return self is not ContainerError.REFUSED


_WORKER_DIED = re.compile(r"\s*Worker died\.?\s*", re.IGNORECASE)
_BUSY_TYPES = frozenset({"WlmCapacityException", "ServiceUnavailableException"})
_BUSY = re.compile(
    r"\s*(Worker queue capacity exceeded for model|No worker is available to serve request|"
    r"Model \S+ has no worker to serve)",
    re.IGNORECASE,
)
_FAILED_TYPE = "InternalServerException"
_FAILED = re.compile(
    r"\s*(Prediction failed|Invalid model predict output|number of batch response mismatched)", re.IGNORECASE
)
_LOAD_OUT_OF_MEMORY = re.compile(r"System out of memory", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(
    r"Out of resources|out of memory|MemoryError|RESOURCE_EXHAUSTED|\bOOM\b|bad_alloc", re.IGNORECASE
)
_INTERNAL, _TOO_MANY_REQUESTS, _BAD_GATEWAY, _UNAVAILABLE = 500, 429, 502, 503
_GATEWAY_TIMEOUT, _NO_STORAGE, _NO_ANSWER = 504, 507, 0


def container_error(status: int | None, words: str) -> ContainerError:
    """Classify a container's error answer.

    Words count only as a whole, and where a server writes them: a handler's own text may quote any of them.

    :param status: ``OriginalStatusCode``; 0 is no answer within a minute, or a process that has exited; None when the
        answer had none
    :param words: ``OriginalMessage``: the JSON that MMS and TorchServe write, or any text
    """
    kind, message = _read(words)
    if status in (_NO_ANSWER, _BAD_GATEWAY, _GATEWAY_TIMEOUT):
        return ContainerError.GONE
    if status in (_INTERNAL, _NO_STORAGE) and _WORKER_DIED.fullmatch(message):
        return ContainerError.GONE
    if status == _NO_STORAGE:
        too_large = _OUT_OF_MEMORY.search(message) and not _LOAD_OUT_OF_MEMORY.search(message)
        return ContainerError.TOO_LARGE if too_large else ContainerError.NO_ROOM
    if status == _UNAVAILABLE and not (kind in _BUSY_TYPES or _BUSY.match(message)):
        failed = kind == _FAILED_TYPE or _FAILED.match(message)
        return ContainerError.REFUSED if failed else ContainerError.OVERLOADED
    if status in (_TOO_MANY_REQUESTS, _UNAVAILABLE):
        return ContainerError.OVERLOADED
    return ContainerError.REFUSED


def _read(words: str) -> tuple[str, str]:
    if words.lstrip().startswith("{"):
        try:
            parsed = json.loads(words)
        except (ValueError, RecursionError):
            return "", words
        if isinstance(parsed, dict) and isinstance(parsed.get("message"), str):
            return str(parsed.get("type", "")), parsed["message"]
    return "", words


FailureKind = Literal["answered", "unreachable", "unanswered", "local"]
"""An error answer; nothing was sent (no connection, no credentials); it was sent and no answer came; nothing could ever
be sent (no region, a malformed request)."""


@dataclass(frozen=True)
class CallFailure:
    """A failed call. The repr leaves out the texts: a container may have put records into them.

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
        """Next step. A call that may have been carried out is worth another attempt, too."""
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
        """The container's text, else AWS's message, code or status: throttling comes without a message."""
        return self.original_message or self.message or self.code or f"HTTP status {self.status}"


def is_size_suspect(failure: CallFailure, size: int) -> bool:
    """Recognize a payload of *size* bytes that may be too large: AWS may reset the connection of such a body."""
    return failure.code == "ConnectionClosedError" and size > MAX_SERVERLESS_PAYLOAD_BYTES


class Attempt(enum.Enum):
    """Next step after a failed attempt."""

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
    """Decide the next step after an error answer of InvokeEndpoint.

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
