"""Batches through multi-model endpoints: plan, invoke (:mod:`.multi_model_batch`), and merge the reports."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import AirflowSkipException, Context, max_map_length
from airflow_sm_plugin.base import SageMakerInferenceOperator, try_of
from airflow_sm_plugin.batches.folder import ERRORS
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import boolean, is_given, whole_number
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import BatchFailed, PlanNotFound
from airflow_sm_plugin.lineage import event_of
from airflow_sm_plugin.links import (
    BatchReportLink,
    EndpointConsoleLink,
    EndpointLogsLink,
    FailuresLink,
    OutputsLink,
    persist_endpoint,
    persist_location,
)
from airflow_sm_plugin.operators.arguments import object_options, plan_settings, split_options, tolerance_of
from airflow_sm_plugin.operators.multi_model_batch import SageMakerMultiModelBatchOperator

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.console import Console
    from airflow_sm_plugin.multi_model.payloads.payload import SplitOptions
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
    from airflow_sm_plugin.multi_model.report.batch_report import BatchReport

__all__ = [
    "SageMakerMergeBatchReportOperator",
    "SageMakerMultiModelBatchOperator",
    "SageMakerPlanMultiModelBatchOperator",
]

PLAN_KEY = "plan"
"""XCom key of the plan's summary."""


