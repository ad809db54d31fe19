"""Tags of every resource with an ARN, of this service and of moto.

SageMaker's AddTags, ListTags and DeleteTags, and the Resource Groups Tagging API over both kinds of resources. A record
of this service has its tags under ``_tags``. Of the error texts, only that on the prefix ``aws:`` is the service's.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from moto.core.resource_tagging import (
    TaggedResource,
    iter_taggable_backends,
    make_tag_matcher,
    match_resource_type,
)

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.operations import Params, moto_sagemaker, operation
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.protocol.answers import ClientAnswer
from airflow_sm_plugin.local.protocol.errors import InvalidParameterFailure, ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import Request, Response, control_plane_response
from airflow_sm_plugin.local.protocol.validation import check_tag_key, check_tags, validate

Tags = list[dict[str, str]]

_MOST_TAGS = 50
"""Tags of a resource (API reference, AddTags)."""

TAGGING_API = "tagging"
"""The name for which calls of this service are signed."""
_SERVICE = "resourcegroupstaggingapi"
Mapped = tuple[str, dict[str, str]]
"""A resource: its ARN and its tags."""


@operation("AddTags")
def add_tags(region: Region, params: Params) -> Record:
    """Add tags; a tag replaces another with the same key."""
    return {"Tags": change_tags(region, params["ResourceArn"], add=params["Tags"])}


@operation("ListTags")
def list_tags(region: Region, params: Params) -> Record:
    """List a resource's tags on a single page: a resource cannot have more."""
    with region.lock:
        return {"Tags": _tags_of(region, params["ResourceArn"])}


@operation("DeleteTags")
def delete_tags(region: Region, params: Params) -> Record:
    """Remove tags by key; missing keys are ignored."""
    change_tags(region, params["ResourceArn"], remove=params["TagKeys"])
    return {}


