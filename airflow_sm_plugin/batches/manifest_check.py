"""Check what a manifest lists before anything is sent: SageMaker accepts a missing object and fails it later."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.inputs import BatchInput, ManifestEntry
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import InputNotFound

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

HEADS_AT_ONCE = 32
"""HeadObject requests on their way at the same time, if S3's connections are as many: so many inputs are in memory."""

_SHOWN = 5


@dataclasses.dataclass
class _Missing:
    """The inputs that do not exist: how many, and the first few."""

    manifest: str
    count: int = 0
    first: list[str] = dataclasses.field(default_factory=list)

    def add(self, entry: ManifestEntry) -> None:
        self.count += 1
        if self.count <= _SHOWN:
            joined = " (the prefix with the element behind it)" if entry.place.startswith("element") else ""
            self.first.append(f"{entry.place}: {entry.input.source}{joined}")

    def check(self) -> None:
        if not self.count:
            return
        subject = "an input" if self.count == 1 else f"{self.count} inputs"
        verb = "does" if self.count == 1 else "do"
        more = f"; and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
        raise InputNotFound(
            f"{subject} of the manifest {self.manifest} {verb} not exist: {'; '.join(self.first)}{more}. Nothing was "
            f"sent: upload what is missing, or take it out of the manifest"
        )


async def checked_inputs(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry], *, manifest: str
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in their order, with size and ETag. Where S3 denies access, an input is yielded as it is.

    Every input is checked even when one was found missing, so that the error has their number.

    :param manifest: where they are listed, for messages
    :raises InputNotFound: at the end: some do not exist
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    missing, forbidden = _Missing(manifest), 0
    async with aclosing(_heads(s3, entries)) as heads:
        async for entry, head in heads:
            if head is Presence.ABSENT:
                missing.add(entry)
            if missing.count:
                continue
            if isinstance(head, ListedObject):
                yield dataclasses.replace(entry.input, size=head.size, etag=head.etag or None)
            else:
                forbidden += 1
                yield entry.input
    missing.check()
    if forbidden:
        log.warning(
            "%d inputs of %s cannot be looked at: S3 answered 403, as it does without s3:GetObject, and for what is "
            "missing without s3:ListBucket; they are sent unseen",
            forbidden,
            manifest,
        )


_Head = tuple[ManifestEntry, asyncio.Task[ListedObject | Presence]]


async def _heads(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry]
) -> AsyncGenerator[tuple[ManifestEntry, ListedObject | Presence], None]:
    """Yield each entry with the answer to its HeadObject, in order."""
    waiting: deque[_Head] = deque()
    try:
        async for entry in entries:
            if len(waiting) == HEADS_AT_ONCE:
                yield await _first(waiting)
            waiting.append((entry, asyncio.create_task(s3.stat(entry.input.source))))
        while waiting:
            yield await _first(waiting)
    finally:
        for _, head in waiting:
            head.cancel()
        await asyncio.gather(*(head for _, head in waiting), return_exceptions=True)


async def _first(waiting: deque[_Head]) -> tuple[ManifestEntry, ListedObject | Presence]:
    entry, task = waiting[0]
    head = await task
    waiting.popleft()
    return entry, head
