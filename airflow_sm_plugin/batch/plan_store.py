"""All plans of a multi-model batch in S3.

Each lies in a folder named after its content, so that a killed planner's orphan and the retry write the same objects or
different folders, never a mixture. Which folder is the plan of its number says ``plan-000.json``, written only if
nobody else has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.batch.plan_folder import MultiModelFolder, PlanFolder
from airflow_sm_plugin.batch.shard_inputs import read_plan
from airflow_sm_plugin.core.shard_plan import MultiModelPlan
from airflow_sm_plugin.exceptions import InputNotFound, PreconditionFailed

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

    async def locations(self) -> list[str]:
        """Return where the plans lie, by their numbers."""
        found: list[str] = []
        while (pointer := await self._s3.read_if_any(self._pointer(len(found)))) is not None:
            found.append(_location_in(pointer))
        return found

    async def stored(self, location: str) -> StoredPlan | None:
        """Return a plan; None when somebody, a lifecycle rule say, has deleted it."""
        try:
            return await self._at(location)
        except InputNotFound:
            return None

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
            return await self._at(_location_in(await self._s3.read(self._pointer(plan.number))))
        return StoredPlan(plan, folder)

    async def _at(self, location: str) -> StoredPlan:
        return StoredPlan(await read_plan(self._s3, location), PlanFolder(location))

    def _pointer(self, number: int) -> str:
        return f"{self._folder.plan(number).location}.json"


def _location_in(pointer: bytes) -> str:
    return str(json.loads(pointer)[_LOCATION])
