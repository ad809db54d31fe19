"""Helpers for tests of multi-model plans: settings, plans as stored in S3, and finished shards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.batches.input_chunks import ChunkedInputs
from airflow_sm_plugin.batches.inputs import CHUNK, BatchInput, InputSource
from airflow_sm_plugin.batches.task_try import StateWriter, TaskTry
from airflow_sm_plugin.hooks.endpoint_facts import EndpointModels
from airflow_sm_plugin.multi_model.plan.make import make_plan
from airflow_sm_plugin.multi_model.plan.plan import ModelWork, MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.plan.settings import PlanSettings
from airflow_sm_plugin.multi_model.plan.store import read_plan, read_shard_plan
from airflow_sm_plugin.multi_model.state.folder import MultiModelPlanFolder
from airflow_sm_plugin.multi_model.state.records import Ended, JournalPart
from tests.support import unique

CONNECTION = AwsConnection(aws_conn_id=None, region_name="us-east-1")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Planned:
    """A plan as stored in S3, with its shards and entries."""

    plan: MultiModelPlan
    folder: MultiModelPlanFolder
    shards: list[ShardPlan]
    entries: list[list[BatchInput]]

    @property
    def sources(self) -> list[str]:
        """Locations of all inputs, sorted."""
        return sorted(entry.source for entries in self.entries for entry in entries)

    @property
    def works(self) -> list[ModelWork]:
        """The work of each model, shard by shard."""
        return [work for shard in self.shards for work in shard.models]

    def outputs(self) -> Mapping[str, str | None]:
        """Return each input's output name by its location."""
        return {entry.source: entry.output for entries in self.entries for entry in entries}


def in_s3(work: Callable[[S3Objects], Awaitable[Result]]) -> Result:
    """Run work with an S3 client in a new event loop."""

    async def opened() -> Result:
        async with S3Objects.open(CONNECTION, max_connections=32) as s3:
            return await work(s3)

    return asyncio.run(opened())


def settings_of(top: str, **changes: Any) -> PlanSettings:  # noqa: ANN401 - fields
    """Return settings of a batch of the inputs below ``<top>/in/``."""
    settings = PlanSettings(
        endpoint_name="ratings",
        source=InputSource(location=f"{top}/in/"),
        outputs=f"{top}/out",
        owner=unique("owner"),
        target_model="{store}.tar.gz",
        writer=StateWriter(TaskTry(100.0, 1), "a run"),
    )
    return replace(settings, **changes)


def planned(settings: PlanSettings, endpoint: EndpointModels | None = None) -> Planned:
    """Make a plan, and read it."""

    async def work(s3: S3Objects) -> Planned:
        plan, folder = await make_plan(s3, settings, endpoint)
        assert await read_plan(s3, folder.location) == plan
        shards = [await read_shard_plan(s3, folder.shard(number)) for number in range(plan.shards)]
        entries = []
        for shard in shards:
            inputs = ChunkedInputs(s3, folder.shard(shard.number).location, CHUNK)
            entries.append([await inputs.input(number) for number in range(shard.inputs)])
        return Planned(plan, folder, shards, entries)

    return in_s3(work)


def finish(plan: Planned, *, failed: Callable[[BatchInput], bool] = lambda _: False) -> None:
    """Write the claims and journals of a batch that has finished all shards.

    :param failed: returns whether a record of the input failed
    """

    async def work(s3: S3Objects) -> None:
        for shard, entries in zip(plan.shards, plan.entries, strict=True):
            folder = plan.folder.shard(shard.number)
            ended = tuple(Ended(number, 3, int(failed(entry))) for number, entry in enumerate(entries))
            await s3.write(numbered(folder.claims, 0), b"{}")
            await s3.write(
                numbered(folder.journal, 0),
                JournalPart(token="t", written_at=0.0, claim=0, ended=ended, finished=True).as_json(),
            )

    in_s3(work)
