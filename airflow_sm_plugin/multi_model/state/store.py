"""The journal of a shard in S3: parts in a row, each in a log whose numbers have one writer each.

As with the ledger of asynchronous batches (:mod:`airflow_sm_plugin.async_inference.batch.ledger_store`), the process
that claims later owns the shard: its first part takes the next number, so that the next part of an orphan fails and the
orphan stops. What an orphan had answered but not written down is done again.
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
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_READ_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class TakeOver:
    """How a process goes on with a journal.

    :param is_restart: nothing in it counts any more
    :param again: failures that are tried again
    :param taken_back: what the statistics counted of these
    """

    is_restart: bool = False
    again: Sequence[Failure] = ()
    taken_back: Mapping[str, Any] = field(default_factory=dict)


async def read_journal(
    s3: S3Objects, folder: ShardFolder, group_of: Callable[[int], int], *, keep: bool
) -> Journal:
    """Read a whole journal, a few parts in memory at a time.

    :param keep: as :class:`~airflow_sm_plugin.multi_model.state.journal.Journal`
    :raises ResourceConflict: parts of it were deleted
    """
    parts = NumberedLog(s3, folder.journal)
    length = await parts.length()
    if length is None:
        raise ResourceConflict(
            f"the journal below {folder.journal} is not whole: parts of it were deleted, so it is unknown what was "
            f"done. Restore them, or remove {folder.journal} and clear the task: then the whole shard is done again"
        )
    journal = Journal(group_of, keep=keep)
    for first in range(0, length, _READ_AT_ONCE):
        numbers = range(first, min(first + _READ_AT_ONCE, length))
        for body in await asyncio.gather(*map(parts.read, numbers)):
            journal.add(JournalPart.from_json(body))
    return journal


class JournalStore:
    """A journal as its writer sees it. Made by :meth:`take_over`."""

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
        """Read the journal, and make this process the only one that may write to it.

        :param group_of: as :class:`~airflow_sm_plugin.multi_model.state.journal.Journal`
        :param writer: which try this is
        :param decide: returns how to go on with a journal
        :raises FencedOff: a later process owns the shard
        :raises ServiceUnavailable: a process left behind was faster again and again; a retry is welcome
        """
        for _ in range(RACES):
            journal = await read_journal(s3, folder, group_of, keep=True)
            if journal.claim > claim.number:
                raise fenced_off(folder.location)
            store = cls(s3, folder, claim, journal)
            taking = decide(journal)
            part = JournalPart(
                token=claim.token,
                at=time.time(),
                claim=claim.number,
                writer=writer,
                is_restart=taking.is_restart,
                reopened=tuple(failure.reopened for failure in taking.again),
                statistics=taking.taken_back,
            )
            if await store._write(part):
                journal.forget_failed()
                return store
            # Who wrote that part instead does not know of this claim yet.
        raise ServiceUnavailable(
            f"{folder.journal}: other processes wrote {RACES} parts before this one could"
        )

    async def append(self, part: JournalPart, body: bytes) -> None:
        """Write the next part, after the bytes of its results where there are any.

        :param body: of the object that the part's ``data`` names
        :raises FencedOff: another process has taken over
        """
        if part.data is not None:
            location = self._folder.data(part.data)
            await self._s3.write(location, body, content_type="application/octet-stream")
        if not await self._write(part):
            raise fenced_off(self._folder.location)

    @property
    def token(self) -> str:
        """What no other process has."""
        return self.claim.token

    async def _write(self, part: JournalPart) -> bool:
        is_written = await self._parts.write(self.journal.parts, part.as_json())
        if is_written:
            self.journal.add(part)
        return is_written


async def sweep(s3: S3Objects, folder: ShardFolder, claim: Claim) -> None:
    """Delete the results' bytes, which are not needed once all outputs are whole; without permission they stay.

    A later process may be writing bytes of its own: so they are listed before it is checked that there was none.

    :param claim: of the process that made the outputs whole
    """
    bucket = S3Uri.parse(folder.location).bucket
    try:
        names = await names_below(s3, folder.data(""))
        if names:
            await claim.check()
        for first in range(0, len(names), _READ_AT_ONCE):
            some = names[first : first + _READ_AT_ONCE]
            await asyncio.gather(*(s3.delete(f"s3://{bucket}/{name}") for name in some))
    except (ServiceError, FencedOff, PlanReplaced) as error:
        log.info("%s stays: %s", folder.data(""), error)


async def clean_entries(s3: S3Objects, shard: ShardFolder) -> int:
    """Return the set of the shard's inputs that are done without any failure."""
    return (await read_journal(s3, shard, lambda _: 0, keep=False)).clean


async def latest_report(s3: S3Objects, shard: ShardFolder) -> ShardReport | None:
    """Return the report of the process that claimed the shard last; None when it has not written one."""
    claim = await NumberedLog(s3, shard.claims).latest()
    body = await s3.read_if_any(shard.report(claim)) if claim >= 0 else None
    return None if body is None else ShardReport.from_json(body)
