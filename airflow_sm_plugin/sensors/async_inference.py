"""Await the results of asynchronous inference."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import (
    AirflowFailException,
    AirflowSkipException,
    Context,
    PokeReturnValue,
    default_deferrable,
    first_reschedule_date,
)
from airflow_sm_plugin.base import SageMakerInferenceSensor, broken_wait, failing_well
from airflow_sm_plugin.core.async_inference import (
    DEFAULT_INVOCATION_TIMEOUT,
    DEFAULT_REQUEST_TTL,
    AsyncInvocation,
)
from airflow_sm_plugin.core.async_wait import AsyncWait, deadlines_of, read_invocations
from airflow_sm_plugin.exceptions import (
    AsyncInferenceFailed,
    AsyncInferenceTimedOut,
    InvalidRequest,
    SageMakerInferenceError,
    ServiceError,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.result_store import ResultStoreHook

_SHOWN_FAILURES = 5
_GRACE_SECONDS = 120


class SageMakerAsyncInferenceSensor(SageMakerInferenceSensor):
    """Wait for the output *or* the failure object of one or many asynchronous invocations, whichever comes first.

    403 (S3's answer for a missing key without ``s3:ListBucket``) and 503 are no verdicts: the sensor looks again. A
    failure object fails the task with its text, which a retry would only find again, so none is spent on it.

    Returns on XCom: the output location, or the list of them in the order of the invocations when a list was given.

    :param invocations: what :class:`SageMakerInvokeEndpointAsyncOperator` returned, or a list of it (the XCom of a
        mapped invoke) (templated)
    :param output_location: instead of ``invocations``: where the output will be (templated)
    :param failure_location: with ``output_location``: where a failure object would be; without it a failed invocation
        is only told by the deadline (templated)
    :param timeout: seconds (or a timedelta) after which no result is expected, counted from submission where it is
        known, else from the first look; default RequestTTL + InvocationTimeout, which is 22,500
    :param poke_interval: seconds (or a timedelta) between looks; default 30
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``
    :param failure_text_limit: how many bytes of a failure object an error shows; default 1000, 0 shows none
    :param soft_fail: skip instead of failing when an inference failed, the deadline passed, or no retry can help;
        an outage of S3 still fails the task, which then is retried. The same in every mode. Default False
    :param never_fail: skip instead of failing, whatever happened; default False
    :raises AsyncInferenceFailed: a failure object was found; not retried
    :raises AsyncInferenceTimedOut: neither object came in time; retried
    :raises ServiceUnavailable: S3 did not answer for many looks in a row; retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceSensor.template_fields,
        "invocations",
        "output_location",
        "failure_location",
    )

    def __init__(
        self,
        *,
        invocations: Any = None,  # noqa: ANN401 - a mapping, a list of them, or a template of either
        output_location: str | None = None,
        failure_location: str | None = None,
        timeout: float | timedelta = DEFAULT_REQUEST_TTL + DEFAULT_INVOCATION_TIMEOUT,
        poke_interval: float | timedelta = 30,
        deferrable: bool | None = None,
        failure_text_limit: int = 1_000,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own sensor arguments
    ) -> None:
        seconds, pause = _seconds(timeout), _seconds(poke_interval)
        # Airflow's own clock is only the safety net: it would end the task with a poorer text and without a retry.
        super().__init__(timeout=seconds + 2 * pause + _GRACE_SECONDS, poke_interval=pause, **kwargs)
        self.result_timeout = seconds
        self.invocations = invocations
        self.output_location = output_location
        self.failure_location = failure_location
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.failure_text_limit = failure_text_limit
        self._first_look: float | None = None
        self._wait: AsyncWait | None = None
        self._store: ResultStoreHook | None = None

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as Airflow's base spells it
        """Poke, or look once and defer."""
        if not self.deferrable:
            return super().execute(context)
        with self._failing_softly():
            done = self._look(context)
            if done is not None:
                return done
            self._defer(context)
        return None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once at everything that is still pending."""
        with self._failing_softly():
            done = self._look(context)
            return PokeReturnValue(is_done=done is not None, xcom_value=done)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401 - a location or a list
        """Judge what the trigger saw."""
        with self._failing_softly():
            if event["status"] == "error":
                raise broken_wait("waiting for asynchronous inference", event)
            return self._conclude(AsyncWait.from_event(event), self._read())

    def _read(self) -> tuple[AsyncInvocation, ...]:
        if self.result_timeout <= 0:
            raise InvalidRequest(f"timeout must be more than 0 seconds, not {self.result_timeout:g}")
        if (self.invocations is None) == (self.output_location is None):
            raise InvalidRequest("give either invocations (what an invoke task returned) or output_location")
        if self.invocations is not None:
            return read_invocations(self.invocations)
        return read_invocations(
            {"output_location": self.output_location, "failure_location": self.failure_location}
        )

    def _first_look_at(self, context: Context) -> float:
        if self._first_look is None:
            before = (
                first_reschedule_date(context, retries=self.retries or 0)
                if self.mode == "reschedule"
                else None
            )
            self._first_look = before.timestamp() if before else time.time()
        return self._first_look

    def _look(self, context: Context) -> Any:  # noqa: ANN401 - a location, a list, or None for not yet
        invocations, store = self._read(), self._results()
        now, first_look = time.time(), self._first_look_at(context)
        wait = self._wait or AsyncWait.begin(len(invocations))
        looks = {number: store.look(invocations[number]) for number in wait.pending}
        deadlines = deadlines_of(invocations, first_look=first_look, seconds=self.result_timeout)
        self._wait = wait.after(looks, now=now, deadlines=deadlines)
        self.log.debug("%d of %d invocations pending", len(self._wait.pending), len(invocations))
        if self._wait.blind_looks:
            self.log.warning("S3 gave no useful answer at %d looks in a row", self._wait.blind_looks)
        if self._wait.forbidden and not wait.forbidden:
            self.log.warning(
                "S3 answers 403 for %s or its failure object: not there yet and the role lacks s3:ListBucket, or the "
                "role may not read it",
                invocations[self._wait.forbidden[0]].output_location,
            )
        return self._conclude(self._wait, invocations) if self._wait.over else None

    def _defer(self, context: Context) -> None:
        from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger
        from airflow_sm_plugin.triggers.polling import GRACE_SECONDS

        invocations, first_look = self._read(), self._first_look_at(context)
        deadline = max(deadlines_of(invocations, first_look=first_look, seconds=self.result_timeout))
        self.defer(
            trigger=AsyncInferenceTrigger(
                invocations=[invocation.as_mapping() for invocation in invocations],
                first_look=first_look,
                seconds=self.result_timeout,
                deadline=deadline,
                poll_interval=self.poke_interval,
                aws=self.aws.as_mapping(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + GRACE_SECONDS),
        )

    def _results(self) -> ResultStoreHook:
        """Return the one hook of all looks: a new one would cost 0.3 s, and an AssumeRole, at each."""
        self._store = self._store or self.result_store()
        return self._store

    def _conclude(self, wait: AsyncWait, invocations: Sequence[AsyncInvocation]) -> str | list[str]:
        if wait.failed:
            raise AsyncInferenceFailed(self._failures(wait, invocations))
        if wait.timed_out:
            raise AsyncInferenceTimedOut(self._time_out(wait, invocations))
        if wait.pending:
            reason = self._results().why_blind(invocations[wait.pending[0]].output_location)
            raise ServiceUnavailable(
                f"S3 gave no useful answer at {wait.blind_looks} looks in a row; {len(wait.pending)} invocations are "
                f"pending. They go on in SageMaker; a retry looks again. {reason}"
            )
        outputs = [invocation.output_location for invocation in invocations]
        self.log.info("%d asynchronous results are there", len(outputs))
        one = self.invocations is None or isinstance(self.invocations, Mapping)
        return outputs[0] if one else outputs

    def _failures(self, wait: AsyncWait, invocations: Sequence[AsyncInvocation]) -> str:
        lines = [f"{len(wait.failed)} of {len(invocations)} asynchronous inferences failed."]
        for number in wait.failed[:_SHOWN_FAILURES]:
            invocation = invocations[number]
            text = self._failure_text(invocation)
            what = invocation.input_location or f"inference {invocation.inference_id or number}"
            lines.append(f"{what}: {text} (failure object {invocation.failure_location})")
        if len(wait.failed) > _SHOWN_FAILURES:
            lines.append(f"and {len(wait.failed) - _SHOWN_FAILURES} more")
        return "\n".join(lines)

    def _failure_text(self, invocation: AsyncInvocation) -> str:
        if not self.failure_text_limit or invocation.failure_location is None:
            return "see its failure object"
        try:
            text = self._results().read_start(invocation.failure_location, self.failure_text_limit + 1)
        except ServiceError as error:
            return f"its failure object could not be read: {error}"
        shown = text.encode()[: self.failure_text_limit].decode(errors="ignore")
        return text if shown == text else f"{shown}…"

    def _time_out(self, wait: AsyncWait, invocations: Sequence[AsyncInvocation]) -> str:
        first = invocations[wait.timed_out[0]]
        why = ""
        if wait.blind_looks:
            why = f" S3 gave no useful answer at the end: {self._results().why_blind(first.output_location)}."
        elif wait.timed_out[0] in wait.forbidden:
            why = " S3 answered 403 to the end: the role may lack s3:GetObject and s3:ListBucket there."
        return (
            f"{len(wait.timed_out)} of {len(invocations)} asynchronous inferences had neither output nor failure "
            f"object after {self.result_timeout:.0f} s, the first is {first.output_location}.{why} Raise timeout "
            f"where a queue or a cold endpoint takes longer; without a failure path failed ones look like this too"
        )

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        """Do for every mode what Airflow's sensor base does for some: soft_fail and never_fail skip."""
        try:
            with failing_well():
                yield
        except (AirflowFailException, SageMakerInferenceError) as error:
            final = isinstance(error, AirflowFailException | AsyncInferenceTimedOut)
            if self.never_fail or (self.soft_fail and final):
                asks = "soft_fail" if self.soft_fail else "never_fail"
                raise AirflowSkipException(f"skipped, as {asks} asks: {error}") from error
            raise


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
