"""The ledger in S3: an append-only log of small objects, each written only if no other process wrote that number.

Two processes may believe that a batch is theirs: a killed worker's orphan goes on while the retry starts. Each takes a
claim, a number, when it begins. Who claims later owns the batch: its first part makes the next number of the ledger
unavailable to the orphan, whose next write fails, so that it stops. It can have sent only what it had intended, which
the owner has read as doubts.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import RoundFolder
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart
from airflow_sm_plugin.batches.claim import RACES, Claim, fenced_off
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed, ResourceConflict, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_READ_AT_ONCE = 16
_REMEDY = (
    "Restore them, or remove this batch's folder and clear the task, which sends everything again under names of its "
    "own, so that no earlier output is taken for a new one"
)


class LedgerStore:
    """One round's ledger, as its writer sees it."""

    def __init__(self, s3: S3Objects, folder: RoundFolder, claim: Claim, *, count: int) -> None:
        self._s3 = s3
        self._folder = folder
        self._claim = claim
        self._ours = False
        self._is_read = False
        self.ledger = Ledger(count)

    @property
    def token(self) -> str:
        """What this process signs its parts with."""
        return self._claim.token

    async def read(self) -> Ledger:
        """Read the whole ledger.

        :raises ResourceConflict: parts of it were deleted
        """
        names = await names_below(self._s3, self._folder.ledger)
        expected = [S3Uri.parse(self._folder.part(number)).key for number in range(len(names))]
        if names != expected:
            raise ResourceConflict(
                f"the ledger below {self._folder.ledger} is not whole: parts of it were deleted, so it is not known "
                f"what was sent. {_REMEDY}"
            )
        slots = asyncio.Semaphore(_READ_AT_ONCE)

        async def part(number: int) -> LedgerPart:
            async with slots:
                return LedgerPart.from_json(await self._s3.read(self._folder.part(number)))

        ledger = Ledger(self.ledger.count)
        for found in await asyncio.gather(*map(part, range(len(names)))):
            ledger = ledger.after(found)
        self.ledger, self._is_read = ledger, True
        return ledger

    async def read_once(self) -> Ledger:
        """Return the ledger as it is known here, read if it was not."""
        return self.ledger if self._is_read else await self.read()

    async def take_over(self) -> Ledger:
        """Make this process the only one that may write; read what is there, and fence off whoever wrote it.

        :raises FencedOff: a later process owns the batch
        :raises ResourceConflict: the claims were deleted
        :raises ServiceUnavailable: others wrote faster at each attempt
        """
        if self._ours:
            return self.ledger
        await self.read_once()
        for _ in range(RACES):
            if self.ledger.claim > self._claim.number:
                await self._claim.check()
                raise ResourceConflict(
                    f"the ledger below {self._folder.ledger} was written under claim {self.ledger.claim}, which lies "
                    f"no longer beside it: claims were deleted, so it is not known who owns the batch. {_REMEDY}"
                )
            try:
                await self._write(LedgerPart(token=self.token, at=time.time(), claim=self._claim.number))
                self._ours = True
                return self.ledger
            except PreconditionFailed:
                await self.read()  # its writer does not know of us yet
        raise _beaten(self._folder)

    async def append(self, part: LedgerPart) -> None:
        """Write the next part.

        :raises FencedOff: another process has taken over
        :raises ServiceUnavailable: what was written under our own name is there at each attempt
        """
        for _ in range(RACES):
            try:
                return await self._write(part)
            except PreconditionFailed as error:
                written = LedgerPart.from_json(await self._s3.read(self._folder.part(self.ledger.parts)))
                if written.token != self.token:
                    raise fenced_off(self._folder.location) from error
                # Our own, of a write that seemed to have failed.
                self.ledger = self.ledger.after(written)
                if written == part:
                    return None
        raise _beaten(self._folder)

    async def _write(self, part: LedgerPart) -> None:
        await self._s3.write(self._folder.part(self.ledger.parts), part.as_json(), only_if_new=True)
        self.ledger = self.ledger.after(part)


def _beaten(folder: RoundFolder) -> ServiceUnavailable:
    return ServiceUnavailable(f"{folder.ledger}: others wrote faster {RACES} times in a row; a retry goes on")
