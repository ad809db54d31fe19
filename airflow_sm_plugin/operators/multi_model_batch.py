"""Push many inputs through many models of a multi-model endpoint in one task, or one shard of a plan of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SensitiveField, undisturbed, writer_of
from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.core.template_values import choice, is_given, mapping, whole_number
from airflow_sm_plugin.exceptions import BatchFailed, BatchUnfinished
from airflow_sm_plugin.links import BatchReportLink, persist_endpoint, persist_report
from airflow_sm_plugin.operators.invocation import InvocationOperator
from airflow_sm_plugin.operators.multi_model_arguments import (
    engine_settings,
    object_options,
    plan_settings,
    tolerance_of,
)

if TYPE_CHECKING:
    from airflow_sm_plugin.multi_model.report.tolerance import Tolerance
    from airflow_sm_plugin.multi_model.run import BatchOutcome


class SageMakerMultiModelBatchOperator(InvocationOperator):
    """Push inputs through the models of a multi-model endpoint, as Batch Transform would if it served such endpoints.

    Each input goes to its target model, record by record or in payloads of several. Its output is written to
    ``<outputs>/<name>.out`` in the input's order, once it is complete; records that failed stand in
    ``<name>.errors.jsonl``, a row of always the same keys for each payload: source, target_model, first_record,
    record_count, error, status, message, attempts. Memory stays flat whatever the number and size of inputs: about
    ``max_concurrent_transforms`` payloads, 8 MiB that wait and 32 MiB of results.

    Three layers retry. botocore and the transport: nothing. The engine: a model that is not loaded is probed with one
    payload until its deadline; throttling, 5xx answers, lost connections and containers that time out are tried again
    up to ``attempts`` times with full-jitter pauses, while fewer are sent at once. Airflow: a task that was killed, or
    left failures that may pass, goes on from its journal in S3; nothing that was written down (about once a second) is
    invoked again.

    **Clearing** a finished task tries again what failed, ``on_rerun="restart"`` does everything again. A DAG run that
    was deleted and created again under its run id gets nothing of the deleted one.

    Returns on XCom: the report's summary; of a whole batch ``{"endpoint_name", "inputs", "inputs_failed",
    "inputs_carried", "inputs_passed_over", "records", "succeeded", "failed", "models", "models_failed", "invocations",
    "retries", "seconds", "shards", "shards_missing", "plan_digest", "started_at", "finished_at", "outputs",
    "report_location", "report_page_location"}``, of a shard those of its own.

    :param endpoint_name: of a real-time multi-model endpoint (templated)
    :param shard: one of the references that :class:`SageMakerPlanMultiModelBatchOperator` returns, for
        ``.expand(shard=plan.output)``; instead of ``inputs``, ``outputs`` and what goes with them (templated)
    :param inputs: ``s3://bucket/prefix`` whose objects are the inputs, but for hidden ones such as ``_SUCCESS``; or
        ``s3://bucket/key`` of a manifest (templated)
    :param outputs: ``s3://bucket/prefix`` of the results, not among the inputs nor above them (templated)
    :param target_model: template of an input's model, e.g. ``"store-{store_id}.tar.gz"`` (templated)
    :param inputs_type: ``"S3Prefix"`` (default) or ``"ManifestFile"``, as
        :class:`~airflow_sm_plugin.operators.multi_model_plan.SageMakerPlanMultiModelBatchOperator` has it (templated)
    :param include: list of patterns of relative keys: only what matches one is an input; default None, all (templated)
    :param exclude: list of patterns of relative keys that are no inputs (templated)
    :param output_name: template of a result's name below ``outputs``; default ``"{relative}"`` (templated)
    :param check_models: check that each model's artefact exists before anything is sent; default True (templated)
    :param on_missing_model: ``"record"`` (default): its records fail in the report; ``"fail"`` (templated)
    :param empty_ok: whether no input at all is fine; default False (templated)
    :param check_inputs: check each object that a manifest lists; default True (templated)
    :param state_prefix: ``s3://bucket/prefix`` for plan, journal and report, which lie in ``_batch`` below it; default
        ``outputs`` (templated)
    :param content_type: MIME type of the inputs, e.g. ``text/csv``. Of text, an input that begins as gzip, UTF-16,
        Parquet and the like do is refused by a row of errors (templated)
    :param accept: MIME type wanted for the outputs (templated)
    :param split_type: ``"Line"`` (default), or ``"None"``: an object is one record. Lines of CSV have to be whole
        records: an input ends with a row of errors where a quoted field goes on behind a line's end (templated)
    :param batch_strategy: ``"SingleRecord"`` (default), or ``"MultiRecord"``: as many records as fit in a payload
        (templated)
    :param max_payload_in_mb: of a payload, above 0 and up to 25; default 6, serverless endpoints take 4 (templated)
    :param max_records: of a MultiRecord payload; default None, as many as fit (templated)
    :param skip_header: leave each input's first line out; default False (templated)
    :param compression_type: ``"None"`` (default) or ``"Gzip"`` (templated)
    :param assemble_with: ``"Line"`` (default) ends each answer with a line end, ``"None"`` takes it as it is
        (templated)
    :param join_source: ``"Input"`` puts each record before its answer; default ``"None"`` (templated)
    :param custom_attributes: of each payload, with fields in single braces: ``{run}`` (the run id), ``{dag_id}``,
        ``{task_id}``, ``{source}``, ``{first_record}``, and those of the input's key as in ``target_model``; masked in
        Airflow's rendered fields (templated)
    :param keep_response_attributes: write the responses' CustomAttributes to ``<name>.attributes.jsonl``; default False
        (templated)
    :param target_variant: production variant (templated)
    :param max_concurrent_transforms: invocations at the same time at most; default 64. It adapts (templated)
    :param max_warm_models: models loading or warm at the same time at most; default None: found by what the endpoint
        evicts (templated)
    :param attempts: invocations of a payload at most; default 5 (templated)
    :param max_payload_seconds: how long one payload is tried again; default 600 (templated)
    :param model_load_seconds: how long a cold model is waited for; default 420 (templated)
    :param isolate_bad_records: halve a MultiRecord payload that the model refuses, until only the bad records fail;
        default False (templated)
    :param on_error: ``"fail"`` (default) fails the task when a record failed or an input could not be read, once all
        are done; ``"tolerate"`` when more than ``tolerated_failure_ratio`` of the records did, or, with a ratio
        below 1, when an input could not be read to its end: its records could not be counted (templated)
    :param tolerated_failure_ratio: failed records of all, 0 to 1; default 0, with ``on_error="tolerate"`` 1 (templated)
    :param on_rerun: what clearing the finished task means: ``"resume"`` (default) or ``"restart"`` (templated)
    :param error_text_limit: characters of a container's error text that a row shows; default 1000, 0 none (templated)
    :param container_log_lines: how many of the containers' last log lines the task's log shows when records failed;
        default 20, 0 none (templated)
    :param output_kms_key_id: KMS key of the outputs, reports and all state (templated)
    :param output_acl: canned ACL of the same, e.g. ``bucket-owner-full-control`` (templated)
    :raises InvalidRequest: an argument or an input breaks a limit; not retried
    :raises BatchFailed: more records failed than tolerated; all else is done; not retried
    :raises BatchUnfinished: some of them for reasons that may pass; retried
    :raises EndpointNotFound: no such endpoint; not retried
    :raises EndpointNotMultiModel: it serves no target models; not retried
    :raises EndpointNotRealTime: it is asynchronous; not retried
    :raises EndpointNotInService: it does not serve now; retried
    :raises FencedOff: a later try has taken over, and this one was left behind; not retried
    :raises PlanReplaced: a later plan counts than that of the given shard; retried
    :raises ResourceConflict: another version of this package began the batch; not retried
    :raises TaskKilled: Airflow ended the task; what was answered is written down; retried
    :raises ServiceUnavailable: the endpoint or S3 gave no useful answer for long; retried
    """

    not_templated = ()
    none_fields = ("split_type", "compression_type", "assemble_with", "join_source")
    operator_extra_links = (*InvocationOperator.operator_extra_links, BatchReportLink())
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
        """Plan, unless that is done; invoke what is left; report."""
        with self.reading_arguments():
            tolerance, began = tolerance_of(self), time.time()
            lines = whole_number(self.container_log_lines, "container_log_lines")
            region_name = self.control_plane().conn_region_name
            persist_endpoint(context, region_name=region_name, endpoint_name=self.endpoint_name)
            with self.explaining(self.endpoint_name), undisturbed():
                outcome = self.run_until_killed(self._outcome(context))
            persist_report(context, region_name=region_name, location=outcome.page_location)
            if outcome.has_failed_containers:
                logs = endpoint_log_group(self.endpoint_name)
                self.container_logs().show_tail(logs, lines=lines, since=began)
            self._judge(context, outcome, tolerance)
            return outcome.summary

    def _judge(self, context: Context, outcome: BatchOutcome, tolerance: Tolerance) -> None:
        """Log or raise what failed, and log the report."""
        error: BatchFailed | None = None
        if outcome.retryable and _has_tries_left(context):
            text = outcome.in_words(tolerance, "Some of that may pass: the retry does it again")
            error = BatchUnfinished(*text.split("\n"))
        elif tolerance.is_exceeded(outcome.counts):
            kind = BatchUnfinished if outcome.retryable else BatchFailed
            text = outcome.in_words(
                tolerance, "Mend the cause, then clear this task to try those again; outputs are kept"
            )
            error = kind(*text.split("\n"))
        elif outcome.counts.failed:
            for line in outcome.in_words(tolerance, "").split("\n"):
                self.log.warning("%s", line)
        self.log.info("batch report: %s", json.dumps(outcome.summary))
        if error is not None:
            raise error

    async def _outcome(self, context: Context) -> BatchOutcome:
        from airflow_sm_plugin.multi_model.run import run_batch, run_one_shard
        from airflow_sm_plugin.multi_model.shard import ShardSettings

        settings = ShardSettings(
            plan_location="",
            shard=0,
            engine=engine_settings(self, context),
            writer=writer_of(context),
            restart=choice(self.on_rerun, "on_rerun", ("resume", "restart")) == "restart",
            options=object_options(self),
        )
        if is_given(self.shard):
            reference = mapping(self.shard, "shard") or {}
            return await run_one_shard(self.aws, settings, reference)
        return await run_batch(self.aws, settings, plan_settings(self, context))


def _has_tries_left(context: Context) -> bool:
    ti = context.get("ti")
    tried, most = getattr(ti, "try_number", None), getattr(ti, "max_tries", None)
    return tried is not None and most is not None and tried <= most
