"""Delete what we made for an endpoint: with the endpoint, or what it served earlier. What endpoints use stays."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.errors import translated
from airflow_sm_plugin.core.names import is_same
from airflow_sm_plugin.endpoints.options import DeploymentOptions
from airflow_sm_plugin.exceptions import AccessDenied, SageMakerInferenceError
from airflow_sm_plugin.hooks.calls import pages_of
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec, models_of
from airflow_sm_plugin.resources.endpoint_status import configs_of

log = get_log(__name__)

_CLOCK_SKEW = datetime.timedelta(minutes=5)
"""By how much the times that SageMaker gives to different resources may disagree."""
_ATTEMPTS = 3
"""Attempts to remove earlier configurations. The deployment has succeeded, so it is not held up for long."""
_LONGEST_PAUSE = 2.0
"""Seconds between these attempts, where ``poll_interval`` is longer."""


@dataclass(eq=False)
class EndpointUsage:
    """The configurations and models that the account's endpoints have now or are being moved to.

    No call of SageMaker lists the endpoints that use a configuration. An endpoint takes one by CreateEndpoint or
    UpdateEndpoint, which set its LastModifiedTime: so only those endpoints are described that were modified since the
    oldest configuration, or model, in question was created. That needs the permission ``sagemaker:ListEndpoints``.
    """

    _hook: SageMakerControlPlaneHook

    def of_configs(self, names: Iterable[str]) -> set[str]:
        """Select the configurations that an endpoint uses."""
        described = {name: self._hook.configs.describe(name) for name in names}
        return self._used_configs(described.values()) & set(described)

    def of_models(self, names: Iterable[str]) -> set[str]:
        """Select the models that an endpoint's configuration names."""
        described = {name: self._hook.models.find(name) for name in names}
        return self.models_in(self._used_configs(described.values())) & set(described)

    def models_in(self, configs: Iterable[str]) -> set[str]:
        """Collect the models that configurations name; a configuration that is gone names none."""
        return {name for config in configs for name in models_of(self._hook.configs.describe(config))}

    def _used_configs(self, described: Iterable[Mapping[str, Any] | None]) -> set[str]:
        """Collect the configurations of all endpoints that may use one of these configurations or models."""
        created = [description["CreationTime"] for description in described if description is not None]
        if not created:
            return set()
        with translated("sagemaker:ListEndpoints"):
            pages = pages_of(
                self._hook.client,
                "list_endpoints",
                LastModifiedTimeAfter=min(created) - _CLOCK_SKEW,
                PaginationConfig={"PageSize": 100},
            )
            names = [endpoint["EndpointName"] for page in pages for endpoint in page["Endpoints"]]
        endpoints = [self._hook.describe_endpoint(name) for name in names]
        return {config for endpoint in endpoints for config in configs_of(endpoint)}


