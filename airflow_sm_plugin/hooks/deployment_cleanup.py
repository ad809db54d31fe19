"""Clean up after a deployment that failed, was killed or timed out: delete what its task created, nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_sm_plugin.core.deployment import DeploymentOptions
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import EndpointState
from airflow_sm_plugin.exceptions import EndpointNotFound, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.own_work import OwnWork

log = logging.getLogger(__name__)

_HURRIED_SECONDS = 20.0


class DeploymentCleanup:
    """Best effort: what cannot be removed is a warning, and the next try or a teardown completes it."""

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        options: DeploymentOptions,
        work: OwnWork,
    ) -> None:
        self._hook = hook
        self._spec = spec
        self._options = options
        self._work = work
        self._done = False

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Delete what this task instance created when the block fails.

        Somebody who kills the task, or Airflow at its execution time-out, does not wait for long: then seconds remain.
        """
        try:
            yield
        except BaseException as error:
            if self._due:
                ours = isinstance(error, SageMakerInferenceError)
                longest = self._options.cleanup_wait
                self._clean_up(longest if ours else min(longest, _HURRIED_SECONDS))
            raise

    def at_once(self) -> None:
        """Delete what can be deleted at once: whoever kills the task gives it a few seconds."""
        if self._due:
            self._done = True
            self._clean_up(0)

    @property
    def _due(self) -> bool:
        return self._options.cleanup_on_failure and self._work.touched and not self._done

    def _clean_up(self, max_wait: float) -> None:
        """Best effort; say what remains."""
        name, config = self._spec.endpoint_name, self._spec.config_name
        try:
            deleted = self._clean_endpoint(max_wait)
            if self._work.has_config():
                if not deleted and self._config_in_use(min(max_wait, self._options.max_wait)):
                    log.warning("configuration %s stays: endpoint %s uses it", config, name)
                elif self._hook.delete_endpoint_config(config):
                    log.info("cleaned up the configuration %s that this task created", config)
        except SageMakerInferenceError as error:
            log.warning("could not clean up after endpoint %s, which may cost money: %s", name, error)

    def _clean_endpoint(self, max_wait: float) -> bool:
        name = self._spec.endpoint_name
        description = self._hook.describe_endpoint(name)
        if description is None or not self._work.has_endpoint(description):
            return False
        if max_wait:
            self._hook.delete_endpoint(name, max_wait=max_wait, poll_interval=self._options.poll_interval)
        elif not self._hook.request_deletion(name):
            return False
        log.info("cleaned up the endpoint %s that this task created", name)
        return True

    def _config_in_use(self, max_wait: float) -> bool:
        """Say whether the endpoint serves the configuration, or may come to; an update is given time to end."""
        try:
            verdict = self._hook.wait_for_endpoint(
                self._spec.endpoint_name,
                wanted_config=self._spec.config_name,
                max_wait=max_wait,
                poll_interval=self._options.poll_interval,
            )
        except EndpointNotFound:
            return False
        return verdict.state is not EndpointState.ROLLED_BACK
