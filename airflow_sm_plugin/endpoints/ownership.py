"""Decide whether a task is permitted to delete an endpoint, by its tags and its description.

Whoever deploys to an endpoint that another task created marks it with :data:`DEPLOYED_TAG`; its creator then leaves it
alone, unless it is Failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.names import (
    CREATED_IN_TAG,
    DEPLOYED_IN_TAG,
    DEPLOYED_TAG,
    NEVER_SERVED,
    OWNER_TAG,
    created_at,
    mark_of,
)

UNREADABLE = "unnamed"
"""Value of :data:`DEPLOYED_IN_TAG` of a task that tags nothing, or whose names are longer than a tag."""


@dataclass(frozen=True, kw_only=True)
class EndpointClaim:
    """The claim of one try of a task instance to the endpoint it deploys to.

    :param owner: the task instance; None where it tags nothing
    :param try_number: of the task instance
    :param config_name: the configuration that it deploys
    :param created_at: the CreationTime of the endpoint that it created, where it knows that
    :param made_in: the task instance in readable form, where that fits into a tag
    """

    owner: str | None
    try_number: int
    config_name: str
    created_at: float | None = None
    made_in: str | None = None

    @property
    def mark(self) -> str:
        return mark_of(self.owner, self.try_number)

    def objection(self, description: Mapping[str, Any], tags: Mapping[str, str] | None) -> str | None:
        """Return why the task must not delete the endpoint, None where it is permitted.

        A Failed endpoint serves no requests, so its creator deletes it, whichever other task deploys to it.
        """
        if self.owner is None:
            return "this task tags nothing, so that nothing proves what it created"
        if tags is None:
            return "its tags cannot be read (sagemaker:ListTags), so that its creator is not known"
        if objection := self.described_objection(description):
            return objection
        if tags.get(OWNER_TAG) != self.owner:
            return f"its tags do not name this task ({OWNER_TAG})"
        if self._counts_for_another(tags) and description.get("EndpointStatus") != "Failed":
            return f"another task, or a later try of this one, deploys it as well ({DEPLOYED_TAG})"
        return None

    def _counts_for_another(self, tags: Mapping[str, str]) -> bool:
        owner, _, try_number = tags.get(DEPLOYED_TAG, self.mark).rpartition("/")
        return owner != self.owner or not try_number.isdigit() or int(try_number) > self.try_number

    def described_objection(self, description: Mapping[str, Any]) -> str | None:
        """Return why the task must not delete the endpoint, by its description alone."""
        if self.created_at not in (None, created_at(description)):
            return "it was deleted and created again by another task or person"
        if self.created_at is None and description.get("EndpointStatus") not in NEVER_SERVED:
            return "it may have served before this try worked on it"
        config = description.get("EndpointConfigName")
        if not config:
            return "DescribeEndpoint does not name its configuration"
        if config != self.config_name:
            return f"it has configuration {config}, which this task did not deploy"
        return None

    def needs_mark(self, tags: Mapping[str, str]) -> bool:
        """Return whether a try that deploys to an existing endpoint has to mark it with :data:`DEPLOYED_TAG`.

        Not without a creator's tag, since no task would delete it then, nor over another task's mark: that task relies
        on the endpoint.
        """
        creator = tags.get(OWNER_TAG)
        if creator is None:
            return False
        mark = tags.get(DEPLOYED_TAG, mark_of(creator, 1))
        return mark != self.mark and mark.rpartition("/")[0] in (creator, self.owner)

    def readable_mark(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tag by which this task's DAG run relies on an endpoint of ours; empty where the tags name it.

        Every later task writes it, unlike :data:`DEPLOYED_TAG`: idle endpoints of active runs are not deleted.
        A task without tags, or whose name does not fit into one, writes an unreadable value, which is of no ended run.
        """
        if OWNER_TAG not in tags:
            return {}
        mine = self.made_in or UNREADABLE
        is_marked = tags.get(DEPLOYED_IN_TAG, tags.get(CREATED_IN_TAG)) == mine
        return {} if is_marked else {DEPLOYED_IN_TAG: mine}
