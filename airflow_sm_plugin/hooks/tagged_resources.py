"""Calls of the Resource Groups Tagging API: one call finds a hundred tagged resources, with all of their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.hooks.calls import ClientHook, pages_of


class TaggedResourcesHook(ClientHook):
    """Find resources by a tag. Takes the arguments of the provider's ``AwsBaseHook``."""

    service = "resourcegroupstaggingapi"

    def with_tag(self, key: str, kinds: Sequence[str]) -> dict[str, Mapping[str, str]]:
        """Map the ARN of each resource that has the tag, whatever its value, to the resource's tags.

        The index that AWS searches is seconds to minutes old: a listed resource can be gone, or have other tags now.

        :param kinds: e.g. ``["sagemaker:endpoint"]``
        :raises AccessDenied: ``tag:GetResources`` is not permitted
        """
        client = self.get_conn()
        with translated("tag:GetResources"):
            pages = pages_of(
                client,
                "get_resources",
                TagFilters=[{"Key": key}],
                ResourceTypeFilters=list(kinds),
                PaginationConfig={"PageSize": 100},
            )
            return {
                resource["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in resource["Tags"]}
                for page in pages
                for resource in page["ResourceTagMappingList"]
            }
