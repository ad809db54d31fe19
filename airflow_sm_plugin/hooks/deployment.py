"""Bring an endpoint to a configuration: create or update, wait, judge, tidy up, and clean up after a failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.core import endpoint_status
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import EndpointState, EndpointVerdict, Step
from airflow_sm_plugin.core.ownership import is_made_here, is_owned
from airflow_sm_plugin.exceptions import (
    EndpointNotFound,
    SageMakerInferenceError,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = logging.getLogger(__name__)

_CONFIG = "endpoint configuration"
_ENDPOINT = "endpoint"
_HURRIED_SECONDS = 20.0
_ATTEMPTS = 3
_LONGEST_PAUSE = 2.0
_NEVER_SERVED = ("Creating", "Failed")
_CREATED_BY_ANOTHER = {"EndpointStatus": "Creating"}


@dataclass(frozen=True, kw_only=True)
class DeploymentOptions:
    """How a deployment goes about it.

    :param max_wait: seconds for what is in progress before, and again for the endpoint to serve
    :param cleanup_wait: seconds that cleaning up may take: SageMaker deletes no endpoint that is still being created
    :param poll_interval: seconds between looks
    :param cleanup_on_failure: delete what this task instance created when it fails
    :param recreate_failed: delete a Failed endpoint and create it anew
    :param deployment_config: SageMaker's DeploymentConfig for updates
    :param retain_variant_properties: an update keeps the variants' instance counts and weights as they are
    :param keep_configs: how many earlier configurations stay when a new one serves; None keeps all
    :param delete_old_models: delete the models of removed configurations as well, those that we made
    """

    max_wait: float
    poll_interval: float
    cleanup_wait: float = 1_800
    cleanup_on_failure: bool = True
    recreate_failed: bool = False
    deployment_config: Mapping[str, Any] | None = None
    retain_variant_properties: bool = False
    keep_configs: int | None = 1
    delete_old_models: bool = False


class Deployment:
    """One task instance's work on one endpoint, over all its tries.

    What it creates bears ``owner`` in a tag, so that a later try knows what a killed one, or a call whose answer was
    lost, has made. ``created`` is what this try knows by itself; ``touched`` says that an earlier part of it has acted.
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        options: DeploymentOptions,
        *,
        owner: str | None = None,
        created: Sequence[str] = (),
        touched: bool = False,
    ) -> None:
        self._hook = hook
        self.spec = spec
        self._options = options
        self._owner = owner
        self.created = list(created)
        self.pending = False
        self._touched = touched
        self._cleaned = False
        self._failed_updates = 0
        self._may_be_updating = False

    @property
    def region_name(self) -> str:
        """The AWS region it works in."""
        return self._hook.conn_region_name

    def act(self) -> str:
        """Do what is next until nothing is left but to wait; return created, updated or unchanged.

        ``pending`` then says whether there is something to wait for.

        :raises EndpointUnchangeable: the endpoint can only be deleted, which nobody asked for
        :raises EndpointDeadlineExceeded: something in progress did not end in time
        :raises ModelNotFound: the configuration names a model that does not exist
        """
        name, wanted = self.spec.endpoint_name, self.spec.config_name
        give_up = time.monotonic() + self._options.max_wait
        while True:
            description = self._hook.describe_endpoint(name)
            step = endpoint_status.next_step(description, wanted_config=wanted)
            action = self._take(step, description)
            if action is not None:
                log.info("endpoint %s: %s, configuration %s", name, action, wanted)
                return action
            # No description and no action: somebody else created it this moment.
            verdict = endpoint_status.judge(description or _CREATED_BY_ANOTHER, wanted_config=wanted)
            if step is Step.GIVE_UP:
                self._make_room(description or {}, verdict)
                continue
            if time.monotonic() >= give_up:
                raise endpoint_status.deadline_exceeded(
                    verdict, endpoint_name=name, seconds=self._options.max_wait
                )
            log.info("endpoint %s is %s: waiting until it may be changed", name, verdict.status)
            time.sleep(min(self._options.poll_interval, max(0.0, give_up - time.monotonic())))

    def _take(self, step: Step, description: Mapping[str, Any] | None) -> str | None:
        """Take a step; return what it did, None when one has to look again."""
        self.pending = step is not Step.NOTHING
        if step is Step.NOTHING:
            return "updated" if self._may_be_updating else "unchanged"
        if step is Step.AWAIT:
            owned = _ENDPOINT in self.created or self._owns(description or {})
            self._touched = self._touched or owned
            return "created" if owned else "unchanged"
        self._touched = self._touched or step in (Step.CREATE, Step.UPDATE)
        if step is Step.CREATE:
            self._ensure_config()
            if not self._hook.create_endpoint(self.spec):
                return None
            self.created.append(_ENDPOINT)
            return "created"
        if step is Step.UPDATE:
            self._ensure_config()
            return "updated" if self._start_update() else None
        return None

    def _start_update(self) -> bool:
        """Ask for the update; False when one has to look first, whether it goes on already or may be asked for again.

        :raises ServiceError: it went wrong too often
        """
        try:
            return self._hook.update_endpoint(
                self.spec,
                deployment_config=self._options.deployment_config,
                retain_variant_properties=self._options.retain_variant_properties,
            )
        except (ServiceUnavailable, Throttled) as error:
            self._failed_updates += 1
            if self._failed_updates >= _ATTEMPTS:
                raise
            self._may_be_updating = self._may_be_updating or isinstance(error, ServiceUnavailable)
            log.warning(
                "looking whether endpoint %s is updated all the same: %s", self.spec.endpoint_name, error
            )
            return False

    def _ensure_config(self) -> None:
        if self._hook.ensure_endpoint_config(self.spec) and _CONFIG not in self.created:
            self.created.append(_CONFIG)

    def _make_room(self, description: Mapping[str, Any], verdict: EndpointVerdict) -> None:
        """Delete a Failed endpoint where that was asked for, or where an earlier try of this task made it.

        :raises EndpointUnchangeable: neither is so
        """
        name = self.spec.endpoint_name
        failed = verdict.status == "Failed"
        if not failed or not (self._options.recreate_failed or self._owns(description)):
            raise endpoint_status.cannot_be_changed(verdict, endpoint_name=name)
        log.info("endpoint %s is Failed: deleting it to create it anew. Reason: %s", name, verdict.reason)
        self._hook.delete_endpoint(
            name, max_wait=self._options.max_wait, poll_interval=self._options.poll_interval
        )

    def _owns(self, description: Mapping[str, Any]) -> bool:
        """Say whether a try of this task instance made an endpoint that never served."""
        if description.get("EndpointStatus") not in _NEVER_SERVED:
            return False
        if description.get("EndpointConfigName") != self.spec.config_name:
            return False
        return is_owned(self._hook.tags_of(description["EndpointArn"]), self._owner)

    def wait(self, *, finished: bool = True) -> EndpointVerdict:
        """Wait until the endpoint serves, rolls back or fails; the verdict still waits when time ran out.

        :param finished: False looks once and does not wait
        """
        return self._hook.wait_for_endpoint(
            self.spec.endpoint_name,
            wanted_config=self.spec.config_name,
            max_wait=self._options.max_wait if finished else 0,
            poll_interval=self._options.poll_interval,
        )

    def check(self, verdict: EndpointVerdict, *, finished: bool) -> None:
        """Return when the endpoint serves the configuration, or when it need not be finished and is on its way.

        :raises EndpointError: what the verdict amounts to
        """
        name, seconds = self.spec.endpoint_name, self._options.max_wait
        error = endpoint_status.failure(verdict, endpoint_name=name, wanted_config=self.spec.config_name)
        if error is not None:
            raise error
        if verdict.state is EndpointState.WAIT and finished:
            raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=seconds)

    def describe(self) -> dict[str, Any]:
        """Return name, ARN, configuration and status as they are now.

        :raises EndpointNotFound: it is gone
        """
        description = self._hook.describe_endpoint(self.spec.endpoint_name)
        if description is None:
            raise EndpointNotFound(
                f"endpoint {self.spec.endpoint_name} was deleted by somebody else meanwhile"
            )
        return {
            "endpoint_name": self.spec.endpoint_name,
            "endpoint_arn": description["EndpointArn"],
            "endpoint_config_name": self.spec.config_name,
            "status": description["EndpointStatus"],
        }

    def tidy(self) -> None:
        """Remove earlier configurations that we derived for this endpoint, now that the new one serves.

        Best effort: the endpoint serves, so what cannot be removed, in three attempts, is a warning.
        """
        keep = self._options.keep_configs
        if keep is None:
            return
        for left in reversed(range(_ATTEMPTS)):
            try:
                self._remove_earlier(keep)
                return
            except SageMakerInferenceError as error:
                if not (error.retryable and left):
                    log.warning(
                        "could not remove earlier configurations of endpoint %s: %s",
                        self.spec.endpoint_name,
                        error,
                    )
                    return
            time.sleep(min(self._options.poll_interval, _LONGEST_PAUSE))

    def _remove_earlier(self, keep: int) -> None:
        """Remove all but the ``keep`` newest; models first, since only a configuration tells a retry which."""
        there = self._hook.derived_endpoint_configs(self.spec.endpoint_name)
        earlier = [name for name in there if name != self.spec.config_name]
        needed = set(self.spec.model_names)
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

    @contextmanager
    def cleaning_up(self) -> Iterator[None]:
        """Delete what this task instance created when the block fails.

        Somebody who kills the task, or Airflow at its execution time-out, does not wait for long: then seconds remain.
        """
        try:
            yield
        except BaseException as error:
            if self._to_clean:
                ours = isinstance(error, SageMakerInferenceError)
                longest = self._options.cleanup_wait
                self._clean_up(longest if ours else min(longest, _HURRIED_SECONDS))
            raise

    def abort(self) -> None:
        """Delete what can be deleted at once: whoever kills the task gives it a few seconds."""
        if self._to_clean:
            self._cleaned = True
            self._clean_up(0)

    @property
    def _to_clean(self) -> bool:
        return self._options.cleanup_on_failure and self._touched and not self._cleaned

    def _clean_up(self, max_wait: float) -> None:
        """Best effort; say what remains."""
        name = self.spec.endpoint_name
        try:
            deleted = self._clean_endpoint(max_wait)
            if self._config_is_ours():
                if not deleted and self._config_in_use(min(max_wait, self._options.max_wait)):
                    log.warning("configuration %s stays: endpoint %s uses it", self.spec.config_name, name)
                elif self._hook.delete_endpoint_config(self.spec.config_name):
                    log.info("cleaned up the configuration %s that this task created", self.spec.config_name)
        except SageMakerInferenceError as error:
            log.warning("could not clean up after endpoint %s, which may cost money: %s", name, error)

    def _clean_endpoint(self, max_wait: float) -> bool:
        name = self.spec.endpoint_name
        description = self._hook.describe_endpoint(name)
        if description is None or not (_ENDPOINT in self.created or self._owns(description)):
            return False
        if max_wait:
            self._hook.delete_endpoint(name, max_wait=max_wait, poll_interval=self._options.poll_interval)
        elif not self._hook.request_deletion(name):
            return False
        log.info("cleaned up the endpoint %s that this task created", name)
        return True

    def _config_is_ours(self) -> bool:
        if _CONFIG in self.created:
            return True
        if self._owner is None:
            return False
        description = self._hook.describe_endpoint_config(self.spec.config_name)
        return description is not None and is_owned(
            self._hook.tags_of(description["EndpointConfigArn"]), self._owner
        )

    def _config_in_use(self, max_wait: float) -> bool:
        """Say whether the endpoint serves the configuration, or may come to; an update is given time to end."""
        try:
            verdict = self._hook.wait_for_endpoint(
                self.spec.endpoint_name,
                wanted_config=self.spec.config_name,
                max_wait=max_wait,
                poll_interval=self._options.poll_interval,
            )
        except EndpointNotFound:
            return False
        return verdict.state is not EndpointState.ROLLED_BACK
