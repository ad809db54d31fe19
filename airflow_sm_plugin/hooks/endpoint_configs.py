"""Calls of SageMaker's control plane about endpoint configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated
from airflow_sm_plugin.core.names import ENDPOINT_TAG, content_stem, is_content_name, users_tags
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied, ModelNotFound
from airflow_sm_plugin.hooks.calls import found, pages_of, removed
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec


class EndpointConfigs:
    """Create, describe, list and delete endpoint configurations. Every method can be repeated."""

    def __init__(self, hook: SageMakerCalls) -> None:
        self._hook = hook

    def ensure(self, spec: EndpointConfigSpec) -> bool:
        """Create the configuration unless it exists; its name is its content. Return whether it was created.

        :raises ModelNotFound: a variant names a model that does not exist
        """
        hook = self._hook
        with translated(f"sagemaker:CreateEndpointConfig {spec.config_name}"):
            try:
                hook.client.create_endpoint_config(**spec.config_parameters())
            except ClientError as error:
                refusal = meaning(error)
                if refusal is Meaning.ALREADY_EXISTS:
                    return False
                if refusal is not Meaning.NOT_FOUND:
                    raise
                names = ", ".join(variant.model_name for variant in spec.variants)
                raise ModelNotFound(
                    f"endpoint {spec.endpoint_name} cannot be configured: there is no SageMaker model {names} in "
                    f"{hook.conn_region_name}",
                    do="create it first, or correct its name or region_name",
                ) from None
        hook.log.info("endpoint configuration %s created", spec.config_name)
        return True

    def describe(self, name: str) -> Mapping[str, Any] | None:
        doing = f"sagemaker:DescribeEndpointConfig {name}"
        return found(doing, lambda: self._hook.client.describe_endpoint_config(EndpointConfigName=name))

    def update_tags(self, spec: EndpointConfigSpec) -> None:
        """Write the user's tags to the configuration, which may be an earlier one."""
        if not users_tags(spec.tags):
            return
        try:
            description = self.describe(spec.config_name)
        except AccessDenied as denied:
            self._hook.log.warning(
                "the tags of endpoint configuration %s stay as they are: %s", spec.config_name, denied
            )
            return
        if description is not None:
            self._hook.update_tags(description["EndpointConfigArn"], spec.tags)

    def is_made_for(self, endpoint_name: str, name: str) -> bool:
        """Check by its tags that the configuration exists and that this package made it for the endpoint."""
        description = self.describe(name)
        tags = None if description is None else self._hook.tags_of(description["EndpointConfigArn"])
        return (tags or {}).get(ENDPOINT_TAG) == endpoint_name

    def delete(self, name: str) -> bool:
        return removed(
            f"sagemaker:DeleteEndpointConfig {name}",
            lambda: self._hook.client.delete_endpoint_config(EndpointConfigName=name),
        )

    def made_for(self, endpoint_name: str) -> list[str]:
        """List the configurations that this package made for an endpoint, newest first; none without permission.

        Finds the configuration of a deleted endpoint, and earlier ones to remove. Their tag names the endpoint.
        The name alone proves nothing: other users may choose similar names, and long names are cut.
        """
        try:
            with translated(f"sagemaker:ListEndpointConfigs {endpoint_name}"):
                pages = pages_of(
                    self._hook.client,
                    "list_endpoint_configs",
                    NameContains=content_stem(endpoint_name),
                    SortBy="CreationTime",
                    SortOrder="Descending",
                )
                arns = {
                    config["EndpointConfigName"]: config["EndpointConfigArn"]
                    for page in pages
                    for config in page["EndpointConfigs"]
                    if is_content_name(config["EndpointConfigName"], endpoint_name)
                }
        except AccessDenied as denied:
            self._hook.log.warning(
                "cannot list the configurations that endpoint %s left: %s", endpoint_name, denied
            )
            return []
        endpoints = {name: (self._hook.tags_of(arn) or {}).get(ENDPOINT_TAG) for name, arn in arns.items()}
        untagged = [name for name, endpoint in endpoints.items() if endpoint is None]
        if untagged:
            self._hook.log.warning(
                "left alone, since no tag shows whether they belong to endpoint %s, though they are named like its "
                "own: %s. Delete by hand those that are not needed",
                endpoint_name,
                ", ".join(untagged),
            )
        return [name for name, endpoint in endpoints.items() if endpoint == endpoint_name]
