"""Bring an endpoint to a configuration: create or update, wait, judge, and clean up what was created on failure."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow_sm_plugin.core import endpoint_status
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import EndpointState, EndpointVerdict, Step
from airflow_sm_plugin.exceptions import EndpointNotFound, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = logging.getLogger(__name__)

_CONFIG = "endpoint configuration"
_ENDPOINT = "endpoint"
_HURRIED_SECONDS = 20.0
_CREATED_BY_ANOTHER = {"EndpointStatus": "Creating"}


class Deployment:
    """One task's work on one endpoint.

    :param max_wait: seconds for what is in progress before, again for the endpoint to serve, and again for cleaning up:
        SageMaker deletes no endpoint that is still being created
    :param poll_interval: seconds between looks
    :param cleanup_on_failure: delete what this deployment created when it fails
    :param created: what an earlier part of the same task created, as ``created`` told it
    :param adopts: take what bears the wanted configuration's name and never served for the work of an earlier try,
        which was killed before it could clean up
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        spec: EndpointConfigSpec,
        *,
        max_wait: float,
        poll_interval: float,
        cleanup_on_failure: bool,
        created: Sequence[str] = (),
        adopts: bool = False,
    ) -> None:
        self._hook = hook
        self.spec = spec
        self._max_wait = max_wait
        self._poll_interval = poll_interval
        self._cleanup_on_failure = cleanup_on_failure
        self.created = list(created)
        self._adopts = adopts

    @property
    def region_name(self) -> str:
        """The AWS region it works in."""
        return self._hook.conn_region_name

    def act(self) -> str:
        """Do what is next until nothing is left but to wait; return created, updated or unchanged.

        :raises EndpointFailed: the endpoint can only be deleted, which nobody asked for
        :raises EndpointDeadlineExceeded: something in progress did not end in time
        :raises ModelNotFound: the configuration names a model that does not exist
        """
        name, wanted = self.spec.endpoint_name, self.spec.config_name
        give_up = time.monotonic() + self._max_wait
        while True:
            description = self._hook.describe_endpoint(name)
            self._adopt(description)
            step = endpoint_status.next_step(description, wanted_config=wanted)
            action = self._take(step)
            if action is not None:
                log.info("endpoint %s: %s, configuration %s", name, action, wanted)
                return action
            # No description and no action: somebody else created it this moment.
            verdict = endpoint_status.judge(description or _CREATED_BY_ANOTHER, wanted_config=wanted)
            if step is Step.GIVE_UP:
                failed = endpoint_status.failure(verdict, endpoint_name=name, wanted_config=wanted)
                raise (self.created and failed) or endpoint_status.cannot_be_changed(
                    verdict, endpoint_name=name
                )
            if time.monotonic() >= give_up:
                raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=self._max_wait)
            log.info("endpoint %s is %s: waiting until it may be changed", name, verdict.status)
            time.sleep(min(self._poll_interval, max(0.0, give_up - time.monotonic())))

    def _adopt(self, description: Mapping[str, Any] | None) -> None:
        if not self._adopts or description is None or self.created:
            return
        ours = description.get("EndpointConfigName") == self.spec.config_name
        if ours and description["EndpointStatus"] in ("Creating", "Failed"):
            self.created += [_CONFIG, _ENDPOINT]

    def _take(self, step: Step) -> str | None:
        """Take a step; return what it did, None when one has to look again."""
        if step is Step.NOTHING:
            return "unchanged"
        if step is Step.AWAIT:
            return "created"
        if step is Step.CREATE:
            self._ensure_config(adopts=self._adopts)
            if not self._hook.create_endpoint(self.spec):
                return None
            self.created.append(_ENDPOINT)
            return "created"
        if step is Step.UPDATE:
            self._ensure_config(adopts=False)  # it may be the one that an earlier run served
            return "updated" if self._hook.update_endpoint(self.spec) else None
        return None

    def _ensure_config(self, *, adopts: bool) -> None:
        if (self._hook.ensure_endpoint_config(self.spec) or adopts) and _CONFIG not in self.created:
            self.created.append(_CONFIG)

    def wait(self, *, finished: bool = True) -> EndpointVerdict:
        """Wait until the endpoint serves, rolls back or fails; the verdict still waits when time ran out.

        :param finished: False looks once and does not wait
        """
        return self._hook.wait_for_endpoint(
            self.spec.endpoint_name,
            wanted_config=self.spec.config_name,
            max_wait=self._max_wait if finished else 0,
            poll_interval=self._poll_interval,
        )

    def check(self, verdict: EndpointVerdict, *, finished: bool) -> None:
        """Return when the endpoint serves the configuration, or when it need not be finished and is on its way.

        :raises EndpointError: what the verdict amounts to
        """
        name = self.spec.endpoint_name
        error = endpoint_status.failure(verdict, endpoint_name=name, wanted_config=self.spec.config_name)
        if error is not None:
            raise error
        if verdict.state is EndpointState.WAIT and finished:
            raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=self._max_wait)

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

    @contextmanager
    def cleaning_up(self) -> Iterator[None]:
        """Delete what was created when the block fails.

        Somebody who kills the task, or Airflow at its execution time-out, does not wait for long: then seconds remain.
        """
        try:
            yield
        except BaseException as error:
            if self._cleanup_on_failure and self.created:
                ours = isinstance(error, SageMakerInferenceError)
                self._clean_up(self._max_wait if ours else min(self._max_wait, _HURRIED_SECONDS))
            raise

    def _clean_up(self, max_wait: float) -> None:
        """Best effort; say what remains."""
        what, name = " and ".join(self.created), self.spec.endpoint_name
        try:
            if _ENDPOINT in self.created:
                self._hook.delete_endpoint(name, max_wait=max_wait, poll_interval=self._poll_interval)
            elif self._config_in_use(max_wait):
                log.warning(
                    "endpoint configuration %s stays: endpoint %s uses it", self.spec.config_name, name
                )
                return
            if _CONFIG in self.created:
                self._hook.delete_endpoint_config(self.spec.config_name)
        except SageMakerInferenceError as error:
            log.warning("could not clean up %s of %s, which may cost money: %s", what, name, error)
        else:
            log.info("cleaned up what this task created: %s of %s", what, name)

    def _config_in_use(self, max_wait: float) -> bool:
        """Say whether the endpoint serves the configuration, or may come to; an update is given time to end."""
        try:
            verdict = self._hook.wait_for_endpoint(
                self.spec.endpoint_name,
                wanted_config=self.spec.config_name,
                max_wait=max_wait,
                poll_interval=self._poll_interval,
            )
        except EndpointNotFound:
            return False
        return verdict.state is not EndpointState.ROLLED_BACK