class EndpointDeletion:
    """The deletion of the endpoint that has the name now; one created under it later is another, and stays."""

    def __init__(self, hook: SageMakerControlPlaneHook, endpoint_name: str) -> None:
        self._hook = hook
        self._usage = EndpointUsage(hook)
        self._name = endpoint_name
        self._endpoint = hook.describe_endpoint(endpoint_name)
        served = [str(name) for name in [(self._endpoint or {}).get("EndpointConfigName")] if name]
        self._served = {name: hook.configs.describe(name) for name in served}
        # A retry finds no other configurations once the endpoint is gone: what is deleted must not depend on the try.
        self._configs = list(dict.fromkeys([*served, *hook.configs.made_for(endpoint_name)]))

    @property
    def found(self) -> list[str]:
        """List the configurations that were found, and the models that the served one names."""
        models = {model: None for served in self._served.values() for model in models_of(served)}
        return [
            *(f"endpoint configuration {name}" for name in self._configs),
            *(f"model {name}" for name in models),
        ]

    def is_of(self, description: Mapping[str, Any] | None) -> bool:
        """Check that the endpoint to delete is the described one; None describes that there is none."""
        if description is None or self._endpoint is None:
            return description is self._endpoint
        return is_same(description, self._endpoint)

    def delete_endpoint(
        self, *, max_wait: float, poll_interval: float, check: Callable[[], object] | None = None
    ) -> bool:
        """Delete the endpoint and wait until it is gone; return whether there was one.

        :param check: as in :meth:`SageMakerControlPlaneHook.delete_endpoint`
        :raises EndpointDeadlineExceeded: it was still there
        """
        if self._endpoint is None:
            return False
        return self._hook.delete_endpoint(
            self._name,
            max_wait=max_wait,
            poll_interval=poll_interval,
            description=self._endpoint,
            check=check,
        )

    def delete_models(self, model_names: Sequence[str], *, of_configs: bool) -> dict[str, bool]:
        """Delete models given by name, and the configurations' models of our making; return whether each existed."""
        models, deleted = self._hook.models, {}
        if of_configs:
            names = sorted(self._usage.models_in(self._configs) - set(model_names))
            ours = [name for name in names if models.is_made_here(name)]
            foreign = [name for name in names if name not in ours and models.find(name)]
            if foreign:
                log.warning(
                    "left alone, since none of our operators made them: models %s; give model_names to delete them",
                    ", ".join(foreign),
                )
            deleted = self._delete_unused(
                "model", ours, self._usage.of_models, models.is_made_here, models.delete
            )
        return deleted | {name: models.delete(name) for name in model_names}

    def delete_configs(self) -> dict[str, bool]:
        """Delete the configuration that the endpoint had, and those made for it; return whether each existed."""
        configs, used_of = self._hook.configs, self._usage.of_configs
        return self._delete_unused(
            "endpoint configuration", self._configs, used_of, self._is_same_config, configs.delete
        )

    def _is_same_config(self, name: str) -> bool:
        """Check that the configuration was not created by another since: it is the served one, or tagged as ours."""
        served = self._served.get(name)
        if served is not None:
            described = self._hook.configs.describe(name)
            if described is not None and is_same(described, served):
                return True
        return self._hook.configs.is_made_for(self._name, name)

    def _delete_unused(
        self,
        kind: str,
        names: Sequence[str],
        used_of: Callable[[Iterable[str]], set[str]],
        is_deletable: Callable[[str], bool],
        delete: Callable[[str], bool],
    ) -> dict[str, bool]:
        """Delete what no endpoint uses. This endpoint is described last, immediately before each deletion."""
        try:
            used = used_of(names)
        except AccessDenied as denied:
            log.warning(
                "left alone, since it is not known whether an endpoint uses them: %ss %s: %s",
                kind,
                ", ".join(names),
                denied,
            )
            return {}
        deleted = {}
        for name in names:
            if name in used:
                log.warning("%s %s stays: an endpoint uses it", kind, name)
            elif not is_deletable(name):
                deleted[name] = False
            elif self._hook.describe_endpoint(self._name) is not None:
                log.warning("%s %s stays: endpoint %s was created again", kind, name, self._name)
            else:
                deleted[name] = delete(name)
        return deleted


class EarlierConfigs:
    """The configurations that we derived for an endpoint before its present one, and their models."""

    def __init__(
        self, hook: SageMakerControlPlaneHook, spec: EndpointConfigSpec, options: DeploymentOptions
    ) -> None:
        self._hook, self._spec, self._options = hook, spec, options
        self._usage = EndpointUsage(hook)

    def tidy(self) -> None:
        """Remove all but the ``keep_configs`` newest. The endpoint serves, so a failure is only a warning."""
        keep = self._options.keep_configs
        if keep is None:
            return
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                self._remove(keep)
                return
            except SageMakerInferenceError as error:
                if not (error.retryable and attempts_left):
                    name = self._spec.endpoint_name
                    log.warning("could not remove earlier configurations of endpoint %s: %s", name, error)
                    return
            time.sleep(min(self._options.poll_interval, _LONGEST_PAUSE))

    def _remove(self, keep: int) -> None:
        """Remove models before their configuration: only the configuration names them to a retry."""
        configs, endpoint_name = self._hook.configs, self._spec.endpoint_name
        earlier = [name for name in configs.made_for(endpoint_name) if name != self._spec.config_name]
        unused = earlier[keep:]
        used = self._usage.of_configs(unused)
        with_models = self._options.delete_old_models
        needed = self._usage.models_in(earlier[:keep]) if with_models and unused else set()
        for name in unused:
            if name in used:
                log.warning("the earlier configuration %s stays: an endpoint uses it", name)
                continue
            if with_models:
                self._remove_models(self._usage.models_in([name]) - needed - set(self._spec.model_names))
            if not configs.is_made_for(endpoint_name, name):
                log.warning("the earlier configuration %s stays: it was created again elsewhere", name)
                continue
            if not self._serves_ours():
                return
            configs.delete(name)
            log.info("removed the earlier configuration %s", name)

    def _serves_ours(self) -> bool:
        """Check that the endpoint serves the new configuration: else another deployment is changing it."""
        description = self._hook.describe_endpoint(self._spec.endpoint_name) or {}
        serves = description.get("EndpointStatus"), description.get("EndpointConfigName")
        if serves == ("InService", self._spec.config_name):
            return True
        log.info("earlier configurations of endpoint %s stay: it is being changed", self._spec.endpoint_name)
        return False

    def _remove_models(self, names: set[str]) -> None:
        used = self._usage.of_models(names)
        for name in sorted(names):
            if name in used:
                log.warning("the earlier model %s stays: an endpoint uses it", name)
            elif self._hook.models.is_made_here(name) and self._serves_ours():
                self._hook.models.delete(name)
                log.info("removed the earlier model %s", name)
