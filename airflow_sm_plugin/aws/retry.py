"""Repeats of failed S3 requests: which, for how long, and the meaning of their errors."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import meaning, status_of, translate, words_of
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import ServiceError

log = get_log(__name__)

ATTEMPTS = 5
"""Least number of requests for one read or write: each may take as long as its time-out."""

OUTAGE_SECONDS = 60.0
"""Seconds of an S3 outage or throttling before a read or write is given up: as long as for an endpoint."""

NOT_FOUND = 404
NOTHING_IN_RANGE = 416
CHANGED = 412
CONFLICT = 409
"""Two conditional writes at the same time: S3 asks to try again."""

_NO_BUCKET = "NoSuchBucket"
_NO_UPLOAD = "NoSuchUpload"
_RACES = frozenset({"PreconditionFailed", "ConditionalRequestConflict", _NO_UPLOAD})

_PRESENCES = {Meaning.NOT_FOUND: Presence.ABSENT, Meaning.ACCESS_DENIED: Presence.FORBIDDEN}
_PASSING = frozenset({Meaning.CREDENTIALS_EXPIRED, Meaning.THROTTLED, Meaning.UNAVAILABLE})

_Result = TypeVar("_Result")


def is_upload_gone(error: ClientError) -> bool:
    """Recognize an upload that was completed or aborted."""
    return words_of(error)[0] == _NO_UPLOAD


def is_race_lost(error: ClientError) -> bool:
    """Recognize a conditional write that failed because another writer wrote or deleted the object.

    The code counts as well as the status: S3 can detect the race after it answered 200.
    """
    status, code = status_of(error), words_of(error)[0]
    return code in _RACES or status in (CHANGED, CONFLICT) or (status == NOT_FOUND and code != _NO_BUCKET)


def presence_after(error: ClientError | BotoCoreError, location: str) -> Presence:
    """Read a failed HEAD.

    :raises SageMakerInferenceError: no request was sent, and none ever can be
    """
    if isinstance(error, ClientError):
        return _PRESENCES.get(meaning(error), Presence.UNKNOWN)
    translated = translate(error, f"s3:HeadObject {location}")
    if translated.retryable:
        return Presence.UNKNOWN
    raise translated from None


async def repeated(doing: str, request: Callable[[], Awaitable[_Result]]) -> _Result:
    """Send a request, again after full-jitter pauses of up to 8 s while its failure may pass.

    It gives up when both :data:`ATTEMPTS` and :data:`OUTAGE_SECONDS` are spent; a task that is cancelled, at once.

    :param doing: the call and its object, e.g. ``"s3:GetObject s3://bucket/key"``
    :raises ClientError: S3 answered an error that does not pass, or did so at the last attempt
    :raises SageMakerInferenceError: S3 did not answer, or could not be asked
    """
    patience = Patience()
    while True:
        try:
            return await request()
        except (ClientError, BotoCoreError, ServiceError) as error:
            if await patience.allows(doing, error):
                continue
            if isinstance(error, BotoCoreError):
                raise translate(error, doing) from None
            raise


class Patience:
    """Limits of the repeats of one request, from its first failure on.

    :attr failed: attempts so far
    """

    def __init__(self) -> None:
        self._since = 0.0
        self.failed = 0

    def is_spent(self) -> bool:
        """Count a failed attempt; return whether it was the last one."""
        now = time.monotonic()
        self._since = self._since if self.failed else now
        self.failed += 1
        return self.failed >= ATTEMPTS and now - self._since >= OUTAGE_SECONDS

    async def allows(self, doing: str, error: ClientError | BotoCoreError | ServiceError) -> bool:
        """Pause before another attempt; False when the failure does not pass or the attempts are spent."""
        if not may_pass(error) or self.is_spent():
            return False
        await pause(doing, error, self.failed)
        return True

    def succeeded(self) -> None:
        self.failed = 0


def may_pass(error: ClientError | BotoCoreError | ServiceError) -> bool:
    """Decide whether the same request can succeed a little later."""
    if isinstance(error, ServiceError):
        return error.retryable
    if isinstance(error, ClientError):
        return meaning(error) in _PASSING or status_of(error) == CONFLICT
    return translate(error, "").retryable


async def pause(doing: str, error: Exception, attempt: int) -> None:
    seconds = pause_after(attempt, jitter=random.random())  # noqa: S311 - jitter
    log.info("%s: %s at attempt %d; again in %.1f s", doing, type(error).__name__, attempt, seconds)
    await asyncio.sleep(seconds)
