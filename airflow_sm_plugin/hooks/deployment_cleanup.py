"""Clean up after a deployment that failed, was killed or timed out: delete what its task created, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.deployment import DeploymentOptions
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import EndpointState
from airflow_sm_plugin.exceptions import EndpointNotFound, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.hooks.own_work import ENDPOINT, OwnWork

log = get_log(__name__)

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

        Airflow at its execution time-out does not wait for long: then seconds remain.
        """
        try:
            yield
        except BaseException as error:
            if self.due:
                ours = isinstance(error, SageMakerInferenceError)
                longest = self._options.cleanup_wait
                self._clean_up(longest if ours else min(longest, _HURRIED_SECONDS))
            raise

    def at_once(self) -> None:
        """Delete what can be deleted at once: whoever kills the task gives it a few seconds."""
        if self.due:
            self._done = True
            self._clean_up(0)

    def no_more(self) -> None:
        """Clean up nothing from now on: the endpoint is as it was wanted, whatever becomes of the task."""
        self._done = True

    @property
    def due(self) -> bool:
        """Whether a failure, or a kill, would be cleaned up after."""
        return self._options.cleanup_on_failure and self._work.touched and not self._done

    def _clean_up(self, max_wait: float) -> None:
        """Best effort; say what remains."""
        name = self._spec.endpoint_name
        stays = ENDPOINT in self._work.created
        try:
            description = self._hook.describe_endpoint(name)
            stays = description is not None and self._work.has_endpoint(description)
            deleted = stays and self._delete_endpoint(max_wait)
            stays = stays and not deleted
            if stays:
                self._warn_of_endpoint("SageMaker deletes none that is being created or changed")
            self._clean_config(max_wait, endpoint_deleted=deleted)
        except SageMakerInferenceError as error:
            if stays:
                self._warn_of_endpoint(error)
            else:
                log.warning("could not clean up all that this task made for endpoint %s: %s", name, error)

    def _warn_of_endpoint(self, why: object) -> None:
        log.warning(
            "could not clean up the endpoint %s that this task created: it stays and costs money until a retry has "
            "gone on with it, or SageMakerDeleteEndpointOperator or somebody has deleted it: %s",
            self._spec.endpoint_name,
            why,
        )

    def _delete_endpoint(self, max_wait: float) -> bool:
        """Delete it, or ask for that without a wait; False when something in progress forbids it now."""
        name = self._spec.endpoint_name
        if max_wait:
            self._hook.delete_endpoint(name, max_wait=max_wait, poll_interval=self._options.poll_interval)
        elif not self._hook.request_deletion(name):
            return False
        log.info("cleaned up the endpoint %s that this task created", name)
        return True

    def _clean_config(self, max_wait: float, *, endpoint_deleted: bool) -> None:
        name, config = self._spec.endpoint_name, self._spec.config_name
        if not self._work.has_config():
            return
        if not endpoint_deleted and self._config_in_use(min(max_wait, self._options.max_wait)):
            log.warning("configuration %s stays: endpoint %s uses it", config, name)
        elif self._hook.delete_endpoint_config(config):
            log.info("cleaned up the configuration %s that this task created", config)

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
