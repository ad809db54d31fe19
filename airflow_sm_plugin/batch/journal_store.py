"""The journal of a shard in S3: parts in a row, each written only if nobody else wrote that number.

As with the ledger of asynchronous batches (:mod:`airflow_sm_plugin.batch.ledger_store`), whoever claims later owns the
shard: its first part takes the next number, so that the next part of an orphan fails and the orphan stops. What an
orphan had answered but not written down is done again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batch.claim import RACES, Claim, fenced_off, names_below
from airflow_sm_plugin.batch.plan_folder import GenerationFolder
from airflow_sm_plugin.core.batch_journal import Failure, Journal, Part
from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed, ResourceConflict, ServiceError

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects
    from airflow_sm_plugin.hooks.s3_upload_calls import ObjectOptions

log = get_log(__name__)

_READ_AT_ONCE = 16

Chosen = Callable[[Journal], Sequence[Failure]]


async def read_journal(
    s3: S3Objects, folder: GenerationFolder, group_of: Callable[[int], int], *, keep: bool
) -> Journal:
    """Read a whole journal, a few parts in memory at a time.

    :param keep: as :class:`~airflow_sm_plugin.core.batch_journal.Journal`
    :raises ResourceConflict: parts of it were deleted
    """
    names = await names_below(s3, folder.journal)
    expected = [S3Uri.parse(folder.part(number)).key for number in range(len(names))]
    if names != expected:
        raise ResourceConflict(
            f"the journal below {folder.journal} is not whole: parts of it were deleted, so nobody knows what was "
            f"done. Restore them, or clear the task with on_rerun='restart' after removing {folder.location}"
        )
    journal = Journal(group_of, keep=keep)
    for first in range(0, len(names), _READ_AT_ONCE):
        numbers = range(first, min(first + _READ_AT_ONCE, len(names)))
        bodies = await asyncio.gather(*(s3.read(folder.part(number)) for number in numbers))
        for body in bodies:
            journal.add(Part.from_json(body))
    return journal


class JournalStore:
    """A journal as its writer sees it. Made by :meth:`take_over`."""

    def __init__(
        self,
        s3: S3Objects,
        folder: GenerationFolder,
        claim: Claim,
        journal: Journal,
        options: ObjectOptions,
    ) -> None:
        self._s3 = s3
        self._folder = folder
        self.claim = claim
        self._options = options
        self.journal = journal

    @classmethod
    async def take_over(
        cls,
        s3: S3Objects,
        folder: GenerationFolder,
        claim: Claim,
        *,
        group_of: Callable[[int], int],
        run: str | None,
        choose: Chosen,
        taken_back: Callable[[Sequence[Failure]], Mapping[str, Any]],
        options: ObjectOptions,
    ) -> JournalStore:
        """Read the journal, and make this process the only one that may write to it.

        :param group_of: as :class:`~airflow_sm_plugin.core.batch_journal.Journal`
        :param run: which run of the task this is
        :param choose: says which failures are tried again
        :param taken_back: says what the statistics counted of these
        :param options: how objects are kept: they hold results, as outputs do
        :raises FencedOff: a later process owns the shard
        """
        for _ in range(RACES):
            journal = await read_journal(s3, folder, group_of, keep=True)
            if journal.claim > claim.number:
                break
            store = cls(s3, folder, claim, journal, options)
            again = choose(journal)
            part = Part(
                token=claim.token,
                at=time.time(),
                claim=claim.number,
                run=run,
                reopened=tuple(failure.reopened for failure in again),
                statistics=taken_back(again),
            )
            try:
                await store._write(part)
            except PreconditionFailed:
                continue  # its writer does not know of us yet
            journal.forget_failed()
            return store
        raise fenced_off(folder.location)

    async def append(self, part: Part, body: bytes) -> None:
        """Write the next part, after the bytes of its results where there are any.

        :param body: of the object that the part's ``data`` names
        :raises FencedOff: another process has taken over
        """
        if part.data is not None:
            await self._s3.write(
                self._folder.data(part.data),
                body,
                content_type="application/octet-stream",
                options=self._options,
            )
        number = self.journal.parts
        try:
            await self._write(part)
        except PreconditionFailed as error:
            written = Part.from_json(await self._s3.read(self._folder.part(number)))
            if (written.token, written.at) != (part.token, part.at):
                raise fenced_off(self._folder.location) from error
            self.journal.add(part)  # our own, of a write that seemed to have failed

    @property
    def token(self) -> str:
        """What no other process has."""
        return self.claim.token

    async def _write(self, part: Part) -> None:
        await self._s3.write(
            self._folder.part(self.journal.parts),
            part.as_json(),
            only_if_new=True,
            options=self._options,
        )
        self.journal.add(part)


async def sweep(s3: S3Objects, folder: GenerationFolder) -> None:
    """Delete the results' bytes, which nobody needs once all outputs are whole; that nobody may is fine."""
    bucket = S3Uri.parse(folder.location).bucket
    try:
        names = await names_below(s3, folder.data(""))
        for first in range(0, len(names), _READ_AT_ONCE):
            some = names[first : first + _READ_AT_ONCE]
            await asyncio.gather(*(s3.delete(f"s3://{bucket}/{name}") for name in some))
    except ServiceError as error:
        log.info("%s stays: %s", folder.data(""), error)
