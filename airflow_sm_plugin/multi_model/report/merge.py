"""Read the shards' reports, merge them, and write the batch's report for programs and for people."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.core.text import legible
from airflow_sm_plugin.multi_model.plan.plan import ShardPlan
from airflow_sm_plugin.multi_model.plan.store import PlanFence, read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ReportSum
from airflow_sm_plugin.multi_model.report.charts import charts_of
from airflow_sm_plugin.multi_model.report.view import view_of
from airflow_sm_plugin.multi_model.state.fenced_objects import FencedObjects
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.task_try import TaskTry

_AT_ONCE = 16
"""Shards read at the same time: only their reports and the sum are in memory."""

_PAGE_TYPE = "text/html; charset=utf-8"


async def merge_reports(s3: S3Objects, plan_location: str) -> BatchReport:
    """Merge the reports that the shards have written by now, without writing anything.

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
        for shard in await asyncio.gather(*(_read(s3, folder.shard(number)) for number in numbers)):
            if isinstance(shard, ShardReport):
                total.add(shard)
            else:
                total.miss(shard)
    return replace(total.report(), report_location=folder.report, report_page_location=folder.report_page)


async def _read(s3: S3Objects, folder: ShardFolder) -> ShardReport | ShardPlan:
    """Read the report of a shard's latest claim; without one, the shard's plan."""
    claim = await NumberedLog(s3, folder.claims).latest()
    body = await s3.read_if_any(folder.report(claim)) if claim >= 0 else None
    return await read_shard_plan(s3, folder) if body is None else ShardReport.from_json(body)


async def report_batch(
    s3: S3Objects, plan_location: str, *, task_try: TaskTry, options: ObjectOptions
) -> BatchReport:
    """Merge the shards' reports; write ``report.json`` and ``report.html`` into the plan's folder and the outputs.

    The files in the plan's folder stay; another batch with the same outputs replaces the others. An orphaned process
    does not replace files that a later try has written.

    :param task_try: this try of the task instance
    :param options: encryption and the like of both files
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
    body, page, outputs = report.as_json(), page_of(report), plan.outputs.rstrip("/")
    for location in (folder.report, f"{outputs}/{REPORT}"):
        await objects.write(location, body)
    for location in (folder.report_page, f"{outputs}/{REPORT_PAGE}"):
        await objects.write(location, page, content_type=_PAGE_TYPE)
    return report


def page_of(report: BatchReport) -> bytes:
    """Render ``report.html``. Names and containers' texts are escaped."""
    return as_utf8(_template().render(plan=report.plan, view=view_of(report), charts=charts_of(report)))


@cache
def _template() -> Template:
    source = resources.files(__package__) / "report.html.jinja"
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    return environment.from_string(source.read_text(encoding="utf-8"))
