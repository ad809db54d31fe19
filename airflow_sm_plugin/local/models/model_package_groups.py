"""The model registry's groups, whose packages are versions."""

from __future__ import annotations

from airflow_sm_plugin.local.account.listing import list_page, with_token
from airflow_sm_plugin.local.account.operations import Params, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

GROUPS = "model-package-group"
PACKAGES = "model-package"

_GROUP_SUMMARY = (
    "ModelPackageGroupName",
    "ModelPackageGroupArn",
    "ModelPackageGroupDescription",
    "CreationTime",
    "ModelPackageGroupStatus",
)


@operation("CreateModelPackageGroup")
def create_model_package_group(region: Region, params: Params) -> Record:
    """Make a group; its versions count from 1."""
    name = params["ModelPackageGroupName"]
    arn = region.arn(GROUPS, name)
    with region.table(GROUPS) as groups:
        if name in groups:
            raise ValidationFailure(f"Model Package Group already exists: {arn}")
        groups[name] = {
            "ModelPackageGroupName": name,
            "ModelPackageGroupArn": arn,
            "ModelPackageGroupDescription": params.get("ModelPackageGroupDescription"),
            "CreationTime": now(),
            "CreatedBy": {},
            "ModelPackageGroupStatus": "Completed",
            "_tags": params.get("Tags", []),
            "_versions": 0,
        }
    return {"ModelPackageGroupArn": arn}


@operation("DescribeModelPackageGroup")
def describe_model_package_group(region: Region, params: Params) -> Record:
    """Describe a group."""
    return public(group_called(region, params["ModelPackageGroupName"]))


@operation("ListModelPackageGroups")
def list_model_package_groups(region: Region, params: Params) -> Record:
    """List groups, the oldest first unless told otherwise."""
    with region.table(GROUPS) as groups:
        page = list_page(
            groups.values(),
            {"SortOrder": "Ascending", **params},
            kind="ModelPackageGroup",
            members=_GROUP_SUMMARY,
        )
    return with_token("ModelPackageGroupSummaryList", page)


@operation("DeleteModelPackageGroup")
def delete_model_package_group(region: Region, params: Params) -> Record:
    """Forget a group that has no versions."""
    with region.table(GROUPS) as groups:
        group = group_called(region, params["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        with region.table(PACKAGES) as packages:
            is_used = any(one.get("ModelPackageGroupName") == name for one in packages.values())
        if is_used:
            raise ValidationFailure(
                f"Model Package Group cannot be deleted because it is not empty: {group['ModelPackageGroupArn']}"
            )
        del groups[name]
    return {}


def group_called(region: Region, name: str) -> Record:
    """Return a group's record, by name or ARN. Raises ValidationFailure in the service's words."""
    plain = name.rpartition("/")[2]
    with region.table(GROUPS) as groups:
        for one in groups.values():
            if name in (one["ModelPackageGroupName"], one["ModelPackageGroupArn"]):
                return one
    raise ValidationFailure(f"ModelPackageGroup {region.arn(GROUPS, plain)} does not exist.")
