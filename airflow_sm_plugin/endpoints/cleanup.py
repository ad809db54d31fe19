"""Clean up after a deployment that failed, was killed or timed out: delete what its task created, nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.names import DEPLOYED_TAG, NEVER_SERVED, EndpointClaim, created_at, is_owned
from airflow_sm_plugin.endpoints.deletion import EndpointUsage
from airflow_sm_plugin.endpoints.options import DeploymentOptions
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointError,
    SageMakerInferenceError,
    ServiceError,
)
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_status import in_progress, uses_config

log = get_log(__name__)

_HURRIED_SECONDS = 20.0
_ENDPOINT = "endpoint"


class NotCreatedByTask(EndpointError):
    """The endpoint is not, or no longer, what this task created. The text gives the reason, and is for the log."""


class CreatedByTask:
    """Tell what this task instance made from what it found.

    What it creates bears the owner in a tag, so that a later try knows what a killed one, or a call whose answer was
    lost, has made. What a try remembers is never enough for a deletion.

    :param created: what this try created, for the log
    :param touched: whether it has acted on the endpoint
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        endpoint_name: str,
        claim: EndpointClaim,
        *,
        created: tuple[str, ...] = (),
        touched: bool = False,
    ) -> None:
        self._hook = hook
        self.endpoint_name = endpoint_name
        self.claim = claim
        self.created = created
        self.touched = touched
        self.seen_tags: Mapping[str, str] | None = None
        """The endpoint's tags as :meth:`mark` read them; None where it did not, or may not."""

    @property
    def has_created_endpoint(self) -> bool:
        return _ENDPOINT in self.created

    def endpoint_created(self) -> None:
        """Remember that this try created the endpoint, and its CreationTime, so far as that can be read now."""
        self.created = (_ENDPOINT,)
        try:
            description = self._hook.describe_endpoint(self.endpoint_name)
        except SageMakerInferenceError as error:
            log.debug("the CreationTime of endpoint %s is not known: %s", self.endpoint_name, error)
            return
        if description is not None:
            self._remember(description)

    def owns(self, description: Mapping[str, Any]) -> bool:
        """Return whether any try of the task made an endpoint that never served."""
        if description.get("EndpointStatus") not in NEVER_SERVED or self._objection(description) is not None:
            return False
        self._remember(description)
        return True

    def check_endpoint(self) -> Mapping[str, Any] | None:
        """Return the endpoint when the task may delete it, None when it is gone.

        To be called immediately before each DeleteEndpoint. Tags come last: another deployment of ours sets them at
        once, while what only the description tells (an update, an endpoint created again) takes minutes in which
        SageMaker refuses to delete.

        :raises NotCreatedByTask: it is not, or no longer, the task's own
        """
        description = self._hook.describe_endpoint(self.endpoint_name)
        if description is None:
            return None
        objection = self.claim.described_objection(description) or self._objection(description)
        if objection is not None:
            raise NotCreatedByTask(objection)
        if description["EndpointStatus"] in NEVER_SERVED:
            self._remember(description)  # from now on it is this one, whatever its status becomes
        return description

    def owns_config(self) -> bool:
        """Return whether any try of the task made the configuration that is there now."""
        description = self._hook.configs.describe(self.claim.config_name)
        if description is None:
            return False
        return is_owned(self._hook.tags_of(description["EndpointConfigArn"]), self.claim.owner)

    def mark(self, description: Mapping[str, Any]) -> None:
        """Mark an endpoint that the task found, and deploys to, so that the task that created it no longer deletes it.

        Best effort, and only where that task would.
        """
        arn = description.get("EndpointArn")
        if arn is None:
            return
        problem: object = "its tags cannot be read (sagemaker:ListTags)"
        try:
            self.seen_tags = tags = self._hook.tags_of(arn)
            if tags is not None:
                if self.claim.needs_mark(tags):
                    self._hook.add_tags(arn, {DEPLOYED_TAG: self.claim.mark})
                return
        except SageMakerInferenceError as error:
            problem = error
        log.warning(
            "endpoint %s could not be marked as deployed by this task: should the task that created it fail, it may "
            "delete it: %s",
            self.endpoint_name,
            problem,
        )

    def _objection(self, description: Mapping[str, Any]) -> str | None:
        return self.claim.objection(description, self._hook.tags_of(description["EndpointArn"]))

    def _remember(self, description: Mapping[str, Any]) -> None:
        self.claim = replace(self.claim, created_at=created_at(description))


