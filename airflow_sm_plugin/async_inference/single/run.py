"""Send one asynchronous invocation, looking first at what earlier tries of the same task instance left behind."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.invoker import AsyncInvoker
from airflow_sm_plugin.async_inference.locations import check_apart
from airflow_sm_plugin.async_inference.outcome import Look
from airflow_sm_plugin.async_inference.single.input import RequestInput, Sending
from airflow_sm_plugin.async_inference.single.state import (
    Attach,
    Identity,
    Intent,
    OnUnknown,
    arguments_digest,
    next_step,
    predicted,
    seconds_to_live,
)
from airflow_sm_plugin.async_inference.single.store import InvocationStore
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import (
    AnswerLost,
    CredentialsExpired,
    InvalidRequest,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.invoke.async_request import AsyncInvocation, AsyncRequest

log = get_log(__name__)

ATTEMPTS = 5
"""Calls in all while SageMaker does not accept."""

_LAST_ANSWER_SECONDS = 2.0
"""How long a killed task waits for an answer that is on its way."""

_MOST_RACES = 5
_MOST_ROUNDS = 100
_NOWHERE = Look(Presence.ABSENT, Presence.ABSENT)


@dataclass(frozen=True)
class _Round:
    """A round under its own name, and where its result would be, as far as that can be told."""

    number: int
    request: AsyncRequest
    expected: AsyncInvocation | None
    look: Look


class SingleInvocation:
    """One try at one invocation.

    :param output_config: asks for the endpoint's ``AsyncInferenceConfig.OutputConfig``; None where it is not known.
        Called in a thread, once, and only where a result's place must be told before SageMaker tells it
    """

    def __init__(
        self,
        sending: Sending,
        *,
        s3: S3Objects,
        invoker: AsyncInvoker,
        output_config: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self._sending = sending
        self._s3 = s3
        self._invoker = invoker
        self._ask_for_config = output_config
        self._config: Mapping[str, Any] | None = None
        self._asked = False
        self._identity = Identity(sending.owner, arguments_digest(sending.request))
        self._input = RequestInput(sending, s3)
        self._nonce: str | None = None
        self._is_killed = asyncio.Event()

    async def submit(self) -> AsyncInvocation:
        """Send, or find that it was sent before; return the invocation.

        :raises InputNotFound: the input does not exist
        :raises FencedOff: a later try has taken over
        :raises InvalidRequest: its output and its failure object have one place
        :raises SageMakerInferenceError: as :meth:`AsyncInvoker.invoke`, and what S3 refuses
        """
        await self._input.look()
        if self._sending.state_prefix is not None:
            folder = self._identity.folder(self._sending.state_prefix)
            return self._apart(await self._submit_remembered(folder))
        return self._apart(await self._submit_unremembered())

    def _apart(self, invocation: AsyncInvocation) -> AsyncInvocation:
        then = "clear this task, which sends it again"
        if self._sending.state_prefix is None:
            then = "clear this task with on_rerun='restart': what lies there would be taken for its output"
        name = self._sending.request.endpoint_name
        check_apart(invocation.output_location, invocation.failure_location, endpoint_name=name, then=then)
        return invocation

    async def _submit_remembered(self, folder: str) -> AsyncInvocation:
        store = InvocationStore(self._s3, folder)
        for _ in range(_MOST_RACES):
            state = await store.read()
            known = state.latest(self._sending.task_try)
            look = await self._look_at(known.invocation if known else None)
            state.check_not_fenced(self._sending.task_try, look, now=time.time())
            step = next_step(
                known,
                look,
                now=time.time(),
                on_unknown=self._sending.on_unknown,
                input_etag=self._input.etag,
                next_round=state.next_round,
            )
            if isinstance(step, Attach):
                return self._attached(step)
            if known:
                log.info("%s: %s", folder, step.why)
            is_again = known is not None and known.intent.round_number == step.round_number
            self._nonce = known.intent.nonce if known and is_again else uuid.uuid4().hex
            round_ = await self._free_round(step.round_number)
            request = await self._input.prepared(round_.request)
            intent = Intent(
                number=state.next_number,
                round_number=round_.number,
                task_try=self._sending.task_try,
                at=time.time(),
                seconds_to_live=seconds_to_live(request.request_ttl, request.invocation_timeout),
                input_etag=self._input.etag,
                invocation=round_.expected,
                nonce=self._nonce,
            )
            if await store.intend(intent):
                return await self._send_intended(store, intent, request)
        raise ServiceUnavailable(
            f"other processes wrote faster to {folder}, {_MOST_RACES} times: nothing is sent; a retry looks again"
        )

    async def _send_intended(
        self, store: InvocationStore, intent: Intent, request: AsyncRequest
    ) -> AsyncInvocation:
        sending = asyncio.ensure_future(self._send(request))
        try:
            invocation = await asyncio.shield(sending)
        except AnswerLost as error:
            return self._expected_after(error, intent.invocation)
        except SageMakerInferenceError:
            await store.withdraw(intent)
            raise
        except asyncio.CancelledError:
            await self._end_killed(sending, store, intent)
            raise
        await store.record(intent, invocation)
        return invocation

    async def _end_killed(
        self, sending: asyncio.Future[AsyncInvocation], store: InvocationStore, intent: Intent
    ) -> None:
        """Send no more, and write down what is known: only what is on its way without an answer stays in doubt."""
        self._is_killed.set()
        await asyncio.wait({sending}, timeout=_LAST_ANSWER_SECONDS)
        if not sending.done():
            sending.cancel()
            await asyncio.wait({sending})
        elif (error := sending.exception()) is None:
            await store.record(intent, sending.result())
        elif not isinstance(error, AnswerLost):
            await store.withdraw(intent)

    async def _submit_unremembered(self) -> AsyncInvocation:
        """Without state only a name can tell: a later try looks whether the result is there, and else sends again."""
        started = self._sending.task_try.run_started
        self._nonce = None if started is None else str(started)
        is_its_own = started is not None and self._sending.request.filename is None
        round_ = _Round(0, self._named(0), None, _NOWHERE)
        if not self._sending.is_repeated:
            self._input.check_there()
        if self._sending.is_repeated or not is_its_own:
            round_ = await self._free_round(0, taking_output=self._sending.is_repeated)
        if (
            round_.expected is not None
            and round_.look.output is Presence.PRESENT
            and self._sending.is_repeated
        ):
            return self._attached(Attach(round_.expected, "its output is there"))
        if self._sending.is_repeated:
            log.warning(
                "an earlier try may have sent this to endpoint %s, and no output of it is to be seen: sending it "
                "again. With state_prefix what was accepted is not sent a second time",
                self._sending.request.endpoint_name,
            )
        request = await self._input.prepared(round_.request)
        try:
            return await self._send(request)
        except AnswerLost as error:
            return self._expected_after(error, predicted(request, await self._output_config()))

    async def _free_round(self, first: int, *, taking_output: bool = False) -> _Round:
        """Return the first round from ``first`` on whose name nothing bears: its objects would be taken for results.

        :param taking_output: stop as well at a round whose output is there
        :raises InvalidRequest: the name is the user's, and is taken
        """
        for number in range(first, first + _MOST_ROUNDS):
            request = self._named(number)
            expected = predicted(request, await self._output_config())
            look = await self._look_at(expected)
            round_ = _Round(number, request, expected, look)
            if Presence.PRESENT not in (look.output, look.failure):
                return round_
            if taking_output and look.output is Presence.PRESENT:
                return round_
            if self._sending.request.filename is not None and expected is not None:
                self._refuse_taken(expected, look)
                return round_
        raise InvalidRequest(f"{_MOST_ROUNDS} results of this request are there already: remove them")

    def _refuse_taken(self, expected: AsyncInvocation, look: Look) -> None:
        there = (
            expected.output_location if look.output is Presence.PRESENT else str(expected.failure_location)
        )
        said = (
            f"{there} is there already, from an earlier inference, and would be taken for this one's result: make "
            f"filename or s3_output_path_extension differ by run, leave filename out, or remove the object"
        )
        if self._sending.is_waited_for:
            raise InvalidRequest(said)
        log.warning("%s", said)

    def _named(self, round_number: int) -> AsyncRequest:
        request = self._sending.request
        if request.filename is not None or not self._invoker.names_outputs:
            return request
        etag = self._input.etag
        name = self._identity.filename(round_number, input_etag=etag, nonce=self._nonce)
        return replace(request, filename=name)

    def _attached(self, step: Attach) -> AsyncInvocation:
        log.info(
            "inference %s of endpoint %s is not sent again: %s",
            step.invocation.inference_id,
            self._sending.request.endpoint_name,
            step.why,
        )
        return step.invocation

    def _expected_after(self, error: AnswerLost, expected: AsyncInvocation | None) -> AsyncInvocation:
        """Return where the result of a request will be whose answer was lost, if that is what the user wants."""
        if expected is None or self._sending.on_unknown is not OnUnknown.WAIT:
            raise error
        log.warning(
            "%s. As on_unknown is 'wait', its result is expected at %s", error, expected.output_location
        )
        return replace(expected, submitted_at=time.time())

    async def _send(self, request: AsyncRequest) -> AsyncInvocation:
        """Send until it is accepted, a few times.

        :raises AnswerLost: any of the attempts may have been accepted, whatever the last one said
        """
        lost: AnswerLost | None = None
        for attempt in range(1, ATTEMPTS + 1):
            try:
                # Before it is written down as accepted: a state that holds it would stand in a later try's way.
                return self._apart(await self._invoke(request))
            except SageMakerInferenceError as error:
                lost = error if isinstance(error, AnswerLost) else lost
                if attempt == ATTEMPTS or not self._may_repeat(error):
                    raise lost or error from error.__cause__
                seconds = pause_after(attempt, jitter=random.random())  # noqa: S311 - jitter
                log.warning("%s; attempt %d, again in %.1f s", error, attempt, seconds)
                if await self._is_killed_within(seconds):
                    raise lost or error from error.__cause__
        raise InvalidRequest("no attempt is allowed")

    async def _is_killed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._is_killed.wait()
        except TimeoutError:
            return False

    async def _invoke(self, request: AsyncRequest) -> AsyncInvocation:
        try:
            return await self._invoker.invoke(request)
        except InvalidRequest:
            if request.body is None or self._sending.upload_prefix is None:
                raise
        # Every limit was checked before: the call goes through a botocore that is older than inline bodies.
        return await self._invoker.invoke(await self._input.uploaded(request))

    def _may_repeat(self, error: SageMakerInferenceError) -> bool:
        if self._is_killed.is_set():
            return False
        if isinstance(error, AnswerLost):
            return self._sending.on_unknown is OnUnknown.RESEND
        return isinstance(error, CredentialsExpired | Throttled | ServiceUnavailable)

    async def _look_at(self, invocation: AsyncInvocation | None) -> Look:
        if invocation is None:
            return _NOWHERE
        output = await self._s3.sight(invocation.output_location)
        if output is Presence.PRESENT or invocation.failure_location is None:
            return Look(output, Presence.ABSENT)
        return Look(output, await self._s3.sight(invocation.failure_location))

    async def _output_config(self) -> Mapping[str, Any] | None:
        if not self._asked:
            self._config = await asyncio.to_thread(self._ask_for_config)
            self._asked = True
        return self._config
