"""The result of one asynchronous invocation, once the wait for it is over: only S3 counts, not notifications."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.outcome import ResultOutcome, ResultPresence, outcome
from airflow_sm_plugin.async_inference.watcher import ResultWatcher
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.s3 import Presence
from airflow_sm_plugin.exceptions import (
    AsyncInferenceFailed,
    AsyncInferenceTimedOut,
    ServiceUnavailable,
)
from airflow_sm_plugin.invoke.async_request import AsyncInvocation

log = get_log(__name__)

MAX_POLLS = 5
"""Of a result whose wait is over, while S3 does not answer."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AsyncResult:
    """Both objects of an invocation, as S3 has them. It has no repr: outputs and failure texts may be secrets.

    :param look: at both objects; the output is UNKNOWN where S3 did not answer
    :param output: the output's first bytes, one more than asked for when it is larger; None when it is not wanted
    :param failure_text: how the failure object begins; empty when there is none
    """

    invocation: AsyncInvocation
    look: ResultPresence
    output: bytes | None = None
    failure_text: str = ""

    @property
    def outcome(self) -> ResultOutcome:
        """The wait is over, so what is neither there nor failed has timed out."""
        return outcome(self.look, now=1.0, deadline=0.0)

    def output_text(self, limit: int) -> str | None:
        """Return the output as text; None when it is no UTF-8, larger than ``limit`` bytes, or was not wanted."""
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
        """Return the error of an inference that failed."""
        invocation = self.invocation
        return AsyncInferenceFailed(
            f"inference {invocation.inference_id} of endpoint {endpoint_name} failed: {self.failure_text} (input "
            f"{invocation.input_location or 'inline'}, failure object {invocation.failure_location}). Clear the task "
            f"to send the input again"
        )

    def missing(
        self, endpoint_name: str, *, waited: float, lives: float, trouble: str
    ) -> AsyncInferenceTimedOut | ServiceUnavailable:
        """Return the error of an inference of which there is neither output nor failure object.

        :param waited: seconds
        :param lives: RequestTTL + InvocationTimeout, in seconds
        :param trouble: :func:`why_missing`
        """
        output_location = self.invocation.output_location
        inference = f"inference {self.invocation.inference_id} of endpoint {endpoint_name}"
        if self.look.output is Presence.UNKNOWN:
            return ServiceUnavailable(
                f"S3 does not tell whether the output of {inference}, {output_location}, is there. It goes on in "
                f"SageMaker; a retry looks again"
            )
        forbidden = Presence.FORBIDDEN in (self.look.output, self.look.failure)
        why = " S3 answered 403: the role may lack s3:GetObject and s3:ListBucket there." if forbidden else ""
        if trouble:
            why += f" S3 says of that place: {trouble}."
        remedy = "Raise max_wait_seconds where a queue or a cold endpoint takes longer"
        if waited < lives:
            remedy = (
                f"It may still come up to {lives:g} s after it was sent. max_wait_seconds counts from then, so a retry "
                f"that does not send it again ends at once: raise max_wait_seconds, or clear the task later"
            )
        return AsyncInferenceTimedOut(
            f"{inference} had neither output nor failure object {waited:g} s after it was sent; its output is expected "
            f"at {output_location}.{why} {remedy}; without a failure path a failed one looks like this too"
        )


async def why_missing(connection: AwsConnection, invocation: AsyncInvocation) -> str:
    """Ask once, with a listing, whether results can be there at all; empty when nothing speaks against it.

    An object that is missing, and one in a bucket that does not exist, look the same otherwise.
    """
    async with S3Objects.open(connection) as s3:
        watcher = ResultWatcher(s3)
        locations = filter(None, (invocation.output_location, invocation.failure_location))
        troubles = [await watcher.trouble_at(location) for location in locations]
    return "; ".join(dict.fromkeys(filter(None, troubles)))


async def result_of(
    connection: AwsConnection,
    invocation: AsyncInvocation,
    *,
    output_limit: int | None,
    failure_text_limit: int,
) -> AsyncResult:
    """Read the result of an invocation whose wait is over.

    :param output_limit: how many bytes of an output are wanted; None reads none
    :param failure_text_limit: how many bytes of a failure object are shown; 0 shows none
    :raises ServiceError: the output is there and could not be read
    """
    async with S3Objects.open(connection) as s3:
        result = AsyncResult(invocation=invocation, look=await look_at(s3, invocation, polls=MAX_POLLS))
        if result.outcome is ResultOutcome.SUCCEEDED and output_limit is not None:
            body = await s3.read(invocation.output_location, first_bytes=output_limit + 1)
            return replace(result, output=body)
        if result.outcome is ResultOutcome.FAILED:
            watcher = ResultWatcher(s3)
            text = await watcher.failure_text(invocation.failure_location, limit=failure_text_limit)
            return replace(result, failure_text=text)
        return result


async def look_at(s3: S3Objects, invocation: AsyncInvocation, *, polls: int = 1) -> ResultPresence:
    """Ask S3 for both objects of an invocation, for the failure object only where there is no output.

    :param polls: how often at most, while S3 does not answer
    """
    output, failure = Presence.UNKNOWN, Presence.ABSENT
    for attempt in range(1, polls + 1):
        output = await s3.sight(invocation.output_location)
        if output is not Presence.PRESENT and invocation.failure_location:
            failure = await s3.sight(invocation.failure_location)
        if Presence.PRESENT in (output, failure) or Presence.UNKNOWN not in (output, failure):
            break
        if attempt < polls:
            await asyncio.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return ResultPresence(output, failure)
