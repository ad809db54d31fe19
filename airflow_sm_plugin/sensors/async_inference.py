"""Await the results of asynchronous inference."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_sm_plugin._compat import (
    AirflowFailException,
    AirflowSkipException,
    Context,
    PokeReturnValue,
    default_deferrable,
    first_reschedule_date,
)
from airflow_sm_plugin.async_inference.awaited import AwaitedInvocations
from airflow_sm_plugin.async_inference.watch import AwaitedResults, ResultPosition, group
from airflow_sm_plugin.async_inference.watch_state import ResultOutcome, WatchState
from airflow_sm_plugin.base import GRACE_SECONDS, SageMakerInferenceSensor, broken_wait, task_instance_owner
from airflow_sm_plugin.batches.folder import state_folder
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.names import SUBMISSION_SECONDS, digest, endpoint_log_group
from airflow_sm_plugin.core.notifications import check_queue_url
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import choice, is_given, text
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import (
    AsyncInferenceFailed,
    AsyncInferenceTimedOut,
    InvalidRequest,
    SageMakerInferenceError,
    ServiceError,
    ServiceUnavailable,
)
from airflow_sm_plugin.invoke.async_request import (
    DEFAULT_INVOCATION_TIMEOUT,
    DEFAULT_REQUEST_TTL,
)
from airflow_sm_plugin.links import FailuresLink, ResultLink, persist_location
from airflow_sm_plugin.metrics import waited

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.watcher import BlockingWatcher

# At most 5,000 bytes of text in an error, with the default failure_text_limit.
_SHOWN_FAILURES = 5
# At most 100,000 bytes of text on XCom, with the default failure_text_limit.
_COLLECTED_TEXTS = 100
# Each endpoint's container logs cost calls of CloudWatch Logs.
_SHOWN_ENDPOINTS = 3
# So many invocations go into Airflow's database in any case: names of 100 characters take 5 kB there.
_INLINE = 50


class _Wait(NamedTuple):
    awaited: AwaitedInvocations
    first_poll: float
    watch: AwaitedResults
    positions: tuple[ResultPosition, ...]
    """Of each invocation's result."""


