"""SageMaker's control plane: endpoint configurations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated
from airflow_sm_plugin.core.names import ENDPOINT_TAG, content_stem, is_content_name, users_tags
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied, ModelNotFound
from airflow_sm_plugin.hooks.pages import pages_of
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec


class EndpointConfigCalls(SageMakerCalls):
    """Create, describe, list and delete endpoint configurations. Every method may be repeated."""

    def ensure_endpoint_config(self, spec: EndpointConfigSpec) -> bool:
        """Create the endpoint configuration unless it is there; its name is its content. Say whether it was created.

        :raises ModelNotFound: a variant names a model that does not exist
        """
        with translated(f"sagemaker:CreateEndpointConfig {spec.config_name}"):
            try:
                self.client.create_endpoint_config(**spec.config_parameters())
            except ClientError as error:
                said = meaning(error)
                if said is Meaning.ALREADY_EXISTS:
                    return False
                if said is not Meaning.NOT_FOUND:
                    raise
                names = ", ".join(variant.model_name for variant in spec.variants)
                raise ModelNotFound(
                    f"endpoint {spec.endpoint_name} cannot be configured: there is no SageMaker model {names} in "
                    f"{self.conn_region_name}; create it first"
                ) from error
        self.log.info("endpoint configuration %s created", spec.config_name)
        return True

    def describe_endpoint_config(self, name: str) -> Mapping[str, Any] | None:
        """Describe an endpoint configuration, None when there is none."""
        doing = f"sagemaker:DescribeEndpointConfig {name}"
        return self._found(doing, lambda: self.client.describe_endpoint_config(EndpointConfigName=name))

    def update_config_tags(self, spec: EndpointConfigSpec) -> None:
        """Give the configuration, which may have been there before, the user's tags, as :meth:`update_tags` does."""
        if not users_tags(spec.tags):
            return
        try:
            found = self.describe_endpoint_config(spec.config_name)
        except AccessDenied as denied:
            self.log.warning(
                "the tags of endpoint configuration %s stay as they are: %s", spec.config_name, denied
            )
            return
        if found is not None:
            self.update_tags(found["EndpointConfigArn"], spec.tags)

    def is_config_of(self, name: str, endpoint_name: str) -> bool:
        """Say whether a configuration is there that we made for an endpoint, as its tags tell now."""
        found = self.describe_endpoint_config(name)
        tags = None if found is None else self.tags_of(found["EndpointConfigArn"])
        return (tags or {}).get(ENDPOINT_TAG) == endpoint_name

    def delete_endpoint_config(self, name: str) -> bool:
        """Delete an endpoint configuration; say whether there was one."""
        return self._gone(
            f"sagemaker:DeleteEndpointConfig {name}",
            lambda: self.client.delete_endpoint_config(EndpointConfigName=name),
        )

    def derived_endpoint_configs(self, endpoint_name: str) -> list[str]:
        """List the configurations that we made for an endpoint, newest first; none where listing is not permitted.

        For an endpoint that is gone, since nothing else tells any more what it served, and to remove earlier ones.
        Their tag names the endpoint. The name alone proves nothing: others name theirs alike, and long names are cut.
        """
        try:
            with translated(f"sagemaker:ListEndpointConfigs {endpoint_name}"):
                pages = pages_of(
                    self.client,
                    "list_endpoint_configs",
                    NameContains=content_stem(endpoint_name),
                    SortBy="CreationTime",
                    SortOrder="Descending",
                )
                found = {
                    config["EndpointConfigName"]: config["EndpointConfigArn"]
                    for page in pages
                    for config in page["EndpointConfigs"]
                    if is_content_name(config["EndpointConfigName"], endpoint_name)
                }
        except AccessDenied as denied:
            self.log.warning(
                "cannot look for configurations that endpoint %s left: %s", endpoint_name, denied
            )
            return []
        return self._tagged_for(endpoint_name, found)

    def _tagged_for(self, endpoint_name: str, configs: Mapping[str, str]) -> list[str]:
        """Return those configurations, given by name with their ARNs, whose tag names the endpoint."""
        endpoints = {name: (self.tags_of(arn) or {}).get(ENDPOINT_TAG) for name, arn in configs.items()}
        untagged = [name for name, endpoint in endpoints.items() if endpoint is None]
        if untagged:
            self.log.warning(
                "left alone, since no tag tells whether they are of endpoint %s, though they are named like its own: "
                "%s. Delete by hand what is not needed",
                endpoint_name,
                ", ".join(untagged),
            )
        return [name for name, endpoint in endpoints.items() if endpoint == endpoint_name]
