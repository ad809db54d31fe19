"""Who made a SageMaker resource: told by tags, so that a retry knows what a killed try has made."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_sm_plugin.core.names import digest

_PREFIX = "airflow-sm-plugin:"
OWNER_TAG = f"{_PREFIX}created-by"
ENDPOINT_TAG = f"{_PREFIX}endpoint"
"""On a configuration whose name does not tell for which endpoint it was derived."""


def owner_of(*, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return what names one task instance over all its tries, fit for a tag's value."""
    return digest([dag_id, run_id, task_id, map_index])


def with_owner(tags: Mapping[str, str], owner: str | None) -> dict[str, str]:
    """Return the user's tags and the owner's."""
    return {**tags, OWNER_TAG: owner} if owner else dict(tags)


def is_owned(tags: Mapping[str, str] | None, owner: str | None) -> bool:
    """Say whether a resource's tags name this owner; None are tags that may not be read."""
    return owner is not None and tags is not None and tags.get(OWNER_TAG) == owner


def is_made_here(tags: Mapping[str, str] | None) -> bool:
    """Say whether one of our operators made a resource, whichever task it ran in."""
    return tags is not None and any(key.startswith(_PREFIX) for key in tags)
