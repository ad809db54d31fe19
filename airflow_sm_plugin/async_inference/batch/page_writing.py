"""Write the page of an asynchronous batch, finished or stopped by an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.async_inference.batch.folder import AttemptFolder
from airflow_sm_plugin.async_inference.batch.plan import BatchPlan
from airflow_sm_plugin.async_inference.batch.report_page import BatchFigures, RoundFigures, view_of
from airflow_sm_plugin.async_inference.batch.round_run import RoundProgress
from airflow_sm_plugin.async_inference.batch.settings import BatchSettings
from airflow_sm_plugin.batches.report.failures import FailureGroup
from airflow_sm_plugin.batches.report.page import PAGE_TYPE, rendered

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects


async def write_page(
    s3: S3Objects,
    settings: BatchSettings,
    plan: BatchPlan,
    folder: AttemptFolder,
    rounds: Sequence[RoundProgress],
    *,
    finished_at: str,
    failures: Sequence[FailureGroup] = (),
    stopped: tuple[str, str] | None = None,
) -> None:
    """Write ``report.html`` beside ``report.json``.

    :param rounds: so far, the last one perhaps unfinished
    :param finished_at: ISO 8601
    :param failures: inputs without an output, in groups
    :param stopped: class and message of the error that stopped the batch
    :raises ServiceError: S3 refused, or did not answer
    """
    batch = BatchFigures(
        settings.template.endpoint_name,
        folder.location,
        inputs=plan.count,
        carried=len(plan.carried_numbers()),
        started_at=plan.created_at,
        finished_at=finished_at,
        rounds=[RoundFigures.of(each.ledger, each.counts) for each in rounds],
        failures=failures,
        stopped=stopped,
    )
    view = view_of(batch, settings.context)
    template = "async_inference/batch/report.html.jinja"
    page = rendered(template, batch=batch, view=view, context=settings.context)
    await s3.write(folder.report_page, page, content_type=PAGE_TYPE)
