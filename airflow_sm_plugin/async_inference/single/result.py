"""The result of one asynchronous invocation after the wait: read from S3 alone, not from notifications."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.single.state import ResultPresence
from airflow_sm_plugin.async_inference.watch_state import ResultOutcome
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import AsyncInferenceFailed, AsyncInferenceTimedOut, ServiceUnavailable
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

log = get_log(__name__)

MAX_POLLS = 5
"""Polls of an object while S3 does not answer."""

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, repr=False)
class AsyncResult:
    """Both objects of an invocation. It has no repr: outputs and failure texts may be secrets.

    :param presence: of both objects; the output is UNKNOWN where S3 did not answer
    :param output: the output's first bytes, one more than the limit when it is larger; None when it is not wanted
    """

    invocation: AsyncInvocation
    presence: ResultPresence
    output: bytes | None = None
    failure_text: str = ""

    @property
    def outcome(self) -> ResultOutcome:
        """Judge the objects at the end of the wait: an output wins over a failure object."""
        if self.presence.output is Presence.PRESENT:
            return ResultOutcome.SUCCEEDED
        is_failed = self.presence.failure is Presence.PRESENT
        return ResultOutcome.FAILED if is_failed else ResultOutcome.TIMED_OUT

    def output_text(self, limit: int) -> str | None:
        """Decode the output; None when it is no UTF-8, larger than *limit* bytes, or was not wanted."""
        if self.output is None:
            return None
        try:
            # NUL: no database stores it in a text.
            if len(self.output) <= limit and b"\x00" not in self.output:
                return self.output.decode()
        except UnicodeDecodeError:
            pass
        log.warning(
            "the output is no UTF-8 text or larger than return_output_limit (%d bytes), or holds NUL, so it is not on "
            "XCom: read %s",
            limit,
            self.invocation.output_location,
        )
        return None

    def failed(self, endpoint_name: str) -> AsyncInferenceFailed:
        invocation = self.invocation
        return AsyncInferenceFailed(
            f"inference {invocation.inference_id} of endpoint {endpoint_name} failed; input "
            f"{invocation.input_location or 'inline'}, failure object {invocation.failure_location}",
            reason=self.failure_text,
            do="correct the input, its content_type or the model, as the reason requires; then clear the task, which "
            "sends it again",
        )


async def result_of(
    connection: AwsConnection,
    invocation: AsyncInvocation,
    *,
    output_limit: int | None,
    failure_text_limit: int,
) -> AsyncResult:
    """Read the result of an invocation whose wait is over.

    :param output_limit: bytes of the output that are wanted; None reads none
    :param failure_text_limit: bytes of the failure object that are shown; 0 shows none
    :raises ServiceError: the output exists and could not be read
    """
    async with S3Objects.open(connection) as s3:
        presence = await poll_until_known(lambda: presence_of(s3, invocation), _is_known)
        result = AsyncResult(invocation=invocation, presence=presence)
        if result.outcome is ResultOutcome.SUCCEEDED and output_limit is not None:
            body = await s3.read(invocation.output_location, first_bytes=output_limit + 1)
            return replace(result, output=body)
        if result.outcome is ResultOutcome.FAILED:
            watcher = ResultWatcher(s3)
            text = await watcher.failure_text(invocation.failure_location, limit=failure_text_limit)
            return replace(result, failure_text=text)
        return result


async def presence_of(s3: S3Objects, invocation: AsyncInvocation) -> ResultPresence:
    """Ask S3 once for both objects of an invocation, for the failure object only where there is no output."""
    output, failure = await s3.presence(invocation.output_location), Presence.ABSENT
    if output is not Presence.PRESENT and invocation.failure_location:
        failure = await s3.presence(invocation.failure_location)
    return ResultPresence(output, failure)


def _is_known(presence: ResultPresence) -> bool:
    both = (presence.output, presence.failure)
    return Presence.PRESENT in both or Presence.UNKNOWN not in both


async def poll_until_known(poll: Callable[[], Awaitable[_T]], is_known: Callable[[_T], bool]) -> _T:
    """Poll until S3 gives an answer, at most :data:`MAX_POLLS` times, with jittered pauses."""
    for attempt in range(1, MAX_POLLS):
        if is_known(answer := await poll()):
            return answer
        await asyncio.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return await poll()


async def missing(
    connection: AwsConnection,
    result: AsyncResult,
    endpoint_name: str,
    *,
    waited: float,
    lives: float,
    cause: str = "",
) -> AsyncInferenceTimedOut | ServiceUnavailable:
    """Make the error of an inference that has neither output nor failure object.

    HEADs do not distinguish a missing object from a missing bucket, so each location is listed once.

    :param waited: seconds
    :param lives: RequestTTL + InvocationTimeout, in seconds
    :param cause: of the last poll that failed, where it is known
    """
    invocation, presence = result.invocation, result.presence
    inference = f"inference {invocation.inference_id} of endpoint {endpoint_name}"
    if presence.output is Presence.UNKNOWN:
        if not cause:
            async with S3Objects.open(connection) as s3:
                cause = await ResultWatcher(s3).trouble_at(invocation.output_location)
        return ServiceUnavailable(
            f"S3 does not answer whether the output of {inference}, {invocation.output_location}, exists",
            reason=cause or "it answers again now",
            do="retry, which polls again: the inference goes on in SageMaker",
        )
    reasons = []
    if Presence.FORBIDDEN in (presence.output, presence.failure):
        reasons.append("S3 answered 403: the role may lack s3:GetObject and s3:ListBucket there.")
    async with S3Objects.open(connection) as s3:
        locations = filter(None, (invocation.output_location, invocation.failure_location))
        troubles = [await ResultWatcher(s3).trouble_at(location) for location in locations]
    if trouble := "; ".join(dict.fromkeys(filter(None, troubles))):
        reasons.append(f"S3 answers there: {trouble}.")
    remedy = "raise max_wait_seconds where a queue or a cold endpoint takes longer"
    if waited < lives:
        remedy = (
            f"raise max_wait_seconds, or clear the task later: it may still come up to {lives:g} s after it was sent. "
            f"max_wait_seconds counts from then, so a retry that does not send it again ends at once"
        )
    return AsyncInferenceTimedOut(
        f"{inference} had neither output nor failure object {waited:g} s after it was sent; its output is expected at "
        f"{invocation.output_location}",
        reason=" ".join(reasons),
        do=f"{remedy}; without a failure path a failed one shows no more than this",
    )
