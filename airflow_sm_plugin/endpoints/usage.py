"""Which endpoint configurations and models the endpoints of an account need, so that nobody deletes them."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.hooks.calls import pages_of
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_config import models_of
from airflow_sm_plugin.resources.endpoint_status import configs_of

_CLOCKS = datetime.timedelta(minutes=5)
"""By how much the times that SageMaker gives to different resources may disagree."""


class EndpointUsage:
    """Look through the account's endpoints for what they have now or are being moved to.

    SageMaker has no call that tells which endpoints use a configuration. An endpoint takes one by CreateEndpoint or
    UpdateEndpoint, which set its LastModifiedTime: so those endpoints only are described that were modified since
    the oldest configuration, or model, in question was created.
    """

    def __init__(self, hook: SageMakerControlPlaneHook) -> None:
        self._hook = hook

    def of_configs(self, names: Iterable[str]) -> set[str]:
        """Return those of the configurations that an endpoint uses.

        :raises AccessDenied: ``sagemaker:ListEndpoints`` is missing
        """
        described = {name: self._hook.configs.describe(name) for name in names}
        there = [description for description in described.values() if description is not None]
        if not there:
            return set()
        return {name for endpoint in self._endpoints(there) for name in configs_of(endpoint)} & set(described)

    def of_models(self, names: Iterable[str]) -> set[str]:
        """Return those of the models that an endpoint's configuration names.

        :raises AccessDenied: ``sagemaker:ListEndpoints`` is missing
        """
        described = {name: self._hook.models.find(name) for name in names}
        there = [description for description in described.values() if description is not None]
        if not there:
            return set()
        configs = {name for endpoint in self._endpoints(there) for name in configs_of(endpoint)}
        return self.models_in(configs) & set(described)

    def models_in(self, configs: Iterable[str]) -> set[str]:
        """Return the models that configurations name; one that is gone names none."""
        found = filter(None, map(self._hook.configs.describe, configs))
        return {name for config in found for name in models_of(config)}

    def _endpoints(self, needed: Collection[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Describe the endpoints that may use one of these configurations or models."""
        oldest = min(description["CreationTime"] for description in needed) - _CLOCKS
        with translated("sagemaker:ListEndpoints"):
            pages = pages_of(
                self._hook.client,
                "list_endpoints",
                LastModifiedTimeAfter=oldest,
                PaginationConfig={"PageSize": 100},
            )
            names = [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]
        for name in names:
            description = self._hook.describe_endpoint(name)
            if description is not None and description.get("EndpointStatus") != "Deleting":
                yield description
