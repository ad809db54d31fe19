"""Delete what we made for an endpoint: with the endpoint, or what it served earlier. What endpoints use stays."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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

_CLOCKS = datetime.timedelta(minutes=5)
"""By how much the times that SageMaker gives to different resources may disagree."""
_ATTEMPTS = 3
_LONGEST_PAUSE = 2.0


class EndpointUsage:
    """Which configurations and models the account's endpoints have now or are being moved to.

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
        return self._used_configs(described.values()) & set(described)

    def of_models(self, names: Iterable[str]) -> set[str]:
        """Return those of the models that an endpoint's configuration names.

        :raises AccessDenied: ``sagemaker:ListEndpoints`` is missing
        """
        described = {name: self._hook.models.find(name) for name in names}
        return self.models_in(self._used_configs(described.values())) & set(described)

    def models_in(self, configs: Iterable[str]) -> set[str]:
        """Return the models that configurations name; one that is gone names none."""
        return {name for config in configs for name in models_of(self._hook.configs.describe(config))}

    def _used_configs(self, described: Iterable[Mapping[str, Any] | None]) -> set[str]:
        """Return the configurations of the endpoints that may use one of these configurations or models."""
        existing = [description for description in described if description is not None]
        if not existing:
            return set()
        return {config for endpoint in self._endpoints_since(existing) for config in configs_of(endpoint)}

    def _endpoints_since(self, existing: Collection[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        oldest = min(description["CreationTime"] for description in existing) - _CLOCKS
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


class EndpointDeletion:
    """The deletion of the endpoint that has the name now; one created under it later is another, and stays."""

    def __init__(self, hook: SageMakerControlPlaneHook, endpoint_name: str) -> None:
        self._hook = hook
        self._usage = EndpointUsage(hook)
        self._name = endpoint_name
        self._found = hook.describe_endpoint(endpoint_name)
        served = [str(name) for name in [(self._found or {}).get("EndpointConfigName")] if name]
        self._served = {name: hook.configs.describe(name) for name in served}
        # A retry, when the endpoint is gone, finds no others: what is deleted must not depend on the try.
        self._configs = list(dict.fromkeys([*served, *hook.configs.made_for(endpoint_name)]))

    def delete_endpoint(self, *, max_wait: float, poll_interval: float) -> bool:
        """Delete it, and return when it is gone: whether there was one.

        :raises EndpointDeadlineExceeded: it was still there
        """
        if self._found is None:
            return False
        return self._hook.delete_endpoint(
            self._name, max_wait=max_wait, poll_interval=poll_interval, found=self._found
        )

    def delete_models(self, named: Sequence[str], *, of_configs: bool) -> dict[str, bool]:
        """Delete the models given by name, and those of the configurations that our operators made.

        :return: the models by name, and whether each was there
        """
        models, done = self._hook.models, {}
        if of_configs:
            names = sorted(self._usage.models_in(self._configs) - set(named))
            made = [name for name in names if models.is_made_here(name)]
            foreign = [name for name in names if name not in made and models.find(name)]
            if foreign:
                log.warning(
                    "left alone, since none of our operators made them: models %s; say model_names to delete them",
                    ", ".join(foreign),
                )
            done = self._delete_unused(
                "model", made, self._usage.of_models, models.is_made_here, models.delete
            )
        return done | {name: models.delete(name) for name in named}

    def delete_configs(self) -> dict[str, bool]:
        """Delete the configuration that the endpoint had, and those that we made for it.

        :return: the configurations by name, and whether each was there
        """
        return self._delete_unused(
            "endpoint configuration",
            self._configs,
            self._usage.of_configs,
            self._is_found_config,
            self._hook.configs.delete,
        )

    def _is_found_config(self, name: str) -> bool:
        """Return whether a configuration is the one that was found, not one that was created since."""
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
        may_go: Callable[[str], bool],
        delete: Callable[[str], bool],
    ) -> dict[str, bool]:
        """Delete what no endpoint uses; this one is described last, immediately before each deletion."""
        try:
            used = used_of(names)
        except AccessDenied as denied:
            log.warning(
                "left alone, since nothing tells whether an endpoint uses them: %ss %s: %s",
                kind,
                ", ".join(names),
                denied,
            )
            return {}
        done = {}
        for name in names:
            if name in used:
                log.warning("%s %s stays: an endpoint uses it", kind, name)
            elif not may_go(name):
                done[name] = False
            elif self._hook.describe_endpoint(self._name) is not None:
                log.warning("%s %s stays: endpoint %s was created again", kind, name, self._name)
            else:
                done[name] = delete(name)
        return done


class EarlierConfigs:
    """The configurations that we derived for an endpoint before the one that it serves now, and their models."""

    def __init__(
        self, hook: SageMakerControlPlaneHook, spec: EndpointConfigSpec, options: DeploymentOptions
    ) -> None:
        self._hook = hook
        self._usage = EndpointUsage(hook)
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
                    name = self._spec.endpoint_name
                    log.warning("could not remove earlier configurations of endpoint %s: %s", name, error)
                    return
            time.sleep(min(self._options.poll_interval, _LONGEST_PAUSE))

    def _remove(self, keep: int) -> None:
        """Remove models first, since only a configuration tells a retry which."""
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
                log.warning(
                    "the earlier configuration %s stays: it was created again by another task or person", name
                )
                continue
            if not self._serves_ours():
                return
            configs.delete(name)
            log.info("removed the earlier configuration %s", name)

    def _serves_ours(self) -> bool:
        """Return whether the endpoint still serves the new configuration: else another deployment is at work there."""
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