class SageMakerPlanMultiModelBatchOperator(SageMakerInferenceOperator):
    """List inputs, assign a target model to each, and pack them into balanced shards for mapped batch tasks.

    Nothing is invoked. The plan is stored in S3, so that XCom carries small references only; a hundred thousand inputs
    take a few seconds and some megabytes of memory. Shards have about equal bytes, and a model is in as few of them as
    possible, since each shard loads it again. Where the endpoint and its model prefix are readable, missing artefacts
    are detected now.

    **A retry** returns the plan of the killed try, if that was complete. **Clearing** the task returns the same plan
    while no input has changed; otherwise it plans again, without inputs that are complete and unchanged (source, ETag,
    target model, output name). A DAG run that was deleted and created again under its run id plans everything.

    Returns on XCom: a list with ``{"plan_location", "shard", "inputs", "models", "bytes"}`` for each shard, to
    ``expand`` the batch task over; empty when nothing is left to invoke. XCom ``plan`` is ``{"plan_location", "inputs",
    "models", "shards", "bytes", "carried", "missing_models", "passed_over"}``, all counts but the location;
    ``passed_over`` are the objects below ``inputs`` that are hidden or that patterns exclude. With ``plan_only`` it has
    the location alone, which is empty.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param endpoint_name: a real-time multi-model endpoint
    :param inputs: ``s3://bucket/prefix`` of the inputs, without hidden objects such as ``_SUCCESS`` and
        ``.part-0.crc``; or ``s3://bucket/key`` of a manifest
    :param outputs: ``s3://bucket/prefix`` of the results, neither among the inputs nor above them
    :param target_model: template of an input's model below the endpoint's model prefix, with fields in single braces:
        the key's Hive partitions by name, ``{parent}``, ``{stem}``, ``{name}``, ``{suffix}``, ``{relative}`` and
        ``{key}``, e.g. ``"store-{store_id}.tar.gz"``; a manifest's ``target-model`` wins
    :param inputs_type: ``"S3Prefix"`` (default), or ``"ManifestFile"``: SageMaker's JSON array ``[{"prefix": "s3://…/"},
        "relative/key.csv", …]``, or JSON Lines ``{"source-ref": "s3://…", "target-model"?, "content-type"?,
        "custom-attributes"?}``; the labels of an augmented manifest are ignored
    :param include: list of patterns such as ``["*.csv"]``; an object below the prefix is an input only if its
        ``{relative}`` key matches a pattern. ``*`` also matches slashes, as in ``aws s3 cp --include``; a hidden object
        needs a pattern that names it, such as ``_raw/*``. Default None, all
    :param exclude: list of such patterns of objects that are no inputs; wins over ``include``
    :param output_name: template of a result's name below ``outputs``, over the same fields and ``{target_model}``;
        default ``"{relative}"``, the key below ``inputs`` with or without its final slash, as in Batch Transform. Names
        must differ
    :param max_shards: default 8, never more than ``[core] max_map_length``
    :param check_models: check that each model's artefact exists, with a HeadObject each, or a listing for more than a
        thousand; default True
    :param on_missing_model: ``"record"`` (default) plans the inputs of a missing model, whose records then fail in the
        report; ``"fail"`` fails this task
    :param on_rerun: effect of clearing the task: ``"resume"`` (default) omits complete inputs, ``"restart"`` plans all
    :param empty_ok: whether a batch without inputs succeeds; default False
    :param check_inputs: check existence, size and ETag of each object of a manifest with a HeadObject each;
        ``on_rerun="resume"`` compares the ETags; default True
    :param state_prefix: ``s3://bucket/prefix`` of plans, journals and reports, which get keys below its ``_batch``;
        default ``outputs``. The role needs s3:ListBucket, s3:GetObject and s3:PutObject there
    :param plan_only: write nothing and return no shards, but log inputs, models, bytes, and an estimate of payloads and
        time; default False
    :param split_type: for the estimate of ``plan_only``, as are the next two: ``"Line"`` (default) or ``"None"``
    :param batch_strategy: ``"SingleRecord"`` (default) or ``"MultiRecord"``
    :param max_payload_in_mb: of a MultiRecord payload, up to 25; default 6
    :raises InvalidRequest: an argument or an input breaks a limit, two outputs would have the same name, or there is no
        input
    :raises InputNotFound: the manifest does not exist, or objects that it lists do not
    :raises EndpointError: EndpointNotFound, EndpointNotMultiModel, EndpointNotRealTime, EndpointNotInService
    :raises InferenceError: FencedOff; TargetModelNotFound with ``on_missing_model="fail"``
    :raises ResourceConflict: another version of this package began the batch
    """

    not_templated = ("multiple_outputs",)
    none_fields = ("split_type",)
    operator_extra_links = (EndpointConsoleLink(), EndpointLogsLink())

    def __init__(
        self,
        *,
        endpoint_name: str,
        inputs: str,
        outputs: str,
        target_model: str | None = None,
        inputs_type: str = "S3Prefix",
        include: Sequence[str] | str | None = None,
        exclude: Sequence[str] | str | None = None,
        split_type: str = "Line",
        output_name: str = "{relative}",
        max_shards: int | str = 8,
        check_models: bool | str = True,
        on_missing_model: str = "record",
        on_rerun: str = "resume",
        empty_ok: bool | str = False,
        check_inputs: bool | str = True,
        state_prefix: str | None = None,
        plan_only: bool | str = False,
        batch_strategy: str = "SingleRecord",
        max_payload_in_mb: float | str = 6,
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        multiple_outputs: bool = False,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(multiple_outputs=multiple_outputs, **kwargs)
        self.endpoint_name = endpoint_name
        self.inputs: str | None = inputs
        self.outputs: str | None = outputs
        self.target_model = target_model
        self.inputs_type = inputs_type
        self.include = include
        self.exclude = exclude
        self.split_type = split_type
        self.output_name = output_name
        self.max_shards = max_shards
        self.check_models = check_models
        self.on_missing_model = on_missing_model
        self.on_rerun = on_rerun
        self.empty_ok = empty_ok
        self.check_inputs = check_inputs
        self.state_prefix = state_prefix
        self.plan_only = plan_only
        self.batch_strategy = batch_strategy
        self.max_payload_in_mb = max_payload_in_mb
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Plan, or read the plan of an earlier try."""
        with self.reading_arguments():
            settings = plan_settings(self, context, max_shards=self._max_shards())
            options = split_options(self.split_type, self.batch_strategy, self.max_payload_in_mb)
            persist_endpoint(context, self.console(), endpoint_name=self.endpoint_name)
            plan_only = boolean(self.plan_only, "plan_only")
            planning = self._plan(settings, estimate=options if plan_only else None)
            summary, references = self.run_until_killed(planning)
        if (ti := context.get("ti")) is not None:
            ti.xcom_push(key=PLAN_KEY, value=summary)
        return references

    async def _plan(
        self, settings: PlanSettings, *, estimate: SplitOptions | None
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the plan's summary and a reference for each shard; log an estimate instead where one is wanted."""
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
        from airflow_sm_plugin.multi_model.plan.estimate import estimate_plan
        from airflow_sm_plugin.multi_model.plan.make import make_plan, shard_references
        from airflow_sm_plugin.multi_model.plan.store import S3_CONNECTIONS

        endpoint = await EndpointFacts(self.aws, settings.endpoint_name).models()
        options = object_options(self.output_kms_key_id, self.output_acl)
        async with S3Objects.open(self.aws, max_connections=S3_CONNECTIONS, options=options) as s3:
            if estimate is not None:
                for line in (await estimate_plan(s3, settings, endpoint, estimate)).lines():
                    self.log.info("%s", line)
                return {"plan_location": ""}, []
            plan, folder = await make_plan(s3, settings, endpoint)
            return plan.summary(folder.location), await shard_references(s3, plan, folder)

    def _max_shards(self) -> int:
        wanted, permitted = whole_number(self.max_shards, "max_shards", at_least=1), max_map_length()
        if wanted > permitted:
            self.log.info("at most %d shards, as [core] max_map_length says, not %d", permitted, wanted)
        return min(wanted, permitted)


class SageMakerMergeBatchReportOperator(SageMakerInferenceOperator):
    """Merge the reports of a batch's shards, write ``report.json`` and ``report.html``, and fail if the batch failed.

    The task runs after failed batch tasks and after an empty plan too (``trigger_rule="all_done"`` unless another is
    given), so that a report always exists. It invokes nothing, leaves outputs unchanged, and can be repeated. The
    reports are in the plan's folder, where no other batch replaces them, with copies ``report.json`` and
    ``report.html`` below the batch's outputs. A report whose counts do not add up is not written.

    Returns on XCom: ``{"endpoint_name", "inputs", "inputs_failed", "inputs_carried", "inputs_passed_over", "records",
    "succeeded", "failed", "models", "models_failed", "invocations", "retries", "seconds", "shards", "shards_missing",
    "plan_digest", "started_at", "finished_at", "outputs", "report_location", "report_page_location"}``.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param plan_location: the plan's folder, from the plan task's XCom ``plan``; empty after an estimate, which skips
        this task
    :param on_error: ``"fail"`` (default) fails the task when a record failed or an input could not be read;
        ``"tolerate"`` when more than ``tolerated_failure_ratio`` of the records failed, or, with a ratio below 1, when
        an input could not be read to its end, so that its records could not be counted
    :param tolerated_failure_ratio: failed records of all, 0 to 1; default 0, with ``on_error="tolerate"`` 1
    :param failure_rows: number of groups of failures in the error, each of one model, error class and kind of message
        (cut to 200 characters), those of most records first; default 5
    :raises InvalidRequest: an argument breaks a limit
    :raises PlanNotFound: the plan task left no plan
    :raises InputNotFound: the plan does not exist any more
    :raises BatchFailed: more failed than is tolerated, or a shard did not finish; both reports are written, with what
        such a shard did and the error that stopped it
    :raises InferenceError: FencedOff, PlanReplaced, or the counts do not add up
    :raises ResourceConflict: another version of this package began the batch
    """

    not_templated = ()
    none_fields = ("plan_location",)
    operator_extra_links = (
        BatchReportLink(),
        OutputsLink(),
        FailuresLink(),
        EndpointConsoleLink(),
        EndpointLogsLink(),
    )

    def __init__(
        self,
        *,
        plan_location: str,
        on_error: str = "fail",
        tolerated_failure_ratio: float | str | None = None,
        failure_rows: int | str = 5,
        output_kms_key_id: str | None = None,
        output_acl: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        kwargs.setdefault("trigger_rule", "all_done")
        super().__init__(**kwargs)
        self.plan_location = plan_location
        self.on_error = on_error
        self.tolerated_failure_ratio = tolerated_failure_ratio
        self.failure_rows = failure_rows
        self.output_kms_key_id = output_kms_key_id
        self.output_acl = output_acl

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow_sm_plugin.multi_model.report.tolerance import advice, failure_text, group_lines

        with self.reading_arguments():
            location = self._checked_location()
            tolerance = tolerance_of(self.on_error, self.tolerated_failure_ratio)
            rows = whole_number(self.failure_rows, "failure_rows")
            console = self.console()
            report = self.run_until_killed(self._merge(location, context, console))
            self._publish(context, report, console)
            if report.missing_shards or tolerance.is_exceeded(report.total):
                lines = failure_text(report, tolerance, rows=rows).split("\n")
                left = self.control_plane().left_behind(report.plan.endpoint_name)
                raise BatchFailed(*lines, left_behind=left or "", do=advice(report, self._clear))
            for line in group_lines(report.failure_groups, rows):
                self.log.warning("%s", line)
            return report.summary()

    @property
    def _clear(self) -> str:
        """Name the tasks to clear so that the batch goes on: those before this one."""
        batch_tasks = ", ".join(sorted(self.upstream_task_ids)) or "the batch tasks"
        return f"{batch_tasks} with downstream"

    async def _merge(self, location: str, context: Context, console: Console) -> BatchReport:
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.multi_model.plan.store import S3_CONNECTIONS, read_plan
        from airflow_sm_plugin.multi_model.report.merge import report_batch
        from airflow_sm_plugin.operators.report_context import run_context

        options = object_options(self.output_kms_key_id, self.output_acl)
        async with S3Objects.open(self.aws, max_connections=S3_CONNECTIONS, options=options) as s3:
            plan = await read_plan(s3, location)
            task = run_context(
                context,
                console,
                endpoint_name=plan.endpoint_name,
                folders={"Outputs and .errors.jsonl in S3": plan.outputs},
                clear=self._clear,
            )
            return await report_batch(s3, location, task_try=try_of(context), options=options, context=task)

    def _publish(self, context: Context, report: BatchReport, console: Console) -> None:
        """Store what the links need, and log the report."""
        folder = f"{report.plan.outputs.rstrip('/')}/"
        persist_endpoint(context, console, endpoint_name=report.plan.endpoint_name)
        persist_location(context, console, OutputsLink, folder)
        self.note_data(context, outputs=[folder], extra=event_of(report.summary()))
        if report.report_page_location:
            persist_location(context, console, BatchReportLink, report.report_page_location)
        if report.total.failed:
            persist_location(context, console, FailuresLink, folder, ending=ERRORS)
        self.log.info(
            "endpoint %s: %s, %s, %d failed, %d of %s unfinished; report %s/report.html",
            report.plan.endpoint_name,
            plural(report.plan.inputs, "input"),
            plural(report.total.records, "record"),
            report.total.records_failed,
            len(report.missing_shards),
            plural(report.plan.shards, "shard"),
            report.plan.outputs.rstrip("/"),
        )

    def _checked_location(self) -> str:
        if self.plan_location == "":
            raise AirflowSkipException(
                "the plan task was asked for an estimate only: there is nothing to report on"
            )
        if not is_given(self.plan_location):
            raise PlanNotFound(
                "the plan task left no plan, so there is nothing to report on",
                do="read the log of the plan task, which failed; then clear that task with what is downstream",
            )
        S3Uri.parse(self.plan_location, name="plan_location")
        return str(self.plan_location)
