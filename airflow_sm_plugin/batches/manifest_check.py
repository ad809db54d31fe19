"""Look at what a manifest lists before anything is sent: SageMaker accepts a missing object and fails it later."""

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

LOOKS_AT_ONCE = 32
"""HeadObject requests on their way at the same time, if S3's connections are as many: so many inputs are in memory."""

_SHOWN = 5


@dataclasses.dataclass
class _Missing:
    """What is not there: the first few, and how many."""

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
        what = "an input" if self.count == 1 else f"{self.count} inputs"
        verb = "does" if self.count == 1 else "do"
        more = f"; and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
        raise InputNotFound(
            f"{what} of the manifest {self.manifest} {verb} not exist: {'; '.join(self.first)}{more}. Nothing was "
            f"sent: upload what is missing, or take it out of the manifest"
        )


async def looked_at(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry], *, manifest: str
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in their order, with size and ETag. What nobody may look at goes through as it is.

    Every input is looked at even when one was found missing, so that the error can say how many there are.

    :param manifest: where they are listed, for messages
    :raises InputNotFound: at the end: some do not exist
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    missing, forbidden = _Missing(manifest), 0
    async with aclosing(_in_order(s3, entries)) as looks:
        async for entry, found in looks:
            if found is Presence.ABSENT:
                missing.add(entry)
            if missing.count:
                continue
            if isinstance(found, ListedObject):
                yield dataclasses.replace(entry.input, size=found.size, etag=found.etag or None)
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


_Look = tuple[ManifestEntry, asyncio.Task[ListedObject | Presence]]


async def _in_order(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry]
) -> AsyncGenerator[tuple[ManifestEntry, ListedObject | Presence], None]:
    looks: deque[_Look] = deque()
    try:
        async for entry in entries:
            if len(looks) == LOOKS_AT_ONCE:
                yield await _first(looks)
            looks.append((entry, asyncio.create_task(s3.stat(entry.input.source))))
        while looks:
            yield await _first(looks)
    finally:
        for _, look in looks:
            look.cancel()
        await asyncio.gather(*(look for _, look in looks), return_exceptions=True)


async def _first(looks: deque[_Look]) -> tuple[ManifestEntry, ListedObject | Presence]:
    entry, look = looks[0]
    found = await look
    looks.popleft()
    return entry, found
