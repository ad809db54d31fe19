"""Remove what an endpoint served earlier, once its new configuration serves."""

from __future__ import annotations

import time

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.endpoints.options import DeploymentOptions
from airflow_sm_plugin.endpoints.usage import EndpointUsage
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec

log = get_log(__name__)

_ATTEMPTS = 3
_LONGEST_PAUSE = 2.0


class EarlierConfigs:
    """The configurations that we derived for an endpoint before the one that it serves now, and their models."""

    def __init__(
        self, hook: SageMakerControlPlaneHook, spec: EndpointConfigSpec, options: DeploymentOptions
    ) -> None:
        self._hook = hook
        self._spec = spec
        self._options = options

    def tidy(self) -> None:
        """Remove all but the ``keep_configs`` newest.

        Best effort: the endpoint serves, so what cannot be removed, in three attempts, is a warning.
        """
        keep = self._options.keep_configs
        if keep is None:
            return
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._remove(keep)
                return
            except SageMakerInferenceError as error:
                if not (error.retryable and left):
                    log.warning(
                        "could not remove earlier configurations of endpoint %s: %s",
                        self._spec.endpoint_name,
                        error,
                    )
                    return
            time.sleep(min(self._options.poll_interval, _LONGEST_PAUSE))

    def _remove(self, keep: int) -> None:
        """Remove models first, since only a configuration tells a retry which."""
        usage = EndpointUsage(self._hook)
        earlier = [
            name
            for name in self._hook.configs.made_for(self._spec.endpoint_name)
            if name != self._spec.config_name
        ]
        unused = earlier[keep:]
        used = usage.of_configs(unused)
        needed = usage.models_in(earlier[:keep]) if self._options.delete_old_models and unused else set()
        for name in unused:
            if name in used:
                log.warning("the earlier configuration %s stays: an endpoint uses it", name)
                continue
            if self._options.delete_old_models:
                self._remove_models(usage, usage.models_in([name]) - needed - set(self._spec.model_names))
            if not self._hook.configs.is_made_for(self._spec.endpoint_name, name):
                log.warning("the earlier configuration %s stays: it was created again by somebody else", name)
                continue
            if not self._serves_ours():
                return
            self._hook.configs.delete(name)
            log.info("removed the earlier configuration %s", name)

    def _serves_ours(self) -> bool:
        """Say whether the endpoint still serves the new configuration: else another deployment is at work there."""
        description = self._hook.describe_endpoint(self._spec.endpoint_name) or {}
        serves = description.get("EndpointStatus"), description.get("EndpointConfigName")
        if serves == ("InService", self._spec.config_name):
            return True
        log.info("earlier configurations of endpoint %s stay: it is being changed", self._spec.endpoint_name)
        return False

    def _remove_models(self, usage: EndpointUsage, names: set[str]) -> None:
        used = usage.of_models(names)
        for name in sorted(names):
            if name in used:
                log.warning("the earlier model %s stays: an endpoint uses it", name)
            elif self._hook.models.is_made_here(name) and self._serves_ours():
                self._hook.models.delete(name)
                log.info("removed the earlier model %s", name)
