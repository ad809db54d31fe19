"""Shorthands for tests of multi-model plans: settings, a plan made, what lies in S3 of it, and shards that are done."""

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
    """A plan and all that lies in S3 of it."""

    plan: MultiModelPlan
    folder: MultiModelPlanFolder
    shards: list[ShardPlan]
    entries: list[list[BatchInput]]

    @property
    def sources(self) -> list[str]:
        """Every input's location, in order of the locations."""
        return sorted(one.source for entries in self.entries for one in entries)

    @property
    def works(self) -> list[ModelWork]:
        """What there is of each model, shard by shard."""
        return [work for shard in self.shards for work in shard.models]

    def outputs(self) -> Mapping[str, str | None]:
        """Return each input's output name by its location."""
        return {one.source: one.output for entries in self.entries for one in entries}


def in_s3(work: Callable[[S3Objects], Awaitable[Result]]) -> Result:
    """Do something with S3 in an event loop of its own."""

    async def opened() -> Result:
        async with S3Objects.open(CONNECTION, max_connections=32) as s3:
            return await work(s3)

    return asyncio.run(opened())


def settings_of(top: str, **changes: Any) -> PlanSettings:  # noqa: ANN401 - fields
    """Return settings of a batch of the inputs below ``<top>/in/``."""
    made = PlanSettings(
        endpoint_name="ratings",
        source=InputSource(location=f"{top}/in/"),
        outputs=f"{top}/out",
        owner=unique("owner"),
        target_model="{store}.tar.gz",
        writer=StateWriter(TaskTry(100.0, 1), "a run"),
    )
    return replace(made, **changes)


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


def finish(done: Planned, *, failed: Callable[[BatchInput], bool] = lambda _: False) -> None:
    """Leave behind what a batch over all shards leaves.

    :param failed: says of which inputs a record failed
    """

    async def work(s3: S3Objects) -> None:
        for shard, entries in zip(done.shards, done.entries, strict=True):
            folder = done.folder.shard(shard.number)
            ended = tuple(Ended(number, 3, int(failed(one))) for number, one in enumerate(entries))
            await s3.write(numbered(folder.claims, 0), b"{}")
            await s3.write(
                numbered(folder.journal, 0),
                JournalPart(token="t", at=0.0, claim=0, ended=ended, finished=True).as_json(),
            )

    in_s3(work)
