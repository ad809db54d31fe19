"""What one task instance has made of an endpoint and its configuration, over all its tries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.ownership import is_owned
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

CONFIG = "endpoint configuration"
ENDPOINT = "endpoint"
_NEVER_SERVED = ("Creating", "Failed")


class OwnWork:
    """Tell what this task instance made from what it found.

    What it creates bears ``owner`` in a tag, so that a later try knows what a killed one, or a call whose answer was
    lost, has made. ``created`` is what this try knows by itself; ``touched`` says that it has acted on the endpoint.
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        *,
        owner: str | None = None,
        created: Sequence[str] = (),
        touched: bool = False,
    ) -> None:
        self._hook = hook
        self._spec = spec
        self._owner = owner
        self.created = list(created)
        self.touched = touched

    def add(self, what: str) -> None:
        """Remember that this try created it."""
        if what not in self.created:
            self.created.append(what)

    def has_endpoint(self, description: Mapping[str, Any]) -> bool:
        """Say whether it made the endpoint: this try, or an earlier one and it never served."""
        return ENDPOINT in self.created or self.owns_endpoint(description)

    def owns_endpoint(self, description: Mapping[str, Any]) -> bool:
        """Say whether any try of it made an endpoint that never served."""
        if description.get("EndpointStatus") not in _NEVER_SERVED:
            return False
        if description.get("EndpointConfigName") != self._spec.config_name:
            return False
        return is_owned(self._hook.tags_of(description["EndpointArn"]), self._owner)

    def has_config(self) -> bool:
        """Say whether any try of it made the configuration."""
        if CONFIG in self.created:
            return True
        if self._owner is None:
            return False
        description = self._hook.describe_endpoint_config(self._spec.config_name)
        return description is not None and is_owned(
            self._hook.tags_of(description["EndpointConfigArn"]), self._owner
        )
