"""Write a row for each input, in the plan's order, and the report whose counts must add up."""

from __future__ import annotations

import asyncio
import datetime
from array import array
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import AttemptFolder
from airflow_sm_plugin.async_inference.batch.ledger import RoundOutcome
from airflow_sm_plugin.async_inference.batch.page_writing import write_page
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan, read_rows
from airflow_sm_plugin.async_inference.batch.report import Report, Row, RowCounts, Status
from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.locations import LocationPattern, shard_of
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.batches.input_chunks import read_chunk
from airflow_sm_plugin.batches.inputs import SHARD, BatchInput
from airflow_sm_plugin.batches.report.elements import MOST_SHOWN
from airflow_sm_plugin.batches.report.failures import FailureGroups
from airflow_sm_plugin.exceptions import PreconditionFailed
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_TEXTS_AT_ONCE = 16
"""Failure objects that are read at the same time; a batch has 32 connections to S3."""

_CARRIED_SHARDS = 8
"""Shards of an earlier plan's rows in memory: the inputs of one shard may come from several of them."""

_EXPIRED = "there was neither an output nor a failure object by the deadline"
_IN_DOUBT = "it may never have been sent, since a kill or a lost answer left that in doubt"
_AMBIGUOUS = "its output and its failure object have one location, so that either may have been written there"

_FAILED_IDS = 100
"""Failed requests whose lines of the containers' logs are shown."""


@dataclass(frozen=True)
class EndedRound:
    """A round that has ended, and the pattern of its results' locations."""

    progress: RoundProgress
    outcome: RoundOutcome
    pattern: LocationPattern | None

    def status(self, number: int) -> Status:
        if self.outcome.succeeded >> number & 1:
            return Status.SUCCEEDED
        if self.outcome.failed >> number & 1:
            return Status.FAILED
        return Status.EXPIRED if self.outcome.expired >> number & 1 else Status.REFUSED


@dataclass(eq=False)
class RowWriter:
    """The writer of one plan's rows; carried inputs succeeded under the plan in the folder ``carried_from``."""

    s3: S3Objects
    settings: BatchSettings
    plan: BatchPlan
    folder: AttemptFolder
    rounds: Sequence[EndedRound]
    _: KW_ONLY
    carried_from: AttemptFolder | None

    def __post_init__(self) -> None:
        self._watcher = ResultWatcher(self.s3)
        self._failures = FailureGroups(most=MOST_SHOWN)
        self.failed_ids: list[str] = []
        """Inference ids of the first failed requests."""
        self._slots = asyncio.Semaphore(_TEXTS_AT_ONCE)
        self._earlier: dict[int, list[Row]] = {}
        self._loading = asyncio.Lock()
        self._carried = self.plan.carried_numbers()
        # By the plan's number: the last round with the input, from 1, and the input's number in that round.
        self._last_round = bytearray(self.plan.count)
        self._positions = array("L", bytes(array("L").itemsize * self.plan.count))
        for ended in self.rounds:
            for position, number in enumerate(ended.progress.numbers):
                self._last_round[number] = ended.progress.names.round_number
                self._positions[number] = position

    async def write(self) -> Report:
        """Write all rows, and the report; raise InferenceError if the counts do not add up."""
        counts = RowCounts()
        for shard in range(self.plan.shards):
            counts += await self._write_shard(shard)
        report = Report(
            endpoint_name=self.settings.template.endpoint_name,
            plan_digest=self.plan.digest,
            counts=counts,
            started_at=self.plan.created_at,
            finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            report_location=self.folder.report,
            rows_location=self.folder.rows,
            report_page_location=self.folder.report_page,
            failures_location=self.folder.failures if counts.unsuccessful else None,
            failures=tuple(sorted(self._failures, key=lambda group: -group.count)),
            inputs_passed_over=self.plan.passed_over,
            run=self.settings.run,
            written_by=self.settings.task_try,
        ).checked(self.plan.count)
        await write_page(
            self.s3,
            self.settings,
            self.plan,
            self.folder,
            [ended.progress for ended in self.rounds],
            finished_at=report.finished_at,
            failures=report.failures,
        )
        try:
            await self.s3.write(self.folder.report, report.as_json().encode(), only_if_new=True)
        except PreconditionFailed:
            return Report.from_json(await self.s3.read(self.folder.report))
        return report

    async def _write_shard(self, shard: int) -> RowCounts:
        inputs = await read_chunk(self.s3, self.plan.inputs, shard)
        rows = await asyncio.gather(
            *(self._row(number, planned) for number, planned in enumerate(inputs, start=shard * SHARD))
        )
        await self.s3.write(self.folder.rows_of(shard), _lines(rows), content_type="application/jsonl")
        if failures := [row for row in rows if row.status is not Status.SUCCEEDED]:
            for row in failures:
                self._failures.add(row.failure)
                if row.inference_id and len(self.failed_ids) < _FAILED_IDS:
                    self.failed_ids.append(row.inference_id)
            location = self.folder.failures_of(shard)
            await self.s3.write(location, _lines(failures), content_type="application/jsonl")
        return RowCounts.of(rows)

    async def _row(self, number: int, planned: BatchInput) -> Row:
        if number in self._carried and self.carried_from is not None:
            return await self._carried_row(self.carried_from, self._carried[number])
        ended = self.rounds[self._last_round[number] - 1]
        position = self._positions[number]
        names, ledger = ended.progress.names, ended.progress.ledger
        row = Row(
            source=planned.source,
            etag=planned.etag,
            status=ended.status(position),
            inference_id=names.of(position).inference_id,
            attempts=names.round_number,
            custom_attributes=planned.custom_attributes,
        )
        if row.status is Status.REFUSED:
            kind, message = ledger.refused.get(position, ("", "it was never sent"))
            return replace(row, error=f"{kind}: {message}" if kind else message)
        invocation = names.invocation(position, ledger, ended.pattern)
        return replace(
            row,
            output_location=invocation.output_location,
            failure_location=invocation.failure_location,
            inference_id=invocation.inference_id,
            error=await self._error(row.status, ended, position, invocation),
        )

    async def _error(
        self, status: Status, ended: EndedRound, position: int, invocation: AsyncInvocation
    ) -> str | None:
        if status is Status.EXPIRED:
            if invocation.output_location == invocation.failure_location:
                return _AMBIGUOUS
            why = ended.outcome.reason or _EXPIRED
            return f"{_IN_DOUBT}; {why}" if ended.progress.ledger.never_answered >> position & 1 else why
        if status is Status.SUCCEEDED or not self.settings.failure_text_limit:
            return None
        async with self._slots:
            limit = self.settings.failure_text_limit
            return await self._watcher.failure_text(invocation.failure_location, limit=limit)

    async def _carried_row(self, folder: AttemptFolder, number: int) -> Row:
        shard = shard_of(number)
        async with self._loading:
            if shard not in self._earlier:
                while len(self._earlier) >= _CARRIED_SHARDS:
                    self._earlier.pop(next(iter(self._earlier)))
                self._earlier[shard] = await read_rows(self.s3, folder, shard)
            return self._earlier[shard][number % SHARD]


def _lines(rows: Sequence[Row]) -> bytes:
    return "".join(f"{row.as_line()}\n" for row in rows).encode()
