"""The plan of a batch: which inputs it has, fixed once, and what of an earlier plan it need not send again."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batch.batch_folder import BatchFolder, PlanFolder
from airflow_sm_plugin.batch.input_listing import InputSource
from airflow_sm_plugin.batch.input_plan import plan_inputs, read_shard
from airflow_sm_plugin.core.async_names import SHARD, batch_root
from airflow_sm_plugin.core.async_report import Row, Status
from airflow_sm_plugin.core.number_sets import below, from_ranges
from airflow_sm_plugin.core.safe_text import as_utf8
from airflow_sm_plugin.exceptions import PreconditionFailed

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects

log = get_log(__name__)

Run = tuple[int, int, int]
"""First number here, first number in the earlier plan, how many."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The inputs of a batch, numbered from 0.

    :param number: 0 for the first; a finished batch that runs again gets the next
    :param root: what begins every name of its invocations
    :param inputs: the folder of its shards
    :param created_at: ISO 8601
    :param carried: what succeeded under the plan before and is the same object still
    """

    number: int
    count: int
    shards: int
    digest: str
    root: str
    inputs: str
    created_at: str
    carried: tuple[Run, ...] = ()

    def as_json(self) -> bytes:
        """Return the content of ``plan.json``, as :meth:`from_json` reads it."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, body: bytes) -> Plan:
        """Read what :meth:`as_json` wrote."""
        value = json.loads(body)
        first, earlier, length = 0, 1, 2
        carried = tuple((run[first], run[earlier], run[length]) for run in value.pop("carried"))
        return cls(**value, carried=carried)

    @property
    def to_send(self) -> int:
        """The set of numbers that are not carried over."""
        return below(self.count) & ~from_ranges([first, first + length] for first, _, length in self.carried)

    def carried_numbers(self) -> dict[int, int]:
        """Return the earlier plan's number of each that is carried over."""
        return {
            first + step: earlier + step for first, earlier, length in self.carried for step in range(length)
        }


class Plans:
    """All plans of a batch in S3."""

    def __init__(self, s3: S3Objects, folder: BatchFolder, *, owner: str, arguments: str) -> None:
        self._s3 = s3
        self._folder = folder
        self._owner = owner
        self._arguments = arguments

    async def latest(self) -> Plan | None:
        """Return the last plan; None before the first."""
        found: Plan | None = None
        number = 0
        while (body := await self._s3.read_if_any(self._folder.plan(number).plan)) is not None:
            found, number = Plan.from_json(body), number + 1
        return found

    def folder(self, plan: Plan) -> PlanFolder:
        """Return what the plan keeps."""
        return self._folder.plan(plan.number)

    async def make(self, source: InputSource, *, token: str, number: int, resume: Plan | None) -> Plan:
        """List the inputs and fix them as a plan; if another process was faster, its plan holds.

        :param token: keeps this planner's shards apart from another's
        :param resume: the finished plan whose successes are carried over
        :raises InvalidRequest: there are no inputs, or one is not what it must be
        """
        folder = self._folder.plan(number)
        into = folder.inputs(token)
        summary = await plan_inputs(self._s3, source, into=into)
        plan = Plan(
            number=number,
            count=summary.count,
            shards=summary.shards,
            digest=summary.digest,
            root=batch_root(self._owner, self._arguments, number),
            inputs=into,
            created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            carried=tuple(await self._carried(into, summary.shards, resume)) if resume else (),
        )
        try:
            await self._s3.write(folder.plan, plan.as_json(), only_if_new=True)
        except PreconditionFailed:
            return Plan.from_json(await self._s3.read(folder.plan))
        carried = plan.count - plan.to_send.bit_count()
        log.info(
            "%d inputs, %d of them done before; the plan lies in %s", plan.count, carried, folder.location
        )
        return plan

    async def _carried(self, into: str, shards: int, earlier: Plan) -> list[Run]:
        """Return what has the same source and ETag as an input that succeeded, as runs of numbers.

        What is known of an input is 8 bytes, so a hundred thousand take a few megabytes.
        """
        known: dict[int, int] = {}
        async for number, row in self._rows(earlier):
            if row.status is Status.SUCCEEDED and row.etag:
                known[_fingerprint(row.source, row.etag)] = number
        runs: list[Run] = []
        for shard in range(shards):
            for place, one in enumerate(await read_shard(self._s3, into, shard)):
                before = known.get(_fingerprint(one.source, one.etag)) if one.etag else None
                if before is not None:
                    _extend(runs, shard * SHARD + place, before)
        return runs

    async def _rows(self, plan: Plan) -> AsyncIterator[tuple[int, Row]]:
        for shard in range(plan.shards):
            for place, row in enumerate(await read_rows(self._s3, self.folder(plan), shard)):
                yield shard * SHARD + place, row


async def read_rows(s3: S3Objects, folder: PlanFolder, shard: int) -> list[Row]:
    """Return the rows of one shard of a finished plan."""
    body = await s3.read(folder.rows_of(shard))
    return list(_rows_in(body))


def _rows_in(body: bytes) -> Iterator[Row]:
    return (Row.from_line(line) for line in body.decode().splitlines())


def _fingerprint(source: str, etag: str) -> int:
    return int.from_bytes(hashlib.blake2b(as_utf8(f"{source}\n{etag}"), digest_size=8).digest(), "big")


def _extend(runs: list[Run], number: int, earlier: int) -> None:
    """Add one number, to the last run where it follows."""
    if runs:
        first, before, length = runs[-1]
        if first + length == number and before + length == earlier:
            runs[-1] = (first, before, length + 1)
            return
    runs.append((number, earlier, 1))
