"""The Resource Groups Tagging API over our resources and moto's together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from airflow_sm_plugin.local.aws import ACCOUNT_ID
from airflow_sm_plugin.local.errors import InvalidParameterFailure, ValidationFailure
from airflow_sm_plugin.local.operations import Params
from airflow_sm_plugin.local.protocol import Request, Response, control_plane_response
from airflow_sm_plugin.local.state import Record, Region
from airflow_sm_plugin.local.tags import change_tags
from airflow_sm_plugin.local.validation import validate

SIGNED_AS = "tagging"
_SERVICE = "resourcegroupstaggingapi"
_EVERYTHING = 10**9
"""Resources, and tags, of a page that moto is asked for: all, since the pages are made here."""

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
    ours = [
        (arn, tags)
        for arn, tags in _ours(region)
        if (not arns or arn in arns)
        and (not filters or any(_is_of_type(arn, one) for one in filters))
        and all(_has_tag(tags, one) for one in params.get("TagFilters") or ())
    ]
    _, motos = _moto(region).get_resources(
        resources_per_page=_EVERYTHING,
        tags_per_page=_EVERYTHING,
        tag_filters=params.get("TagFilters") or [],
        resource_type_filters=filters or [],
        resource_arn_list=arns or [],
    )
    everything = [*((one.arn, dict(one.tags)) for one in motos), *ours]
    page, token = _page(everything, params)
    return {
        "PaginationToken": token,
        "ResourceTagMappingList": [{"ResourceARN": arn, "Tags": _as_list(tags)} for arn, tags in page],
    }


def _get_tag_keys(region: Region, params: Params) -> Record:
    if params.get("PaginationToken"):
        raise ValidationFailure("Invalid PaginationToken: there is one page only.")
    motos = _all_pages(_moto(region).get_tag_keys)
    return {
        "PaginationToken": "",
        "TagKeys": sorted({*motos, *(key for _, tags in _ours(region) for key in tags)}),
    }


def _get_tag_values(region: Region, params: Params) -> Record:
    if params.get("PaginationToken"):
        raise ValidationFailure("Invalid PaginationToken: there is one page only.")
    key = params["Key"]
    motos = _all_pages(lambda token: _moto(region).get_tag_values(token, key))
    ours = (tags[key] for _, tags in _ours(region) if key in tags)
    return {"PaginationToken": "", "TagValues": sorted({*motos, *ours})}


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
    motos: Callable[[list[str]], Mapping[str, Any]],
) -> Record:
    """Change the tags of SageMaker's resources here, of the others in moto; say which could not be changed."""
    own = [arn for arn in arns if arn.startswith("arn:aws:sagemaker:")]
    failed = dict(motos([arn for arn in arns if arn not in own]))
    for arn in own:
        try:
            change(arn)
        except ValidationFailure as refusal:
            failed[arn] = {
                "StatusCode": 400,
                "ErrorCode": "InvalidParameterException",
                "ErrorMessage": refusal.message,
            }
    return {"FailedResourcesMap": failed}


def _ours(region: Region) -> list[Mapped]:
    """Return our resources that have tags."""
    with region.lock:
        return [
            (arn, {tag["Key"]: tag["Value"] for tag in record["_tags"]})
            for arn, record in region.by_arn().items()
            if record.get("_tags")
        ]


def _is_of_type(arn: str, wanted: str) -> bool:
    """Decide whether ``sagemaker`` or ``sagemaker:endpoint`` names an ARN's type."""
    service, _, kind = wanted.partition(":")
    return service == "sagemaker" and kind in ("", arn.split(":", 5)[5].partition("/")[0])


def _has_tag(tags: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    value, values = tags.get(str(wanted.get("Key"))), wanted.get("Values")
    return value is not None and (not values or value in values)


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


def _all_pages(ask: Callable[[str | None], tuple[str | None, Iterable[str]]]) -> Iterator[str]:
    token = None
    while True:
        token, page = ask(token)
        yield from page
        if not token:
            return


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _moto(region: Region) -> Any:  # noqa: ANN401 - moto's backend; importing its type loads dozens of services
    from moto.resourcegroupstaggingapi.models import resourcegroupstaggingapi_backends

    return resourcegroupstaggingapi_backends[ACCOUNT_ID][region.name]
