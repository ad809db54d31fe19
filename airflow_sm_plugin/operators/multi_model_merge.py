"""Merge the reports of a batch's shards, in a task that fails when the batch failed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import AirflowSkipException, Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, try_of
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import is_given, whole_number
from airflow_sm_plugin.exceptions import BatchFailed, InvalidRequest
from airflow_sm_plugin.links import BatchReportLink, EndpointConsoleLink, persist_endpoint, persist_report
from airflow_sm_plugin.operators.arguments import object_options, tolerance_of

if TYPE_CHECKING:
    from airflow_sm_plugin.batches.task_try import TaskTry
    from airflow_sm_plugin.multi_model.report.batch_report import BatchReport

_S3_CONNECTIONS = 32


class SageMakerMergeBatchReportOperator(SageMakerInferenceOperator):
    """Merge the reports of a batch's shards, write ``report.json`` and ``report.html``, and fail if the batch failed.

    The task runs after failed batch tasks and after an empty plan too (``trigger_rule="all_done"`` unless another is
    given), so that a report always exists. It invokes nothing, leaves outputs unchanged, and can be repeated. The
    reports are in the plan's folder, where no other batch replaces them, with copies ``report.json`` and
    ``report.html`` below the batch's outputs. A report whose counts do not add up is not written.

    The last line of the log is the summary as a JSON object after ``batch report: ``.

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
    :param failure_rows: number of failures in the error, by input, model, class and status; default 5
    :raises InvalidRequest: an argument breaks a limit, or the plan task left no plan
    :raises InputNotFound: the plan does not exist any more
    :raises BatchFailed: more failed than is tolerated, or a shard has no report; both reports are written
    :raises InferenceError: the counts do not add up
    :raises FencedOff: a later try reports
    :raises PlanReplaced: a later plan exists
    :raises ResourceConflict: another version of this package began the batch
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
        from airflow_sm_plugin.multi_model.report.tolerance import failure_text

        with self.reading_arguments():
            location = self._checked_location()
            tolerance = tolerance_of(self.on_error, self.tolerated_failure_ratio)
            rows = whole_number(self.failure_rows, "failure_rows")
            report = self.run_until_killed(self._merge(location, try_of(context)))
            self._persist_links(context, report)
            self._log_report(report)
            if report.missing_shards or tolerance.is_exceeded(report.total):
                raise BatchFailed(*failure_text(report, tolerance, rows=rows).split("\n"))
            return report.summary()

    async def _merge(self, location: str, task_try: TaskTry) -> BatchReport:
        from airflow_sm_plugin.aws.s3.objects import S3Objects
        from airflow_sm_plugin.multi_model.report.merge import report_batch

        options = object_options(self.output_kms_key_id, self.output_acl)
        async with S3Objects.open(self.aws, max_connections=_S3_CONNECTIONS, options=options) as s3:
            return await report_batch(s3, location, task_try=task_try, options=options)

    def _persist_links(self, context: Context, report: BatchReport) -> None:
        region_name = self.control_plane().conn_region_name
        persist_endpoint(context, region_name=region_name, endpoint_name=report.plan.endpoint_name)
        if report.report_page_location:
            persist_report(context, region_name=region_name, location=report.report_page_location)

    def _log_report(self, report: BatchReport) -> None:
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
        self.log.info("batch report: %s", json.dumps(report.summary()))

    def _checked_location(self) -> str:
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
