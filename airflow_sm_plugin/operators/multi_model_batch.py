"""Invoke many models of a multi-model endpoint with many inputs in one task, or with one shard of a plan."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SensitiveField, reveal, writer_of
from airflow_sm_plugin.batches.folder import ERRORS
from airflow_sm_plugin.batches.templates import check_template
from airflow_sm_plugin.core.template_values import (
    boolean,
    choice,
    is_given,
    mapping,
    seconds,
    text,
    whole_number,
)
from airflow_sm_plugin.exceptions import BatchFailed, BatchUnfinished
from airflow_sm_plugin.invoke.request import InvokeRequest
from airflow_sm_plugin.killable import quick_loop
from airflow_sm_plugin.lineage import event_of
from airflow_sm_plugin.links import BatchReportLink, FailuresLink, OutputsLink, persist_location
from airflow_sm_plugin.metrics import count
from airflow_sm_plugin.operators.arguments import (
    is_restart,
    object_options,
    plan_settings,
    split_options,
    tolerance_of,
    whole_number_if_given,
)
from airflow_sm_plugin.operators.invocation import InvocationOperator

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.console import Console
    from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance
    from airflow_sm_plugin.multi_model.run import BatchOutcome


class SageMakerMultiModelBatchOperator(InvocationOperator):
    """Send inputs to the models of a multi-model endpoint, as Batch Transform would if it served such endpoints.

    Each input is sent to its target model, record by record or in payloads of several. Its output is written to
    ``<outputs>/<name>.out`` in the input's order when it is complete. Failed records are in ``<name>.errors.jsonl``, a
    row for each payload, always with the same keys: source, target_model, first_record, record_count, error, status,
    message, attempts. Memory does not depend on the number and size of inputs: about ``max_concurrent_transforms``
    payloads, 8 MiB of queued payloads and 32 MiB of results.

    Three layers retry. botocore and the transport repeat nothing. The engine sends one payload at a time to a model
    that is not loaded, until its deadline. It repeats throttling, 5xx answers, lost connections and containers that
    time out up to ``attempts`` times. Between them are full-jitter pauses, and fewer requests are in flight. Airflow
    retries a task that was killed, or left temporary failures: it resumes from its journal in S3, and invokes no
    recorded result again (recorded about twice a second).

    **Clearing** a finished task retries failed records, ``on_rerun="restart"`` repeats everything. A DAG run that was
    deleted and created again under its run id uses nothing of the deleted run.

    Returns on XCom: the report's summary: of a whole batch with the keys of
    :class:`~airflow_sm_plugin.operators.multi_model.SageMakerMergeBatchReportOperator`, of a shard with its own.

    Further arguments: see :class:`~airflow_sm_plugin.operators.multi_model.SageMakerPlanMultiModelBatchOperator`
    about inputs, their models and outputs, ``SageMakerMergeBatchReportOperator`` about tolerated failures,
    :class:`~airflow_sm_plugin.operators.invocation.InvocationOperator` and its base about the rest.

    :param shard: a reference that the plan operator returns, for ``.expand(shard=plan.output)``; instead of ``inputs``,
        ``outputs`` and the other arguments of a plan
    :param content_type: MIME type of the inputs. If it is text, an input that begins as gzip, UTF-16, Parquet and the
        like is refused with an error row
    :param split_type: ``"Line"`` (default), or ``"None"``: an object is one record. Each line of CSV must be a complete
        record: an input ends with an error row where a quoted field continues after a line end
    :param batch_strategy: ``"SingleRecord"`` (default), or ``"MultiRecord"``: as many records as fit in a payload
    :param max_payload_in_mb: of a payload, above 0 and up to 25; default 6, serverless endpoints take 4
    :param max_records: of a MultiRecord payload; default None, as many as fit
    :param skip_header: omit each input's first line; default False
    :param compression_type: ``"None"`` (default) or ``"Gzip"``
    :param assemble_with: ``"Line"`` (default) ends each answer with a line end, ``"None"`` leaves it unchanged
    :param join_source: ``"Input"`` writes each record before its answer; default ``"None"``
    :param custom_attributes: of each payload, with fields in single braces: ``{run}`` (the run id), ``{dag_id}``,
        ``{task_id}``, ``{source}``, ``{first_record}``, and the fields of ``target_model``
    :param keep_response_attributes: write the responses' CustomAttributes to ``<name>.attributes.jsonl``; default False
    :param max_concurrent_transforms: limit of simultaneous invocations, below which their number adapts; default 64
    :param max_warm_models: limit of models that load or are warm at the same time; default None: found from the
        endpoint's answers, which costs loads
    :param attempts: limit of invocations of a payload, those aside that are throttled while others succeed; default 5
    :param max_payload_seconds: seconds for which one payload is retried; default 600
    :param model_load_seconds: seconds for which a cold model is waited for; default 420
    :param isolate_bad_records: halve a MultiRecord payload that the model refuses, until only the bad records fail;
        default False
    :raises BatchFailed: more records failed than tolerated; all others are complete
    :raises BatchUnfinished: the same, some of them for transient reasons
    :raises EndpointError: EndpointNotFound, EndpointNotMultiModel, EndpointNotRealTime, EndpointNotInService
    :raises InferenceError: FencedOff, PlanReplaced
    :raises ResourceConflict: another version of this package began the batch
    :raises ServiceUnavailable: the endpoint or S3 gave no useful answer for a long time
    """

    not_templated = ()
    none_fields = ("split_type", "compression_type", "assemble_with", "join_source")
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
        shard: Mapping[str, Any] | str | None = None,
        inputs: str | None = None,
        outputs: str | None = None,
        target_model: str | None = None,
        inputs_type: str = "S3Prefix",
        include: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str | None = None,
        output_name: str = "{relative}",
        check_models: bool | str = True,
        on_missing_model: str = "record",
        empty_ok: bool | str = False,
        check_inputs: bool | str = True,
        state_prefix: str | None = None,
        content_type: str | None = None,
        accept: str | None = None,
        split_type: str = "Line",
        batch_strategy: str = "SingleRecord",
        max_payload_in_mb: float | str = 6,
        max_records: int | str | None = None,
        skip_header: bool | str = False,
        compression_type: str = "None",
        assemble_with: str = "Line",
        join_source: str = "None",
        custom_attributes: str | None = None,
        keep_response_attributes: bool | str = False,
        target_variant: str | None = None,
        max_concurrent_transforms: int | str = 64,
        max_warm_models: int | str | None = None,
        attempts: int | str = 5,
        max_payload_seconds: float | str = 600,
        model_load_seconds: float | str = 420,
        isolate_bad_records: bool | str = False,
        on_error: str = "fail",
        tolerated_failure_ratio: float | str | None = None,
        on_rerun: str = "resume",
        error_text_limit: int | str = 1_000,
        container_log_lines: int | str = 20,
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.shard = shard
        self.inputs = inputs
        self.outputs = outputs
        self.target_model = target_model
        self.inputs_type = inputs_type
        self.include = include
        self.exclude = exclude
        self.output_name = output_name
        self.check_models = check_models
        self.on_missing_model = on_missing_model
        self.empty_ok = empty_ok
        self.check_inputs = check_inputs
        self.state_prefix = state_prefix
        self.content_type = content_type
        self.accept = accept
        self.split_type = split_type
        self.batch_strategy = batch_strategy
        self.max_payload_in_mb = max_payload_in_mb
        self.max_records = max_records
        self.skip_header = skip_header
        self.compression_type = compression_type
        self.assemble_with = assemble_with
        self.join_source = join_source
        self.custom_attributes = custom_attributes
        self.keep_response_attributes = keep_response_attributes
        self.target_variant = target_variant
        self.max_concurrent_transforms = max_concurrent_transforms
        self.max_warm_models = max_warm_models
        self.attempts = attempts
        self.max_payload_seconds = max_payload_seconds
        self.model_load_seconds = model_load_seconds
        self.isolate_bad_records = isolate_bad_records
        self.on_error = on_error
        self.tolerated_failure_ratio = tolerated_failure_ratio
        self.on_rerun = on_rerun
        self.error_text_limit = error_text_limit
        self.container_log_lines = container_log_lines
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan, unless a plan exists; invoke the remaining payloads; report."""
        with self.reading_arguments():
            tolerance, started = tolerance_of(self.on_error, self.tolerated_failure_ratio), time.time()
            whole_number(self.container_log_lines, "container_log_lines")
            console = self.keep_link(context)
            if self.outputs is not None:
                persist_location(context, console, OutputsLink, f"{self.outputs.rstrip('/')}/")
            pages: list[str] = []
            try:
                with self.naming_what_is_left(self.endpoint_name), self.explaining():
                    advance = self._outcome(context, console, pages)
                    outcome = self.run_until_killed(advance, loop_factory=quick_loop)
            finally:
                for location in pages:
                    persist_location(context, console, BatchReportLink, location)
            if self.outputs is not None and outcome.counts.failed:
                folder = f"{self.outputs.rstrip('/')}/"
                persist_location(context, console, FailuresLink, folder, ending=ERRORS)
            if outcome.has_failed_containers:
                self.show_container_logs(since=started, inference_ids=())
            self.log.info("batch report: %s", outcome.page_location)
            self._publish(context, outcome)
            with self.naming_what_is_left(self.endpoint_name):
                self._conclude(context, outcome, tolerance)
            return outcome.summary

    def _publish(self, context: Context, outcome: BatchOutcome) -> None:
        """Send metrics and, unless a merge does it, what was read and written."""
        count(context, "multi_model_batch", outcome.summary, endpoint_name=self.endpoint_name)
        if self.outputs is not None:
            folder = f"{self.outputs.rstrip('/')}/"
            self.note_data(context, inputs=[self.inputs], outputs=[folder], extra=event_of(outcome.summary))

    def _conclude(self, context: Context, outcome: BatchOutcome, tolerance: Tolerance) -> None:
        """Log the failures or raise them."""
        lines = outcome.failure_lines(tolerance, is_shard=is_given(self.shard))
        if outcome.retryable and _has_tries_left(context):
            raise BatchUnfinished(*lines, do="wait for the retry: some of that may pass, and is done again")
        if tolerance.is_exceeded(outcome.counts):
            kind = BatchUnfinished if outcome.retryable else BatchFailed
            remedy = "correct the cause, then clear this task to try those again; outputs are kept"
            raise kind(*lines, do=remedy)
        if outcome.counts.failed:
            for line in lines:
                self.log.warning("%s", line)

    async def _outcome(self, context: Context, console: Console, pages: list[str]) -> BatchOutcome:
        """Run the batch; add the location of the page that was written, also before an error."""
        from airflow_sm_plugin.multi_model.run import run_batch, run_one_shard
        from airflow_sm_plugin.multi_model.shard import ShardSettings
        from airflow_sm_plugin.operators.report_context import run_context

        settings = ShardSettings(
            plan_location="",
            shard=0,
            engine=self._engine_settings(context),
            writer=writer_of(context),
            restart=is_restart(self.on_rerun),
            options=object_options(self.output_kms_key_id, self.output_acl),
        )
        if is_given(self.shard):
            reference = mapping(self.shard, "shard") or {}
            outcome = await run_one_shard(self.aws, settings, reference)
            pages.append(outcome.page_location)
            return outcome
        planned = plan_settings(self, context)
        task = run_context(
            context,
            console,
            endpoint_name=self.endpoint_name,
            folders={"Outputs and .errors.jsonl in S3": planned.outputs},
            clear="this task",
        )
        return await run_batch(self.aws, settings, planned, context=task, pages=pages)

    def _engine_settings(self, context: Context) -> EngineSettings:
        from airflow_sm_plugin.multi_model.engine.settings import EngineSettings
        from airflow_sm_plugin.multi_model.payloads.assembly import OutputOptions

        split = split_options(
            self.split_type,
            self.batch_strategy,
            self.max_payload_in_mb,
            skip_header=boolean(self.skip_header, "skip_header"),
            max_records=whole_number_if_given(self.max_records, "max_records", at_least=1),
        )
        headers = self.texts("content_type", "accept", "target_variant")
        custom_attributes = text(reveal(self.custom_attributes), "custom_attributes")
        if custom_attributes is not None:
            check_template(custom_attributes, argument="custom_attributes")
        InvokeRequest(endpoint_name=self.endpoint_name, body=b"", **headers).checked()
        return EngineSettings(
            endpoint_name=self.endpoint_name,
            **headers,
            split=split,
            output=OutputOptions(
                assemble_with=str(self.assemble_with),
                join_source=str(self.join_source),
                content_type=headers["content_type"],
                accept=headers["accept"],
            ).checked(split.split_type),
            gunzip=choice(str(self.compression_type), "compression_type", ("None", "Gzip")) == "Gzip",
            custom_attributes=custom_attributes,
            fields=_context_fields(context),
            keep_attributes=boolean(self.keep_response_attributes, "keep_response_attributes"),
            max_concurrent_transforms=whole_number(
                self.max_concurrent_transforms, "max_concurrent_transforms", at_least=1
            ),
            max_warm_models=whole_number_if_given(self.max_warm_models, "max_warm_models", at_least=1),
            attempts=whole_number(self.attempts, "attempts", at_least=1),
            payload_seconds=seconds(self.max_payload_seconds, "max_payload_seconds", positive=True),
            model_load_seconds=seconds(self.model_load_seconds, "model_load_seconds", positive=True),
            isolate_bad_records=boolean(self.isolate_bad_records, "isolate_bad_records"),
            error_text_limit=whole_number(self.error_text_limit, "error_text_limit"),
        )


def _context_fields(context: Context) -> dict[str, str]:
    ti = context.get("ti")
    fields = {"run": "run_id", "dag_id": "dag_id", "task_id": "task_id"}
    return {field: str(getattr(ti, attribute, "")) for field, attribute in fields.items()}


def _has_tries_left(context: Context) -> bool:
    ti = context.get("ti")
    try_number, max_tries = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    return try_number is not None and max_tries is not None and try_number <= max_tries
