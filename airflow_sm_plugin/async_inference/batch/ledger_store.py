"""The ledger in S3: a log of small objects, of which only the owner of the batch can append the next.

An orphan of a killed worker may still write while the retry starts. The process with the higher claim appends a part
first, which takes the orphan's next number: the orphan's next write fails, and the orphan stops. It can have sent only
what its parts had intended, and the owner has read those numbers as doubts.
"""

from __future__ import annotations

import time
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.async_inference.batch.folder import RoundFolder
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart
from airflow_sm_plugin.batches.claim import RACES, Claim, fenced_off
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.exceptions import ResourceConflict, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

_READS_AT_ONCE = 16
"""GetObject requests in flight; a batch has 32 connections to S3."""

_REMEDY = (
    "Restore them, or remove this batch's folder and clear the task, which sends everything again under names of its "
    "own, so that no earlier output is taken for a new one"
)


@dataclass(eq=False)
class LedgerStore:
    """The ledger of a round of ``count`` inputs, for one process."""

    s3: S3Objects
    folder: RoundFolder
    claim: Claim
    _: KW_ONLY
    count: int

    def __post_init__(self) -> None:
        self._parts = NumberedLog(self.s3, self.folder.ledger)
        self._ours = self._is_read = False
        self.ledger = Ledger(self.count)

    async def read(self) -> Ledger:
        """Read all parts of the ledger.

        :raises ResourceConflict: parts were deleted
        """
        length = await self._parts.length()
        if length is None:
            raise ResourceConflict(
                f"the ledger below {self.folder.ledger} is not whole: parts of it were deleted, so it is not known "
                f"what was sent. {_REMEDY}"
            )
        ledger = Ledger(self.count)
        for body in await side_by_side(self._parts.read, range(length), at_once=_READS_AT_ONCE):
            ledger = ledger.after(LedgerPart.from_json(body))
        self.ledger, self._is_read = ledger, True
        return ledger

    async def read_once(self) -> Ledger:
        """Read the ledger unless this process has read it; errors as :meth:`read`."""
        return self.ledger if self._is_read else await self.read()

    async def take_over(self) -> None:
        """Read the ledger, and make this process the only one that can write it.

        :raises FencedOff: a later process owns the batch
        :raises ResourceConflict: parts or claims were deleted
        :raises ServiceUnavailable: others wrote faster at each attempt
        """
        if self._ours:
            return
        await self.read_once()
        for _ in range(RACES):
            if self.ledger.claim > self.claim.number:
                await self.claim.check()
                raise ResourceConflict(
                    f"the ledger below {self.folder.ledger} was written under claim {self.ledger.claim}, which lies "
                    f"no longer beside it: claims were deleted, so it is not known who owns the batch. {_REMEDY}"
                )
            part = LedgerPart(token=self.claim.token, at=time.time(), claim=self.claim.number)
            self._ours = await self._write(part)
            if self._ours:
                return
            await self.read()  # an earlier owner, which does not know of this process yet, wrote a part
        raise _beaten(self.folder)

    async def append(self, part: LedgerPart) -> None:
        """Write the next part.

        :raises FencedOff: another process has taken over
        :raises ServiceUnavailable: this process's own earlier parts were found at each attempt
        """
        for _ in range(RACES):
            if await self._write(part):
                return
            written = LedgerPart.from_json(await self._parts.read(self.ledger.parts))
            if written.token != self.claim.token:
                raise fenced_off(self.folder.location)
            # An own part, of a write that failed for this process and reached S3 nevertheless.
            self.ledger = self.ledger.after(written)
        raise _beaten(self.folder)

    async def _write(self, part: LedgerPart) -> bool:
        is_written = await self._parts.write(self.ledger.parts, part.as_json())
        if is_written:
            self.ledger = self.ledger.after(part)
        return is_written


def _beaten(folder: RoundFolder) -> ServiceUnavailable:
    return ServiceUnavailable(f"{folder.ledger}: others wrote faster {RACES} times in a row; a retry goes on")
