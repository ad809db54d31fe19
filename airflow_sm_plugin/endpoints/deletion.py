"""Delete an endpoint with what we made for it: what others made, or what others use, stays."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.names import is_same
from airflow_sm_plugin.endpoints.usage import EndpointUsage
from airflow_sm_plugin.exceptions import AccessDenied
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = get_log(__name__)


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
        """Delete it, and return when it is gone; say whether there was one.

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
        done = {}
        if of_configs:
            models = sorted(self._usage.models_in(self._configs) - set(named))
            made = [name for name in models if self._hook.models.is_made_here(name)]
            foreign = [name for name in models if name not in made and self._hook.models.find(name)]
            if foreign:
                log.warning(
                    "left alone, since none of our operators made them: models %s; say model_names to delete them",
                    ", ".join(foreign),
                )
            done = self._delete_unused(
                "model", made, self._usage.of_models, self._hook.models.is_made_here, self._hook.models.delete
            )
        return done | {name: self._hook.models.delete(name) for name in named}

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
        """Say whether a configuration is the one that was found, not one that somebody has created since."""
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
        """Delete what no endpoint uses; the last look at this one comes immediately before each deletion."""
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
