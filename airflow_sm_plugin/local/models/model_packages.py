"""The model registry: packages, either versions of a group or with a name of their own.

moto's registry is not used: it refuses newer instance types, and deletes nothing. Its error texts, which are those of
the service, are repeated here.
"""

from __future__ import annotations

import copy

from airflow_sm_plugin.local.account.operations import Params, listed, operation
from airflow_sm_plugin.local.account.state import Record, Region, now, public
from airflow_sm_plugin.local.faults.recorded import recorded
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

GROUPS = "model-package-group"
PACKAGES = "model-package"

_GROUP_SUMMARY = """
    ModelPackageGroupName ModelPackageGroupArn ModelPackageGroupDescription CreationTime ModelPackageGroupStatus
"""

_UPDATED = """
    ModelApprovalStatus ApprovalDescription InferenceSpecification SourceUri ModelCard ModelLifeCycle
    ModelPackageRegistrationType
"""
_PACKAGE_SUMMARY = """
    ModelPackageName ModelPackageGroupName ModelPackageVersion ModelPackageArn ModelPackageDescription CreationTime
    ModelPackageStatus ModelApprovalStatus ModelLifeCycle ModelPackageRegistrationType
"""


@operation("CreateModelPackageGroup")
def create_model_package_group(region: Region, params: Params) -> Record:
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
    return public(group_called(region, params["ModelPackageGroupName"]))


@operation("ListModelPackageGroups")
def list_model_package_groups(region: Region, params: Params) -> Record:
    kind, order = "ModelPackageGroup", {"SortOrder": "Ascending", **params}
    with region.table(GROUPS) as groups:
        return listed(f"{kind}SummaryList", groups.values(), order, kind=kind, members=_GROUP_SUMMARY)


@operation("DeleteModelPackageGroup")
def delete_model_package_group(region: Region, params: Params) -> Record:
    with region.table(GROUPS) as groups:
        group = group_called(region, params["ModelPackageGroupName"])
        name = group["ModelPackageGroupName"]
        with region.table(PACKAGES) as packages:
            is_used = any(package.get("ModelPackageGroupName") == name for package in packages.values())
        if is_used:
            raise ValidationFailure(
                f"Model Package Group cannot be deleted because it is not empty: {group['ModelPackageGroupArn']}"
            )
        del groups[name]
    return {}


def group_called(region: Region, name: str) -> Record:
    """Find a group by name or ARN. Raises ValidationFailure with the service's message."""
    plain = name.rpartition("/")[2]
    with region.table(GROUPS) as groups:
        for group in groups.values():
            if name in (group["ModelPackageGroupName"], group["ModelPackageGroupArn"]):
                return group
    raise ValidationFailure(f"ModelPackageGroup {region.arn(GROUPS, plain)} does not exist.")


@operation("CreateModelPackage")
def create_model_package(region: Region, params: Params) -> Record:
    own_name, group_name = params.get("ModelPackageName"), params.get("ModelPackageGroupName")
    if own_name and group_name:
        raise ValidationFailure(
            "Both ModelPackageName and ModelPackageGroupName are provided in the input. "
            "Cannot determine which one to use."
        )
    if not own_name and not group_name:
        raise ValidationFailure("Missing ARN.")
    if group_name and params.get("Tags"):
        raise ValidationFailure(
            "Tags cannot be given for a version of a model package group; it uses the group's. Tag the group."
        )
    with region.table(PACKAGES) as packages:
        key, version = _next_version(region, group_name, params) if group_name else (str(own_name), {})
        arn = region.arn(PACKAGES, key)
        if key in packages:
            raise ValidationFailure(f"Model Package already exists: {arn}")
        validation = [{"Name": arn, "Status": "Completed"}]
        packages[key] = {
            **copy.deepcopy(dict(params)),
            **version,
            "Tags": None,
            "ClientToken": None,
            "_tags": params.get("Tags", []),
            "ModelPackageArn": arn,
            "CreationTime": now(),
            "CreatedBy": {},
            "ModelPackageStatus": "Completed",
            "ModelPackageStatusDetails": {"ValidationStatuses": validation, "ImageScanStatuses": validation},
        }
    return {"ModelPackageArn": arn}


@operation("DescribeModelPackage")
def describe_model_package(region: Region, params: Params) -> Record:
    return public(package_called(region, params["ModelPackageName"]))


