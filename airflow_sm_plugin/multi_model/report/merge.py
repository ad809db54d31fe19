"""Read what the shards report, merge it, and write the batch's report for programs and for people."""

from __future__ import annotations

import asyncio
import functools
import uuid
from importlib import resources
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined, Template

from airflow_sm_plugin._safe_text import as_utf8
from airflow_sm_plugin.batches.claim import Claim
from airflow_sm_plugin.batches.folder import REPORT, REPORT_PAGE
from airflow_sm_plugin.core.text import legible
from airflow_sm_plugin.multi_model.plan.plan import ShardPlan
from airflow_sm_plugin.multi_model.plan.store import PlanFence, read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.report.batch_report import BatchReport, ReportSum
from airflow_sm_plugin.multi_model.report.charts import charts_of
from airflow_sm_plugin.multi_model.report.view import view_of
from airflow_sm_plugin.multi_model.state.fenced_objects import FencedObjects
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder, ShardFolder
from airflow_sm_plugin.multi_model.state.store import latest_report
from airflow_sm_plugin.multi_model.statistics.shard_report import ShardReport

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.batches.task_try import TaskTry

_AT_ONCE = 16
"""How many shards are read at the same time; no more of their reports are in memory than these and the sum."""

_PAGE_TYPE = "text/html; charset=utf-8"


async def merge_reports(s3: S3Objects, plan_location: str) -> BatchReport:
    """Return the report of a whole batch, from what its shards have reported by now; nothing is written.

    :param plan_location: of the plan's folder
    :raises InputNotFound: there is no plan, or parts of it were deleted
    :raises InferenceError: a report is of another plan, or the counts do not add up
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    folder = MultiModelPlanFolder(plan_location.rstrip("/"))
    plan = await read_plan(s3, folder.location)
    together = ReportSum(plan)
    for first in range(0, plan.shards, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, plan.shards))
        for shard in await asyncio.gather(*(_read(s3, folder.shard(number)) for number in numbers)):
            if isinstance(shard, ShardReport):
                together.add(shard)
            else:
                together.miss(shard)
    return together.report().lying_at(report=folder.report, page=folder.report_page)


async def _read(s3: S3Objects, folder: ShardFolder) -> ShardReport | ShardPlan:
    """Return a shard's report, else what it should have done."""
    return await latest_report(s3, folder) or await read_shard_plan(s3, folder)


async def report_batch(
    s3: S3Objects, plan_location: str, *, task_try: TaskTry, options: ObjectOptions
) -> BatchReport:
    """Merge the shards' reports; write ``report.json`` and ``report.html`` into the plan's folder and the outputs.

    Those in the plan's folder stay; another batch with the same outputs replaces the others. A process left behind
    replaces nothing that a later try has written.

    :param task_try: this try of the task instance
    :param options: how they are kept
    :raises FencedOff: a later try reports
    :raises PlanReplaced: a later plan counts
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


_TEMPLATE = "report.html.jinja"


def page_of(report: BatchReport) -> bytes:
    """Return the content of ``report.html``. What the report quotes, names and containers' texts, is escaped."""
    page = _template().render(view=view_of(report), charts=charts_of(report))
    return as_utf8(page)


@functools.cache
def _template() -> Template:
    source = (
        resources.files("airflow_sm_plugin.multi_model.report")
        .joinpath(_TEMPLATE)
        .read_text(encoding="utf-8")
    )
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    return environment.from_string(source)
