"""Claims on a batch, as fencing tokens in S3: a process takes the next number, and the highest number owns the batch.

Two processes may work on one batch: when a worker is killed, its task process may run on while the retry starts. Each
claim names its try. A process whose try is earlier than that of the latest claim takes no claim: the latest claim
always belongs to the latest try. "Batch" is whatever has a folder of its own: an asynchronous batch, a shard, or the
merging of a plan's reports. Every method raises ServiceError where S3 refuses, or does not answer at any attempt.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.task_try import Origin, TaskTry
from airflow_sm_plugin.exceptions import FencedOff, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

RACES = 20
"""Attempts to write a number. An attempt is lost only where another process wrote the number in the same moment."""

_RECENT_SECONDS = 1.0
"""Age up to which a check still counts: at most one check a second however many objects are written, and a process
that was replaced notices it after a second. The writes' own conditions protect what it writes until then."""


class ClaimedFolder(Protocol):
    """A folder in S3 that processes take claims on; ``claims`` is the prefix of a :class:`NumberedLog`."""

    @property
    def location(self) -> str: ...

    @property
    def claims(self) -> str: ...


@dataclass(eq=False)
class Claim:
    """One process's claim on a batch.

    :param token: unique to the process
    :param run_began: when the DAG run's work on this batch began, epoch seconds; None if unknown
    :param also: a further check that :meth:`check` awaits as well
    """

    s3: S3Objects
    folder: ClaimedFolder
    _: KW_ONLY
    token: str
    number: int
    run_began: float | None = None
    also: Callable[[], Awaitable[None]] | None = None

    def __post_init__(self) -> None:
        self._claims = NumberedLog(self.s3, self.folder.claims)
        self._check_lock = asyncio.Lock()
        self._good_at = -math.inf
        """When the latest successful check began, by the monotonic clock: it also counts the time of a SIGSTOP."""

    @classmethod
    async def taken(
        cls,
        s3: S3Objects,
        folder: ClaimedFolder,
        *,
        token: str,
        task_try: TaskTry,
        after_later_tries: bool = False,
        also: Callable[[], Awaitable[None]] | None = None,
    ) -> Claim:
        """Take the next number for a try.

        :param after_later_tries: permit it although a later try has a claim
        :raises FencedOff: a later try has a claim
        """
        claims = NumberedLog(s3, folder.claims)
        for _ in range(RACES):
            latest = await claims.latest()
            writer, began = (None, None) if latest < 0 else _read(await claims.read(latest))
            is_later = writer is not None and task_try.origin_of(writer) is Origin.LATER_TRY
            if is_later and not after_later_tries:
                raise fenced_off(folder.location)
            began = task_try.run_began(writer, began)
            claimed = {"token": token, "at": time.time(), "try": task_try.as_list(), "run_began": began}
            if await claims.write(latest + 1, json.dumps(claimed).encode()):
                return cls(s3, folder, token=token, number=latest + 1, run_began=began, also=also)
        raise ServiceUnavailable(f"{folder.location}: {RACES} other processes claimed this batch meanwhile")

    async def check(self) -> None:
        """Check that no process took the batch over before this call. Concurrent callers share one request.

        :raises FencedOff: another process did
        """
        await self._check(not_before=time.monotonic())

    async def check_lately(self) -> None:
        """Check as :meth:`check`, unless a check that began at most one second ago succeeded: cheap to call often."""
        await self._check(not_before=time.monotonic() - _RECENT_SECONDS)

    async def _check(self, *, not_before: float) -> None:
        if self._good_at >= not_before:
            return
        async with self._check_lock:
            if self._good_at >= not_before:
                return
            began = time.monotonic()
            if await self._claims.goes_on_after(self.number):
                raise fenced_off(self.folder.location)
            if self.also is not None:
                await self.also()
            self._good_at = began


def _read(claim: bytes) -> tuple[TaskTry, float | None]:
    value = json.loads(claim)
    return TaskTry.from_list(value.get("try")), value.get("run_began")


def fenced_off(location: str) -> FencedOff:
    """Make the error of a process that no longer owns the batch."""
    return FencedOff(
        f"another process has taken over the batch in {location}, a retry of this task: this process stops"
    )