@operation("UpdateModelPackage")
def update_model_package(region: Region, params: Params) -> Record:
    with region.table(PACKAGES):
        record = package_called(region, params["ModelPackageArn"])
        record.update({name: params[name] for name in _UPDATED.split() if name in params})
        kept = dict(record.get("CustomerMetadataProperties") or {})
        kept |= params.get("CustomerMetadataProperties", {})
        for name in params.get("CustomerMetadataPropertiesToRemove", []):
            kept.pop(name, None)
        record["CustomerMetadataProperties"] = kept or None
        if more := params.get("AdditionalInferenceSpecificationsToAdd"):
            specifications = record.get("AdditionalInferenceSpecifications") or []
            record["AdditionalInferenceSpecifications"] = [*specifications, *more]
        record |= {"LastModifiedTime": now(), "LastModifiedBy": {}}
        return {"ModelPackageArn": record["ModelPackageArn"]}


@operation("DeleteModelPackage")
def delete_model_package(region: Region, params: Params) -> Record:
    """Delete a package; its models stay, and its version number is not used again."""
    with region.table(PACKAGES) as packages:
        record = package_called(region, params["ModelPackageName"])
        del packages[next(key for key, package in packages.items() if package is record)]
    return {}


@operation("ListModelPackages")
def list_model_packages(region: Region, params: Params) -> Record:
    """List packages, the oldest first by default; without a group, only packages without a group."""
    group, approval = params.get("ModelPackageGroupName"), params.get("ModelApprovalStatus")
    kind = params.get("ModelPackageType", "Versioned" if group else "Unversioned")
    with region.table(PACKAGES) as packages:
        chosen = [
            {"ModelPackageName": _sort_name(package), **package}
            for package in packages.values()
            if kind in ("Both", "Versioned" if "ModelPackageVersion" in package else "Unversioned")
            and group in (None, package.get("ModelPackageGroupName"), _group_arn(region, package))
            and approval in (None, package.get("ModelApprovalStatus"))
        ]
        order = {"SortOrder": "Ascending", **params}
        members = _PACKAGE_SUMMARY
        answer = listed("ModelPackageSummaryList", chosen, order, kind="ModelPackage", members=members)
    for entry in answer["ModelPackageSummaryList"]:
        if "ModelPackageVersion" in entry:
            del entry["ModelPackageName"]
    return answer


def package_called(region: Region, name: str) -> Record:
    """Find a package by name or ARN. Raises RecordedFailure."""
    arn = name if name.startswith("arn:") else region.arn(PACKAGES, name)
    with region.table(PACKAGES) as packages:
        for package in packages.values():
            if package["ModelPackageArn"] == arn:
                return package
    raise recorded("no such model package", arn=arn)


def containers_in(region: Region, package: str) -> list[Record]:
    """Copy the containers of a package's InferenceSpecification.

    Raises RecordedFailure for a package without containers, or not Approved: that is needed "to deploy the model" (API
    reference, CreateModelPackage).
    """
    record = package_called(region, package)
    arn = record["ModelPackageArn"]
    status = record.get("ModelApprovalStatus", "Approved")
    if status != "Approved":
        raise recorded("the model package is not approved", arn=arn, status=status)
    containers = record.get("InferenceSpecification", {}).get("Containers", [])
    if not containers:
        raise recorded("the model package has no containers", arn=arn)
    return copy.deepcopy(list(containers))


def _next_version(region: Region, group_name: str, params: Params) -> tuple[str, Record]:
    group = group_called(region, group_name)
    group["_versions"] += 1
    name, version = group["ModelPackageGroupName"], group["_versions"]
    return f"{name}/{version}", {
        "ModelPackageGroupName": name,
        "ModelPackageVersion": version,
        "ModelApprovalStatus": params.get("ModelApprovalStatus", "PendingManualApproval"),
    }


def _group_arn(region: Region, package: Record) -> str | None:
    name = package.get("ModelPackageGroupName")
    return region.arn(GROUPS, name) if name else None


def _sort_name(package: Record) -> str:
    """Make a sort key that has version 10 after version 9."""
    return f"{package.get('ModelPackageGroupName')}/{package.get('ModelPackageVersion', 0):06}"