class DeploymentCleanup:
    """Best effort: what cannot be removed is a warning, and the next try or a teardown completes it."""

    def __init__(
        self, hook: SageMakerControlPlaneHook, options: DeploymentOptions, work: CreatedByTask
    ) -> None:
        self._hook = hook
        self._options = options
        self._work = work
        self._done = False

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Delete what this task instance created when the block fails.

        Airflow at its execution time-out does not wait for long: then seconds remain. An error that says nothing of
        the endpoint (a call that was refused, throttled or not answered, a bug) spares one that is being created or
        serves: a retry goes on with it.
        """
        try:
            yield
        except BaseException as error:
            if self.due:
                is_ours = isinstance(error, SageMakerInferenceError)
                is_verdict = is_ours and not isinstance(error, ServiceError)
                longest = self._options.cleanup_wait
                self._clean_up(
                    longest if is_ours else min(longest, _HURRIED_SECONDS),
                    failed_only=not is_verdict and isinstance(error, Exception),
                )
            raise

    def at_once(self) -> None:
        """Delete what can be deleted at once: a task that is killed has a few seconds."""
        self.within(0)

    def within(self, max_wait: float) -> None:
        """Delete what can be deleted within so many seconds."""
        if self.due:
            self._done = True
            self._clean_up(min(max_wait, self._options.cleanup_wait))

    def no_more(self) -> None:
        """Clean up nothing from now on: the endpoint is as it was wanted, whatever becomes of the task."""
        self._done = True

    @property
    def due(self) -> bool:
        """Whether a failure, or a kill, would be cleaned up after."""
        return self._options.cleanup_on_failure and self._work.touched and not self._done

    def _clean_up(self, max_wait: float, *, failed_only: bool = False) -> None:
        try:
            if self._clean_endpoint(max_wait, failed_only=failed_only):
                self._clean_config(max_wait)
        except SageMakerInferenceError as error:
            name = self._work.endpoint_name
            log.warning("could not clean up all that this task made for endpoint %s: %s", name, error)

    def _clean_endpoint(self, max_wait: float, *, failed_only: bool) -> bool:
        """Delete the endpoint if it is the task's own, or ask for that without a wait; return whether to go on."""
        name = self._work.endpoint_name
        try:
            description = self._work.check_endpoint()
            if description is None:
                return True
            if failed_only and description["EndpointStatus"] != "Failed":
                raise NotCreatedByTask("nothing is known against it, so that a retry goes on with it")
            self._delete_endpoint(description, max_wait)
        except NotCreatedByTask as reason:
            if self._work.has_created_endpoint:
                self._warn_of_endpoint(reason)
            else:
                log.info("endpoint %s is not cleaned up: %s", name, reason)
        except SageMakerInferenceError as error:
            self._warn_of_endpoint(error)
            return False
        else:
            log.info("cleaned up the endpoint %s that this task created", name)
        return True

    def _delete_endpoint(self, found: Mapping[str, Any], max_wait: float) -> None:
        """Delete the endpoint that was found. One that is being deleted when time is up needs no further call.

        :raises NotCreatedByTask: SageMaker does not delete it at once, and there is no time to wait
        """
        name = self._work.endpoint_name
        if not max_wait:
            if not self._hook.request_deletion(name):
                raise NotCreatedByTask("SageMaker deletes none that is being created or changed")
            return
        try:
            self._hook.delete_endpoint(
                name,
                max_wait=max_wait,
                poll_interval=self._options.poll_interval,
                found=found,
                check=self._work.check_endpoint,
            )
        except EndpointDeadlineExceeded:
            description = self._hook.describe_endpoint(name)
            if description is not None and description["EndpointStatus"] != "Deleting":
                raise

    def _warn_of_endpoint(self, reason: object) -> None:
        log.warning(
            "could not clean up the endpoint %s that this task created: it stays and costs money until a retry has "
            "gone on with it, or SageMakerDeleteEndpointOperator or somebody has deleted it: %s",
            self._work.endpoint_name,
            reason,
        )

    def _clean_config(self, max_wait: float) -> None:
        """Delete the configuration if it is the task's own and no endpoint needs it; an update is given time to end.

        The endpoint is described last, since another deployment may just have come to use the configuration.
        """
        name, config = self._work.endpoint_name, self._work.claim.config_name
        if not self._work.owns_config():
            return
        self._hook.poll_until(
            name,
            lambda seen: seen is None or not in_progress(str(seen["EndpointStatus"])),
            give_up=time.monotonic() + min(max_wait, self._options.max_wait),
            poll_interval=self._options.poll_interval,
        )
        used_elsewhere = bool(EndpointUsage(self._hook).of_configs([config]))
        is_ours = self._work.owns_config()  # by now: it may have been deleted and created again
        if uses_config(self._hook.describe_endpoint(name), config):
            log.warning("configuration %s stays: endpoint %s uses it", config, name)
        elif used_elsewhere:
            log.warning("configuration %s stays: another endpoint uses it", config)
        elif is_ours and self._hook.configs.delete(config):
            log.info("cleaned up the configuration %s that this task created", config)
