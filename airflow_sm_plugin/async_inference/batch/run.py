"""An asynchronous batch from plan to report, in steps that can be killed at any line and repeated.

Plan the inputs, send a round, wait, judge it, send the failed and expired inputs again, write rows and report. The
state that a retry needs is in S3, keyed by task instance and arguments, never by try.
"""

from __future__ import annotations

import datetime
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import BatchFolder
from airflow_sm_plugin.async_inference.batch.ledger import RoundOutcome
from airflow_sm_plugin.async_inference.batch.page_writing import write_page
from airflow_sm_plugin.async_inference.batch.plan import (
    BatchPlan,
    NextPlan,
    PlanReuse,
    Plans,
    Sent,
    next_plan,
)
from airflow_sm_plugin.async_inference.batch.report import Report
from airflow_sm_plugin.async_inference.batch.round import RoundNames
from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress, fixed_numbers
from airflow_sm_plugin.async_inference.batch.rows import EndedRound, RowWriter
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.adaptive import SendRate
from airflow_sm_plugin.batches.claim import RACES, Claim
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs, inputs_digest
from airflow_sm_plugin.batches.inputs import SHARD
from airflow_sm_plugin.batches.manifest_reading import HEADS_AT_ONCE
from airflow_sm_plugin.batches.report.elements import cause_in
from airflow_sm_plugin.core.number_sets import numbers_of
from airflow_sm_plugin.exceptions import (
    EndpointNotFound,
    FencedOff,
    SageMakerInferenceError,
    ServiceUnavailable,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts

log = get_log(__name__)

_INITIAL_RATE = 100.0
"""Requests per second at first; the rate then adapts to the answers, up to ``max_rate``. A higher one may be
throttled in its first seconds; a lower one delays the beginning of a batch, since the rate rises by steps."""


@dataclass(frozen=True)
class Waiting:
    """A step that has to wait for results.

    :param until_pending: advance again as soon as no more results than this are pending
    :param deadline: advance again at this time at the latest, epoch seconds
    :param pending: results that are pending now
    """

    until_pending: int
    deadline: float
    pending: int


@dataclass(frozen=True)
class Finished:
    """The end of a batch.

    :param failed_ids: inference ids of the first failed requests; empty where an earlier try wrote the report
    """

    report: Report
    failed_ids: Sequence[str] = field(default=(), compare=False)


class AsyncBatch:
    """One process's work on a batch, over open connections to S3."""

    def __init__(
        self, connection: AwsConnection, s3: S3Objects, settings: BatchSettings, *, plan_at_hand: bool
    ) -> None:
        self._connection = connection
        self._plan_at_hand = plan_at_hand
        self._s3 = s3
        self._settings = settings
        self._claim: Claim
        self._endpoint = EndpointFacts(connection, settings.template.endpoint_name)
        self.folder = BatchFolder.below(
            settings.ledger_prefix, owner=settings.owner, arguments=settings.arguments
        )
        self._plans = Plans(s3, self.folder, settings)
        self._ended: list[EndedRound] = []
        self._current: RoundProgress | None = None
        self._plan: BatchPlan | None = None
        self.page_location: str | None = None
        """Of the report's page, once it is written."""
        self._send_rate = SendRate(
            now=time.monotonic(), max_rate=settings.max_rate, initial=min(settings.max_rate, _INITIAL_RATE)
        )

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, settings: BatchSettings, *, plan_at_hand: bool = False
    ) -> AsyncIterator[AsyncBatch]:
        """Open connections for the block.

        :param plan_at_hand: whether this try has begun or taken over the last plan already, so that the plan is
            continued without a check of its DAG run and inputs
        """
        options = settings.options
        async with S3Objects.open(connection, max_connections=HEADS_AT_ONCE, options=options) as s3:
            yield cls(connection, s3, settings, plan_at_hand=plan_at_hand)

    async def advance(self) -> Waiting | Finished:
        """Work until results have to be awaited or the batch is finished. Call it once.

        :raises InvalidRequest: an input is not valid, or there are none; nothing was sent
        :raises EndpointNotFound: there is no endpoint, or it was deleted with requests in its queue
        :raises FencedOff: another process has taken the batch over
        :raises SageMakerInferenceError: as :meth:`Submission.run`
        """
        try:
            return await self._advance()
        except FencedOff:
            raise
        except SageMakerInferenceError as error:
            with suppress(SageMakerInferenceError):  # the first error counts
                await self._report_stop(error)
            raise

    async def _report_stop(self, error: SageMakerInferenceError) -> None:
        """Write a page on what was done before an error."""
        if self._plan is None:
            return
        folder = self.folder.plan(self._plan.number)
        rounds = [ended.progress for ended in self._ended]
        if self._current is not None and self._current not in rounds:
            rounds.append(self._current)
        await write_page(
            self._s3,
            self._settings,
            self._plan,
            folder,
            rounds,
            finished_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            stopped=(type(error).__name__, cause_in(str(error))),
        )
        self.page_location = folder.report_page

    async def _advance(self) -> Waiting | Finished:
        plan = self._plan = await self._open_plan()
        report = await self._report_on(plan)
        if report is not None:
            return self._finished(report)
        numbers = plan.to_send
        while numbers and len(self._ended) < self._settings.attempts:
            current = self._current = await self._open_round(
                plan, numbers, [ended.pattern for ended in self._ended]
            )
            outcome = await current.outcome() or await self._advance_round(plan, current)
            if isinstance(outcome, Waiting):
                return outcome
            self._ended.append(EndedRound(current, outcome, await current.pattern()))
            numbers = current.plan_numbers(outcome.again)
        return await self._report(plan)

    async def publish_wait(self) -> str:
        """Write the description of the wait to S3 for a trigger, and return its location."""
        if self._current is None:
            raise LookupError("the batch awaits no results")
        watch = (await self._current.watch()).watch
        body = json.dumps(watch.as_mapping(), separators=(",", ":")).encode()
        location = self._current.folder.wait(self._claim.number)
        await self._s3.write(location, body)
        return location

    # The plan

    async def _open_plan(self) -> BatchPlan:
        """Take the batch over, and return the plan to work on: the last one, or a new one."""
        self._claim = await self._claimed()
        for _ in range(RACES):
            if plan := await self._chosen_plan():
                return plan
        raise ServiceUnavailable(
            f"{self.folder.location}: others planned faster {RACES} times in a row", do="retry, which goes on"
        )

    async def _claimed(self) -> Claim:
        """Take the batch over.

        Without a start date, a lower try number may belong to a DAG run that was created again, or to an orphan of the
        deleted one. If the batch is finished, the process counts as the former: an orphan then only reports the batch,
        or does the same as a cleared task.

        :raises FencedOff: a later try has taken it over
        """
        task_try = self._settings.task_try
        take = partial(Claim.taken, self._s3, self.folder, token=uuid.uuid4().hex[:16], task_try=task_try)
        try:
            return await take()
        except FencedOff:
            latest, _ = await self._plans.latest()
            is_over = latest is not None and await self._report_on(latest) is not None
            if self._plan_at_hand or task_try.run_started is not None or not is_over:
                raise
        return await take(after_later_tries=True)

    async def _chosen_plan(self) -> BatchPlan | None:
        """Return the plan to work on; None if another process wrote one meanwhile."""
        latest, number = await self._plans.latest()
        if latest is not None and self._plan_at_hand:
            return latest
        step = NextPlan.NEW if latest is None else await self._next_plan(latest)
        if step is NextPlan.GO_ON:
            return latest
        if latest is not None:
            log.info("%s: %s", self.folder.plan(latest.number).location, step.value)
        ledgers = {"ledger_prefix": self._settings.ledger_prefix}
        return await self._plans.make(
            claim=self._claim,
            number=number,
            reuse=await self._reuse(latest) if latest is not None and step is NextPlan.RESUME else None,
            written=ledgers | await self._endpoint.written_locations(),
        )

    async def _next_plan(self, latest: BatchPlan) -> NextPlan:
        """Decide what to do with the last plan; compare its inputs with the current ones if necessary."""
        settings, report = self._settings, await self._report_on(latest)
        writer = latest.begun_by if report is None else report.written_by
        run = latest.run if report is None else report.run
        step = next_plan(
            settings.task_try.origin_in_run(writer, self._claim.run_began),
            finished=report is not None,
            same_run=settings.run is not None and run == settings.run,
            restart=settings.restart,
        )
        if step is not NextPlan.COMPARE:
            return step
        if await inputs_digest(self._s3, settings.source) == latest.digest:
            return NextPlan.GO_ON
        return NextPlan.NEW if settings.restart else NextPlan.RESUME

    async def _reuse(self, plan: BatchPlan) -> PlanReuse:
        """Collect the results that the next plan reuses. An unfinished plan cannot send anything after that."""
        if await self._report_on(plan) is not None:
            return await PlanReuse.of_finished(self._s3, self.folder.plan(plan.number), plan)
        requests: dict[int, Sent] = {}
        patterns: list[LocationPattern | None] = []
        numbers = plan.to_send
        while numbers:
            current = await self._open_round(plan, numbers, patterns)
            outcome = await current.outcome()
            if outcome is None:
                await self._begin(plan, current)
            patterns.append(await current.pattern())
            for position in numbers_of(await current.kept()):
                requests[current.numbers[position]] = partial(current.sent_before, patterns[-1], position)
            numbers = 0 if outcome is None else current.plan_numbers(outcome.again)
        return await PlanReuse.of_unfinished(self._s3, plan, requests)

    async def _report_on(self, plan: BatchPlan) -> Report | None:
        body = await self._s3.read_if_any(self.folder.plan(plan.number).report)
        return None if body is None else Report.from_json(body)

    # A round

    async def _open_round(
        self, plan: BatchPlan, numbers: int, patterns: Sequence[LocationPattern | None]
    ) -> RoundProgress:
        """Open the next round; *patterns* are those of the earlier rounds' locations."""
        number = len(patterns) + 1
        if number > 1:
            await self._claim.check()
        folder = self.folder.plan(plan.number).round(number)
        return RoundProgress(
            self._s3,
            folder,
            numbers=await fixed_numbers(self._s3, folder, numbers, round_number=number),
            names=RoundNames(plan.root, number),
            claim=self._claim,
            guess=partial(self._guess, patterns),
            seconds=self._settings.result_seconds,
        )

    async def _guess(self, patterns: Sequence[LocationPattern | None]) -> LocationPattern:
        """Predict the locations of results from the latest known pattern, or from the endpoint's output paths."""
        learned = [pattern for pattern in patterns if pattern is not None]
        return learned[-1] if learned else LocationPattern.guessed(*await self._endpoint.output_paths())

    async def _begin(self, plan: BatchPlan, current: RoundProgress) -> None:
        await current.begin(resend=self._settings.resend)
        if current.names.round_number == 1:
            await current.take_over_results(plan)

    async def _advance_round(self, plan: BatchPlan, current: RoundProgress) -> RoundOutcome | Waiting:
        await self._begin(plan, current)
        if (ended := await current.outcome()) is not None:
            return ended  # by its earlier owner, while this process took the ledger over
        limit = self._settings.max_in_flight
        enough = 0 if limit is None else limit // 2
        while True:
            counts = await current.poll()
            if current.to_send and (limit is None or counts.pending <= enough):
                room = None if limit is None else limit - counts.pending
                inputs = ChunkedInputs(self._s3, plan.inputs, SHARD, keep=2)
                connections = self._settings.at_once
                async with AsyncInvoker.open(self._connection, max_connections=connections) as invoker:
                    await current.submit(
                        invoker, inputs, self._settings, send_rate=self._send_rate, room=room
                    )
                continue
            is_gone = bool(counts.pending or counts.timed_out) and await self._endpoint.is_gone()
            if is_gone or not (counts.pending or current.to_send):
                return await self._judge(current, counts.pending + counts.timed_out if is_gone else 0)
            last = (await current.watch()).watch.last_deadline
            check_in = time.time() + self._settings.check_in_seconds
            return Waiting(enough if current.to_send else 0, min(last, check_in), counts.pending)

    async def _judge(self, current: RoundProgress, lost: int) -> RoundOutcome:
        """End the round; *lost* results will never come, since the endpoint was deleted."""
        name = self._settings.template.endpoint_name
        outcome = await current.judged(
            reason=f"endpoint {name} was deleted while it waited in its queue" if lost else None
        )
        if lost and len(self._ended) + 1 < self._settings.attempts:
            raise EndpointNotFound(
                f"endpoint {name} was deleted while {lost} of its requests had no result; what succeeded is kept in "
                f"{self.folder.location}",
                do="deploy the endpoint again and clear this task, which sends the others again",
            )
        log.info("round %d: %d succeeded", len(self._ended) + 1, outcome.succeeded.bit_count())
        return outcome

    # The end

    async def _report(self, plan: BatchPlan) -> Finished:
        await self._claim.check()
        folder = self.folder.plan(plan.number)
        earlier = None if plan.carried_from is None else self.folder.plan(plan.carried_from)
        writer = RowWriter(self._s3, self._settings, plan, folder, self._ended, carried_from=earlier)
        report = await writer.write()
        log.info("%s: %s", report.report_location, report.counts)
        return self._finished(report, writer.failed_ids)

    def _finished(self, report: Report, failed_ids: Sequence[str] = ()) -> Finished:
        self.page_location = report.report_page_location
        return Finished(report, failed_ids)
