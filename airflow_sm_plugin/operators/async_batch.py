"""Take every object under a prefix, or of a manifest, through an asynchronous endpoint in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context, default_deferrable
from airflow_sm_plugin.base import (
    SensitiveField,
    broken_wait,
    reveal,
    run_of,
    task_instance_owner,
    try_of,
)
from airflow_sm_plugin.core.input_selection import patterns
from airflow_sm_plugin.core.names import digest
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
from airflow_sm_plugin.exceptions import AsyncInferenceFailed
from airflow_sm_plugin.invoke.async_request import AsyncRequest
from airflow_sm_plugin.operators.invocation import InvocationOperator, whole_number_if_given
from airflow_sm_plugin.operators.multi_model_arguments import object_options

if TYPE_CHECKING:
    from airflow_sm_plugin.async_inference.batch.run import Finished, Waiting
    from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger


class SageMakerAsyncBatchOperator(InvocationOperator):
    """Send every object under a prefix (or of a manifest) to an asynchronous endpoint, wait for all, report on each.

    Inputs are listed and checked before any is sent. They are sent at a rate that adapts: throttling slows it, nothing
    is dropped. Then one deferral waits for all of them. What failed or expired is sent again, up to ``attempts``. The
    report has a row for every input, and its counts add up.

    **A retry** goes on where the killed try stood: below ``ledger_prefix`` lies what was accepted, keyed by DAG, run,
    task, map index and arguments, and none of that is sent again. What a kill left in doubt, at most about two hundred
    inputs that were about to be sent, is treated as ``on_unknown`` says. A killed worker's orphan is fenced off.
    SIGTERM (marked, cleared, a worker's shutdown) stops the sending at once; what was accepted is written down.

    **Whose results.** A finished batch counts for a later try of the same DAG run while its inputs are the same, by
    ETag. Once the task was cleared, ETags tell which results and which requests on their way still count, whether the
    batch was finished or not. A DAG run that was deleted and made again under its old id begins from nothing.

    Returns on XCom: ``{"endpoint_name", "inputs", "inputs_passed_over", "succeeded", "failed", "expired", "refused",
    "attempts", "plan_digest", "started_at", "finished_at", "report_location", "rows_location", "failures_location" or
    None}``; ``inputs_passed_over`` are the objects below ``inputs`` that are hidden, or that patterns leave out.
    Rows are JSON Lines with always the same keys: source, etag, status, output_location, failure_location,
    inference_id, attempts, error, custom_attributes.

    :param endpoint_name: (templated)
    :param inputs: ``s3://bucket/prefix`` whose objects are the inputs, but for hidden ones such as ``_SUCCESS`` and
        ``.part-0.crc``; or ``s3://bucket/key`` of a manifest (templated)
    :param inputs_type: ``"S3Prefix"`` (default), or ``"ManifestFile"``: SageMaker's JSON array ``[{"prefix": "s3://…/"},
        "relative/key.csv", …]``, or JSON Lines ``{"source-ref": "s3://…", "content-type"?, "custom-attributes"?}``, of
        which labels of an augmented manifest are passed over (templated)
    :param include: list of patterns such as ``["*.csv"]``: of the objects below the prefix only those are inputs whose
        key relative to it matches one. ``*`` matches slashes, too, as in ``aws s3 cp --include``; what is hidden has to
        be named, as in ``_raw/*``. Default None, all (templated)
    :param exclude: list of such patterns of what is no input; it wins over ``include`` (templated)
    :param check_inputs: look at each object that a manifest lists before anything is sent: whether it exists, how large
        it is, and which content it has, which ``on_rerun="resume"`` goes by; a HeadObject each; default True. What S3
        answers 403 of is sent unseen. A prefix's listing tells all that by itself (templated)
    :param ledger_prefix: ``s3://bucket/prefix`` for state, rows and report, in ``_batch`` below it; the role needs
        s3:ListBucket, s3:GetObject and s3:PutObject there. ``inputs`` must not contain it, nor lie in it; the same goes
        for what the endpoint writes: S3OutputPath, S3FailurePath, data capture (templated)
    :param content_type: MIME type of the inputs, e.g. ``text/csv`` (templated)
    :param accept: MIME type wanted for the outputs (templated)
    :param custom_attributes: for each input, with fields in single braces: ``{key}``, ``{relative}``, ``{name}``,
        ``{stem}``, ``{suffix}``, ``{parent}``, the key's Hive partitions by name, ``{number}``, ``{dag_id}``,
        ``{run_id}``, ``{task_id}``; up to 1024 visible US-ASCII characters. They stand in the report's rows; masked in
        Airflow's rendered fields (templated)
    :param request_ttl: seconds a request may wait in the queue, 60 to 21600; default SageMaker's, 6 hours (templated)
    :param invocation_timeout: seconds the model may take, 1 to 3600; default SageMaker's, 15 minutes (templated)
    :param attempts: how often an input is sent at most while it fails or expires; default 2, since a passing fault of
        one instance, or a doubt that a kill left, should not fail the whole batch; more rarely helps. A doubt that is
        waited for counts as sent: the row of one that expires at the last attempt says so (templated)
    :param max_rate: requests per second at most; default 500. It begins at up to 100 (templated)
    :param max_in_flight: accepted inputs without a result at most; default None, no limit. When half of them are done,
        more are sent (templated)
    :param concurrency: requests on their way at the same time; default 64 (templated)
    :param on_unknown: what may or may not have been accepted: ``"wait"`` (default) expects its result where it must
        be, ``"resend"`` looks there and otherwise sends it again under the same name (templated)
    :param on_rerun: what clearing the task means: ``"resume"`` (default) sends what is new, changed (by ETag) or had no
        output, and waits for what an unfinished batch has sent already; ``"restart"`` sends everything (templated)
    :param on_failure: ``"fail"`` (default) fails the task when an input has no output; ``"collect"`` only reports it
        (templated)
    :param output_kms_key_id: KMS key (id, ARN or alias) for state, rows and report; default as the bucket says. Outputs
        are SageMaker's: the endpoint's configuration has their key (templated)
    :param output_acl: canned ACL for the same, e.g. ``bucket-owner-full-control`` (templated)
    :param failure_text_limit: how many bytes of a failure object a row shows; default 1000, 0 shows none (templated)
    :param container_log_lines: how many of the container's last log lines the task's log shows when inputs failed;
        default 20, 0 shows none (templated)
    :param completion_queue: URL of an SQS queue that gets the endpoint's notifications and has no other reader: it
        wakes the wait, S3 stays the truth (templated)
    :param deferrable: wait in the triggerer; default Airflow's ``[operators] default_deferrable``
    :param poll_interval: seconds between polls; default 30 (templated)
    :param max_wait_seconds: seconds after submission when no result is expected any more, in each round; default
        request_ttl + invocation_timeout, which is 22,500 unless they are given (templated)
    :raises InvalidRequest: an argument or an input breaks a limit, or there is no input: nothing was sent; or the
        endpoint's failure objects would lie where its outputs do: nothing more is sent; not retried
    :raises InputNotFound: there is no such manifest, or objects that it lists do not exist; not retried
    :raises AsyncInferenceFailed: inputs have no output; clearing the task sends those again; not retried
    :raises EndpointNotFound: no such endpoint, or it was deleted meanwhile; not retried
    :raises EndpointNotAsynchronous: it serves real-time requests only; not retried
    :raises EndpointNotInService: it does not serve now; retried
    :raises FencedOff: a later try has taken over; not retried
    :raises TaskKilled: Airflow killed it; retried, where the task has retries left
    :raises QueueNotFound: the completion queue does not exist; not retried
    :raises Throttled: nothing was accepted for ten minutes; retried
    :raises ServiceUnavailable: the same of an outage, or S3 did not answer; retried
    """

    not_templated = ("deferrable",)
    none_fields = ("custom_attributes",)
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
        """Plan and send, or go on with what an earlier try left; wait; report."""
        with self.reading_arguments():
            settings = self._settings(context)
            self.keep_link(context)
            if queue := text(self.completion_queue, "completion_queue"):
                from airflow_sm_plugin.async_inference.queue import check_queue

                self.run_until_killed(check_queue(self.aws, queue))
            return self._go_on(settings, plan_at_hand=False)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
        """Go on from the trigger's event."""
        with self.reading_arguments():
            self._check_event(event)
            return self._go_on(self._settings(context), plan_at_hand=True)

    def _go_on(self, settings: BatchSettings, *, plan_at_hand: bool) -> dict[str, Any]:
        from airflow_sm_plugin.async_inference.batch.run import Finished

        while True:
            with self.explaining(self.endpoint_name):
                advance = self._advance(settings, plan_at_hand=plan_at_hand)
                step, wait_location = self.run_until_killed(advance)
            if isinstance(step, Finished):
                return self._conclude(step)
            plan_at_hand = True
            trigger = self._trigger(step, wait_location)
            self._check_event(self.wait_with(trigger, deferrable=self.deferrable))

    async def _advance(
        self, settings: BatchSettings, *, plan_at_hand: bool
    ) -> tuple[Waiting | Finished, str]:
        """Do what can be done now; where something has to be waited for, return where that is written."""
        from airflow_sm_plugin.async_inference.batch.run import AsyncBatch, Finished

        async with AsyncBatch.open(self.aws, settings, plan_at_hand=plan_at_hand) as batch:
            step = await batch.advance()
            if isinstance(step, Finished):
                return step, ""
            self.log.info(
                "endpoint %s: %d results are waited for; state in %s",
                self.endpoint_name,
                step.pending,
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
        """Raise where the wait broke; whatever else it saw, S3 is polled again."""
        if event["status"] == "error":
            raise broken_wait(f"waiting for the results of endpoint {self.endpoint_name}", event)

    def _conclude(self, finished: Finished) -> dict[str, Any]:
        counts, report = finished.report.counts, finished.report
        self.log.info("endpoint %s: %s; report %s", self.endpoint_name, counts, report.report_location)
        if not counts.unsuccessful:
            return report.summary()
        if counts.failed:
            self.show_container_logs(self.container_log_lines)
        if self.on_failure == "collect":
            return report.summary()
        lines = [
            f"{counts.unsuccessful} of {counts.total} inputs have no output of endpoint {self.endpoint_name}: {counts}."
        ]
        for row in finished.failures:
            where = f" (failure object {row.failure_location})" if row.status == "failed" else ""
            lines.append(f"{row.source}: {row.status}: {row.error or 'see its failure object'}{where}")
        if counts.unsuccessful > len(finished.failures):
            lines.append(f"and {counts.unsuccessful - len(finished.failures)} more")
        lines.append(
            f"All are listed below {report.failures_location}. Clear this task to send those again; outputs are kept"
        )
        raise AsyncInferenceFailed(*lines)

    # Arguments

    def _settings(self, context: Context) -> BatchSettings:
        """Return what to do, with every limit checked that can be before inputs are listed."""
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
            content_type=text(self.content_type, "content_type"),
            accept=text(self.accept, "accept"),
            request_ttl=whole_number_if_given(self.request_ttl, "request_ttl"),
            invocation_timeout=whole_number_if_given(self.invocation_timeout, "invocation_timeout"),
        )
        AsyncRequest(
            endpoint_name=template.endpoint_name,
            input_location="s3://bucket/key",
            content_type=template.content_type,
            accept=template.accept,
            request_ttl=template.request_ttl,
            invocation_timeout=template.invocation_timeout,
        ).checked()
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
            restart=choice(self.on_rerun, "on_rerun", ("resume", "restart")) == "restart",
            failure_text_limit=whole_number(self.failure_text_limit, "failure_text_limit"),
            options=object_options(self),
            wait_seconds=(
                seconds(self.max_wait_seconds, "max_wait_seconds", positive=True)
                if is_given(self.max_wait_seconds)
                else None
            ),
        )