def change_tags(
    region: Region, arn: str, *, add: Sequence[dict[str, str]] = (), remove: Iterable[str] = ()
) -> Tags:
    """Remove and add tags of a resource; return all of its tags. Raises ValidationFailure."""
    removed = frozenset(remove)
    for key in removed:
        check_tag_key(key)
    check_tags(add)
    with region.lock:
        before = _tags_of(region, arn)
        by_key = {tag["Key"]: tag for tag in [*before, *add] if tag["Key"] not in removed}
        if len(by_key) > _MOST_TAGS:
            raise ValidationFailure(
                f"{arn} cannot have {len(by_key)} tags: a resource has at most {_MOST_TAGS}. Remove some first."
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
    """Tag the resource that moto created: moto itself stores tags for some kinds only."""
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
    """Copy a resource's tags. Raises ValidationFailure for a missing resource."""
    record = region.with_arn(arn)
    if record is not None:
        return list(record.get("_tags") or [])
    try:
        tags, _ = moto_sagemaker(region.name).list_tags(arn=arn)
    except (AttributeError, ValueError):  # moto's errors for a missing resource
        kind = arn.split(":", 5)[5].partition("/")[0]
        noun = "endpoint configuration" if kind == "endpoint-config" else kind.replace("-", " ")
        raise ValidationFailure(f'Could not find {noun} "{arn}".') from None
    return list(tags)


def answer_tagging_api(region: Region, name: str, body: bytes) -> Response | None:
    """Answer an operation; None for operations that moto is to answer. Raises InvalidParameterFailure."""
    operation = _OPERATIONS.get(name)
    if operation is None:
        return None
    try:
        params = json.loads(body or b"{}")
        validate(Request(_SERVICE, name, region.name, params))
        return control_plane_response(operation(region, params))
    except (ValueError, ValidationFailure) as refusal:
        raise InvalidParameterFailure(str(refusal)) from None


def _get_resources(region: Region, params: Params) -> Record:
    arns, filters = params.get("ResourceARNList"), params.get("ResourceTypeFilters")
    if arns and (filters or params.get("TagFilters")):
        raise ValidationFailure("ResourceARNList cannot be used together with filters.")
    has_tags = make_tag_matcher(params.get("TagFilters"))
    everything = [
        (resource.arn, dict(resource.tags))
        for resource in _tagged(region)
        if match_resource_type(resource.resource_type, filters)
        and (not arns or resource.arn in arns)
        and has_tags(resource.tags)
    ]
    page, token = _page(everything, params)
    return {
        "PaginationToken": token,
        "ResourceTagMappingList": [{"ResourceARN": arn, "Tags": _as_list(tags)} for arn, tags in page],
    }


def _get_tag_keys(region: Region, params: Params) -> Record:
    keys = {key for resource in _tagged(region) for key in resource.tags}
    return _only_page("TagKeys", keys, params)


def _get_tag_values(region: Region, params: Params) -> Record:
    key = params["Key"]
    values = {resource.tags[key] for resource in _tagged(region) if key in resource.tags}
    return _only_page("TagValues", values, params)


def _only_page(name: str, texts: set[str], params: Params) -> Record:
    if params.get("PaginationToken"):
        raise ValidationFailure("Invalid PaginationToken: there is one page only.")
    return {"PaginationToken": "", name: sorted(texts)}


def _tag_resources(region: Region, params: Params) -> Record:
    add = [{"Key": key, "Value": value} for key, value in params["Tags"].items()]
    return _changed(
        params["ResourceARNList"],
        lambda arn: change_tags(region, arn, add=add),
        lambda arns: _moto(region).tag_resources(arns, params["Tags"]),
    )


def _untag_resources(region: Region, params: Params) -> Record:
    return _changed(
        params["ResourceARNList"],
        lambda arn: change_tags(region, arn, remove=params["TagKeys"]),
        lambda arns: _moto(region).untag_resources(arns, params["TagKeys"]),
    )


_OPERATIONS: Mapping[str, Callable[[Region, Params], Record]] = {
    "GetResources": _get_resources,
    "GetTagKeys": _get_tag_keys,
    "GetTagValues": _get_tag_values,
    "TagResources": _tag_resources,
    "UntagResources": _untag_resources,
}


def _changed(
    arns: Sequence[str],
    change: Callable[[str], object],
    change_in_moto: Callable[[list[str]], Mapping[str, Any]],
) -> Record:
    """Change the tags of SageMaker's resources here, of other resources in moto; return the failures by ARN."""
    failed: dict[str, Any] = {}
    for arn in arns:
        try:
            if arn.startswith("arn:aws:sagemaker:"):
                change(arn)
            else:
                failed |= change_in_moto([arn])
        except Exception as refusal:  # noqa: BLE001 - moto's services raise any exception for a missing resource
            failed[arn] = {
                "StatusCode": 400,
                "ErrorCode": "InvalidParameterException",
                "ErrorMessage": str(refusal) or type(refusal).__name__,
            }
    return {"FailedResourcesMap": failed}


def _tagged(region: Region) -> Iterator[TaggedResource]:
    """Yield the tagged resources of moto, then those of this service.

    moto's records of SageMaker are skipped: moto's listing of them fails as soon as there is a model card.
    """
    for backend in iter_taggable_backends(ACCOUNT_ID, region.name):
        if backend.SERVICE_NAMESPACE == "sagemaker":
            continue
        for resource in backend.iter_tagged_resources():
            if resource.tags or resource.extra.get("include_untagged"):
                yield resource
    with region.lock:
        own_resources = [
            TaggedResource(
                arn=arn,
                tags={tag["Key"]: tag["Value"] for tag in record["_tags"]},
                resource_type=f"sagemaker:{arn.split(':', 5)[5].partition('/')[0]}",
            )
            for arn, record in region.by_arn().items()
            if record.get("_tags")
        ]
    yield from own_resources


def _page(everything: Sequence[Mapped], params: Params) -> tuple[list[Mapped], str]:
    """Cut out a page, limited in resources and tags but with at least a resource; return it and the next token."""
    most, most_tags = params.get("ResourcesPerPage", 50), params.get("TagsPerPage", 500)
    if not 1 <= most <= 100:
        raise ValidationFailure(f"ResourcesPerPage must be from 1 to 100, not {most}.")
    if not 100 <= most_tags <= 500 or most_tags % 100:
        raise ValidationFailure(f"TagsPerPage must be from 100 to 500 in steps of 100, not {most_tags}.")
    token = params.get("PaginationToken") or "0"
    if not token.isdigit():
        raise ValidationFailure(f"Invalid PaginationToken: {token}")
    page: list[Mapped] = []
    count = 0
    for arn, tags in everything[int(token) :]:
        count += len(tags)
        if len(page) == most or (page and count > most_tags):
            break
        page.append((arn, tags))
    end = int(token) + len(page)
    return page, str(end) if end < len(everything) else ""


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _moto(region: Region) -> Any:  # noqa: ANN401 - moto's backend; importing its type loads dozens of services
    from moto.resourcegroupstaggingapi.models import resourcegroupstaggingapi_backends

    return resourcegroupstaggingapi_backends[ACCOUNT_ID][region.name]
