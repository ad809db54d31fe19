"""The plans of a multi-model batch in S3, and the log that chooses which of them is current.

Each plan has a folder of its own, so that two planners never mix. The last entry of the log names the current plan. A
planner that makes a plan, or continues one, adds an entry; for each number only the first writer succeeds. Before that
it has read the previous entry, and it stops if a later try wrote that. So the tries in the log never go back, and an
orphan's plan never follows a plan that a later try has chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.batches.numbered_log import NumberedLog
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.exceptions import InputNotFound, PlanReplaced
from airflow_sm_plugin.multi_model.plan.plan import Choice, MultiModelPlan, ShardPlan, read_state
from airflow_sm_plugin.multi_model.state.folder import MultiModelFolder, MultiModelPlanFolder, ShardFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

S3_CONNECTIONS = 32
"""Requests at once of a task that makes a plan or merges reports."""


class StoredPlan(NamedTuple):
    """A plan that is in S3, and the locations of its objects."""

    plan: MultiModelPlan
    folder: MultiModelPlanFolder


class PlanStore:
    """The plans of one task instance with certain arguments."""

    def __init__(self, s3: S3Objects, folder: MultiModelFolder) -> None:
        self._s3 = s3
        self._folder = folder
        self._choices = NumberedLog(s3, folder.choices)

    async def latest(self) -> Choice | None:
        """Read the entry of the current plan; None if nothing was planned."""
        entry_number = await self._choices.latest()
        return None if entry_number < 0 else await _read_choice(self._s3, self._folder, entry_number)

    async def stored(self, choice: Choice | None) -> StoredPlan | None:
        """Read a chosen plan; None if there is none, or if it was deleted, e.g. by a lifecycle rule."""
        if choice is None:
            return None
        location = choice.plan_location
        try:
            return StoredPlan(await read_plan(self._s3, location), MultiModelPlanFolder(location))
        except InputNotFound:
            return None

    async def choose(
        self, folder: MultiModelPlanFolder, writer: StateWriter, *, after: Choice | None
    ) -> bool:
        """Make a plan the current one; return False if another process was faster.

        :param after: the last entry, as it was read
        """
        if after is not None and (after.plan_location, after.writer) == (folder.location, writer):
            return True
        entry_number = 0 if after is None else after.number + 1
        choice = Choice(number=entry_number, plan_location=folder.location, writer=writer)
        return await self._choices.write(entry_number, msgspec.json.encode(choice))


class PlanFence:
    """A check that a plan is still the current one. Do not use it for a plan that was never chosen."""

    def __init__(self, s3: S3Objects, plan: MultiModelPlanFolder) -> None:
        self._s3 = s3
        self._plan = plan
        self._last_checked = -1

    async def check(self) -> None:
        """Check that no other plan was chosen before this call.

        :raises PlanReplaced: another plan is the current one
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        folder = self._plan.batch
        latest = await NumberedLog(self._s3, folder.choices).latest()
        if latest == self._last_checked:
            return
        choice = await _read_choice(self._s3, folder, latest)
        if choice.plan_location != self._plan.location:
            raise PlanReplaced(
                f"{choice.plan_location} counts, a later plan of this batch: this task stops, which works on "
                f"{self._plan.location}",
                do="retry, which works on the plan that its plan task returned last",
            )
        self._last_checked = latest


async def _read_choice(s3: S3Objects, folder: MultiModelFolder, entry_number: int) -> Choice:
    body = await NumberedLog(s3, folder.choices).read(entry_number)
    return read_state(body, Choice, location=numbered(folder.choices, entry_number), batch=folder.location)


async def read_plan(s3: S3Objects, plan_location: str) -> MultiModelPlan:
    """Read a plan.

    :param plan_location: of its folder, as the plan task returns it
    :raises InputNotFound: there is no such plan
    :raises ResourceConflict: another version of this package wrote the plan
    """
    folder = MultiModelPlanFolder(plan_location)
    body = await s3.read_if_any(folder.plan)
    if body is None:
        raise InputNotFound(
            f"there is no plan at {folder.plan}: it was deleted, or never finished",
            do="run the plan task again",
        )
    return read_state(body, MultiModelPlan, location=folder.plan, batch=folder.batch.location)


async def read_shard_plan(s3: S3Objects, folder: ShardFolder) -> ShardPlan:
    """Read the work of one shard.

    :raises InputNotFound: the plan has no such shard
    """
    return ShardPlan.from_json(await s3.read(folder.plan))