class SageMakerAsyncInferenceSensor(SageMakerInferenceSensor):
    """Wait for the output *or* the failure object of one or many asynchronous invocations, whichever comes first.

    403 (S3's answer for a missing key without ``s3:ListBucket``) and 503 decide nothing: the sensor polls again. A
    failure object fails the task with its text and without a retry, which would only find it again. One listing polls
    a thousand results of one folder.

    Returns on XCom: the output location; of a list of invocations the list of them, in its order.
    With ``on_failure="collect"``: ``{"succeeded": [output locations], "failed": [{"input", "inference_id",
    "failure_location", "error"}], "timed_out": [{"input", "inference_id", "output_location"}]}``, whose ``error`` is
    read for the first 100.

    :param invocations: the result of a :class:`SageMakerInvokeEndpointAsyncOperator`, or a list of results (the XCom of
        a mapped invoke), also as the JSON or Python text that a template makes of either (templated)
    :param output_location: instead of ``invocations``: where the output will be (templated)
    :param failure_location: with ``output_location``: where a failure object would be; without it a failed invocation
        is only noticed at the deadline (templated)
    :param timeout: seconds (or a timedelta) after which no result is expected, counted from submission where it is
        known, else from the first poll; default RequestTTL + InvocationTimeout, which is 22,500. Where it is less, a
        retry ends at once, since it counts from submission: raise it, or clear the sensor later
    :param poke_interval: seconds (or a timedelta) between polls; default 30
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``
    :param on_failure: ``"fail"``, or ``"collect"``: succeed all the same and return which failed or timed out; default
        ``"fail"``
    :param completion_queue: URL of an SQS queue, of this sensor alone, that gets the endpoint's notifications: a
        deferred wait then polls when they have covered all results, and else once a minute (templated)
    :param ledger_prefix: ``s3://bucket/prefix`` under which a deferred wait for more than 50 invocations keeps their
        locations, instead of in Airflow's database; overwritten by retries (templated)
    :param failure_text_limit: bytes of a failure object that an error shows; default 1000, 0 shows none
    :param container_log_lines: the container's last log lines that the task's log shows when an inference failed and
        the invocation names its endpoint; default 20, 0 shows none
    :param soft_fail: skip instead of failing when an inference failed, the deadline passed, or no retry can help;
        an outage of S3 still fails the task, which then is retried. The same in every mode. Default False
    :param never_fail: skip instead of failing, whatever happened; default False
    :raises AsyncInferenceFailed: a failure object was found; not retried
    :raises AsyncInferenceTimedOut: neither object came in time; retried
    :raises ServiceUnavailable: S3 did not answer at many polls in a row; retried
    :raises QueueNotFound: the completion queue does not exist; not retried
    :raises TaskKilled: Airflow killed the sensor while it waited; retried, where the task has retries left
    """

    not_templated = (
        "timeout",
        "poke_interval",
        "deferrable",
        "on_failure",
        "failure_text_limit",
        "container_log_lines",
    )
    operator_extra_links = (ResultLink(), FailuresLink())

    def __init__(
        self,
        *,
        invocations: Any = None,  # noqa: ANN401 - a mapping, a list of them, or a template of either
        output_location: str | None = None,
        failure_location: str | None = None,
        timeout: float | timedelta = DEFAULT_REQUEST_TTL + DEFAULT_INVOCATION_TIMEOUT,
        poke_interval: float | timedelta = 30,
        deferrable: bool | None = None,
        on_failure: str = "fail",
        completion_queue: str | None = None,
        ledger_prefix: str | None = None,
        failure_text_limit: int = 1_000,
        container_log_lines: int = 20,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own sensor arguments
    ) -> None:
        seconds, pause = _seconds(timeout), _seconds(poke_interval)
        # Airflow's own time-out is only the safety net: it ends the task with a poorer text and without a retry.
        super().__init__(timeout=seconds + 2 * pause + GRACE_SECONDS, poke_interval=pause, **kwargs)
        self.result_timeout = seconds
        self.invocations = invocations
        self.output_location = output_location
        self.failure_location = failure_location
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.on_failure = on_failure
        self.completion_queue = completion_queue
        self.ledger_prefix = ledger_prefix
        self.failure_text_limit = failure_text_limit
        self.container_log_lines = container_log_lines
        self._waiting: _Wait | None = None
        self._state = WatchState(())
        self._watcher: BlockingWatcher | None = None

    def execute(self, context: Context) -> Any:  # noqa: ANN401 - as Airflow's base spells it
        with self._s3().opened():
            if not self.deferrable:
                return super().execute(context)
            with self._failing_softly():
                wait = self._begin(self._first_poll_at(context))
                result = self._poll(context, wait)
                if result is not None:
                    return result
                self._defer(context, wait)
        return None

    def _get_next_poke_interval(self, *args: Any) -> float:  # noqa: ANN401 - as Airflow's base spells it
        """Pause here, not in the base's ``time.sleep``, which would outlast SIGTERM."""
        interval = float(super()._get_next_poke_interval(*args))
        if self.mode == "reschedule":
            return interval
        self.pause(interval)
        return 0.0

    def poke(self, context: Context) -> PokeReturnValue:
        with self._failing_softly(), self._s3().opened():
            wait = self._waiting or self._begin(self._first_poll_at(context))
            result = self._poll(context, wait)
            return PokeReturnValue(is_done=result is not None, xcom_value=result)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
        """Poll for all results once more and judge: S3 decides, not the trigger's event."""
        with self._failing_softly(), self._s3().opened():
            if event["status"] == "error":
                raise broken_wait("waiting for asynchronous inference", event)
            if "first_poll" not in event["note"]:
                raise InvalidRequest("another version of this package deferred the sensor: clear it")
            wait = self._begin(event["note"]["first_poll"])
            result = self._poll(context, wait, thorough=True)
            if result is not None:
                return result
            if event["why"] == "unreachable":
                raise self._outage(wait, FailedPolls(event["failed_polls"], event.get("cause", "")))
            self._defer(context, wait)  # S3 does not answer just now
        return None

    def _begin(self, first_poll: float) -> _Wait:
        awaited = self._read()
        deadlines = awaited.deadlines(first_poll=first_poll, seconds=self.result_timeout)
        watch, positions = group(awaited.invocations, deadlines)
        self._waiting = _Wait(awaited, first_poll, watch, positions)
        self._state = WatchState.begin(watch)
        return self._waiting

    def _read(self) -> AwaitedInvocations:
        if self.result_timeout <= 0:
            raise InvalidRequest(f"timeout must be more than 0 seconds, not {self.result_timeout:g}")
        choice(self.on_failure, "on_failure", ("fail", "collect"))
        if is_given(self.completion_queue):
            check_queue_url(str(self.completion_queue))
        if is_given(self.ledger_prefix):
            S3Uri.parse(str(self.ledger_prefix), name="ledger_prefix")
        if is_given(self.invocations) == is_given(self.output_location):
            raise InvalidRequest("give either invocations (what an invoke task returned) or output_location")
        if is_given(self.invocations):
            return AwaitedInvocations.read(self.invocations)
        failure = text(self.failure_location, "failure_location")
        return AwaitedInvocations.read({"output_location": self.output_location, "failure_location": failure})

    def _first_poll_at(self, context: Context) -> float:
        if self.mode != "reschedule":
            return time.time()
        rescheduled = first_reschedule_date(context, retries=self.retries or 0)
        return rescheduled.timestamp() if rescheduled else time.time()

    def _poll(self, context: Context, wait: _Wait, *, thorough: bool = False) -> Any:  # noqa: ANN401 - a result, or None for not yet
        now, before = time.time(), self._state
        state = self._state = self._s3().poll(wait.watch, before, now=now, thorough=thorough)
        self.log.debug("%s of %d invocations", state.counts(wait.watch), len(wait.positions))
        if state.failed.in_a_row:
            pending = plural(state.counts(wait.watch).pending, "result")
            self.log.warning("the wait for %s goes on: %s", pending, state.failed.in_words("S3"))
        forbidden = state.forbidden(wait.watch)
        if forbidden and not before.forbidden(wait.watch):
            self.log.warning(
                "S3 answers 403 for %s or its failure object: not there yet and the role lacks s3:ListBucket, or the "
                "role may not read it",
                wait.watch.folders[forbidden.folder].output(forbidden.position),
            )
        if state.result(wait.watch, now=now) is None:
            return None
        return self._conclude(context, wait, state)

    def _defer(self, context: Context, wait: _Wait) -> None:
        from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger

        deadline = wait.watch.last_deadline
        location = self._location_of(wait.watch, context)
        self.defer(
            trigger=AsyncInferenceTrigger(
                watch=None if location else wait.watch.as_mapping(),
                watch_location=location,
                completion_queue=self.completion_queue if is_given(self.completion_queue) else None,
                deadline=deadline,
                poll_interval=self.poke_interval,
                note={"first_poll": wait.first_poll},
                aws=self.aws.as_mapping(),
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + GRACE_SECONDS),
        )

    def _location_of(self, watch: AwaitedResults, context: Context) -> str | None:
        """Write a long wait's description to S3; None when it goes into Airflow's database."""
        if watch.count <= _INLINE:
            return None
        body = json.dumps(watch.as_mapping()).encode()
        if not is_given(self.ledger_prefix):
            self.log.warning(
                "%d bytes about %d invocations go into Airflow's database with this wait: give ledger_prefix, an "
                "s3://bucket/prefix, to keep them in S3 instead",
                len(body),
                watch.count,
            )
            return None
        outputs = digest([folder.outputs for folder in watch.folders])
        owner = task_instance_owner(context) or outputs
        location = f"{state_folder(str(self.ledger_prefix), owner=owner, arguments=outputs)}/wait.json"
        self._s3().write(location, body)
        return location

    def _s3(self) -> BlockingWatcher:
        """Share one set of connections between all polls: new ones would cost 0.3 s, and an AssumeRole, at each."""
        if self._watcher is None:
            from airflow_sm_plugin.async_inference.watcher import BlockingWatcher

            self._watcher = BlockingWatcher(self.aws)
        return self._watcher

    def _conclude(self, context: Context, wait: _Wait, state: WatchState) -> Any:  # noqa: ANN401 - a location, a list, or a mapping
        by_position = dict(state.outcomes(wait.watch))
        indices: dict[ResultOutcome, list[int]] = {outcome: [] for outcome in ResultOutcome}
        for index, position in enumerate(wait.positions):
            indices[by_position[position]].append(index)
        failed, timed_out = indices[ResultOutcome.FAILED], indices[ResultOutcome.TIMED_OUT]
        self._keep_links(context, wait.awaited, indices[ResultOutcome.SUCCEEDED], failed)
        self._publish(context, wait, indices[ResultOutcome.SUCCEEDED])
        if failed:
            self._show_logs(wait.awaited, failed)
        if self.on_failure == "collect" and not indices[ResultOutcome.WAITING]:
            return self._collected(wait.awaited, failed, timed_out)
        if failed:
            raise AsyncInferenceFailed(*self._failures(wait.awaited, failed))
        if timed_out:
            raise self._time_out(wait, state, timed_out)
        if indices[ResultOutcome.WAITING]:
            raise self._outage(wait)
        outputs = [invocation.output_location for invocation in wait.awaited.invocations]
        self.log.info("found %s", plural(len(outputs), "asynchronous result"))
        return outputs[0] if wait.awaited.is_one else outputs

    def _publish(self, context: Context, wait: _Wait, succeeded: Sequence[int]) -> None:
        """Send how long the wait was, and what was read and written."""
        invocations = [wait.awaited.invocations[index] for index in succeeded]
        self.note_data(
            context,
            inputs=[invocation.input_location for invocation in invocations],
            outputs=[invocation.output_location for invocation in invocations],
        )
        waited(context, "async_inference", time.time() - wait.first_poll)

    def _keep_links(
        self, context: Context, awaited: AwaitedInvocations, succeeded: Sequence[int], failed: Sequence[int]
    ) -> None:
        """Store the first output and failure object for the task's links, or their folders where there are more."""
        outputs = [awaited.invocations[index].output_location for index in succeeded[:2]]
        failures = [awaited.invocations[index].failure_location for index in failed[:2]]
        known = [location for location in failures if location is not None]
        if outputs or known:
            console = self.console(self.result_store())
            if outputs:
                persist_location(context, console, ResultLink, _shared(outputs))
            if known:
                persist_location(context, console, FailuresLink, _shared(known))

    def _outage(self, wait: _Wait, in_triggerer: FailedPolls | None = None) -> ServiceUnavailable:
        """Make the error of a wait without S3's answers; *in_triggerer* are the failed polls there."""
        state, first = self._state, self._state.first_pending(wait.watch) or wait.positions[0]
        location = wait.watch.folders[first.folder].output(first.position)
        failed = max(in_triggerer or state.failed, state.failed, key=lambda polls: polls.in_a_row)
        return ServiceUnavailable(
            f"S3 did not answer, {plural(failed.in_a_row, 'failed poll')} in a row; "
            f"{plural(state.counts(wait.watch).pending, 'result')} pending, the first is {location}",
            reason=failed.cause or self._s3().trouble_at(location) or "it answers again now",
            do="retry, which polls again: the invocations go on in SageMaker",
        )

    def _collected(
        self, awaited: AwaitedInvocations, failed: Sequence[int], timed_out: Sequence[int]
    ) -> dict[str, Any]:
        texts = self._texts(awaited, failed[:_COLLECTED_TEXTS])
        texts += ["see its failure object"] * (len(failed) - len(texts))
        succeeded = len(awaited.invocations) - len(failed) - len(timed_out)
        self.log.info("%d succeeded, %d failed, %d timed out", succeeded, len(failed), len(timed_out))
        return awaited.collected(failed=failed, timed_out=timed_out, texts=texts)

    def _failures(self, awaited: AwaitedInvocations, failed: Sequence[int]) -> list[str]:
        lines = [f"{len(failed)} of {plural(len(awaited.invocations), 'asynchronous inference')} failed."]
        shown = failed[:_SHOWN_FAILURES]
        for index, failure_text in zip(shown, self._texts(awaited, shown), strict=True):
            invocation = awaited.invocations[index]
            name = invocation.input_location or f"inference {invocation.inference_id or index}"
            lines.append(f"{name}: {failure_text} (failure object {invocation.failure_location})")
        if len(failed) > _SHOWN_FAILURES:
            lines.append(f"and {len(failed) - _SHOWN_FAILURES} more")
        return lines

    def _texts(self, awaited: AwaitedInvocations, failed: Sequence[int]) -> list[str]:
        locations = [awaited.invocations[index].failure_location for index in failed]
        return self._s3().failure_texts(locations, limit=self.failure_text_limit)

    def _show_logs(self, awaited: AwaitedInvocations, failed: Sequence[int]) -> None:
        if self.container_log_lines <= 0:
            return
        invocations = [awaited.invocations[index] for index in failed]
        sent = [invocation.submitted_at for invocation in invocations if invocation.submitted_at is not None]
        for name in awaited.endpoints_of(failed)[:_SHOWN_ENDPOINTS]:
            self.container_logs().show_tail(
                endpoint_log_group(name),
                lines=self.container_log_lines,
                since=min(sent) - SUBMISSION_SECONDS if sent else None,
                inference_ids=[each.inference_id for each in invocations if each.inference_id],
            )

    def _time_out(self, wait: _Wait, state: WatchState, timed_out: Sequence[int]) -> AsyncInferenceTimedOut:
        first = wait.awaited.invocations[timed_out[0]]
        reasons = [self._gone_endpoints(wait.awaited, timed_out)]
        if state.forbidden(wait.watch):
            reasons.append(
                "S3 answered 403 to the end: the role may lack s3:GetObject and s3:ListBucket there."
            )
        if trouble := self._s3().trouble_at(first.output_location):
            reasons.append(f"S3 answers there: {trouble}.")
        return AsyncInferenceTimedOut(
            f"{len(timed_out)} of {plural(len(wait.positions), 'asynchronous inference')} had neither output nor "
            f"failure object after {self.result_timeout:.0f} s, the first is {first.output_location}",
            reason=" ".join(filter(None, reasons)),
            do="raise timeout where a queue or a cold endpoint takes longer: it counts from submission where that is "
            "known, so a retry with this one ends at once; without a failure path failed ones show no more than this",
        )

    def _gone_endpoints(self, awaited: AwaitedInvocations, timed_out: Sequence[int]) -> str:
        """Write a sentence about the endpoints of timed-out invocations that do not exist any more."""
        names = awaited.endpoints_of(timed_out)[:_SHOWN_ENDPOINTS]
        gone = [name for name in names if self._is_gone(name)]
        if not gone:
            return ""
        return (
            f"There is no endpoint {' nor '.join(gone)}: its queue went with it, and no result will come. Deploy it "
            f"and send the inputs again."
        )

    def _is_gone(self, endpoint_name: str) -> bool:
        try:
            return self.control_plane().describe_endpoint(endpoint_name) is None
        except ServiceError:
            return False  # describing it is not permitted; the time-out is true all the same

    @contextmanager
    def _failing_softly(self) -> Iterator[None]:
        """Skip for soft_fail and never_fail in every mode: Airflow's sensor base does so only in some."""
        try:
            with self.reading_arguments():
                yield
        except (AirflowFailException, SageMakerInferenceError) as error:
            final = isinstance(error, AirflowFailException | AsyncInferenceTimedOut)
            if self.never_fail or (self.soft_fail and final):
                asks = "soft_fail" if self.soft_fail else "never_fail"
                words = error.as_sentence if isinstance(error, SageMakerInferenceError) else str(error)
                reason = f"skipped, as {asks} asks: {words}"
                self.log.info("%s", reason)
                raise AirflowSkipException(reason) from None
            raise


def _shared(locations: Sequence[str]) -> str:
    """Choose the only location, or the folder of the first one."""
    first, *others = locations
    return f"{first.rpartition('/')[0]}/" if others else first


def _seconds(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value
