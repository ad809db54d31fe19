"""Bring an endpoint to a configuration: create or update, wait, judge."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.names import CREATED_IN_TAG, is_same
from airflow_sm_plugin.core.text import duration
from airflow_sm_plugin.endpoints.apply_scaling import EndpointScaling
from airflow_sm_plugin.endpoints.changes import check_change
from airflow_sm_plugin.endpoints.cleanup import CreatedByTask, DeploymentCleanup
from airflow_sm_plugin.endpoints.deletion import EarlierConfigs
from airflow_sm_plugin.endpoints.deployment_scaling import DeploymentScaling
from airflow_sm_plugin.endpoints.noted_scaling import NotedScaling
from airflow_sm_plugin.endpoints.options import DeploymentNote, DeploymentOptions
from airflow_sm_plugin.endpoints.ownership import EndpointClaim
from airflow_sm_plugin.endpoints.scaling_note import note_tags
from airflow_sm_plugin.exceptions import (
    CredentialsExpired,
    EndpointNotFound,
    RequestRefused,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources import endpoint_status
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.resources.endpoint_cost import cost_of
from airflow_sm_plugin.resources.endpoint_status import EndpointState, EndpointVerdict, Step, scaled_counts

log = get_log(__name__)

_ATTEMPTS = 3
"""UpdateEndpoint requests in one try, each after DescribeEndpoint. The hook's own repeats are not counted."""
_CREATED_BY_ANOTHER = {"EndpointStatus": "Creating"}
"""Stands for an endpoint that another task created between DescribeEndpoint and CreateEndpoint."""


