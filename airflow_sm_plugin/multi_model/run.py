"""Run a multi-model batch in one task: one shard of a plan; or plan, run and report on all inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.template_values import whole_number
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import (
    InvalidRequest,
    ModelError,
    ModelUnavailable,
    SageMakerInferenceError,
)
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.plan.store import S3_CONNECTIONS
from airflow_sm_plugin.multi_model.report.batch_report import ModelFailures, failure_groups
from airflow_sm_plugin.multi_model.report.merge import report_batch
from airflow_sm_plugin.multi_model.report.tolerance import Tolerance, failed_share, group_lines
from airflow_sm_plugin.multi_model.shard import ShardSettings, run_shard
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.connection import AwsConnection
    from airflow_sm_plugin.batches.report.elements import RunContext
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings


_SHOWN = 5
"""Groups of failures named in the task's error. All failures are in the ``.errors.jsonl``."""


@dataclass(frozen=True)
class BatchOutcome:
    """The counts and the first failures of a shard or a batch, which decide whether its task succeeds.

    :param summary: for XCom
    :param page_location: of the report for people
    :param retryable: inputs with a failure that a retry can end
    :param groups: of the failures, the greatest first
    """

    summary: dict[str, Any]
    counts: ModelCounts
    page_location: str
    retryable: int
    groups: Sequence[ModelFailures]

    @property
    def has_failed_containers(self) -> bool:
        """Check whether a failure was a container's."""
        containers = (ModelError.__name__, ModelUnavailable.__name__)
        return any(group.error in containers for _, group in self.groups)

    def failure_lines(self, tolerance: Tolerance, *, is_shard: bool) -> list[str]:
        """Describe the failures, for an error's text."""
        unread = self.counts.inputs_unread
        share = failed_share(self.counts, tolerance, is_shard=is_shard)
        return [
            f"{share}; {plural(unread, 'input')} could not be read to the end" if unread else share,
            *group_lines(self.groups, _SHOWN),
            "All are listed in the .errors.jsonl beside the outputs",
        ]


async def run_one_shard(
    connection: AwsConnection, settings: ShardSettings, reference: Mapping[str, Any]
) -> BatchOutcome:
    """Run one shard of a plan.

    :param reference: an item of the plan task's result
    :raises InvalidRequest: it is no such item
    :raises SageMakerInferenceError: as :func:`~airflow_sm_plugin.multi_model.shard.run_shard`
    """
    location = reference.get("plan_location")
    if not isinstance(location, str) or "shard" not in reference:
        raise InvalidRequest(
            f"shard must be one of the references that the plan task returns, with plan_location and shard; it has "
            f"{', '.join(map(str, reference)) or 'nothing'}"
        )
    shard = whole_number(reference["shard"], "shard")
    finished = await run_shard(connection, replace(settings, plan_location=location, shard=shard))
    report = finished.report
    summary = {**report.summary(), "report_location": finished.location}
    groups = failure_groups(report.statistics_by_model())
    return BatchOutcome(summary, report.total, finished.location, finished.retryable, groups)


async def run_batch(
    connection: AwsConnection,
    settings: ShardSettings,
    planned: PlanSettings,
    *,
    context: RunContext,
    pages: list[str],
) -> BatchOutcome:
    """Plan all inputs as one shard, run it, and write the report, also when an error stops it.

    :param context: of the task, for the report's page
    :param pages: gets the location of the page once it is written
    :raises SageMakerInferenceError: as :func:`~airflow_sm_plugin.multi_model.plan.make.make_plan` and
        :func:`~airflow_sm_plugin.multi_model.shard.run_shard`
    """
    endpoint = await EndpointFacts(connection, planned.endpoint_name).models()
    async with S3Objects.open(connection, max_connections=S3_CONNECTIONS, options=settings.options) as s3:
        plan, folder = await make_plan(s3, replace(planned, max_shards=1), endpoint)
        report_on = partial(
            report_batch,
            s3,
            folder.location,
            task_try=settings.writer.task_try,
            options=settings.options,
            context=context,
        )
        retryable = 0
        try:
            for shard in range(plan.shards):
                work = replace(settings, plan_location=folder.location, shard=shard)
                retryable += (await run_shard(connection, work)).retryable
        except SageMakerInferenceError:
            with suppress(SageMakerInferenceError):  # the first error counts
                await report_on()
                pages.append(folder.report_page)
            raise
        report = await report_on()
        pages.append(folder.report_page)
    return BatchOutcome(report.summary(), report.total, folder.report_page, retryable, report.failure_groups)
