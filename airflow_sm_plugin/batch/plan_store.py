"""All plans of a multi-model batch in S3.

Each lies in a folder named after its content, so that a killed planner's orphan and the retry write the same objects or
different folders, never a mixture. Which folder is the plan of its number says ``plan-000.json``, written only if
nobody else has.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.batch.plan_folder import MultiModelFolder, PlanFolder
from airflow_sm_plugin.batch.shard_inputs import read_plan
from airflow_sm_plugin.core.shard_plan import MultiModelPlan
from airflow_sm_plugin.exceptions import PreconditionFailed

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects

_LOCATION = "plan_location"


@dataclass(frozen=True)
class StoredPlan:
    """A plan and where it lies."""

    plan: MultiModelPlan
    folder: PlanFolder


class PlanStore:
    """The plans of one task instance with certain arguments, numbered from 0."""

    def __init__(self, s3: S3Objects, folder: MultiModelFolder) -> None:
        self._s3 = s3
        self._folder = folder

    async def all(self) -> AsyncIterator[StoredPlan]:
        """Yield the plans, the first one first."""
        number = 0
        while (found := await self._s3.read_if_any(self._pointer(number))) is not None:
            yield await self._at(found)
            number += 1

    async def latest(self) -> StoredPlan | None:
        """Return the last plan; None before the first."""
        found, number = None, 0
        while (pointer := await self._s3.read_if_any(self._pointer(number))) is not None:
            found, number = pointer, number + 1
        return None if found is None else await self._at(found)

    def folder(self, number: int, content: str) -> PlanFolder:
        """Return where a plan of that number and content lies.

        :param content: digest of all that its shards hold
        """
        return PlanFolder(f"{self._folder.plan(number).location}-{content}")

    async def publish(self, plan: MultiModelPlan, folder: PlanFolder) -> StoredPlan:
        """Make a plan whose shards are written the one of its number; return another one's if that was faster."""
        try:
            await self._s3.write(folder.plan, plan.as_json(), only_if_new=True)
        except PreconditionFailed:
            plan = await read_plan(self._s3, folder.location)  # the same, made by another try
        pointer = json.dumps({_LOCATION: folder.location}).encode()
        try:
            await self._s3.write(self._pointer(plan.number), pointer, only_if_new=True)
        except PreconditionFailed:
            return await self._at(await self._s3.read(self._pointer(plan.number)))
        return StoredPlan(plan, folder)

    async def _at(self, pointer: bytes) -> StoredPlan:
        location = json.loads(pointer)[_LOCATION]
        return StoredPlan(await read_plan(self._s3, location), PlanFolder(location))

    def _pointer(self, number: int) -> str:
        return f"{self._folder.plan(number).location}.json"
