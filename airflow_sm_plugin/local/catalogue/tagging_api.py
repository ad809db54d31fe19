"""The Resource Groups Tagging API over our resources and moto's together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from moto.core.resource_tagging import (
    TaggedResource,
    iter_taggable_backends,
    make_tag_matcher,
    match_resource_type,
)

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.operations import Params
from airflow_sm_plugin.local.account.state import Record, Region
from airflow_sm_plugin.local.catalogue.tags import change_tags
from airflow_sm_plugin.local.protocol.errors import InvalidParameterFailure, ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import Request, Response, control_plane_response
from airflow_sm_plugin.local.protocol.validation import validate

SIGNED_AS = "tagging"
_SERVICE = "resourcegroupstaggingapi"
Mapped = tuple[str, dict[str, str]]
"""A resource: its ARN and its tags."""


def answer(region: Region, name: str, body: bytes) -> Response | None:
    """Answer an operation, None when it is moto's to answer. Raises InvalidParameterFailure."""
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
        (one.arn, dict(one.tags))
        for one in _tagged(region)
        if match_resource_type(one.resource_type, filters)
        and (not arns or one.arn in arns)
        and has_tags(one.tags)
    ]
    page, token = _page(everything, params)
    return {
        "PaginationToken": token,
        "ResourceTagMappingList": [{"ResourceARN": arn, "Tags": _as_list(tags)} for arn, tags in page],
    }


def _get_tag_keys(region: Region, params: Params) -> Record:
    if params.get("PaginationToken"):
        raise ValidationFailure("Invalid PaginationToken: there is one page only.")
    return {"PaginationToken": "", "TagKeys": sorted({key for one in _tagged(region) for key in one.tags})}


def _get_tag_values(region: Region, params: Params) -> Record:
    if params.get("PaginationToken"):
        raise ValidationFailure("Invalid PaginationToken: there is one page only.")
    key = params["Key"]
    values = {one.tags[key] for one in _tagged(region) if key in one.tags}
    return {"PaginationToken": "", "TagValues": sorted(values)}


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
    arns: Sequence[str], change: Callable[[str], object], motos: Callable[[list[str]], Mapping[str, Any]]
) -> Record:
    """Change the tags of SageMaker's resources here, of the others in moto; return those that could not be changed."""
    failed: dict[str, Any] = {}
    for arn in arns:
        try:
            if arn.startswith("arn:aws:sagemaker:"):
                change(arn)
            else:
                failed |= motos([arn])
        except Exception as refusal:  # noqa: BLE001 - moto's services raise what they like for one that is missing
            failed[arn] = {
                "StatusCode": 400,
                "ErrorCode": "InvalidParameterException",
                "ErrorMessage": str(refusal) or type(refusal).__name__,
            }
    return {"FailedResourcesMap": failed}


def _tagged(region: Region) -> Iterator[TaggedResource]:
    """Yield moto's resources, then ours, those that have tags.

    SageMaker's records that moto keeps are left out: its own listing of them fails as soon as there is a model card.
    """
    for backend in iter_taggable_backends(ACCOUNT_ID, region.name):
        if backend.SERVICE_NAMESPACE == "sagemaker":
            continue
        for resource in backend.iter_tagged_resources():
            if resource.tags or resource.extra.get("include_untagged"):
                yield resource
    with region.lock:
        ours = [
            TaggedResource(
                arn=arn,
                tags={tag["Key"]: tag["Value"] for tag in record["_tags"]},
                resource_type=f"sagemaker:{arn.split(':', 5)[5].partition('/')[0]}",
            )
            for arn, record in region.by_arn().items()
            if record.get("_tags")
        ]
    yield from ours


def _page(everything: Sequence[Mapped], params: Params) -> tuple[list[Mapped], str]:
    """Return the page of at most so many resources and tags, and the token of the next; at least one resource."""
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
