"""Merge what a batch's shards reported into one report, and be the task that fails when the batch did."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import AirflowSkipException, Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, try_of
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import is_given, whole_number
from airflow_sm_plugin.exceptions import BatchFailed, InvalidRequest
from airflow_sm_plugin.links import BatchReportLink, EndpointConsoleLink, persist_endpoint, persist_report
from airflow_sm_plugin.operators.multi_model_arguments import object_options, tolerance_of

if TYPE_CHECKING:
    from airflow_sm_plugin.batches.task_try import TaskTry
    from airflow_sm_plugin.multi_model.report.batch_report import BatchReport

_S3_CONNECTIONS = 32


class SageMakerMergeBatchReportOperator(SageMakerInferenceOperator):
    """Merge the reports of a batch's shards, write ``report.json`` and ``report.html``, and fail if the batch did.

    It runs whatever became of the batch tasks (``trigger_rule="all_done"`` unless another is given), so that there is a
    report also when some failed, or when nothing was planned. Nothing is invoked, outputs are left as they are, and it
    can run any number of times. The reports lie in the plan's folder, where no other batch replaces them, with copies
    ``report.json`` and ``report.html`` below the batch's outputs. A report whose counts do not add up is not written.

    The log's last line is the summary as one JSON object behind ``batch report: ``.

    Returns on XCom: ``{"endpoint_name", "inputs", "inputs_failed", "inputs_carried", "inputs_passed_over", "records",
    "succeeded", "failed", "models", "models_failed", "invocations", "retries", "seconds", "shards", "shards_missing",
    "plan_digest", "started_at", "finished_at", "outputs", "report_location", "report_page_location"}``.

    :param plan_location: of the plan's folder, as the plan task's XCom ``plan`` says; where that is empty, after an
        estimate, this task is skipped (templated)
    :param on_error: ``"fail"`` (default) fails the task when a record failed or an input could not be read;
        ``"tolerate"`` when more than ``tolerated_failure_ratio`` of the records did, or, with a ratio below 1, when an
        input could not be read to its end (templated)
    :param tolerated_failure_ratio: failed records of all, 0 to 1; default 0, with ``on_error="tolerate"`` 1 (templated)
    :param failure_rows: how many failures the error names, by input, model, class and status; default 5 (templated)
    :param output_kms_key_id: KMS key of the reports (templated)
    :param output_acl: canned ACL of the reports, e.g. ``bucket-owner-full-control`` (templated)
    :raises InvalidRequest: an argument breaks a limit, or the plan task left no plan; not retried
    :raises InputNotFound: the plan is not there any more; not retried
    :raises BatchFailed: more failed than is tolerated, or a shard has no report; both reports are written; not retried
    :raises InferenceError: the counts do not add up; not retried
    :raises FencedOff: a later try reports, and this one was left behind; not retried
    :raises PlanReplaced: a later plan counts; retried
    :raises ResourceConflict: another version of this package began the batch; not retried
    :raises TaskKilled: Airflow ended the task; retried
    :raises ServiceUnavailable: S3 did not answer; retried
    """

    not_templated = ()
    none_fields = ("plan_location",)
    operator_extra_links = (BatchReportLink(), EndpointConsoleLink())

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
        """Merge and write, then judge."""
        from airflow_sm_plugin.multi_model.report.tolerance import failure_text

        with self.reading_arguments():
            location, tolerance = self._plan(), tolerance_of(self)
            rows = whole_number(self.failure_rows, "failure_rows")
            report = self.run_until_killed(self._merge(location, try_of(context)))
            self._remember(context, report)
            self._tell(report)
            if report.missing_shards or tolerance.is_exceeded(report.total):
                raise BatchFailed(*failure_text(report, tolerance, rows=rows).split("\n"))
            return report.summary()

    async def _merge(self, location: str, task_try: TaskTry) -> BatchReport:
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.multi_model.report.merge import report_batch

        options = object_options(self)
        async with S3Objects.open(self.aws, max_connections=_S3_CONNECTIONS, options=options) as s3:
            return await report_batch(s3, location, task_try=task_try, options=options)

    def _remember(self, context: Context, report: BatchReport) -> None:
        region_name = self.control_plane().conn_region_name
        persist_endpoint(context, region_name=region_name, endpoint_name=report.plan.endpoint_name)
        if report.report_page_location:
            persist_report(context, region_name=region_name, location=report.report_page_location)

    def _tell(self, report: BatchReport) -> None:
        summary = report.summary()
        self.log.info(
            "endpoint %s: %d inputs, %d records, %d failed, %d of %d shards without a report; report %s/report.html",
            report.plan.endpoint_name,
            report.plan.inputs,
            report.total.records,
            report.total.records_failed,
            len(report.missing_shards),
            report.plan.shards,
            report.plan.outputs.rstrip("/"),
        )
        self.log.info("batch report: %s", json.dumps(summary))

    # Arguments

    def _plan(self) -> str:
        """Return where the plan's folder lies."""
        if self.plan_location == "":
            raise AirflowSkipException(
                "the plan task was asked for an estimate only: there is nothing to report on"
            )
        if not is_given(self.plan_location):
            raise InvalidRequest(
                "the plan task left no plan, so there is nothing to report on: it failed, and its log says why"
            )
        S3Uri.parse(self.plan_location, name="plan_location")
        return str(self.plan_location)
