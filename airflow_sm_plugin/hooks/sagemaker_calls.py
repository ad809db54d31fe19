"""Shared calls of SageMaker's control plane: the client, roles and tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.aws.hook import connecting
from airflow_sm_plugin.core.names import tags_to_write, users_tags
from airflow_sm_plugin.exceptions import AccessDenied, RequestRefused
from airflow_sm_plugin.hooks.calls import ClientHook, pages_of
from airflow_sm_plugin.resources.tags import as_tags

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient


class SageMakerCalls(ClientHook):
    """The base of our hook for the control plane; models, AutoML jobs and the like make their calls through it."""

    service = "sagemaker"

    @property
    def client(self) -> SageMakerClient:
        return cast("SageMakerClient", self.get_conn())

    def role_arn(self, role: str) -> str:
        """Resolve a role given by name or ARN; only a name costs an ``iam:GetRole``."""
        if role.startswith("arn:"):
            return role
        with translated(f"iam:GetRole {role}"), connecting():
            return str(self.expand_role(role))

    def tags_of(self, arn: str) -> Mapping[str, str] | None:
        """Read a resource's tags; None where ``sagemaker:ListTags`` is not permitted or the resource is gone."""
        try:
            with translated(f"sagemaker:ListTags {arn}"):
                pages = pages_of(self.client, "list_tags", ResourceArn=arn)
                return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}
        except (AccessDenied, RequestRefused) as error:
            self.log.info("not known how it was made: %s", error)
            return None

    def add_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        """Add tags to a resource; existing keys are replaced."""
        with translated(f"sagemaker:AddTags {arn}"):
            self.client.add_tags(ResourceArn=arn, Tags=as_tags(tags))

    def update_tags(self, arn: str, wanted: Mapping[str, str]) -> None:
        """Write those of the user's tags that are missing or differ; all other tags stay.

        A refusal is logged as a warning: a resource serves without its tags.

        :raises ServiceError: AWS could not answer now; a retry writes them
        """
        if not users_tags(wanted):
            return
        changed = tags_to_write(wanted, self.tags_of(arn))
        if not changed:
            return
        keys = ", ".join(sorted(changed))
        try:
            self.add_tags(arn, changed)
        except (AccessDenied, RequestRefused) as error:
            self.log.warning("the tags %s of %s stay as they are: %s", keys, arn, error)
        else:
            self.log.info("tags of %s set: %s", arn, keys)

    def delete_tags(self, arn: str, keys: Sequence[str]) -> None:
        """Remove tags from a resource; missing keys are ignored."""
        with translated(f"sagemaker:DeleteTags {arn}"):
            self.client.delete_tags(ResourceArn=arn, TagKeys=list(keys))
