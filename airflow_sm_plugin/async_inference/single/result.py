"""What became of one asynchronous invocation, once the wait for it is over: S3 is the truth, whatever was told."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, replace

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.outcome import Look, Outcome, outcome
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

LOOKS = 5
"""At most, while S3 gives no answer."""


@dataclass(frozen=True, kw_only=True, repr=False)
class AsyncResult:
    """What was found. It has no repr: outputs and failure texts may be secrets.

    :param look: at both objects; an UNKNOWN output is one that S3 did not tell of
    :param output: the output's first bytes, one more than asked for when it is larger; None when it is not wanted
    :param failure_text: how the failure object begins; empty when there is none
    """

    invocation: AsyncInvocation
    look: Look
    output: bytes | None = None
    failure_text: str = ""

    @property
    def outcome(self) -> Outcome:
        """Say what became of it: the wait is over, so what is neither there nor failed has timed out."""
        return outcome(self.look, now=1.0, deadline=0.0)

    def output_text(self, limit: int) -> str | None:
        """Return the output as text; None when it is no UTF-8, larger than ``limit`` bytes, or was not wanted."""
        if self.output is None:
            return None
        try:
            # NUL: no database stores it in a text.
            fits = len(self.output) <= limit and b"\x00" not in self.output
            text = self.output.decode() if fits else None
        except UnicodeDecodeError:
            text = None
        if text is None:
            log.warning(
                "the output is no UTF-8 text or larger than return_output_limit (%d bytes), or holds NUL, so it is not "
                "on XCom: read %s",
                limit,
                self.invocation.output_location,
            )
        return text

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
        invocation = self.invocation
        what = f"inference {invocation.inference_id} of endpoint {endpoint_name}"
        if self.look.output is Presence.UNKNOWN:
            return ServiceUnavailable(
                f"S3 does not tell whether the output of {what}, {invocation.output_location}, is there. It goes on in "
                f"SageMaker; a retry looks again"
            )
        if trouble:
            trouble = f" S3 says of that place: {trouble}."
        forbidden = Presence.FORBIDDEN in (self.look.output, self.look.failure)
        why = " S3 answered 403: the role may lack s3:GetObject and s3:ListBucket there." if forbidden else ""
        return AsyncInferenceTimedOut(
            f"{what} had neither output nor failure object {waited:g} s after it was sent; its output is expected at "
            f"{invocation.output_location}.{why}{trouble} {_remedy(waited, lives)}; without a failure path a failed "
            f"one looks like this too"
        )


def _remedy(waited: float, lives: float) -> str:
    if waited >= lives:
        return "Raise max_wait_seconds where a queue or a cold endpoint takes longer"
    return (
        f"It may still come up to {lives:g} s after it was sent. max_wait_seconds counts from then, so a retry that "
        f"does not send it again ends at once: raise max_wait_seconds, or clear the task later"
    )


async def why_missing(connection: AwsConnection, invocation: AsyncInvocation) -> str:
    """Ask once, with a listing, whether results can be there at all; empty when nothing speaks against it.

    An object that is missing, and one in a bucket that does not exist, look the same otherwise.
    """
    async with S3Objects.open(connection) as s3:
        watcher = ResultWatcher(s3)
        said = [await watcher.trouble_at(invocation.output_location)]
        if invocation.failure_location is not None:
            said.append(await watcher.trouble_at(invocation.failure_location))
    return "; ".join(dict.fromkeys(one for one in said if one))


async def result_of(
    connection: AwsConnection,
    invocation: AsyncInvocation,
    *,
    output_limit: int | None,
    failure_text_limit: int,
) -> AsyncResult:
    """Look at an invocation whose wait is over.

    :param output_limit: how many bytes of an output are wanted; None reads none
    :param failure_text_limit: how many bytes of a failure object are shown; 0 shows none
    :raises ServiceError: the output is there and could not be read
    """
    async with S3Objects.open(connection) as s3:
        found = AsyncResult(invocation=invocation, look=await _look(s3, invocation))
        if found.outcome is Outcome.SUCCEEDED and output_limit is not None:
            body = await s3.read(invocation.output_location, first_bytes=output_limit + 1)
            return replace(found, output=body)
        if found.outcome is Outcome.FAILED:
            watcher = ResultWatcher(s3)
            text = await watcher.failure_text(invocation.failure_location, limit=failure_text_limit)
            return replace(found, failure_text=text)
        return found


async def _look(s3: S3Objects, invocation: AsyncInvocation) -> Look:
    """Look until S3 tells of both objects, a few times."""
    output, failure = Presence.UNKNOWN, Presence.ABSENT
    for attempt in range(1, LOOKS + 1):
        output = await s3.sight(invocation.output_location)
        if output is not Presence.PRESENT and invocation.failure_location:
            failure = await s3.sight(invocation.failure_location)
        if Presence.PRESENT in (output, failure) or Presence.UNKNOWN not in (output, failure):
            break
        if attempt < LOOKS:
            await asyncio.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return Look(output, failure)
