"""One round of a batch at work: take its ledger over, settle doubts, send, poll, write down how it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import RoundFolder
from airflow_sm_plugin.async_inference.batch.ledger import (
    Ledger,
    LedgerPart,
    Odd,
    RoundOutcome,
    doubts_in_words,
)
from airflow_sm_plugin.async_inference.batch.ledger_store import LedgerStore
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan, SentBefore, read_sent_before
from airflow_sm_plugin.async_inference.batch.record import SubmissionRecord
from airflow_sm_plugin.async_inference.batch.round import RoundNames, RoundWatch, untellable
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.batch.submission import Submission
from airflow_sm_plugin.async_inference.locations import LocationPattern, check_apart, shard_of
from airflow_sm_plugin.async_inference.watch_state import WatchCounts, WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.batches.adaptive import SendRate
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
from airflow_sm_plugin.core.number_sets import first_of, from_numbers, from_ranges, numbers_of, to_ranges
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    InvalidRequest,
    PreconditionFailed,
    ServiceUnavailable,
)
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

SIGN_OF_LIFE_SECONDS = 60.0
"""A process that sends writes to the ledger every few seconds: what it left in doubt was sent before this was over."""

Guess = Callable[[], Awaitable[LocationPattern]]


async def fixed_numbers(s3: S3Objects, folder: RoundFolder, numbers: int, *, round_number: int) -> list[int]:
    """Fix which of the plan's inputs a round sends, and return them; when that was done before, it stays so."""
    body = json.dumps(to_ranges(numbers), separators=(",", ":")).encode()
    try:
        await s3.write(folder.numbers, body, only_if_new=True)
        if round_number > 1:
            log.info("round %d sends %d inputs again", round_number, numbers.bit_count())
    except PreconditionFailed:
        numbers = from_ranges(json.loads(await s3.read(folder.numbers)))
    return list(numbers_of(numbers))


