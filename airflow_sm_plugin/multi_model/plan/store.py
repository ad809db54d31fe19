"""All plans of a multi-model batch in S3, and which of them counts.

Each lies in a folder of its own, so that no two planners ever mix. A log says which plan counts: each planner that
makes a plan, or goes on with one, adds an entry, written only if nobody else wrote that number. Before it does it has
read the entry before, and stops where a later try wrote that. So the tries in the log never go back, and an orphan's
plan never comes after one that a later try has chosen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.claim import names_below
from airflow_sm_plugin.batches.state_writer import StateWriter
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import InputNotFound, PlanReplaced, PreconditionFailed
from airflow_sm_plugin.multi_model.plan.plan import MultiModelPlan, ShardPlan
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder, PlanFolder, ShardFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects


@dataclass(frozen=True)
class StoredPlan:
    """A plan and where it lies."""

    plan: MultiModelPlan
    folder: PlanFolder


@dataclass(frozen=True)
class Choice:
    """An entry of the log of plans.

    :param number: from 0
    :param writer: which try chose the plan; not always the one that made it
    """

    number: int
    plan_location: str
    writer: StateWriter


class PlanStore:
    """The plans of one task instance with certain arguments."""

    def __init__(self, s3: S3Objects, folder: MultiModelFolder) -> None:
        self._s3 = s3
        self._folder = folder

    async def latest(self) -> Choice | None:
        """Return the entry that counts; None when nothing was planned."""
        names = await names_below(self._s3, self._folder.choices)
        return await _choice(self._s3, self._folder, names[-1]) if names else None

    async def stored(self, location: str) -> StoredPlan | None:
        """Return a plan; None when somebody, a lifecycle rule say, has deleted it."""
        try:
            return StoredPlan(await read_plan(self._s3, location), PlanFolder(location))
        except InputNotFound:
            return None

    async def choose(self, folder: PlanFolder, writer: StateWriter, *, after: Choice | None) -> bool:
        """Make a plan the one that counts; say whether that was possible, or another planner was faster.

        :param after: the entry that counted, as it was read
        """
        if after is not None and (after.plan_location, after.writer) == (folder.location, writer):
            return True
        number = 0 if after is None else after.number + 1
        entry = {"plan_location": folder.location, **writer.as_json()}
        try:
            await self._s3.write(
                self._folder.choice(number),
                json.dumps(entry).encode(),
                only_if_new=True,
            )
        except PreconditionFailed:
            return False
        return True


class PlanFence:
    """Makes sure that a plan still counts. A plan that was never chosen is nobody's but its caller's."""

    def __init__(self, s3: S3Objects, plan: PlanFolder) -> None:
        self._s3 = s3
        self._plan = plan
        self._seen = ""

    async def check(self) -> None:
        """Make sure that no other plan counted before this was called.

        :raises PlanReplaced: another one counts
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        folder = self._plan.batch
        names = await names_below(self._s3, folder.choices)
        if not names or names[-1] == self._seen:
            return
        choice = await _choice(self._s3, folder, names[-1])
        if choice.plan_location != self._plan.location:
            raise PlanReplaced(
                f"{choice.plan_location} counts, a later plan of this batch: this task stops, which works on "
                f"{self._plan.location}. A retry works on the plan that its plan task returned last"
            )
        self._seen = names[-1]


async def _choice(s3: S3Objects, folder: MultiModelFolder, name: str) -> Choice:
    number = int(name.rpartition("/")[2].removesuffix(".json"))
    bucket = S3Uri.parse(folder.location).bucket
    entry = json.loads(await s3.read(f"s3://{bucket}/{name}"))
    return Choice(number, entry["plan_location"], StateWriter.from_json(entry))


async def read_plan(s3: S3Objects, plan_location: str) -> MultiModelPlan:
    """Read a plan.

    :param plan_location: of its folder, as the plan task says
    :raises InputNotFound: there is none
    """
    where = PlanFolder(plan_location).plan
    found = await s3.read_if_any(where)
    if found is None:
        raise InputNotFound(
            f"there is no plan at {where}: it was deleted, or never finished; run the plan task again"
        )
    return MultiModelPlan.from_json(found)


async def read_shard_plan(s3: S3Objects, folder: ShardFolder) -> ShardPlan:
    """Read which models a shard has.

    :raises InputNotFound: the plan has no such shard
    """
    return ShardPlan.from_json(await s3.read(folder.plan))
