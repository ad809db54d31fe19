"""AddTags, ListTags, DeleteTags for everything that has an ARN, here or among the records that moto keeps.

A record of ours keeps its tags under ``_tags``. The text on the prefix ``aws:`` is the service's, the others are ours.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import cast

from airflow_sm_plugin.local.account.operations import Params, moto_sagemaker, operation
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.protocol.answers import ClientAnswer
from airflow_sm_plugin.local.protocol.errors import ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import Request
from airflow_sm_plugin.local.protocol.validation import check_tag_key, check_tags

Tags = list[dict[str, str]]

_MOST = 50
"""Tags of one resource (API reference, AddTags)."""


@operation("AddTags")
def add_tags(region: Region, params: Params) -> Record:
    """Add tags; one of a key already there replaces it."""
    return {"Tags": change_tags(region, params["ResourceArn"], add=params["Tags"])}


@operation("ListTags")
def list_tags(region: Region, params: Params) -> Record:
    """List a resource's tags, all on one page: there are never more than a page holds."""
    with region.lock:
        return {"Tags": _tags_of(region, params["ResourceArn"])}


@operation("DeleteTags")
def delete_tags(region: Region, params: Params) -> Record:
    """Remove tags by key; a key that is not there is fine."""
    change_tags(region, params["ResourceArn"], remove=params["TagKeys"])
    return {}


def change_tags(
    region: Region, arn: str, *, add: Sequence[dict[str, str]] = (), remove: Iterable[str] = ()
) -> Tags:
    """Remove and add tags of a resource; return all that it then has. Raises ValidationFailure."""
    removed = frozenset(remove)
    for key in removed:
        check_tag_key(key)
    check_tags(add)
    with region.lock:
        before = _tags_of(region, arn)
        by_key = {tag["Key"]: tag for tag in [*before, *add] if tag["Key"] not in removed}
        if len(by_key) > _MOST:
            raise ValidationFailure(
                f"{arn} cannot have {len(by_key)} tags: a resource has at most {_MOST}. Remove some first."
            )
        after = list(by_key.values())
        record = region.with_arn(arn)
        if record is not None:
            record["_tags"] = after
        else:
            moto = moto_sagemaker(region.name)
            moto.delete_tags(arn, [tag["Key"] for tag in before])
            moto.add_tags(arn, after)
        return after


def tagged_by_moto(region: Region, request: Request, answer: ClientAnswer) -> ClientAnswer:
    """Return moto's answer after tagging the resource it created: by itself it keeps the tags of some kinds only."""
    tags = cast("Tags", request.params.get("Tags") or [])
    if not tags or not request.operation.startswith("Create") or answer.status >= 300:
        return answer
    body = b"".join(answer.content)
    for name, arn in json.loads(body).items():
        if name.endswith("Arn"):
            with contextlib.suppress(ValidationFailure):
                change_tags(region, arn, add=tags)
    return dataclasses.replace(answer, content=[body])


def _tags_of(region: Region, arn: str) -> Tags:
    """Return a copy of a resource's tags. Raises ValidationFailure when there is no such resource."""
    record = region.with_arn(arn)
    if record is not None:
        return list(record.get("_tags") or [])
    try:
        tags, _ = moto_sagemaker(region.name).list_tags(arn=arn)
    except (AttributeError, ValueError):  # how moto says that there is none
        kind = arn.split(":", 5)[5].partition("/")[0]
        noun = "endpoint configuration" if kind == "endpoint-config" else kind.replace("-", " ")
        raise ValidationFailure(f'Could not find {noun} "{arn}".') from None
    return list(tags)
