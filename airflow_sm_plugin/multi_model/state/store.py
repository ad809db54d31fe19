"""The journal of a shard in S3: a log of parts, each number of which has a single writer.

As with the ledger of asynchronous batches (:mod:`airflow_sm_plugin.async_inference.batch.ledger_store`), the process
that claims later owns the shard: its first part takes the next number, so that the next part of an orphaned process
fails and the orphan stops. Results that the orphan had not written yet are invoked again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.claim import RACES, Claim, fenced_off
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import (
    FencedOff,
    PlanReplaced,
    ResourceConflict,
    ServiceError,
    ServiceUnavailable,
)
from airflow_sm_plugin.multi_model.state.folder import ShardFolder
from airflow_sm_plugin.multi_model.state.journal import Journal
from airflow_sm_plugin.multi_model.state.records import Failure, JournalPart

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_AT_ONCE = 16
"""Requests at the same time, so also the parts of a journal that are in memory."""


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    """The first entry of a process that continues a journal.

    :param is_restart: all earlier parts are void
    :param again: failures to try again
    :param taken_back: counts that subtract these failures from the statistics
    """

    is_restart: bool = False
    again: Sequence[Failure] = ()
    taken_back: Mapping[str, Any] = field(default_factory=dict)


async def read_journal(
    s3: S3Objects, folder: ShardFolder, group_of: Callable[[int], int], *, keep: bool
) -> Journal:
    """Read and sum up all parts of a journal.

    :param group_of: see :class:`~airflow_sm_plugin.multi_model.state.journal.Journal`, also for ``keep``
    :raises ResourceConflict: parts of it were deleted
    """
    parts = NumberedLog(s3, folder.journal)
    length = await parts.length()
    if length is None:
        raise ResourceConflict(
            f"the journal below {folder.journal} is not complete: parts of it were deleted, so it is unknown which "
            f"records have a result",
            do=f"restore them, or remove {folder.journal} and clear the task: then the whole shard is done again",
        )
    journal = Journal(group_of, keep=keep)
    for first in range(0, length, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, length))
        for body in await asyncio.gather(*map(parts.read, numbers)):
            journal.add(JournalPart.from_json(body))
    return journal


class JournalStore:
    """A journal and its only writer, this process. Created by :meth:`take_over`."""

    def __init__(self, s3: S3Objects, folder: ShardFolder, claim: Claim, journal: Journal) -> None:
        self._s3 = s3
        self._folder = folder
        self._parts = NumberedLog(s3, folder.journal)
        self.claim = claim
        self.journal = journal

    @classmethod
    async def take_over(
        cls,
        s3: S3Objects,
        folder: ShardFolder,
        claim: Claim,
        *,
        group_of: Callable[[int], int],
        writer: StateWriter,
        decide: Callable[[Journal], TakeOver],
    ) -> JournalStore:
        """Read the journal, and make this process its only writer.

        :param group_of: as for :func:`read_journal`
        :param writer: this try of the task
        :param decide: decides how to continue the journal
        :raises FencedOff: a later process owns the shard
        :raises ServiceUnavailable: an orphaned process wrote the next part first, again and again; a retry can help
        """
        for _ in range(RACES):
            journal = await read_journal(s3, folder, group_of, keep=True)
            if journal.claim > claim.number:
                raise fenced_off(folder.location)
            store = cls(s3, folder, claim, journal)
            decision = decide(journal)
            part = JournalPart(
                token=claim.token,
                written_at=time.time(),
                claim=claim.number,
                writer=writer,
                is_restart=decision.is_restart,
                reopened=tuple(failure.reopened for failure in decision.again),
                statistics=decision.taken_back,
            )
            if await store._write(part):
                journal.forget_failed()
                return store
            # The process that wrote the part first does not know of this claim yet.
        raise ServiceUnavailable(
            f"{folder.journal}: other processes wrote {RACES} parts before this one could"
        )

    @property
    def token(self) -> str:
        return self.claim.token

    async def append(self, part: JournalPart, body: bytes) -> None:
        """Write the data object, if any, then the part.

        :param body: of the data object that ``part.data`` names
        :raises FencedOff: another process has taken over
        """
        if part.data is not None:
            location = self._folder.data(part.data)
            await self._s3.write(location, body, content_type="application/octet-stream")
        if not await self._write(part):
            raise fenced_off(self._folder.location)

    async def _write(self, part: JournalPart) -> bool:
        is_written = await self._parts.write(self.journal.parts, part.as_json())
        if is_written:
            self.journal.add(part)
        return is_written


async def sweep(s3: S3Objects, folder: ShardFolder, claim: Claim) -> None:
    """Delete the data objects, which are of no use when all outputs are written; without permission they stay.

    A later process can be writing data objects of its own. So the objects are listed before the check that there
    was no later process.

    :param claim: of the process that wrote the last outputs
    """
    bucket = S3Uri.parse(folder.location).bucket
    try:
        names = await names_below(s3, folder.data(""))
        if names:
            await claim.check()
        for first in range(0, len(names), _AT_ONCE):
            batch = names[first : first + _AT_ONCE]
            await asyncio.gather(*(s3.delete(f"s3://{bucket}/{name}") for name in batch))
    except (ServiceError, FencedOff, PlanReplaced) as error:
        log.info("%s stays: %s", folder.data(""), error)
