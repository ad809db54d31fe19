"""Read the shards' reports, merge them, and write the batch's report for programs and for people."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.report.elements import NO_RUN, RunContext
from airflow_sm_plugin.batches.report.page import PAGE_TYPE, rendered
from airflow_sm_plugin.exceptions import ResourceConflict
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.plan.store import PlanFence, read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ReportSum
from airflow_sm_plugin.multi_model.report.charts import charts_of
from airflow_sm_plugin.multi_model.report.shard_sum import group_of, shard_report
from airflow_sm_plugin.multi_model.report.view import view_of
from airflow_sm_plugin.multi_model.state.fenced_objects import FencedObjects
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.store import read_journal
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.task_try import TaskTry

log = get_log(__name__)

_AT_ONCE = 16
"""Shards read at the same time: only their reports and the sum are in memory."""


async def merge_reports(s3: S3Objects, plan_location: str) -> BatchReport:
    """Merge the reports that the shards have written by now, without writing anything.

    Of a shard that did not finish, what it recorded counts.

    :param plan_location: of the plan's folder
    :raises InputNotFound: there is no plan, or parts of it were deleted
    :raises InferenceError: a report is of another plan, or the counts do not add up
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    folder = MultiModelPlanFolder(plan_location.rstrip("/"))
    plan = await read_plan(s3, folder.location)
    total = ReportSum(plan)
    for first in range(0, plan.shards, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, plan.shards))
        for shard, report in await asyncio.gather(
            *(_read(s3, plan, folder.shard(number)) for number in numbers)
        ):
            if shard is None and report is not None:
                total.add(report)
            elif shard is not None:
                total.miss(shard, report)
    return replace(total.report(), report_location=folder.report, report_page_location=folder.report_page)


async def _read(
    s3: S3Objects, plan: MultiModelPlan, folder: ShardFolder
) -> tuple[ShardPlan | None, ShardReport | None]:
    """Read the report of a shard's latest claim; without one, the shard's plan and what is done."""
    claim = await NumberedLog(s3, folder.claims).latest()
    if claim < 0:
        return await read_shard_plan(s3, folder), None
    if (body := await s3.read_if_any(folder.report(claim))) is not None:
        return None, ShardReport.from_json(body)
    shard = await read_shard_plan(s3, folder)
    if (body := await s3.read_if_any(folder.stop(claim))) is not None:
        return shard, ShardReport.from_json(body)
    return shard, await _read_done(s3, plan, shard, folder)


async def _read_done(
    s3: S3Objects, plan: MultiModelPlan, shard: ShardPlan, folder: ShardFolder
) -> ShardReport | None:
    """Sum up the journal of a killed process; None where it recorded nothing, or parts of it were deleted."""
    try:
        journal = await read_journal(s3, folder, group_of(shard), keep=False)
    except ResourceConflict as error:
        log.warning("%s", error)
        return None
    if journal.written_at is None:
        return None
    return shard_report(plan, shard, journal, finished_at=journal.written_at)


async def report_batch(
    s3: S3Objects,
    plan_location: str,
    *,
    task_try: TaskTry,
    options: ObjectOptions,
    context: RunContext = NO_RUN,
) -> BatchReport:
    """Merge the shards' reports; write ``report.json`` and ``report.html`` into the plan's folder and the outputs.

    The files in the plan's folder stay; another batch with the same outputs replaces the others. An orphaned process
    does not replace files that a later try has written.

    :param task_try: this try of the task instance
    :param options: encryption and the like of both files
    :param context: of the task, for the page
    :raises FencedOff: a later try has claimed the report
    :raises PlanReplaced: a later plan has replaced this one
    :raises InferenceError: as :func:`merge_reports`
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    folder, token = MultiModelPlanFolder(plan_location.rstrip("/")), uuid.uuid4().hex[:16]
    plan = await read_plan(s3, folder.location)
    fence = PlanFence(s3, folder)
    claim = await Claim.taken(s3, folder, token=token, task_try=task_try, also=fence.check)
    report = await merge_reports(s3, folder.location)
    objects = FencedObjects(
        s3, options, mark=f"{plan.nonce}/{token}", check=claim.check, check_lately=claim.check_lately
    )
    body, page, outputs = report.as_json(), page_of(report, context), plan.outputs.rstrip("/")
    for location in (folder.report, f"{outputs}/{REPORT}"):
        await objects.write(location, body)
    for location in (folder.report_page, f"{outputs}/{REPORT_PAGE}"):
        await objects.write(location, page, content_type=PAGE_TYPE)
    return report


def page_of(report: BatchReport, context: RunContext = NO_RUN) -> bytes:
    """Render ``report.html``. Names and containers' texts are escaped."""
    values = {"view": view_of(report, context), "charts": charts_of(report), "context": context}
    return rendered("multi_model/report/report.html.jinja", plan=report.plan, **values)