class Deployment:
    """One task instance's work on one endpoint, over all its tries and deferrals.

    :param owner: names the task instance in a tag of its resources; with None they get no tag, and are not cleaned up
    :param note: from an earlier process of the same try, see :meth:`note`
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        options: DeploymentOptions,
        scaling: EndpointScaling,
        *,
        owner: str | None = None,
        try_number: int = 1,
        note: DeploymentNote | None = None,
    ) -> None:
        note = note or DeploymentNote()
        self._hook = hook
        self.spec = spec
        self.options = options
        claim = EndpointClaim(
            owner=owner,
            try_number=try_number,
            config_name=spec.config_name,
            created_at=note.created_at,
            made_in=spec.tags.get(CREATED_IN_TAG),
        )
        self._work = CreatedByTask(hook, spec.endpoint_name, claim, note.created, note.touched)
        self.cleanup = DeploymentCleanup(hook, options, self._work)
        self.earlier = EarlierConfigs(hook, spec, options)
        noted = NotedScaling(hook, spec.endpoint_name, scaling)
        self.scaling = DeploymentScaling(noted, spec, options.rescale, note.taken_down)
        self.deadline = time.time() + options.max_wait if note.deadline is None else note.deadline
        """Epoch seconds by which changes in progress must have ended; a deferral does not move it."""
        self.pending = False
        self._failed_updates = note.failed_updates
        self._may_be_updating = note.may_be_updating
        self._replaced_config = note.replaced_config
        self.requested_at = note.requested_at

    def note(self, action: str | None) -> DeploymentNote:
        """Collect the state that the next process needs after a deferral."""
        return DeploymentNote(
            action=action,
            created=self._work.created,
            touched=self._work.touched,
            failed_updates=self._failed_updates,
            may_be_updating=self._may_be_updating,
            deadline=self.deadline,
            created_at=self._work.claim.created_at,
            replaced_config=self._replaced_config,
            models_created_at=self.spec.models_created_at,
            taken_down=self.scaling.taken_down,
            requested_at=self.requested_at,
        )

    def cleanup_after_kill(self) -> dict[str, Any] | None:
        """Collect the JSON values with which a trigger cleans up after a kill of its task; None for no clean-up."""
        claim = self._work.claim
        if not self.options.cleanup_on_failure or claim.owner is None:
            return None
        return {
            "owner": claim.owner,
            "try_number": claim.try_number,
            "max_wait_seconds": self.options.cleanup_wait,
        }

    @contextmanager
    def on_failure(self) -> Iterator[None]:
        """When the block fails, clean up, which waits for an update to end; put scaling back only then."""
        try:
            with self.cleanup.on_failure():
                yield
        except BaseException:
            self.scaling.put_back_after_failure()
            raise

    def at_once(self) -> None:
        """Put back scaling and clean up when the task is killed, as far as that is possible at once."""
        try:
            self.scaling.put_back_at_once()
        finally:
            self.cleanup.within(0)

    def act(self) -> str | None:
        """Take the next step; return created, updated or unchanged when it was the last one.

        Then ``pending`` is true while the endpoint does not serve the configuration yet.

        :return: None where a change is in progress: act again when it has ended
        :raises EndpointUnchangeable: the endpoint can only be deleted, which was not asked for
        :raises EndpointScaled: the update would change the instance type of a variant that scales
        :raises InvalidRequest: SageMaker does not permit this update
        :raises EndpointDeadlineExceeded: it could not be changed in time
        :raises ModelNotFound: the configuration names a model that does not exist
        """
        name, wanted = self.spec.endpoint_name, self.spec.config_name
        description = self._hook.describe_endpoint(name)
        action = self._advance(description)
        if action is not None:
            self._log_request(action, description)
            return action
        verdict = endpoint_status.judge(description or _CREATED_BY_ANOTHER, wanted_config=wanted)
        if time.time() >= self.deadline:
            raise endpoint_status.deadline_exceeded(
                verdict, endpoint_name=name, seconds=self.options.max_wait
            )
        log.info("endpoint %s is %s: waiting until it may be changed", name, verdict.status)
        return None

    def _log_request(self, action: str, description: Mapping[str, Any] | None) -> None:
        """Log what SageMaker was asked for. That it was done is logged by :meth:`log_serving`, perhaps much later."""
        name, instances = self.spec.endpoint_name, self.spec.instances()
        if self.requested_at is None and self.pending:
            status = (description or _CREATED_BY_ANOTHER)["EndpointStatus"]
            log.info("endpoint %s is %s with the wanted configuration already: waiting for it", name, status)
        elif self.pending:
            kind = "creation" if action == "created" else "update"
            config = self.spec.config_name
            log.info(
                "endpoint %s: asked SageMaker for its %s: %s, configuration %s", name, kind, instances, config
            )

    def log_serving(self, verdict: EndpointVerdict, action: str) -> None:
        """Log the end of a deployment, and that the endpoint costs money from now on."""
        name, instances = self.spec.endpoint_name, self.spec.instances(verdict.counts)
        if verdict.state is EndpointState.WAIT:
            log.info(
                "endpoint %s is %s: wait_for_completion is off, so this task does not wait",
                name,
                verdict.status,
            )
            return
        took = "" if self.requested_at is None else f" after {duration(time.time() - self.requested_at)}"
        cost = cost_of(verdict.status, instances)
        log.info("endpoint %s (%s): %s%s, %s; it %s", name, action, verdict.status, took, instances, cost)

    def _advance(self, description: Mapping[str, Any] | None) -> str | None:
        """Take the next step; return the action, None when the endpoint has to be described again."""
        step = endpoint_status.next_step(description, wanted_config=self.spec.config_name)
        self.pending = step is not Step.NOTHING
        if description is None:
            return self._create()
        if step is Step.NOTHING:
            self._work.mark(description)
            if self._may_be_updating:  # an update whose answer was lost has ended meanwhile
                return "updated"
            self._replaced_config = ""
            return "unchanged"
        if step is Step.AWAIT:
            return self._join(description)
        if step is Step.UPDATE:
            return self._update(description)
        if step is Step.GIVE_UP:
            self._delete_failed(description)
        return None

    def _join(self, description: Mapping[str, Any]) -> str:
        """Join the creation of the wanted endpoint, by this task or another."""
        owned = self._work.owns(description)
        self._work.touched = self._work.touched or owned
        self._replaced_config = ""
        self._work.mark(description)
        return "created" if owned else "unchanged"

    def _create(self) -> str | None:
        self._ensure_config()
        requested_at = time.time()  # before the call: a container can log as soon as SageMaker accepts it
        if not self._hook.create_endpoint(self.spec):
            return None
        self.requested_at = requested_at
        self._work.endpoint_created()
        self._replaced_config = ""
        return "created"

    def _update(self, description: Mapping[str, Any]) -> str | None:
        """Request the update; None when the endpoint has to be described first: it may be updating already."""
        served = self._served(description)
        check_change(description, served, self.spec, self.options.deployment_config)
        self.scaling.check(served)
        self._ensure_config()
        self._work.mark(description)
        self._replaced_config = str(description.get("EndpointConfigName") or "")
        if not self._failed_updates:
            self._warn_of_scaled_counts(description, served)
        self.scaling.take_down(description, served)
        try:
            accepted = self._hook.update_endpoint(
                self.spec,
                deployment_config=self.options.deployment_config,
                retain_variant_properties=self.options.retain_variant_properties,
            )
        except (CredentialsExpired, ServiceUnavailable, Throttled) as error:
            self._failed_updates += 1
            if self._failed_updates >= _ATTEMPTS:
                raise
            self._may_be_updating = self._may_be_updating or isinstance(error, ServiceUnavailable)
            log.warning(
                "checking whether endpoint %s is updated all the same: %s", self.spec.endpoint_name, error
            )
            return None
        except RequestRefused as refusal:
            self._failed_updates += 1
            if not self.scaling.is_reason(refusal, description, served) or self._failed_updates >= _ATTEMPTS:
                raise
            self.scaling.take_down(description, served, was_refused=True)
            return None
        self.requested_at = time.time() if accepted else None
        return "updated" if accepted else None

    def _served(self, description: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Describe the endpoint's present configuration; None where it is gone, not named or not readable."""
        config_name = description.get("EndpointConfigName")
        try:
            return self._hook.configs.describe(str(config_name)) if config_name else None
        except SageMakerInferenceError as error:
            name = self.spec.endpoint_name
            log.info("the changes that the update makes to endpoint %s are not known: %s", name, error)
            return None

    def _ensure_config(self) -> None:
        self._work.touched = True
        self._hook.configs.ensure(self.spec)

    def _warn_of_scaled_counts(
        self, description: Mapping[str, Any], served: Mapping[str, Any] | None
    ) -> None:
        if self.options.retain_variant_properties:
            return
        for count in scaled_counts(description, served, self.spec.variants):
            log.warning(
                "the update of endpoint %s sets variant %s, scaled to CurrentInstanceCount %d, to InitialInstanceCount "
                "%d; retain_variant_properties=True keeps it as it is",
                self.spec.endpoint_name,
                *count,
            )

    def _delete_failed(self, description: Mapping[str, Any]) -> None:
        """Request a Failed endpoint's deletion if asked for, or if this task created it; else EndpointUnchangeable.

        Where the name has another endpoint by now, or another status, it has to be described again.
        """
        name = self.spec.endpoint_name
        verdict = endpoint_status.judge(description, wanted_config=self.spec.config_name)
        if verdict.status != "Failed" or not (self.options.recreate_failed or self._work.owns(description)):
            raise endpoint_status.cannot_be_changed(
                verdict, endpoint_name=name, wanted_config=self.spec.config_name
            )
        now = self._hook.describe_endpoint(name)
        if now is None or not is_same(now, description) or now.get("EndpointStatus") != "Failed":
            return
        log.info("endpoint %s is Failed: deleting it to create it again. Reason: %s", name, verdict.reason)
        self._hook.request_deletion(name)

    def poll(self) -> EndpointVerdict:
        """Judge the endpoint as it is now, for a task that need not wait; raise EndpointNotFound when it is gone."""
        name = self.spec.endpoint_name
        description = self._hook.poll_until(
            name,
            lambda _: True,
            give_up=time.monotonic() + self.options.max_wait,
            poll_interval=self.options.poll_interval,
        )
        if description is None:
            raise EndpointNotFound(
                f"endpoint {name} was deleted meanwhile, and not by this task",
                do="find out who deletes it; then retry",
            )
        return endpoint_status.judge(description, wanted_config=self.spec.config_name)

    def put_back_scaling(self, verdict: EndpointVerdict, action: str) -> None:
        """Put back the scaling that any deployment took down, as :meth:`DeploymentScaling.put_back` does."""
        tags = self._work.read_tags
        is_without_note = action == "unchanged" and tags is not None and not note_tags(tags)
        if action != "created" and not is_without_note:
            self.scaling.put_back(verdict.arn, serves=verdict.state is EndpointState.SERVING)

    def check(self, verdict: EndpointVerdict) -> None:
        """Raise the verdict's error; with ``wait_for_completion`` also for a change that is still in progress."""
        name = self.spec.endpoint_name
        error = endpoint_status.failure(
            verdict,
            endpoint_name=name,
            wanted_config=self.spec.config_name,
            replaced_config=self._replaced_config,
        )
        if error is not None:
            raise error
        if verdict.state is EndpointState.WAIT and self.options.wait_for_completion:
            raise endpoint_status.deadline_exceeded(
                verdict, endpoint_name=name, seconds=self.options.max_wait
            )

    def update_tags(self, endpoint_arn: str) -> None:
        """Write the user's tags to endpoint and configuration: both may have existed before."""
        self._hook.update_tags(endpoint_arn, self.spec.tags)
        self._hook.configs.update_tags(self.spec)

    def result(self, verdict: EndpointVerdict) -> dict[str, Any]:
        """Build the task's result from the wait's last verdict: no further call can fail."""
        return {
            "endpoint_name": self.spec.endpoint_name,
            "endpoint_arn": verdict.arn,
            "endpoint_config_name": self.spec.config_name,
            "status": verdict.status,
        }
