"""Names of SageMaker resources: checked, and derived from content so that a retry finds what it made.

SageMaker: models, endpoint configurations and endpoints are named ``[a-zA-Z0-9](-*[a-zA-Z0-9])*``, up to 63
characters; AutoML candidates up to 64.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin.exceptions import InvalidName

MAX_NAME_LENGTH = 63
_DIGEST_LENGTH = 12
_DIGEST = rf"[0-9a-f]{{{_DIGEST_LENGTH}}}"
_STEM_ROOM = MAX_NAME_LENGTH - _DIGEST_LENGTH - 1
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9-]+")


def check_name(value: str, kind: str) -> str:
    """Check a resource's name.

    :param kind: for the message, e.g. ``"model name"``
    :raises InvalidName: empty, over 63 characters, or with another character than letters, digits, inner hyphens
    """
    if not value:
        raise InvalidName(f"the {kind} is empty")
    if len(value) > MAX_NAME_LENGTH:
        raise InvalidName(
            f"the {kind} {value!r} has {len(value)} characters, SageMaker takes up to {MAX_NAME_LENGTH}: shorten it"
        )
    if not _NAME.fullmatch(value):
        bad = sorted({character for character in value if not re.match(r"[a-zA-Z0-9-]", character)})
        reason = f"holds {' '.join(map(repr, bad))}" if bad else "begins or ends with a hyphen"
        raise InvalidName(
            f"the {kind} {value!r} {reason}; SageMaker takes letters, digits, and hyphens between them"
        )
    return value


def digest(content: object) -> str:
    """Digest JSON-able content: equal content, equal digest; the order of lists counts."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def content_name(stem: str, content: object) -> str:
    """Name a resource ``<stem>-<digest of stem and content>``, in at most 63 characters.

    The digest is of the whole stem, so that two long stems which are alike up to the cut do not share a name.
    """
    return f"{content_stem(stem)}-{digest([stem, content])}"


def content_stem(stem: str) -> str:
    """Replace characters that no name holds, and cut the stem to leave room for a digest."""
    fit = _NOT_ALLOWED.sub("-", stem).strip("-") or "x"
    return fit[:_STEM_ROOM].rstrip("-")


def is_content_name(name: str, stem: str) -> bool:
    """Return whether :func:`content_name` may have made the name from this stem, or from one that shares its cut.

    Users give such names as well (``churn-202611281200``): this proves nothing.
    """
    return re.fullmatch(rf"{re.escape(content_stem(stem))}-{_DIGEST}", name) is not None


def joined_to(target_model: str, *, prefix_ends_in_slash: bool | None) -> str:
    """Spell a target model's name as it has to be sent: SageMaker joins model prefix and name as they are.

    :param prefix_ends_in_slash: None where the prefix is not known: the name is sent as it was given
    """
    if prefix_ends_in_slash is None:
        return target_model
    return f"{'' if prefix_ends_in_slash else '/'}{target_model.lstrip('/')}"


OUR_PREFIX = "airflow-sm-plugin:"
OWNER_TAG = f"{OUR_PREFIX}created-by"
CREATED_IN_TAG = f"{OUR_PREFIX}created-in"
"""Beside :data:`OWNER_TAG`: the same task instance in readable form (:mod:`airflow_sm_plugin.resources.made_in`)."""
ENDPOINT_TAG = f"{OUR_PREFIX}endpoint"
"""On every configuration that we make: the endpoint it was derived for. A name alone proves nothing."""
NEVER_SERVED = ("Creating", "Failed")
"""Statuses of an endpoint that may never have served; Failed may also follow a failed update's failed rollback."""
DEPLOYED_TAG = f"{OUR_PREFIX}deployed-by"
"""On an endpoint: the try that deploys it, so that no other task, and no earlier try that still runs, deletes it."""


DEPLOYED_IN_TAG = f"{OUR_PREFIX}deployed-in"
"""On an endpoint that a later task deployed to: the latest such task instance, in readable form."""
MOST_OWN_TAGS = 4
"""Our tags of an endpoint: those of its creator and of its deployer, each as a digest and in readable form."""


def owner_of(*, dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Identify one task instance over all its tries, as a tag's value."""
    return digest([dag_id, run_id, task_id, map_index])


def with_owner(tags: Mapping[str, str], owner: str | None, made_in: str | None = None) -> dict[str, str]:
    """Add the tags of the task instance that creates a resource.

    :param made_in: its readable form, for :data:`CREATED_IN_TAG`; None where that is too long for a tag
    """
    if not owner:
        return dict(tags)
    return {**tags, OWNER_TAG: owner} | ({CREATED_IN_TAG: made_in} if made_in else {})


def users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Leave out our own tags: a resource that was perhaps made elsewhere gets only the others."""
    return {key: value for key, value in tags.items() if not key.startswith(OUR_PREFIX)}


def tags_to_write(wanted: Mapping[str, str], present: Mapping[str, str] | None) -> dict[str, str]:
    """Return the user's tags that a resource lacks, or has with another value.

    :param present: the resource's tags; None where reading them is not permitted
    """
    present_tags = present or {}
    return {key: value for key, value in users_tags(wanted).items() if present_tags.get(key) != value}


def mark_of(owner: str | None, try_number: int) -> str:
    """Spell the value of :data:`DEPLOYED_TAG` for one try of a task instance."""
    return f"{owner or 'unnamed'}/{try_number}"


def is_owned(tags: Mapping[str, str] | None, owner: str | None) -> bool:
    """Return whether a resource's tags name this owner; ``tags`` are None where reading them is not permitted."""
    return owner is not None and tags is not None and tags.get(OWNER_TAG) == owner


def is_made_here(tags: Mapping[str, str] | None) -> bool:
    """Return whether one of our operators made a resource, whichever task it ran in."""
    return tags is not None and any(key.startswith(OUR_PREFIX) for key in tags)


def created_at(description: Mapping[str, Any]) -> float | None:
    """Return a described resource's CreationTime in epoch seconds, None where there is none.

    It distinguishes an endpoint from one that was created later under the same name, and so with the same ARN.
    """
    moment = description.get("CreationTime")
    return None if moment is None else float(moment.timestamp())


def times_of(described: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    times = {name: created_at(description) for name, description in described.items()}
    return {name: moment for name, moment in times.items() if moment is not None}


def is_same(description: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two descriptions under one name are of the same resource, not of one created again."""
    return created_at(description) == created_at(other)


def endpoint_log_group(endpoint_name: str) -> str:
    return f"/aws/sagemaker/Endpoints/{endpoint_name}"


FRESH_LINES_SECONDS = 4.0
"""Seconds that a line may take to show in CloudWatch Logs; those of the embedded service take up to one."""

SUBMISSION_SECONDS = 5.0
"""Seconds by which a request's first log line can be earlier than the time at which we note that it was accepted: the
answer's way, and the difference of two clocks."""

TRANSFORM_JOBS_LOG_GROUP = "/aws/sagemaker/TransformJobs"
"""The log group of all transform jobs' containers (SageMaker Developer Guide, "CloudWatch Logs")."""


def transform_job_streams(job_name: str) -> str:
    """Return the prefix of a transform job's log streams: ``<job>/<instance>-<epoch>``, and ``…/data-log``."""
    return f"{job_name}/"
