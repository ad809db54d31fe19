"""The work on one round of a batch: take over its ledger, settle doubts, send, poll, and record the outcome."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.batch.folder import RoundFolder
from airflow_sm_plugin.async_inference.batch.ledger import Ledger, LedgerPart, OddLocation, RoundOutcome
from airflow_sm_plugin.async_inference.batch.ledger_store import LedgerStore, SubmissionRecord
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan, SentBefore, read_sent_before
from airflow_sm_plugin.async_inference.batch.round import RoundNames, RoundWatch, indistinguishable
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.async_inference.batch.submission import Submission
from airflow_sm_plugin.async_inference.locations import LocationPattern, check_apart, shard_of
from airflow_sm_plugin.async_inference.watch_state import WatchCounts, WatchState
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.batches.adaptive import SendRate
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
from airflow_sm_plugin.core.number_sets import first_of, from_numbers, from_ranges, numbers_of, to_ranges
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import AccessDenied, InvalidRequest, PreconditionFailed, ServiceUnavailable
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

SIGN_OF_LIFE_SECONDS = 60.0
"""A sender appends to the ledger every few seconds, so its doubtful requests were sent at most so long after its last
part."""


async def fixed_numbers(s3: S3Objects, folder: RoundFolder, numbers: int, *, round_number: int) -> list[int]:
    """Fix the numbers of the plan's inputs that a round sends. Return the stored ones if they were fixed before."""
    body = json.dumps(to_ranges(numbers), separators=(",", ":")).encode()
    try:
        await s3.write(folder.numbers, body, only_if_new=True)
        if round_number > 1:
            log.info("round %d sends %d inputs again", round_number, numbers.bit_count())
    except PreconditionFailed:
        numbers = from_ranges(json.loads(await s3.read(folder.numbers)))
    return list(numbers_of(numbers))


