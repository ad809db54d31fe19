"""Calls of SageMaker's control plane about model packages of the Model Registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.exceptions import AccessDenied, ModelPackageNotFound, RequestRefused
from airflow_sm_plugin.hooks.calls import pages_of
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls
from airflow_sm_plugin.resources.model_packages import APPROVED, newest


class ModelPackages:
    """Describe model packages.

    SageMaker words a missing package or group in several ways. These calls send only a name, so any refusal with status
    400 counts as missing, with its own text.
    """

    def __init__(self, hook: SageMakerCalls) -> None:
        self._hook = hook

    def describe(self, arn: str) -> Mapping[str, Any]:
        """Describe a model package by ARN, or by the name of an unversioned one.

        :raises ModelPackageNotFound: there is none
        """
        try:
            with translated(f"sagemaker:DescribeModelPackage {arn}"):
                answer = self._hook.client.describe_model_package(ModelPackageName=arn)
        except RequestRefused as error:
            raise ModelPackageNotFound(
                f"there is no model package {arn} to be used in {self._hook.conn_region_name}",
                reason=error.reason,
                do="correct its name, region_name or the account",
            ) from None
        return cast("Mapping[str, Any]", answer)

    def newest(self, group: str, *, require_approved: bool) -> Mapping[str, Any]:
        """Return the ``ModelPackageSummary`` of a group's newest version.

        :param group: name, or ARN for a group of another account
        :param require_approved: only Approved ones count
        :raises ModelPackageNotFound: no such group, or no such version in it
        """
        try:
            with translated(f"sagemaker:ListModelPackages {group}"):
                versions = self._versions(group, require_approved=require_approved)
                return newest(versions, group=group, require_approved=require_approved)
        except RequestRefused as error:
            raise self._no_group(group, error) from None
        except ModelPackageNotFound:
            self._check_group(group)
            raise

    def _versions(self, group: str, *, require_approved: bool) -> Iterator[Mapping[str, Any]]:
        approval: dict[str, Any] = {"ModelApprovalStatus": APPROVED} if require_approved else {}
        pages = pages_of(
            self._hook.client,
            "list_model_packages",
            ModelPackageGroupName=group,
            SortBy="CreationTime",
            SortOrder="Descending",
            **approval,
        )
        for page in pages:
            yield from cast("list[Mapping[str, Any]]", page["ModelPackageSummaryList"])

    def _check_group(self, group: str) -> None:
        """Distinguish an empty group from a missing one: listing its packages answers the same for both."""
        try:
            with translated(f"sagemaker:DescribeModelPackageGroup {group}"):
                self._hook.client.describe_model_package_group(ModelPackageGroupName=group)
        except RequestRefused as error:
            raise self._no_group(group, error) from error
        except AccessDenied as denied:
            self._hook.log.info("not known whether the group exists: %s", denied)

    def _no_group(self, group: str, error: RequestRefused) -> ModelPackageNotFound:
        return ModelPackageNotFound(
            f"there is no model package group {group} in {self._hook.conn_region_name}",
            reason=error.reason,
            do="correct its name, region_name or the account",
        )
