"""Clean up after a deployment that failed, was killed or timed out: delete what its task created, nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.names import DEPLOYED_TAG, NEVER_SERVED, created_at, is_owned
from airflow_sm_plugin.endpoints.deletion import EndpointUsage
from airflow_sm_plugin.endpoints.options import DeploymentOptions
from airflow_sm_plugin.endpoints.ownership import EndpointClaim
from airflow_sm_plugin.exceptions import (
    EndpointDeadlineExceeded,
    EndpointError,
    SageMakerInferenceError,
    ServiceError,
    TaskKilled,
)
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_status import in_progress, uses_config

log = get_log(__name__)

_HURRIED_SECONDS = 20.0
"""For a clean-up after Airflow's execution time-out: Airflow does not wait for long."""
_ENDPOINT = "endpoint"


class NotCreatedByTask(EndpointError):
    """The endpoint is not, or no longer, the one that this task created. The text gives the reason, for the log."""


@dataclass(eq=False)
class CreatedByTask:
    """Proof of what this task instance created: a tag with its owner, which outlives a killed try and a lost answer.

    A try's own memory never suffices for a deletion.

    :param created: what this try created, for the log
    :param touched: whether it has acted on the endpoint
    """

    hook: SageMakerControlPlaneHook
    endpoint_name: str
    claim: EndpointClaim
    created: tuple[str, ...] = ()
    touched: bool = False
    read_tags: Mapping[str, str] | None = field(default=None, init=False)
    """The endpoint's tags as :meth:`mark` read them; None where they were not read."""

    def endpoint_created(self) -> None:
        """Remember that this try created the endpoint, and its CreationTime, where that can be read now."""
        self.created = (_ENDPOINT,)
        try:
            description = self.hook.describe_endpoint(self.endpoint_name)
        except SageMakerInferenceError as error:
            log.debug("the CreationTime of endpoint %s is not known: %s", self.endpoint_name, error)
            return
        if description is not None:
            self._remember(description)

    def owns(self, description: Mapping[str, Any]) -> bool:
        """Check that any try of the task created the endpoint and that it never served."""
        if description.get("EndpointStatus") not in NEVER_SERVED or self._objection(description) is not None:
            return False
        self._remember(description)
        return True

    def check_endpoint(self) -> Mapping[str, Any] | None:
        """Describe the endpoint and check that the task may delete it; None when it is gone.

        Call it immediately before each DeleteEndpoint. Tags are read last: another of our deployments sets them at
        once, while a change that only the description shows (an update, an endpoint created again) takes minutes in
        which SageMaker refuses to delete.

        :raises NotCreatedByTask: it is not, or no longer, the task's own
        """
        description = self.hook.describe_endpoint(self.endpoint_name)
        if description is None:
            return None
        objection = self.claim.described_objection(description) or self._objection(description)
        if objection is not None:
            raise NotCreatedByTask(objection)
        if description["EndpointStatus"] in NEVER_SERVED:
            self._remember(description)  # from now on it is this endpoint, whatever its status becomes
        return description

    def owns_config(self) -> bool:
        """Check that any try of the task created the present configuration of that name."""
        description = self.hook.configs.describe(self.claim.config_name)
        if description is None:
            return False
        return is_owned(self.hook.tags_of(description["EndpointConfigArn"]), self.claim.owner)

    def mark(self, description: Mapping[str, Any]) -> None:
        """Mark the endpoint as deployed by this task, by best effort, where another task would delete it."""
        arn = description.get("EndpointArn")
        if arn is None:
            return
        problem: object = "its tags cannot be read (sagemaker:ListTags)"
        try:
            self.read_tags = tags = self.hook.tags_of(arn)
            if tags is not None:
                marks = {DEPLOYED_TAG: self.claim.mark} if self.claim.needs_mark(tags) else {}
                marks |= self.claim.readable_mark(tags)
                if marks:
                    self.hook.add_tags(arn, marks)
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
        return self.claim.objection(description, self.hook.tags_of(description["EndpointArn"]))

    def _remember(self, description: Mapping[str, Any]) -> None:
        self.claim = replace(self.claim, created_at=created_at(description))


