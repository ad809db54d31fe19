"""Who owns a batch: each process that begins takes a claim, a number, and the later one owns it.

Two processes may believe that a batch is theirs: a killed worker's orphan goes on while the retry starts. A claim names
its try. An earlier try than that of the latest claim takes none, so that the latest claim is of the latest try.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin.aws.retry import repeated
from airflow_sm_plugin.batches.task_try import Origin, TaskTry
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import FencedOff, PreconditionFailed, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.listing import Page
    from airflow_sm_plugin.aws.s3.objects import S3Objects

RACES = 20
"""How often a number that another writer was faster with is tried again."""

_LATELY = 1.0
"""Seconds."""


class ClaimedFolder(Protocol):
    """A folder in S3 that processes take claims on."""

    @property
    def location(self) -> str:
        """``s3://…`` without a slash at its end."""

    @property
    def claims(self) -> str:
        """The prefix of the claims."""

    def claim(self, number: int) -> str:
        """Return where one claim lies."""


class Claim:
    """One process's claim on a batch: the later one owns it.

    :param run_began: when the present life of the DAG run began, as far as the claims tell (:class:`TaskTry`)
    :param also: what each check makes sure of besides
    """

    def __init__(
        self,
        s3: S3Objects,
        folder: ClaimedFolder,
        *,
        token: str,
        number: int,
        run_began: float | None = None,
        also: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._s3 = s3
        self._folder = folder
        self.token = token
        self.number = number
        self.run_began = run_began
        self._also = also
        self._one_at_a_time = asyncio.Lock()
        self._good_at = -math.inf
        """When the latest check that found nobody began; of a clock that runs on while this process is stopped."""

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
        """Take the next number.

        :param token: what no other process has
        :param after_later_tries: take it although a later try has a claim
        :param also: what each check makes sure of besides
        :raises FencedOff: a later try has a claim
        :raises ServiceError: S3 refused or did not answer
        """
        for _ in range(RACES):
            number, before = await _latest(s3, folder)
            writer = None if before is None else before.task_try
            is_later = writer is not None and task_try.origin_of(writer) is Origin.LATER_TRY
            if is_later and not after_later_tries:
                raise fenced_off(folder.location)
            began = task_try.run_began(writer, None if before is None else before.run_began)
            body = _Claimed(task_try, began).as_json(token)
            try:
                await s3.write(folder.claim(number + 1), body, only_if_new=True)
            except PreconditionFailed:
                continue
            return cls(s3, folder, token=token, number=number + 1, run_began=began, also=also)
        raise ServiceUnavailable(f"{folder.location}: {RACES} other processes claimed this batch meanwhile")

    async def check(self) -> None:
        """Make sure that nobody has taken the batch over before this was called; callers at the same time share a look.

        :raises FencedOff: somebody has
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        await self._check(not_before=time.monotonic())

    async def check_lately(self) -> None:
        """Make sure of the same, or that it was so at most one second ago: cheap to call often.

        :raises FencedOff: somebody has taken the batch over
        :raises ServiceError: as :meth:`check`
        """
        await self._check(not_before=time.monotonic() - _LATELY)

    async def _check(self, *, not_before: float) -> None:
        if self._good_at >= not_before:
            return
        async with self._one_at_a_time:
            if self._good_at >= not_before:
                return
            began = time.monotonic()
            uri = S3Uri.parse(self._folder.claims)
            mine = S3Uri.parse(self._folder.claim(self.number)).key
            if (await listed_names(self._s3, uri.bucket, uri.key, start_after=mine)).names:
                raise fenced_off(self._folder.location)
            if self._also is not None:
                await self._also()
            self._good_at = began


@dataclass(frozen=True)
class _Claimed:
    """What a claim says."""

    task_try: TaskTry
    run_began: float | None

    def as_json(self, token: str) -> bytes:
        value = {"token": token, "at": time.time(), "try": self.task_try.as_list()}
        return json.dumps(value | {"run_began": self.run_began}).encode()

    @classmethod
    def from_json(cls, body: bytes) -> _Claimed:
        value = json.loads(body)
        return cls(TaskTry.from_list(value.get("try")), value.get("run_began"))


async def _latest(s3: S3Objects, folder: ClaimedFolder) -> tuple[int, _Claimed | None]:
    """Return the number of the latest claim, -1 before the first, and what it says.

    The numbers count, not the objects: a lifecycle rule may have removed the first.
    """
    names = await names_below(s3, folder.claims)
    if not names:
        return -1, None
    number = int(names[-1].rpartition("/")[2].partition(".")[0])
    return number, _Claimed.from_json(await s3.read(folder.claim(number)))


def fenced_off(location: str) -> FencedOff:
    """Return the error of a process that is no longer the batch's owner."""
    return FencedOff(
        f"another process has taken over the batch in {location}, a retry of this task: this one, left behind, stops"
    )


async def listed_names(s3: S3Objects, bucket: str, prefix: str, *, start_after: str = "") -> Page:
    """Return one page of a listing that nobody waits with, so that what may pass is endured as in a read.

    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    return await repeated(
        f"s3:ListObjectsV2 s3://{bucket}/{prefix}",
        lambda: s3.list_names(bucket, prefix, start_after=start_after),
    )


async def pages_below(s3: S3Objects, prefix: str) -> AsyncIterator[list[str]]:
    """Yield all keys below a prefix, in order, page by page.

    :raises ServiceError: as :func:`listed_names`
    """
    uri, after = S3Uri.parse(prefix), ""
    while True:
        page = await listed_names(s3, uri.bucket, uri.key, start_after=after)
        yield page.names
        if page.next_start_after is None:
            return
        after = page.next_start_after


async def names_below(s3: S3Objects, prefix: str) -> list[str]:
    """Return all keys below a prefix, in order.

    :raises ServiceError: as :func:`listed_names`
    """
    return [name async for page in pages_below(s3, prefix) for name in page]
