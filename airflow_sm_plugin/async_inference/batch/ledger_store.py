"""The ledger in S3, a log of small objects: only the owner of the batch can append the next one.

An orphan of a killed worker may still write while the retry starts. The process with the higher claim appends a part
first, which takes the orphan's next number: the orphan's next write fails, and the orphan stops. It can have sent only
what its parts had intended, and the owner has read those numbers as doubts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.async_inference.batch.folder import RoundFolder
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart, OddLocation, Refusal
from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.batches.claim import RACES, Claim, fenced_off
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.number_sets import first_of, from_numbers, numbers_of
from airflow_sm_plugin.exceptions import FencedOff, ResourceConflict, ServiceUnavailable
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

_READS_AT_ONCE = 16
"""GetObject requests in flight; a batch has 32 connections to S3."""

BLOCK = 100
"""Most numbers that one part of the ledger intends: a kill leaves at most two blocks in doubt."""

_SMALLEST_BLOCK = 5
"""Numbers of a block at rates below 5 requests a second. A smaller block would write a part of the ledger, which takes
a PutObject, for nearly every request; a larger one would leave more requests of a slow sender in doubt."""

_FLUSH_SECONDS = 5.0
"""The longest time before an answer is written to the ledger. Shorter, a slow endpoint costs more writes; longer, more
accepted requests are in doubt after a kill, and are waited for or sent again."""

_ERROR_LENGTH = 500
"""Characters kept of a refusal: the sentence that AWS gives. A round in which all inputs are refused holds them all."""

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
            part = LedgerPart(token=self.claim.token, written_at=time.time(), claim=self.claim.number)
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


class SubmissionRecord:
    """The record of a submission in the ledger: intents before anything is sent, answers every few seconds.

    :param store: the ledger, taken over already
    :param named: whether requests have a file name and an extension
    """

    def __init__(self, store: LedgerStore, *, named: bool = True) -> None:
        self._store = store
        self._named = named
        self._block = _SMALLEST_BLOCK
        self.todo = 0
        self._allow: Callable[[Iterator[int]], None] = lambda _: None
        self._work = asyncio.Event()
        self._closing = False
        self._begin_part()
        self._doubts: set[int] = set()
        self._pattern = store.ledger.pattern
        self._refusals = 0
        self._left = 0

    def _begin_part(self) -> None:
        self._accepted: list[int] = []
        self._odd: dict[int, OddLocation] = {}
        self._refused: dict[int, Refusal] = {}
        self._submitted_at: float | None = None

    @property
    def anything_accepted(self) -> bool:
        """Check whether the endpoint has ever accepted a request of the round."""
        return bool(self._accepted or self._store.ledger.accepted)

    def begin(self, numbers: int, rate: float, allow: Callable[[Iterator[int]], None]) -> None:
        """Begin with the numbers to send; *allow* is called with each block after the ledger intends it."""
        self.todo = numbers
        self._allow = allow
        self._doubts = set(numbers_of(self._store.ledger.doubtful))
        self.low_water(0, rate)

    def low_water(self, left: int, rate: float) -> None:
        """Intend the next block if few intended numbers are left, so that sending never waits for the ledger.

        :param rate: requests a second: a block is about one second's requests, so that a slow sender leaves few doubts
        """
        self._left = left
        self._block = max(_SMALLEST_BLOCK, min(BLOCK, int(rate)))
        if left <= self._block // 2 and self.todo:
            self._work.set()

    def accepted(self, input_number: int, request: AsyncRequest, answer: AsyncInvocation) -> None:
        """Record an accepted request, and the locations of its result."""
        self._accepted.append(input_number)
        self._submitted_at = max(self._submitted_at or 0.0, answer.submitted_at or time.time())
        output, failure = answer.output_location, answer.failure_location
        extension, name = request.s3_output_path_extension, request.filename
        if extension and name:
            if self._pattern is None:
                self._pattern = LocationPattern.learned(extension, name, output=output, failure=failure)
            if self._pattern and self._pattern.matches(extension, name, output=output, failure=failure):
                return
        self._odd[input_number] = OddLocation(output, failure)

    def in_doubt(self, input_number: int) -> None:
        """Keep a number intended, since it may have been accepted."""
        self._doubts.add(input_number)

    def refused(self, input_number: int, kind: str, message: str) -> int:
        """Record an input that SageMaker will never accept; return the count of such inputs."""
        self._refused[input_number] = (kind, message[:_ERROR_LENGTH])
        self._refusals += 1
        return self._refusals

    def forget_refusals(self) -> list[int]:
        """Forget the refusals, none of which is in the ledger yet; return their numbers, to be sent another time."""
        input_numbers = list(self._refused)
        self._refused = {}
        return input_numbers

    async def keep(self) -> None:
        """Write parts until :meth:`close`: the next block when it is needed, answers every few seconds.

        :raises FencedOff: another process has taken over
        """
        while not self._closing:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_SECONDS):
                    await self._work.wait()
            self._work.clear()
            block = first_of(self.todo, self._block) if self._left <= self._block // 2 else 0
            # Until a request is accepted, the endpoint may be the cause of the refusals, not the inputs.
            with_refusals = self.anything_accepted
            if block or self._accepted or (with_refusals and self._refused):
                await self._write(block, with_refusals=with_refusals)

    async def close(self, keeper: asyncio.Task[None], never_sent: Iterable[int]) -> None:
        """End :meth:`keep` and write the last part; errors as :meth:`keep`.

        :param never_sent: intended numbers that were certainly not accepted
        """
        self._closing = True
        self._work.set()
        self.todo = 0
        await asyncio.wait([keeper])
        error = None if keeper.cancelled() else keeper.exception()
        if isinstance(error, FencedOff):
            raise error
        withdrawn = from_numbers(
            input_number for input_number in never_sent if input_number not in self._doubts
        )
        if withdrawn or self._accepted or self._refused:
            await self._write(0, withdrawn=withdrawn)
        if error is not None:
            raise error

    async def _write(self, block: int, *, withdrawn: int = 0, with_refusals: bool = True) -> None:
        accepted, refused, odd, submitted_at = self._accepted, self._refused, self._odd, self._submitted_at
        self._begin_part()
        if not with_refusals:
            self._refused, refused = refused, {}
        part = LedgerPart(
            token=self._store.claim.token,
            written_at=time.time(),
            may_send=block,
            accepted=from_numbers(accepted),
            submitted_at=submitted_at,
            withdrawn=withdrawn,
            refused=refused,
            pattern=None if self._store.ledger.pattern else self._pattern,
            odd=odd,
            unnamed=bool(block) and not self._named,
        )
        try:
            await self._store.append(part)
        except BaseException:
            # The last part may still be written, and must not lack these answers.
            self._accepted += accepted
            self._refused = refused | self._refused
            self._odd = odd | self._odd
            self._submitted_at = max(submitted_at or 0.0, self._submitted_at or 0.0) or None
            raise
        if block:
            self.todo &= ~block
            self._left += block.bit_count()
            self._allow(numbers_of(block))
