"""Send every object under a prefix, or of a manifest, to an asynchronous endpoint in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.base import SensitiveField, check_event, reveal, run_of, task_instance_owner, try_of
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.names import FRESH_LINES_SECONDS, digest
from airflow_sm_plugin.core.notifications import check_queue_url
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import (
    boolean,
    choice,
    is_given,
    number,
    seconds,
    text,
    whole_number,
)
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import AsyncInferenceFailed, ServiceError
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from airflow_sm_plugin.lineage import event_of
from airflow_sm_plugin.links import BatchReportLink, FailuresLink, OutputsLink, persist_location
from airflow_sm_plugin.metrics import count, waited
from airflow_sm_plugin.operators.arguments import is_restart, object_options, whole_number_if_given
from airflow_sm_plugin.operators.invocation import InvocationOperator

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.batch.report import Report
    from airflow_sm_plugin.async_inference.batch.run import Finished, Waiting
    from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
    from airflow_sm_plugin.aws.console import Console
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger


_SHOWN_GROUPS = 5
"""Groups of failures in the task's error. All failures are in the report's rows."""


class SageMakerAsyncBatchOperator(InvocationOperator):
    """Send every object under a prefix (or of a manifest) to an asynchronous endpoint, wait for all, report on each.

    Inputs are listed and checked before any is sent. The rate of requests adapts: throttling slows it, no input is
    dropped. Then one deferral waits for all results. Failed and expired inputs are sent again, up to ``attempts``
    times. The report has a row for every input, and its counts add up; ``report.html`` is its page for people, which an
    error that stops the batch writes too.

    **A retry** resumes the killed try: accepted requests are recorded below ``ledger_prefix``, keyed by DAG, run, task,
    map index and arguments, and none of them is sent again. ``on_unknown`` decides about the requests that a kill left
    uncertain: at most two hundred that were about to be sent. A process that outlives its killed worker is fenced
    off. SIGTERM (marked, cleared, a worker's shutdown) stops the sending at once, after accepted requests are recorded.

    **Reuse of results.** A later try of the same DAG run reuses a finished batch while its inputs have the same ETags.
    After the task was cleared, ETags decide which results and unanswered requests are reused, finished or not. A DAG
    run that was deleted and created again under its old id reuses nothing.

    Returns on XCom: ``{"endpoint_name", "inputs", "inputs_passed_over", "succeeded", "failed", "expired", "refused",
    "attempts", "plan_digest", "started_at", "finished_at", "report_location", "report_page_location", "rows_location",
    "failures_location" or None}``; ``inputs_passed_over`` are the objects below ``inputs`` that are hidden or that
    patterns exclude.
    Rows are JSON Lines, always with the same keys: source, etag, status, output_location, failure_location,
    inference_id, attempts, error, custom_attributes.

    Further arguments: see :class:`~airflow_sm_plugin.operators.multi_model.SageMakerPlanMultiModelBatchOperator`
    about ``inputs``, ``inputs_type``, ``include`` and ``exclude``; for the others
    :class:`~airflow_sm_plugin.operators.invocation.InvocationOperator` and its base.

    :param check_inputs: check existence, size and ETag of each object of a manifest before anything is sent, with a
        HeadObject each; ``on_rerun="resume"`` compares the ETags. An object for which S3 answers 403 is sent unchecked.
        A prefix needs no check: its listing has all that. Default True
    :param ledger_prefix: ``s3://bucket/prefix`` of state, rows and report, which get keys below its ``_batch``. The
        role needs s3:ListBucket, s3:GetObject and s3:PutObject there. The prefix must neither contain nor be inside
        ``inputs`` or a location that the endpoint writes to (S3OutputPath, S3FailurePath, data capture)
    :param custom_attributes: of each input, with fields in single braces: ``{key}``, ``{relative}``, ``{name}``,
        ``{stem}``, ``{suffix}``, ``{parent}``, the key's Hive partitions by name, ``{number}``, ``{dag_id}``,
        ``{run_id}``, ``{task_id}``. The report's rows contain them
    :param attempts: limit of requests for an input that fails or expires; default 2, so that a transient fault of an
        instance, or a kill, does not fail the whole batch; more rarely helps. An uncertain request that is waited for
        counts, and the row says so where it expires at the last attempt
    :param max_rate: requests per second at most; default 500. The first rate is up to 100
    :param max_in_flight: limit of accepted inputs without a result; default None. When half of them have results, more
        are sent
    :param concurrency: limit of simultaneous requests; default 64
    :param on_unknown: after a request that was perhaps accepted: ``"wait"`` (default) waits for its result,
        ``"resend"`` sends it again under the same name unless the result exists
    :param on_rerun: effect of clearing the task: ``"resume"`` (default) sends inputs that are new, changed (by ETag) or
        without output, and waits for the requests of an unfinished batch; ``"restart"`` sends everything
    :param on_failure: ``"fail"`` (default) fails the task when an input has no output; ``"collect"`` only reports it
    :param max_wait_seconds: in each round of attempts
    :raises InvalidRequest: an argument or an input breaks a limit, or there is no input: nothing was sent; or failure
        objects and outputs of the endpoint have the same location: nothing more is sent
    :raises InputNotFound: the manifest does not exist, or objects that it lists do not
    :raises AsyncInferenceFailed: inputs have no output; clearing the task sends those again
    :raises SageMakerInferenceError: EndpointNotAsynchronous, FencedOff, QueueNotFound
    :raises Throttled: no request was accepted for ten minutes
    :raises ServiceUnavailable: the same after an outage, or S3 did not answer
    """

    not_templated = ("deferrable",)
    none_fields = ("custom_attributes",)
    operator_extra_links = (
        *InvocationOperator.operator_extra_links,
        BatchReportLink(),
        OutputsLink(),
        FailuresLink(),
    )
    custom_attributes = SensitiveField()

    def __init__(
        self,
        *,
        endpoint_name: str,
        inputs: str,
        inputs_type: str = "S3Prefix",
        include: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str | None = None,
        check_inputs: bool | str = True,
        ledger_prefix: str,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        request_ttl: int | str | None = None,
        invocation_timeout: int | str | None = None,
        attempts: int | str = 2,
        max_rate: float | str = 500,
        max_in_flight: int | str | None = None,
        concurrency: int | str = 64,
        on_unknown: str = "wait",
        on_rerun: str = "resume",
        on_failure: str = "fail",
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        failure_text_limit: int | str = 1_000,
        container_log_lines: int | str = 20,
        completion_queue: str | None = None,
        deferrable: bool | None = None,
        poll_interval: float | str = 30,
        max_wait_seconds: float | str | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.inputs = inputs
        self.ledger_prefix = ledger_prefix
        self.inputs_type = inputs_type
        self.include = include
        self.exclude = exclude
        self.check_inputs = check_inputs
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout
        self.attempts = attempts
        self.max_rate = max_rate
        self.max_in_flight = max_in_flight
        self.concurrency = concurrency
        self.on_unknown = on_unknown
        self.on_rerun = on_rerun
        self.on_failure = on_failure
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl
        self.failure_text_limit = failure_text_limit
        self.container_log_lines = container_log_lines
        self.completion_queue = completion_queue
        self.deferrable = default_deferrable() if deferrable is None else deferrable
        self.poll_interval = poll_interval
        self.max_wait_seconds = max_wait_seconds

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan and send, or resume an earlier try; wait; report."""
        with self.reading_arguments():
            settings = self._settings(context)
            console = self.keep_link(context)
            if queue := text(self.completion_queue, "completion_queue"):
                from airflow_sm_plugin.async_inference.queue import check_queue

                self.run_until_killed(check_queue(self.aws, queue))
            with self.naming_what_is_left(self.endpoint_name):
                return self._run(context, settings, console, resumes=False)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        with self.reading_arguments():
            settings = self._settings(context)
            with self.naming_what_is_left(self.endpoint_name):
                self._check_event(event)
                return self._run(context, settings, self.console(), resumes=True)

    def _run(
        self, context: Context, settings: BatchSettings, console: Console, *, resumes: bool
    ) -> dict[str, Any]:
        from airflow_sm_plugin.async_inference.batch.run import Finished
        from airflow_sm_plugin.operators.report_context import run_context

        task = run_context(
            context,
            console,
            endpoint_name=self.endpoint_name,
            folders={"State and rows in S3": self.ledger_prefix},
            clear="this task",
        )
        settings = replace(settings, context=task)
        while True:
            pages: list[str] = []
            try:
                with self.explaining():
                    advance = self._advance(settings, pages, resumes=resumes)
                    step, wait_location = self.run_until_killed(advance)
            finally:
                for location in pages:
                    persist_location(context, console, BatchReportLink, location)
            if isinstance(step, Finished):
                outputs = self._keep_locations(context, console, step)
                self._publish(context, step.report, outputs)
                return self._conclude(step)
            resumes = True
            trigger = self._trigger(step, wait_location)
            self._check_event(self.wait_with(trigger, deferrable=self.deferrable))

    async def _advance(
        self, settings: BatchSettings, pages: list[str], *, resumes: bool
    ) -> tuple[Waiting | Finished, str]:
        """Send the requests that can be sent now; return the location of the trigger's list of awaited results.

        :param pages: gets the location of the report's page once it is written, also before an error
        """
        from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Finished

        async with AsyncBatch.open(self.aws, settings, plan_at_hand=resumes) as batch:
            try:
                step = await batch.advance()
            finally:
                pages += filter(None, [batch.page_location])
            if isinstance(step, Finished):
                return step, ""
            self.log.info(
                "endpoint %s: waiting for %s; state in %s",
                self.endpoint_name,
                plural(step.pending, "result"),
                batch.folder.location,
            )
            return step, await batch.publish_wait()

    def _trigger(self, step: Waiting, wait_location: str) -> AsyncInferenceTrigger:
        from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger

        return AsyncInferenceTrigger(
            watch_location=wait_location,
            until_pending=step.until_pending,
            completion_queue=text(self.completion_queue, "completion_queue"),
            deadline=step.deadline,
            poll_interval=seconds(self.poll_interval, "poll_interval", positive=True),
            aws=self.aws.as_mapping(),
        )

    def _check_event(self, event: Mapping[str, Any]) -> None:
        check_event(f"waiting for the results of endpoint {self.endpoint_name}", event)

    def _keep_locations(self, context: Context, console: Console, finished: Finished) -> str | None:
        """Store the folders of outputs and failures for the task's links; return that of the outputs, if known."""
        if failures := finished.report.failures_location:
            persist_location(context, console, FailuresLink, failures)
        try:
            description = self.control_plane().describe_endpoint(self.endpoint_name) or {}
        except ServiceError as error:
            self.log.info("no link to the outputs of endpoint %s: %s", self.endpoint_name, error)
            return None
        output = (description.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}
        if not (path := output.get("S3OutputPath")):
            return None
        folder = f"{path.rstrip('/')}/"
        persist_location(context, console, OutputsLink, folder)
        return folder

    def _publish(self, context: Context, report: Report, outputs: str | None) -> None:
        """Send metrics, and what was read and written."""
        started, finished = map(datetime.fromisoformat, (report.started_at, report.finished_at))
        seconds_taken = (finished - started).total_seconds()
        count(context, "async_batch", report.summary(), endpoint_name=self.endpoint_name)
        waited(context, "async_batch", seconds_taken, endpoint_name=self.endpoint_name)
        self.note_data(context, inputs=[self.inputs], outputs=[outputs], extra=event_of(report.summary()))

    def _conclude(self, finished: Finished) -> dict[str, Any]:
        from airflow_sm_plugin.batches.report.elements import group_line

        counts, report = finished.report.counts, finished.report
        self.log.info("endpoint %s: %s; report %s", self.endpoint_name, counts, report.report_location)
        if not counts.unsuccessful:
            return report.summary()
        if counts.failed:
            self.show_container_logs(
                since=datetime.fromisoformat(report.started_at).timestamp(),
                patience=FRESH_LINES_SECONDS,
                inference_ids=finished.failed_ids,
            )
        if self.on_failure == "collect":
            return report.summary()
        verb = "has" if counts.unsuccessful == 1 else "have"
        inputs = f"{counts.unsuccessful} of {plural(counts.total, 'input')}"
        lines = [f"{inputs} {verb} no output of endpoint {self.endpoint_name}: {counts}"]
        lines += [group_line("", group, "input") for group in report.failures[:_SHOWN_GROUPS]]
        if len(report.failures) > _SHOWN_GROUPS:
            rest = sum(group.count for group in report.failures[_SHOWN_GROUPS:])
            lines.append(f"and {plural(rest, 'more input')}")
        lines.append(f"All are listed below {report.failures_location}")
        raise AsyncInferenceFailed(
            *lines, do="correct the cause, then clear this task to send those again; outputs are kept"
        )

    def _settings(self, context: Context) -> BatchSettings:
        """Check all arguments before inputs are listed."""
        from airflow_sm_plugin.async_inference.batch.round import RequestTemplate
        from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
        from airflow_sm_plugin.batches.inputs import InputSource

        S3Uri.parse(self.ledger_prefix, name="ledger_prefix")
        choice(self.on_failure, "on_failure", ("fail", "collect"))
        seconds(self.poll_interval, "poll_interval", positive=True)
        if queue := text(self.completion_queue, "completion_queue"):
            check_queue_url(queue)
        whole_number(self.container_log_lines, "container_log_lines")
        template = RequestTemplate(
            endpoint_name=self.endpoint_name,
            **self.texts("content_type", "accept"),
            request_ttl=whole_number_if_given(self.request_ttl, "request_ttl"),
            invocation_timeout=whole_number_if_given(self.invocation_timeout, "invocation_timeout"),
        )
        AsyncRequest(input_location="s3://bucket/key", **asdict(template)).checked()
        ti = context.get("ti")
        return BatchSettings(
            template=template,
            source=InputSource(
                location=self.inputs,
                inputs_type=self.inputs_type,
                include=patterns(self.include, "include"),
                exclude=patterns(self.exclude, "exclude"),
                check_inputs=boolean(self.check_inputs, "check_inputs"),
                custom_attributes=text(reveal(self.custom_attributes), "custom_attributes"),
                run={name: str(getattr(ti, name, "")) for name in ("dag_id", "run_id", "task_id")},
            ).checked(),
            ledger_prefix=self.ledger_prefix,
            owner=task_instance_owner(context) or digest("outside of Airflow"),
            run=run_of(context),
            task_try=try_of(context),
            attempts=whole_number(self.attempts, "attempts", at_least=1),
            max_rate=number(self.max_rate, "max_rate"),
            at_once=whole_number(self.concurrency, "concurrency", at_least=1),
            max_in_flight=whole_number_if_given(self.max_in_flight, "max_in_flight", at_least=1),
            resend=choice(self.on_unknown, "on_unknown", ("wait", "resend")) == "resend",
            restart=is_restart(self.on_rerun),
            failure_text_limit=whole_number(self.failure_text_limit, "failure_text_limit"),
            options=object_options(self.output_kms_key_id, self.output_acl),
            wait_seconds=(
                seconds(self.max_wait_seconds, "max_wait_seconds", positive=True)
                if is_given(self.max_wait_seconds)
                else None
            ),
        )
