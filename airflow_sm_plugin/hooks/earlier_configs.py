"""Remove what an endpoint served earlier, once its new configuration serves."""

from __future__ import annotations

import time

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.deployment import DeploymentOptions
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.ownership import is_made_here
from airflow_sm_plugin.exceptions import SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

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
        there = self._hook.derived_endpoint_configs(self._spec.endpoint_name)
        earlier = [name for name in there if name != self._spec.config_name]
        needed = set(self._spec.model_names)
        if self._options.delete_old_models and earlier[keep:]:
            needed.update(*map(self._models_of, earlier[:keep]))
        for name in earlier[keep:]:
            if self._options.delete_old_models:
                self._remove_models(self._models_of(name) - needed)
            self._hook.delete_endpoint_config(name)
            log.info("removed the earlier configuration %s", name)

    def _models_of(self, config_name: str) -> set[str]:
        config = self._hook.describe_endpoint_config(config_name) or {}
        return {variant["ModelName"] for variant in config.get("ProductionVariants", ())}

    def _remove_models(self, names: set[str]) -> None:
        for name in filter(self._made_here, sorted(names)):
            self._hook.delete_model(name)
            log.info("removed the earlier model %s", name)

    def _made_here(self, model_name: str) -> bool:
        arn = self._hook.model_arn(model_name)
        return arn is not None and is_made_here(self._hook.tags_of(arn))