@dataclass(eq=False)
class RoundProgress:
    """A round that this process works on.

    :param numbers: the plan's numbers of the inputs, by their numbers in the round
    :param guess: predicts the locations of results as long as no request is accepted
    :param seconds: permitted wait for a result after its submission
    """

    s3: S3Objects
    folder: RoundFolder
    _: KW_ONLY
    names: RoundNames
    numbers: list[int]
    claim: Claim
    guess: Callable[[], Awaitable[LocationPattern]]
    seconds: float
    _guessed: LocationPattern | None = field(default=None, init=False)
    _watch: RoundWatch | None = field(default=None, init=False)
    _state: WatchState | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._store = LedgerStore(self.s3, self.folder, self.claim, count=len(self.numbers))

    @property
    def ledger(self) -> Ledger:
        return self._store.ledger

    async def outcome(self) -> RoundOutcome | None:
        """Read the end of the round; None as long as it has not ended."""
        return (await self._store.read_once()).outcome

    async def begin(self, *, resend: bool) -> None:
        """Take over the ledger, and settle the doubts of its last writer.

        :param resend: whether doubtful requests without a result are sent again, or count as sent
        :raises FencedOff: a later process owns the batch
        """
        await self._store.take_over()
        ledger = self.ledger
        if not ledger.doubtful:
            return
        about, doubts = self.names.root, ledger.doubtful
        shards = ", ".join(map(str, sorted({shard_of(number) for number in numbers_of(doubts)})))
        sent_at = (ledger.last_at or time.time()) + min(SIGN_OF_LIFE_SECONDS, self.seconds)
        # The locations of unnamed requests' results cannot be predicted, so these requests can only be sent again.
        if not (resend or ledger.unnamed):
            log.warning("%s: %d in doubt (shards %s); they count as sent", about, doubts.bit_count(), shards)
            await self._assume(doubts, submitted_at=sent_at)
            return
        results = {} if ledger.unnamed else await self._results_of(doubts)
        log.warning(
            "%s: %d in doubt (shards %s); %d have a result already, the others are sent again",
            about,
            doubts.bit_count(),
            shards,
            len(results),
        )
        if results:
            await self._append(accepted=from_numbers(results), odd=results, submitted_at=sent_at)

    async def take_over_results(self, plan: BatchPlan) -> None:
        """Count the requests of an earlier plan for the same inputs as sent, unless the ledger has them already.

        :raises FencedOff: another process has taken over
        """
        positions = {input_number: position for position, input_number in enumerate(self.numbers)}
        missing = from_numbers(
            positions[input_number] for input_number in numbers_of(from_ranges(plan.taken_over))
        )
        missing &= ~self.ledger.sent
        if not missing:
            return
        requests = await read_sent_before(self.s3, plan)
        assumed = from_numbers(positions[request.number] for request in requests if request.is_assumed)
        await self._append(
            accepted=missing & ~assumed,
            assumed=missing & assumed,
            odd={
                positions[request.number]: OddLocation(
                    request.output_location, request.failure_location, request.inference_id
                )
                for request in requests
            },
            submitted_at=max(request.submitted_at for request in requests),
        )

    def sent_before(self, pattern: LocationPattern | None, position: int, input_number: int) -> SentBefore:
        """Describe the request of one of the round's numbers, as the next plan's input ``input_number``."""
        invocation = self.names.invocation(position, self.ledger, pattern)
        return SentBefore(
            input_number,
            invocation.output_location,
            invocation.failure_location,
            invocation.inference_id,
            self.ledger.submitted.get(shard_of(position)) or 0.0,
            is_assumed=bool(self.ledger.never_answered >> position & 1),
        )

    async def kept(self) -> int:
        """Return the numbers with an output or a possible one, which need not be sent again."""
        outcome = await self.outcome()
        if outcome is not None:
            return outcome.succeeded
        return self.ledger.sent & ~indistinguishable(self.ledger, await self.pattern())

    async def _results_of(self, doubts: int) -> dict[int, OddLocation]:
        """Search S3 for results of doubtful requests; return their locations.

        The ledger keeps these locations, since the guessed pattern need not be right for other requests.
        """
        try:
            pattern = await self._learned_or_guessed()
        except AccessDenied as error:
            log.warning("%s: no result of what is in doubt can be searched: %s", self.names.root, error)
            return {}
        watch = RoundWatch.of(self.ledger, self.names, pattern=pattern, seconds=self.seconds, only=doubts)
        state = await ResultWatcher(self.s3).poll(
            watch.watch, WatchState.begin(watch.watch), now=time.time(), thorough=True
        )
        results: dict[int, OddLocation] = {}
        for number in numbers_of(watch.all_numbers([s.outputs | s.failures for s in state.folders])):
            invocation = self.names.invocation(number, self.ledger, pattern)
            results[number] = OddLocation(invocation.output_location, invocation.failure_location)
        return results

    async def _assume(self, doubts: int, *, submitted_at: float) -> None:
        """Count doubtful requests as sent, after the locations of their results are predicted.

        :raises AccessDenied: they cannot be predicted: the requests stay doubtful, so that a later try can send them
        """
        await self._learned_or_guessed()
        await self._append(assumed=doubts, submitted_at=submitted_at)

    async def _append(self, **fields: Any) -> None:  # noqa: ANN401 - fields of a part
        await self._store.append(LedgerPart(token=self._store.claim.token, written_at=time.time(), **fields))

    async def pattern(self) -> LocationPattern | None:
        """Return the learned pattern of locations, or a guessed one if a sent request has no answer."""
        return await self._learned_or_guessed() if self.ledger.unlocated else self.ledger.pattern

    async def _learned_or_guessed(self) -> LocationPattern:
        if self.ledger.pattern is None:
            self._guessed = self._guessed or await self.guess()
            return self._guessed
        return self.ledger.pattern

    async def submit(
        self,
        invoker: AsyncInvoker,
        inputs: ChunkedInputs,
        settings: BatchSettings,
        *,
        send_rate: SendRate,
        room: int | None,
    ) -> None:
        """Send the unsent and the doubtful numbers, ``room`` of them at most.

        A request without an answer finally counts as sent, with ``resend`` after three more attempts.

        :raises InvalidRequest: outputs and failure objects have one location; requests in flight are still recorded
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

        async def request_of(input_number: int) -> AsyncRequest:
            return self.names.request(
                input_number, await inputs.input(self.numbers[input_number]), settings.template
            )

        ledger = self.ledger
        self.names = replace(self.names, named=invoker.names_outputs)
        submission = Submission(
            invoke=invoke,
            request_of=request_of,
            record=SubmissionRecord(self._store, named=self.names.named),
            send_rate=send_rate,
            at_once=settings.at_once,
            resend=settings.resend or not self.names.named,  # else the results could not be located
            patience=settings.patience_seconds,
            about=f"endpoint {settings.template.endpoint_name}",
        )
        room = len(self.numbers) if room is None else room
        doubts = first_of(ledger.doubtful, room)
        await submission.run(first_of(ledger.unsent, room - doubts.bit_count()), doubts=doubts)
        lost = self.ledger.doubtful & ~(ledger.doubtful & ~doubts)
        if lost:
            log.warning("%s: %d got no answer and count as sent", self.names.root, lost.bit_count())
            await self._assume(lost, submitted_at=time.time())
        self._watch = None

    @property
    def to_send(self) -> int:
        """The numbers to send, including doubtful ones that are sent again."""
        return self.ledger.unsent | self.ledger.doubtful

    async def watch(self) -> RoundWatch:
        if self._watch is None:
            self._watch = RoundWatch.of(
                self.ledger, self.names, pattern=await self.pattern(), seconds=self.seconds
            )
            self._state = None
        return self._watch

    async def poll(self) -> WatchCounts:
        """Poll all pending results once; count the results of each kind.

        :raises ServiceUnavailable: S3 gave no useful answer for too long
        """
        watch = (await self.watch()).watch
        before = self._state or WatchState.begin(watch)
        now = time.time()
        self._state = state = await ResultWatcher(self.s3).poll(watch, before, now=now, thorough=True)
        if state.unreachable(watch, now=now):
            raise ServiceUnavailable(
                f"S3 did not answer, {plural(state.failed.in_a_row, 'failed poll')} in a row",
                reason=state.failed.cause,
                do="retry, which polls again: SageMaker works on what was sent",
            )
        return state.counts(watch)

    @property
    def counts(self) -> WatchCounts | None:
        """The results by the last poll; None before it."""
        return None if self._state is None or self._watch is None else self._state.counts(self._watch.watch)

    async def judged(self, *, reason: str | None = None) -> RoundOutcome:
        """Record the end of each number by the last poll, and the pattern of locations.

        A number with one location for output and failure object ends as expired, so that another round sends it again.

        :param reason: why pending results are not awaited any longer
        :raises FencedOff: another process has taken over
        """
        watch, state = await self.watch(), self._state
        if state is None:
            raise LookupError("a round is judged by its last poll")
        sent = self.ledger.sent
        pattern = await self.pattern()
        clear = sent & ~indistinguishable(self.ledger, pattern)
        succeeded = watch.all_numbers([folder.outputs for folder in state.folders]) & clear
        failed = watch.all_numbers([folder.failures for folder in state.folders]) & clear & ~succeeded
        outcome = RoundOutcome(succeeded, failed, sent & ~succeeded & ~failed, reason)
        # With the pattern, since the endpoint may be deleted before the rows are written.
        await self._append(outcome=outcome, pattern=None if self.ledger.pattern else pattern)
        return outcome

    def plan_numbers(self, numbers: int) -> int:
        """Convert a set of the round's numbers to the plan's numbers."""
        return from_numbers(self.numbers[number] for number in numbers_of(numbers))