@dataclass(eq=False)
class DeploymentCleanup:
    """The clean-up after a failure, by best effort: what cannot be deleted is a warning, for a retry or a teardown."""

    _hook: SageMakerControlPlaneHook
    _options: DeploymentOptions
    _work: CreatedByTask
    _is_over: bool = False

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """Delete what this task instance created when the block fails.

        A refused, throttled or unanswered call, or a bug, says nothing of the endpoint: only a Failed one is deleted
        then, since a retry goes on with any other.
        """
        try:
            yield
        except BaseException as error:
            problem = ""
            if self.due:
                is_ours = isinstance(error, SageMakerInferenceError)
                is_about_endpoint = is_ours and not isinstance(error, ServiceError)
                longest = self._options.cleanup_wait
                problem = self._clean_up(
                    longest if is_ours else min(longest, _HURRIED_SECONDS),
                    failed_only=not is_about_endpoint and isinstance(error, Exception),
                )
            self._name_what_is_left(error, problem)
            raise

    def _name_what_is_left(self, error: BaseException, problem: str) -> None:
        """Write to the error, which callbacks and e-mails carry, what exists of the endpoint and why it stays."""
        if not isinstance(error, SageMakerInferenceError):
            if problem:
                error.add_note(f"Left behind: {problem}")
            return
        if error.left_behind or not self._work.touched or isinstance(error, TaskKilled):
            return
        left = self._hook.left_behind(self._work.endpoint_name)
        if left is None:
            left = f"endpoint {self._work.endpoint_name}, if it exists: it could not be described"
        error.left_behind = f"{left}. {problem}" if left and problem else left

    def within(self, max_wait: float) -> None:
        """Delete what can be deleted within so many seconds; 0 sends each deletion once, without a wait."""
        if self.due:
            self._is_over = True
            self._clean_up(min(max_wait, self._options.cleanup_wait))

    def no_more(self) -> None:
        """Clean up nothing from now on: the endpoint is as it was wanted, whatever becomes of the task."""
        self._is_over = True

    @property
    def due(self) -> bool:
        """Check whether a failure, or a kill, is followed by a cleanup now."""
        return self._options.cleanup_on_failure and self._work.touched and not self._is_over

    def _clean_up(self, max_wait: float, *, failed_only: bool = False) -> str:
        """Clean up; return why the endpoint stays, empty when it does not or was not this task's."""
        problem = ""
        try:
            is_unknown, problem = self._clean_endpoint(max_wait, failed_only=failed_only)
            if not is_unknown:
                self._clean_config(max_wait)
        except SageMakerInferenceError as error:
            name = self._work.endpoint_name
            log.warning("could not clean up all that this task made for endpoint %s: %s", name, error)
        return problem

    def _clean_endpoint(self, max_wait: float, *, failed_only: bool) -> tuple[bool, str]:
        """Delete the endpoint if it is the task's own.

        :return: whether its state is not known, so that its configuration has to stay; and why the endpoint stays
        """
        name = self._work.endpoint_name
        try:
            description = self._work.check_endpoint()
            if description is None:
                return False, ""
            if failed_only and description["EndpointStatus"] != "Failed":
                raise NotCreatedByTask("nothing is known against it, so that a retry goes on with it")
            self._delete_endpoint(description, max_wait)
        except NotCreatedByTask as reason:
            if _ENDPOINT in self._work.created:
                return False, self._warn_of_endpoint(reason)
            log.info("endpoint %s is not cleaned up: %s", name, reason)
            return False, f"It is not cleaned up: {reason.as_sentence}"
        except SageMakerInferenceError as error:
            return True, self._warn_of_endpoint(error)
        log.info("cleaned up the endpoint %s that this task created", name)
        return False, ""

    def _delete_endpoint(self, description: Mapping[str, Any], max_wait: float) -> None:
        """Delete the described endpoint. One that is Deleting when time is up needs no further call."""
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
                description=description,
                check=self._work.check_endpoint,
            )
        except EndpointDeadlineExceeded:
            now = self._hook.describe_endpoint(name)
            if now is not None and now["EndpointStatus"] != "Deleting":
                raise

    def _warn_of_endpoint(self, reason: SageMakerInferenceError) -> str:
        log.warning(
            "could not clean up the endpoint %s that this task created: it stays and costs money until a retry has "
            "gone on with it, or SageMakerDeleteEndpointOperator or a person has deleted it: %s",
            self._work.endpoint_name,
            reason,
        )
        return (
            f"This task created it and could not delete it: {reason.as_sentence}. A retry, "
            f"SageMakerDeleteEndpointOperator or a person has to"
        )

    def _clean_config(self, max_wait: float) -> None:
        """Delete the configuration if it is the task's own and no endpoint needs it; wait for an update to end.

        The endpoint is described last, since another deployment may just have started to use the configuration.
        """
        name, config = self._work.endpoint_name, self._work.claim.config_name
        if not self._work.owns_config():
            return
        self._hook.poll_until(
            name,
            lambda description: description is None or not in_progress(str(description["EndpointStatus"])),
            give_up=time.monotonic() + min(max_wait, self._options.max_wait),
            poll_interval=self._options.poll_interval,
        )
        used_elsewhere = bool(EndpointUsage(self._hook).of_configs([config]))
        is_ours = self._work.owns_config()  # again: it may have been deleted and created again
        if uses_config(self._hook.describe_endpoint(name), config):
            log.warning("configuration %s stays: endpoint %s uses it", config, name)
        elif used_elsewhere:
            log.warning("configuration %s stays: another endpoint uses it", config)
        elif is_ours and self._hook.configs.delete(config):
            log.info("cleaned up the configuration %s that this task created", config)
