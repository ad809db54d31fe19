"""A multi-model batch in one task: one shard of a plan, or plan, one shard and report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._safe_text import presentable
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.core.template_values import whole_number
from airflow_sm_plugin.exceptions import InvalidRequest, ModelError, ModelUnavailable
from airflow_sm_plugin.hooks.endpoint_facts import EndpointFacts
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.report.merge import report_batch
from airflow_sm_plugin.multi_model.report.tolerance import Tolerance, failed_share, failure_line
from airflow_sm_plugin.multi_model.shard import ShardSettings, run_shard
from airflow_sm_plugin.multi_model.statistics.shard_report import ModelCounts

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.connection import AwsConnection
    from airflow_sm_plugin.multi_model.plan.settings import PlanSettings

_S3_CONNECTIONS = 32
_SHOWN = 5


@dataclass(frozen=True)
class BatchOutcome:
    """What a task's work came to.

    :param summary: for XCom
    :param page_location: of what people would look at
    :param retryable: inputs of which something failed for reasons that may pass
    :param failures: the first rows of errors
    """

    summary: dict[str, Any]
    counts: ModelCounts
    page_location: str
    retryable: int
    failures: Sequence[Mapping[str, Any]]

    @property
    def has_failed_containers(self) -> bool:
        """Whether one of the first failures was a container's."""
        return any(row["error"] in (ModelError.__name__, ModelUnavailable.__name__) for row in self.failures)

    def in_words(self, tolerance: Tolerance, then: str) -> str:
        """Return what failed, for an error's text.

        :param then: what the reader can do
        """
        unread = (
            f"; {self.counts.inputs_unread} inputs could not be read to their end"
            if self.counts.inputs_unread
            else ""
        )
        said = [f"{failed_share(self.counts, tolerance)}{unread}."]
        said += [failure_line(row) for row in self.failures[:_SHOWN]]
        said.append(f"All are listed in the .errors.jsonl beside the outputs. {then}".rstrip())
        return "\n".join(map(presentable, said))


async def run_one_shard(
    connection: AwsConnection, settings: ShardSettings, reference: Mapping[str, Any]
) -> BatchOutcome:
    """Do one shard of a plan.

    :param reference: as the plan task returns it
    :raises InvalidRequest: it is no such reference
    :raises SageMakerInferenceError: as :func:`~airflow_sm_plugin.multi_model.shard.run_shard`
    """
    location = reference.get("plan_location")
    if not isinstance(location, str) or "shard" not in reference:
        raise InvalidRequest(
            f"shard must be one of the references that the plan task returns, with plan_location and shard; it has "
            f"{', '.join(map(str, reference)) or 'nothing'}"
        )
    number = whole_number(reference["shard"], "shard")
    finished = await run_shard(
        connection, dataclasses.replace(settings, plan_location=location, shard=number)
    )
    report = finished.report
    summary = {**report.summary(), "report_location": finished.location}
    return BatchOutcome(summary, report.total, finished.location, finished.retryable, report.failures)


async def run_batch(
    connection: AwsConnection, settings: ShardSettings, planned: PlanSettings
) -> BatchOutcome:
    """Plan all inputs as one shard, do it, and write the report.

    :raises SageMakerInferenceError: as :func:`~airflow_sm_plugin.multi_model.plan.make.make_plan` and
        :func:`~airflow_sm_plugin.multi_model.shard.run_shard`
    """
    endpoint = await EndpointFacts(connection, planned.endpoint_name).models()
    async with S3Objects.open(connection, max_connections=_S3_CONNECTIONS, options=settings.options) as s3:
        plan, folder = await make_plan(s3, dataclasses.replace(planned, max_shards=1), endpoint)
        retryable = 0
        for shard in range(plan.shards):
            work = dataclasses.replace(settings, plan_location=folder.location, shard=shard)
            retryable += (await run_shard(connection, work)).retryable
        report = await report_batch(
            s3, folder.location, task_try=settings.writer.task_try, options=settings.options
        )
    return BatchOutcome(report.summary(), report.total, folder.report_page, retryable, report.failures)
