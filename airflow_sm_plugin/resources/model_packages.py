"""Model packages of SageMaker's Model Registry, as DescribeModelPackage and ListModelPackages answer them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_sm_plugin.exceptions import InvalidRequest, ModelPackageNotApproved, ModelPackageNotFound

APPROVED = "Approved"
_GROUP_KIND = ":model-package-group/"


def check_package_arn(arn: str) -> str:
    """Return an ARN (or the name of an unversioned package), or raise InvalidRequest for a group's."""
    if _GROUP_KIND in arn:
        raise InvalidRequest(
            f"model_package_arn {arn} names a model package group: give it as model_package_group_name for its newest "
            f"approved version, or the ARN of one version (…:model-package/<group>/<version>)"
        )
    return arn


def check_approved(package: Mapping[str, Any]) -> None:
    """Raise ModelPackageNotApproved for a described package that is rejected, waits for approval, or is not usable.

    Packages outside a group (those of AWS Marketplace) are never approved nor rejected: they pass.
    """
    arn = package["ModelPackageArn"]
    state = package.get("ModelPackageStatus", "Completed")
    if state != "Completed":
        raise ModelPackageNotApproved(
            f"model package {arn} is {state}, only a Completed one can become a model",
            do="choose another version",
        )
    approval = package.get("ModelApprovalStatus")
    if approval is None and not package.get("ModelPackageGroupName"):
        return
    if approval != APPROVED:
        raise ModelPackageNotApproved(
            f"model package {arn} is {approval or 'neither approved nor rejected'}, not {APPROVED}",
            do="approve it in the Model Registry first",
        )


def newest(packages: Iterable[Mapping[str, Any]], *, group: str, require_approved: bool) -> Mapping[str, Any]:
    """Select the newest usable version of a listing, newest first; raise ModelPackageNotFound without one."""
    for package in packages:
        if package.get("ModelPackageStatus", "Completed") != "Completed":
            continue
        if not require_approved or package.get("ModelApprovalStatus") == APPROVED:
            return package
    wanted, remedy = "approved version", "approve one in the Model Registry first"
    if not require_approved:
        wanted, remedy = "usable version", "register one first"
    raise ModelPackageNotFound(f"model package group {group} has no {wanted}", do=remedy)


def environment_of(package: Mapping[str, Any]) -> dict[str, str]:
    """Merge the environments of a described package's containers."""
    containers = (package.get("InferenceSpecification") or {}).get("Containers") or []
    return {
        key: value for container in containers for key, value in (container.get("Environment") or {}).items()
    }
