"""Tell the error answers of serving containers apart: status and words of a ModelError's original answer.

MMS and TorchServe answer 503 for a handler's bug as well as for overload, and 507 for a worker killed for its memory,
a payload that does not fit, and a model that has no place. Only the words differ; they are read in the sources of both
servers and in real transcripts.
"""

from __future__ import annotations

import enum
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


_WORKER_DIED = re.compile(r"Worker died", re.IGNORECASE)
_OUT_OF_MEMORY = re.compile(r"Out of resources|out of memory|MemoryError", re.IGNORECASE)
_BUSY = re.compile(
    r"WlmCapacityException|ServiceUnavailableException|Worker queue capacity exceeded|No worker is available|"
    r"has no worker to serve",
    re.IGNORECASE,
)
_HANDLER_FAILED = re.compile(
    r"InternalServerException|Prediction failed|Invalid model predict output|number of batch response mismatched",
    re.IGNORECASE,
)
_TOO_MANY_REQUESTS, _BAD_GATEWAY, _UNAVAILABLE, _GATEWAY_TIMEOUT, _NO_STORAGE = 429, 502, 503, 504, 507
_NO_ANSWER = 0


def container_error(status: int | None, words: str) -> ContainerError:
    """Return what a container's error answer means.

    :param status: ``OriginalStatusCode``; 0 is no answer within a minute, or a process that has exited; None when the
        answer had none
    :param words: ``OriginalMessage``
    """
    if _WORKER_DIED.search(words) or status in (_NO_ANSWER, _BAD_GATEWAY, _GATEWAY_TIMEOUT):
        return ContainerError.GONE
    if status == _NO_STORAGE:
        return ContainerError.TOO_LARGE if _OUT_OF_MEMORY.search(words) else ContainerError.NO_ROOM
    if status == _UNAVAILABLE and _HANDLER_FAILED.search(words) and not _BUSY.search(words):
        return ContainerError.REFUSED
    if status in (_TOO_MANY_REQUESTS, _UNAVAILABLE):
        return ContainerError.OVERLOADED
    return ContainerError.REFUSED
