"""Who made a SageMaker resource: told by tags, so that a retry knows what a killed try has made.

A name proves nothing, and neither does what a process remembers: what it created may have been deleted and created
again by somebody else since. So a deletion is decided from the tags and the description as they are then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core.names import digest

OUR_PREFIX = "airflow-sm-plugin:"
OWNER_TAG = f"{OUR_PREFIX}created-by"
ENDPOINT_TAG = f"{OUR_PREFIX}endpoint"
"""On every configuration that we make: the endpoint it was derived for. A name alone does not tell."""
NEVER_SERVED = ("Creating", "Failed")
"""Statuses of an endpoint that may never have served; Failed may also follow a failed update's failed rollback."""
DEPLOYED_TAG = f"{OUR_PREFIX}deployed-by"
"""On an endpoint: the try that deploys it, so that no other task, and no earlier try left behind, deletes it."""


def owner_of(*, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return what names one task instance over all its tries, fit for a tag's value."""
    return digest([dag_id, run_id, task_id, map_index])


def with_owner(tags: Mapping[str, str], owner: str | None) -> dict[str, str]:
    """Return the user's tags and the owner's."""
    return {**tags, OWNER_TAG: owner} if owner else dict(tags)


def users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are not ours. Only these may be put on a resource that somebody else may have made."""
    return {key: value for key, value in tags.items() if not key.startswith(OUR_PREFIX)}


def tags_to_write(asked: Mapping[str, str], there: Mapping[str, str] | None) -> dict[str, str]:
    """Return the user's tags that a resource lacks, or has with another value.

    :param there: the tags that it has; None where they may not be read
    """
    found = there or {}
    return {key: value for key, value in users_tags(asked).items() if found.get(key) != value}


def mark_of(owner: str | None, try_number: int) -> str:
    """Return the value of :data:`DEPLOYED_TAG` that names one try of a task instance."""
    return f"{owner or 'unnamed'}/{try_number}"


def is_owned(tags: Mapping[str, str] | None, owner: str | None) -> bool:
    """Say whether a resource's tags name this owner; None are tags that may not be read."""
    return owner is not None and tags is not None and tags.get(OWNER_TAG) == owner


def is_made_here(tags: Mapping[str, str] | None) -> bool:
    """Say whether one of our operators made a resource, whichever task it ran in."""
    return tags is not None and any(key.startswith(OUR_PREFIX) for key in tags)


def created_at(description: Mapping[str, Any]) -> float | None:
    """Return a described resource's CreationTime in epoch seconds, None where it tells none.

    It tells an endpoint from one that was created later under the same name, and so with the same ARN.
    """
    moment = description.get("CreationTime")
    return None if moment is None else float(moment.timestamp())


def times_of(described: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the CreationTimes of described resources by name, as far as they tell any."""
    times = {name: created_at(description) for name, description in described.items()}
    return {name: moment for name, moment in times.items() if moment is not None}


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Say whether two descriptions under one name are of the same resource, not of one created again."""
    return created_at(one) == created_at(other)


@dataclass(frozen=True, kw_only=True)
class EndpointClaim:
    """What one try of a task instance says of the endpoint it deploys to: whose it is, and what it was given.

    :param owner: the task instance; None where it tags nothing
    :param try_number: of the task instance
    :param config_name: the configuration that it deploys
    :param created_at: the CreationTime of the endpoint that it created, where it knows that
    """

    owner: str | None
    try_number: int
    config_name: str
    created_at: float | None = None

    @property
    def mark(self) -> str:
        """The value of :data:`DEPLOYED_TAG` that names this try."""
        return mark_of(self.owner, self.try_number)

    def objection(self, description: Mapping[str, Any], tags: Mapping[str, str] | None) -> str | None:
        """Say why the task must not delete the endpoint, None where it may.

        A Failed endpoint serves nobody, so it may be deleted by its creator whoever else deploys to it.
        """
        if self.owner is None:
            return "this task tags nothing, so that nothing tells what it created"
        if tags is None:
            return "its tags cannot be read (sagemaker:ListTags), so that nothing tells whose it is"
        if self.described_objection(description):
            return self.described_objection(description)
        if tags.get(OWNER_TAG) != self.owner:
            return f"its tags do not name this task ({OWNER_TAG})"
        if self._counts_for_another(tags) and description.get("EndpointStatus") != "Failed":
            return f"another task, or a later try of this one, deploys it as well ({DEPLOYED_TAG})"
        return None

    def _counts_for_another(self, tags: Mapping[str, str]) -> bool:
        owner, _, try_number = tags.get(DEPLOYED_TAG, self.mark).rpartition("/")
        return owner != self.owner or not try_number.isdigit() or int(try_number) > self.try_number

    def described_objection(self, description: Mapping[str, Any]) -> str | None:
        """Say why the task must not delete the endpoint, as far as the description alone tells."""
        if self.created_at not in (None, created_at(description)):
            return "it was deleted and created again by somebody else"
        if self.created_at is None and description.get("EndpointStatus") not in NEVER_SERVED:
            return "it may have served before this try worked on it"
        config = description.get("EndpointConfigName")
        if not config:
            return "DescribeEndpoint does not name its configuration"
        if config != self.config_name:
            return f"it has configuration {config}, which this task did not deploy"
        return None

    def needs_mark(self, tags: Mapping[str, str]) -> bool:
        """Say whether a try that found the endpoint, and deploys to it, has to mark it with :data:`DEPLOYED_TAG`.

        Not where nobody would delete it: without a creator's tag, or with the mark of somebody else already. That must
        stay: who put it there counts on the endpoint.
        """
        creator = tags.get(OWNER_TAG)
        if creator is None:
            return False
        mark = tags.get(DEPLOYED_TAG, mark_of(creator, 1))
        return mark != self.mark and mark.rpartition("/")[0] in (creator, self.owner)
