"""Tell the error answers of serving containers apart: status and words of a ModelError's original answer.

MMS and TorchServe answer 503 for a handler's bug as well as for overload, and 507 for a worker killed for its memory,
a payload that does not fit, and a model that has no place. Only the words differ; they are read in the sources of both
servers and in real transcripts.
"""

from __future__ import annotations

import enum
import json
import re


class ContainerError(enum.Enum):
    """What an error answer of a container means."""

    REFUSED = "the handler raised, or refused the request: the same request fails again"
    OVERLOADED = "the container has no time for the request now"
    GONE = "the process that worked on the request died, or gave no answer in time"
    TOO_LARGE = "the request does not fit in the container's memory"
    NO_ROOM = "the container has no memory for the target model"

    @property
    def passes(self) -> bool:
        """Whether another attempt may succeed."""
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
    """Return what a container's error answer means.

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
    """Return the exception's type and message of MMS's JSON; no type and the whole text where it is anything else."""
    if words.lstrip().startswith("{"):
        try:
            given = json.loads(words)
        except (ValueError, RecursionError):
            return "", words
        if isinstance(given, dict) and isinstance(given.get("message"), str):
            return str(given.get("type", "")), given["message"]
    return "", words
