"""Send one asynchronous invocation, unless an earlier try of the same task instance has sent it."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import msgspec

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.async_inference.locations import check_apart
from airflow_sm_plugin.async_inference.single.input import RequestInput, Sending
from airflow_sm_plugin.async_inference.single.result import presence_of
from airflow_sm_plugin.async_inference.single.state import (
    SLACK_SECONDS,
    Attach,
    Intent,
    InvocationState,
    ResultPresence,
    arguments_digest,
    next_step,
    predicted,
    round_filename,
    seconds_to_live,
)
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.listing import names_below
from airflow_sm_plugin.batches.task_try import TaskTry
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence, S3Uri
from airflow_sm_plugin.exceptions import (
    AnswerLost,
    CredentialsExpired,
    EndpointNotAsynchronous,
    EndpointNotFound,
    InvalidRequest,
    PreconditionFailed,
    SageMakerInferenceError,
    ServiceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

log = get_log(__name__)

ATTEMPTS = 5
"""Calls in all while SageMaker does not accept."""

_LAST_ANSWER_SECONDS = 2.0
"""How long a killed task waits for an answer that is on its way."""

_NOT_ACCEPTED = (CredentialsExpired, Throttled, ServiceUnavailable)
_MAX_RACES = 5
"""Attempts to write the next entry. One is lost only when another process of the same task writes in that moment, so
five lost ones mean more than a killed try that goes on: the task fails, and nothing is sent."""
_MAX_ROUNDS = 100
"""Rounds of a request whose results are there: each clearing that sends it again adds one. The search for a free round
asks S3 for an output and a failure object each time, so it ends after at most 200 requests."""
_NOTHING_THERE = ResultPresence(Presence.ABSENT, Presence.ABSENT)


class InvocationStore:
    """The objects of one folder. Reading takes one listing and a GET for each object, mostly two.

    :param folder: ``s3://bucket/prefix/``, of one request of one task instance
    """

    def __init__(self, s3: S3Objects, folder: str) -> None:
        self._s3 = s3
        self._folder = folder

    async def read(self) -> InvocationState:
        """Read what earlier tries of the task intended, what was accepted, and what was lost.

        :raises InvalidRequest: an object's content is no such state
        :raises ServiceError: S3 refused or did not answer; the role needs ``s3:ListBucket`` and ``s3:GetObject``
        """
        prefix = S3Uri.parse(self._folder, name="state_prefix").key
        names = [key.removeprefix(prefix) for key in await names_below(self._s3, self._folder)]
        bodies = [(name, await self._s3.read_if_any(self._folder + name)) for name in names]
        objects = {name: body for name, body in bodies if body is not None}
        return InvocationState.read(objects, folder=self._folder)

    async def intend(self, intent: Intent) -> bool:
        """Write an intent; False when another process has written that number.

        :raises ServiceError: S3 refused or did not answer: then nothing may be sent
        """
        location, body = self._folder + intent.object_name("intent"), msgspec.json.encode(intent)
        try:
            await self._s3.write(location, body, only_if_new=True)
        except PreconditionFailed:
            return False
        return True

    async def settle(self, intent: Intent, sending: asyncio.Future[AsyncInvocation]) -> None:
        """Write SageMaker's answer, or delete the intent of a refused request; a request without answer stays in doubt.

        Errors of S3 are only logged: a retry can wait for the result that the intent expects.
        """
        if not sending.done() or sending.cancelled():
            return
        error = sending.exception()
        if isinstance(error, AnswerLost) or not isinstance(error, SageMakerInferenceError | None):
            return
        try:
            if error is None:
                body = msgspec.json.encode(sending.result())
                await self._s3.write(self._folder + intent.object_name("accepted"), body, only_if_new=True)
            else:
                await self._s3.delete(self._folder + intent.object_name("intent"))
        except ServiceError as unwritten:
            log.warning(
                "below %s a retry will find a request in doubt that SageMaker %s, which could not be written: %s",
                self._folder,
                "refused" if error else "accepted",
                unwritten,
            )


class _Round(NamedTuple):
    """A round's named request, its predicted locations, and their objects' presence."""

    number: int
    request: AsyncRequest
    expected: AsyncInvocation | None
    presence: ResultPresence


class SingleInvocation:
    """One try at one invocation.

    :param endpoint: described once, and only where a result's location is needed before SageMaker answers with it
    """

    def __init__(
        self, sending: Sending, *, s3: S3Objects, invoker: AsyncInvoker, endpoint: EndpointFacts
    ) -> None:
        self._sending = sending
        self._s3 = s3
        self._invoker = invoker
        self._endpoint = endpoint
        self._input = RequestInput(sending, s3, takes_bodies=invoker.takes_bodies)
        self._nonce: str | None = None
        self._is_killed = asyncio.Event()

    async def submit(self) -> AsyncInvocation:
        """Send the request, or attach to an earlier try's.

        :raises InputNotFound: the input does not exist
        :raises FencedOff: a later try has taken over
        :raises InvalidRequest: its output and its failure object have the same location
        :raises SageMakerInferenceError: as :meth:`AsyncInvoker.invoke`, and errors of S3
        """
        await self._input.poll()
        folder = self._sending.state_folder
        submitting = self._submit_without_state() if folder is None else self._submit_with_state(folder)
        return self._checked(await submitting)

    async def _submit_with_state(self, folder: str) -> AsyncInvocation:
        store, sending = InvocationStore(self._s3, folder), self._sending
        for _ in range(_MAX_RACES):
            state = await store.read()
            latest, etag = state.latest(sending.task_try), self._input.etag
            presence = await self._presence(latest.invocation if latest else None)
            now, next_round = time.time(), state.next_round
            state.check_not_fenced(sending.task_try, presence, now=now)
            step = next_step(
                latest, presence, now=now, resend=sending.resend, input_etag=etag, next_round=next_round
            )
            if isinstance(step, Attach):
                return self._attached(step.invocation, step.why)
            if latest:
                log.info("%s: %s", folder, step.why)
            self._nonce = step.nonce or uuid.uuid4().hex
            round_ = await self._free_round(step.round_number)
            request = await self._input.prepared(round_.request)
            now = time.time()
            lives = seconds_to_live(request.request_ttl, request.invocation_timeout)
            intent = Intent(
                number=state.next_number,
                round_number=round_.number,
                task_try=sending.task_try,
                over_at=now + lives + SLACK_SECONDS,
                input_etag=etag,
                invocation=round_.expected and replace(round_.expected, submitted_at=now),
                nonce=self._nonce,
            )
            if await store.intend(intent):
                return await self._send_intended(store, intent, request)
        raise ServiceUnavailable(
            f"other processes wrote faster to {folder}, {_MAX_RACES} times: nothing is sent; a retry reads it again"
        )

    async def _send_intended(
        self, store: InvocationStore, intent: Intent, request: AsyncRequest
    ) -> AsyncInvocation:
        sending = asyncio.ensure_future(self._send(request))
        try:
            await asyncio.wait({sending})
        except asyncio.CancelledError:
            self._is_killed.set()
            await asyncio.wait({sending}, timeout=_LAST_ANSWER_SECONDS)
            sending.cancel()
            await asyncio.wait({sending})
            raise
        finally:
            await store.settle(intent, sending)
        try:
            return sending.result()
        except AnswerLost as error:
            return self._expected_after(error, intent.invocation)

    async def _submit_without_state(self) -> AsyncInvocation:
        """Send the request, unless an earlier try's output exists under the name that is the same at every try."""
        started, is_repeated = self._sending.task_try.run_started, self._sending.is_repeated
        self._nonce = None if started is None else str(started)
        if not is_repeated:
            self._input.check_exists()
        if is_repeated or started is None or self._sending.request.filename is not None:
            round_ = await self._free_round(0, taking_output=is_repeated)
        else:  # no object has the name, which is this DAG run's own
            round_ = _Round(0, self._named(0), None, _NOTHING_THERE)
        if is_repeated:
            if round_.expected is not None and round_.presence.output is Presence.PRESENT:
                return self._attached(round_.expected, "its output is there")
            log.warning(
                "an earlier try may have sent this to endpoint %s, and its output is not there: sending it again. With "
                "state_prefix an accepted request is not sent a second time",
                self._sending.request.endpoint_name,
            )
        request = await self._input.prepared(round_.request)
        try:
            return await self._send(request)
        except AnswerLost as error:
            return self._expected_after(error, await self._predicted(request))

    # Names and locations

    async def _free_round(self, first: int, *, taking_output: bool = False) -> _Round:
        """Find the first round from *first* on without objects of its name: they would be taken for its result.

        :param taking_output: accept a round whose output exists as well
        :raises InvalidRequest: the name is the user's, and objects of it exist
        """
        for number in range(first, first + _MAX_ROUNDS):
            request = self._named(number)
            expected = await self._predicted(request)
            round_ = _Round(number, request, expected, await self._presence(expected))
            has_output = round_.presence.output is Presence.PRESENT
            if not has_output and round_.presence.failure is not Presence.PRESENT:
                return round_
            if has_output and taking_output:
                return round_
            if self._sending.request.filename is not None and expected is not None:
                self._refuse_taken(expected.output_location if has_output else expected.failure_location)
                return round_
        raise InvalidRequest(f"{_MAX_ROUNDS} results of this request are there already: remove them")

    def _refuse_taken(self, location: str | None) -> None:
        message = (
            f"{location} is there already, from an earlier inference, and would be taken for this one's result: make "
            f"filename or s3_output_path_extension differ by run, leave filename out, or remove the object"
        )
        if self._sending.is_waited_for:
            raise InvalidRequest(message)
        log.warning("%s", message)

    def _named(self, round_number: int) -> AsyncRequest:
        request = self._sending.request
        if request.filename is not None or not self._invoker.names_outputs:
            return request
        arguments, etag = arguments_digest(self._sending.request), self._input.etag
        name = round_filename(
            self._sending.owner, arguments, round_number, input_etag=etag, nonce=self._nonce
        )
        return replace(request, filename=name)

    async def _predicted(self, request: AsyncRequest) -> AsyncInvocation | None:
        return predicted(request, await self._output_paths)

    @cached_property
    def _output_paths(self) -> asyncio.Future[tuple[str, str | None] | None]:
        return asyncio.ensure_future(self._describe_output_paths())

    async def _describe_output_paths(self) -> tuple[str, str | None] | None:
        try:
            return await self._endpoint.output_paths()
        except (ServiceError, EndpointNotFound, EndpointNotAsynchronous) as error:
            log.info("the locations of results cannot be predicted: %s", error)
            return None

    async def _presence(self, invocation: AsyncInvocation | None) -> ResultPresence:
        return _NOTHING_THERE if invocation is None else await presence_of(self._s3, invocation)

    def _checked(self, invocation: AsyncInvocation) -> AsyncInvocation:
        then = "clear this task, which sends it again"
        if self._sending.state_prefix is None:
            then = "clear this task with on_rerun='restart': an object there would be taken for the task's output"
        name = self._sending.request.endpoint_name
        check_apart(invocation.output_location, invocation.failure_location, endpoint_name=name, then=then)
        return invocation

    def _attached(self, invocation: AsyncInvocation, why: str) -> AsyncInvocation:
        log.info(
            "inference %s of endpoint %s is not sent again: %s",
            invocation.inference_id,
            self._sending.request.endpoint_name,
            why,
        )
        return invocation

    def _expected_after(self, error: AnswerLost, expected: AsyncInvocation | None) -> AsyncInvocation:
        """Predict the result of a request whose answer was lost, unless the user has it sent again."""
        if expected is None or self._sending.resend:
            raise error
        log.warning(
            "%s. As on_unknown is 'wait', its result is expected at %s", error, expected.output_location
        )
        return replace(expected, submitted_at=time.time())

    # The call

    async def _send(self, request: AsyncRequest) -> AsyncInvocation:
        """Send the request until it is accepted, at most :data:`ATTEMPTS` times.

        :raises AnswerLost: one of the attempts may have been accepted, whatever the answer to the last was
        """
        lost: AnswerLost | None = None
        attempt = 0
        while True:
            attempt += 1
            try:
                # Checked before it is recorded as accepted: a later try would attach to it.
                return self._checked(await self._invoker.invoke(request))
            except SageMakerInferenceError as error:
                lost = error if isinstance(error, AnswerLost) else lost
                is_over = attempt == ATTEMPTS or self._is_killed.is_set()
                can_pass = self._sending.resend if lost is error else isinstance(error, _NOT_ACCEPTED)
                if is_over or not can_pass or await self._pause(error, attempt):
                    raise lost or error from None

    async def _pause(self, error: SageMakerInferenceError, attempt: int) -> bool:
        """Wait before the next attempt; return True as soon as the task is killed."""
        seconds = pause_after(attempt, jitter=random.random())  # noqa: S311 - jitter
        log.warning("%s; attempt %d, again in %.1f s", error, attempt, seconds)
        try:
            async with asyncio.timeout(seconds):
                return await self._is_killed.wait()
        except TimeoutError:
            return False


async def record_loss(
    connection: AwsConnection, folder: str, task_try: TaskTry, *, options: ObjectOptions = PLAIN
) -> None:
    """Mark the latest round as lost with its endpoint, so that the next run sends a new one.

    :raises FencedOff: a later try has taken over
    """
    async with S3Objects.open(connection, options=options) as s3:
        try:
            state = await InvocationStore(s3, folder).read()
            state.check_not_fenced(task_try)
            latest = state.latest(task_try)
            if latest is None or latest.lost:
                return
            body = msgspec.json.encode({"why": "the endpoint was deleted", "task_try": task_try})
            await s3.write(folder + latest.intent.object_name("lost"), body)
        except ServiceError as error:
            log.warning(
                "the endpoint is gone, which could not be written below %s: a run before the inference's time to live "
                "is over waits for it again, unless it is cleared with on_rerun='restart': %s",
                folder,
                error,
            )