class RoundProgress:
    """A round that this process works on.

    :param numbers: the plan's number of each of the round's
    :param guess: returns where results would lie when nothing was accepted yet
    :param seconds: how long a result may take after its submission
    """

    def __init__(
        self,
        s3: S3Objects,
        folder: RoundFolder,
        *,
        names: RoundNames,
        numbers: list[int],
        claim: Claim,
        guess: Guess,
        seconds: float,
    ) -> None:
        self._s3 = s3
        self.folder = folder
        self.names = names
        self.numbers = numbers
        self._store = LedgerStore(s3, folder, claim, count=len(numbers))
        self._guess = guess
        self._seconds = seconds
        self._guessed: LocationPattern | None = None
        self._watch: RoundWatch | None = None
        self._state: WatchState | None = None

    @property
    def ledger(self) -> Ledger:
        return self._store.ledger

    async def outcome(self) -> RoundOutcome | None:
        """Return how the round ended; None when it has not."""
        return (await self._store.read_once()).outcome

    async def begin(self, *, resend: bool) -> None:
        """Take the ledger over, and settle what its last writer left in doubt.

        :param resend: send again what is in doubt and has no output yet, instead of taking it for sent
        :raises FencedOff: a later process owns the batch
        """
        await self._store.take_over()
        ledger = self.ledger
        if not ledger.doubtful:
            return
        about, doubts = self.names.root, ledger.doubtful
        sent_at = (ledger.last_at or time.time()) + min(SIGN_OF_LIFE_SECONDS, self._seconds)
        # Where the results of unnamed requests lie cannot be predicted, so they can only be sent again.
        if not (resend or ledger.unnamed):
            log.warning("%s: %s; they count as sent", about, doubts_in_words(ledger))
            await self._assume(doubts, submitted_at=sent_at)
            return
        found = {} if ledger.unnamed else await self._results_of(doubts)
        log.warning(
            "%s: %s; %d have a result already, the others are sent again",
            about,
            doubts_in_words(ledger),
            len(found),
        )
        if found:
            await self._append(accepted=from_numbers(found), odd=found, submitted_at=sent_at)

    async def take_over_results(self, plan: BatchPlan) -> None:
        """Count as sent what an earlier plan sent of the plan's inputs, unless that was written down before.

        :raises FencedOff: another process has taken over
        """
        positions = {number: position for position, number in enumerate(self.numbers)}
        missing = from_numbers(positions[number] for number in numbers_of(from_ranges(plan.taken_over)))
        missing &= ~self.ledger.sent
        if not missing:
            return
        requests = await read_sent_before(self._s3, plan)
        assumed = from_numbers(positions[request.number] for request in requests if request.is_assumed)
        await self._append(
            accepted=missing & ~assumed,
            assumed=missing & assumed,
            odd={
                positions[request.number]: Odd(
                    request.output_location, request.failure_location, request.inference_id
                )
                for request in requests
            },
            submitted_at=max(request.submitted_at for request in requests),
        )

    def sent_before(self, pattern: LocationPattern | None, position: int, number: int) -> SentBefore:
        """Return the request of one of the round's numbers, as the next plan's input ``number``."""
        invocation = self.names.invocation(position, self.ledger, pattern)
        return SentBefore(
            number,
            invocation.output_location,
            invocation.failure_location,
            invocation.inference_id,
            self.ledger.submitted_at(shard_of(position)) or 0.0,
            is_assumed=bool(self.ledger.never_answered >> position & 1),
        )

    async def kept(self) -> int:
        """Return the set of numbers whose output is there or may still come: they need not be sent again."""
        outcome = await self.outcome()
        if outcome is not None:
            return outcome.succeeded
        return self.ledger.sent & ~untellable(self.ledger, await self.pattern())

    async def _results_of(self, doubts: int) -> dict[int, Odd]:
        """Return which of the doubtful have an output or a failure object, and where.

        The places are written down with them: a guess that held for these need not hold for others.
        """
        try:
            pattern = await self._learned_or_guessed()
        except AccessDenied as error:
            log.warning("%s: no result of what is in doubt can be searched: %s", self.names.root, error)
            return {}
        watch = RoundWatch.of(self.ledger, self.names, pattern=pattern, seconds=self._seconds, only=doubts)
        state = await ResultWatcher(self._s3).poll(
            watch.watch, WatchState.begin(watch.watch), now=time.time(), thorough=True
        )
        found: dict[int, Odd] = {}
        for number in numbers_of(watch.all_numbers([s.outputs | s.failures for s in state.folders])):
            invocation = self.names.invocation(number, self.ledger, pattern)
            found[number] = Odd(invocation.output_location, invocation.failure_location)
        return found

    async def _assume(self, doubts: int, *, submitted_at: float) -> None:
        """Count doubts as sent, once it can be told where their results would be.

        :raises AccessDenied: that cannot be told: they stay in doubt, so that a later try may send them again
        """
        await self._learned_or_guessed()
        await self._append(assumed=doubts, submitted_at=submitted_at)

    async def _append(self, **what: Any) -> None:  # noqa: ANN401 - fields of a part
        await self._store.append(LedgerPart(token=self._store.token, at=time.time(), **what))

    async def pattern(self) -> LocationPattern | None:
        """Return where results lie: as learned, or guessed while something was sent that no answer places."""
        return await self._learned_or_guessed() if self.ledger.unplaced else self.ledger.pattern

    async def _learned_or_guessed(self) -> LocationPattern:
        if self.ledger.pattern is None:
            self._guessed = self._guessed or await self._guess()
            return self._guessed
        return self.ledger.pattern

    async def submit(
        self,
        invoker: AsyncInvoker,
        inputs: ChunkedInputs,
        settings: BatchSettings,
        *,
        pace: SendRate,
        room: int | None,
    ) -> SendRate:
        """Send what is to be sent, up to ``room``; return the rate that was found.

        A request without an answer counts as sent in the end, also with ``resend``, which tries a few times before.

        :raises InvalidRequest: outputs and failure objects have one place; what is on its way is still written down
        :raises SageMakerInferenceError: as :meth:`Submission.run`
        """

        async def invoke(request: AsyncRequest) -> AsyncInvocation:
            answer = await invoker.invoke(request)
            try:
                check_apart(
                    answer.output_location,
                    answer.failure_location,
                    endpoint_name=request.endpoint_name,
                    then="clear this task, which sends what was sent before once more",
                )
            except InvalidRequest as error:
                submission.stop(error)
            return answer

        async def request_of(number: int) -> AsyncRequest:
            return self.names.request(number, await inputs.input(self.numbers[number]), settings.template)

        ledger = self.ledger
        self.names = replace(self.names, named=invoker.names_outputs)
        submission = Submission(
            invoke=invoke,
            request_of=request_of,
            record=SubmissionRecord(self._store, named=self.names.named),
            pace=pace,
            at_once=settings.at_once,
            resend=settings.resend or not self.names.named,  # results of what is in doubt could not be found
            patience=settings.patience_seconds,
            about=f"endpoint {settings.template.endpoint_name}",
        )
        doubts = ledger.doubtful if room is None else first_of(ledger.doubtful, room)
        left = None if room is None else room - doubts.bit_count()
        await submission.run(ledger.unsent if left is None else first_of(ledger.unsent, left), doubts=doubts)
        lost = self.ledger.doubtful & ~(ledger.doubtful & ~doubts)
        if lost:
            log.warning("%s: %d got no answer and count as sent", self.names.root, lost.bit_count())
            await self._assume(lost, submitted_at=time.time())
        self._watch = None
        return submission.pace

    @property
    def to_send(self) -> int:
        """The set of numbers that have to be sent yet, doubts that are to be sent again included."""
        return self.ledger.unsent | self.ledger.doubtful

    async def watch(self) -> RoundWatch:
        """Return the results that are waited for."""
        if self._watch is None:
            self._watch = RoundWatch.of(
                self.ledger, self.names, pattern=await self.pattern(), seconds=self._seconds
            )
            self._state = None
        return self._watch

    async def poll(self) -> WatchCounts:
        """Poll everything that has no result yet, once; return how many results there are of each kind.

        :raises ServiceUnavailable: S3 gave no useful answer for too long
        """
        watch = (await self.watch()).watch
        before = self._state or WatchState.begin(watch)
        now = time.time()
        self._state = state = await ResultWatcher(self._s3).poll(watch, before, now=now, thorough=True)
        if state.unreachable(watch, now=now):
            raise ServiceUnavailable(
                f"S3 gave no useful answer at {state.failed.in_a_row} looks in a row; what was sent goes on in "
                f"SageMaker, and a retry looks again"
            )
        return state.counts(watch)

    async def judged(self, *, reason: str | None = None) -> RoundOutcome:
        """Write down how each number ended, by the last poll, and where results lie.

        A number whose output and failure object have one place ends as expired, so that another round sends it again.

        :param reason: why pending results are not waited for any longer
        :raises FencedOff: another process has taken over
        """
        watch, state = await self.watch(), self._state
        if state is None:
            raise LookupError("a round is judged by its last poll")
        sent = self.ledger.sent
        pattern = await self.pattern()
        tellable = sent & ~untellable(self.ledger, pattern)
        succeeded = watch.all_numbers([shelf.outputs for shelf in state.folders]) & tellable
        failed = watch.all_numbers([shelf.failures for shelf in state.folders]) & tellable & ~succeeded
        outcome = RoundOutcome(succeeded, failed, sent & ~succeeded & ~failed, reason)
        # With the pattern, since the endpoint may be gone when the rows are written.
        await self._append(outcome=outcome, pattern=None if self.ledger.pattern else pattern)
        return outcome

    def plan_numbers(self, numbers: int) -> int:
        """Return the plan's numbers of a set of the round's."""
        return from_numbers(self.numbers[number] for number in numbers_of(numbers))
