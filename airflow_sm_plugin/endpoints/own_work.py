"""Whether an endpoint and its configuration are what one task instance made, as SageMaker tells it now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.core.ownership import DEPLOYED_TAG, NEVER_SERVED, EndpointClaim, created_at, is_owned
from airflow_sm_plugin.endpoints.options import DeploymentTarget
from airflow_sm_plugin.exceptions import EndpointError, SageMakerInferenceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = get_log(__name__)

ENDPOINT = "endpoint"


class NotOurs(EndpointError):
    """The endpoint is not, or no longer, what this task created. The text says why, and is for the log."""


class OwnWork:
    """Tell what this task instance made from what it found.

    What it creates bears the owner in a tag, so that a later try knows what a killed one, or a call whose answer was
    lost, has made. What a try remembers is never enough for a deletion.

    :param created: what this try created, for the log
    :param touched: whether it has acted on the endpoint
    """

    def __init__(
        self,
        hook: SageMakerControlPlaneHook,
        target: DeploymentTarget,
        claim: EndpointClaim,
        *,
        created: tuple[str, ...] = (),
        touched: bool = False,
    ) -> None:
        self._hook = hook
        self.target = target
        self.claim = claim
        self.created = created
        self.touched = touched
        self.seen_tags: Mapping[str, str] | None = None
        """The endpoint's tags as :meth:`mark` read them; None where it did not, or may not."""

    def endpoint_created(self) -> None:
        """Take note that this try created the endpoint, and of its CreationTime, so far as that can be read now."""
        self.created = (ENDPOINT,)
        try:
            description = self._hook.describe_endpoint(self.target.endpoint_name)
        except SageMakerInferenceError as error:
            log.debug("the CreationTime of endpoint %s is not known: %s", self.target.endpoint_name, error)
            return
        if description is not None:
            self._remember(description)

    def owns(self, description: Mapping[str, Any]) -> bool:
        """Say whether any try of it made an endpoint that never served."""
        if description.get("EndpointStatus") not in NEVER_SERVED:
            return False
        objection = self.claim.objection(description, self._hook.tags_of(description["EndpointArn"]))
        if objection is None:
            self._remember(description)
        return objection is None

    def check_endpoint(self) -> Mapping[str, Any] | None:
        """Return the endpoint when the task may delete it, None when it is gone.

        To be called immediately before each DeleteEndpoint. Tags come last: another deployment of ours sets them at
        once, while what only the description tells (an update, an endpoint created again) takes minutes in which
        SageMaker refuses to delete.

        :raises NotOurs: it is not, or no longer, the task's own
        """
        description = self._hook.describe_endpoint(self.target.endpoint_name)
        if description is None:
            return None
        objection = self.claim.described_objection(description) or self.claim.objection(
            description, self._hook.tags_of(description["EndpointArn"])
        )
        if objection is not None:
            raise NotOurs(objection)
        if description["EndpointStatus"] in NEVER_SERVED:
            self._remember(description)  # from now on it is this one, whatever its status becomes
        return description

    def owns_config(self) -> bool:
        """Say whether any try of it made the configuration that is there now."""
        description = self._hook.describe_endpoint_config(self.target.config_name)
        if description is None:
            return False
        return is_owned(self._hook.tags_of(description["EndpointConfigArn"]), self.claim.owner)

    def mark(self, description: Mapping[str, Any]) -> None:
        """Mark an endpoint that the task found, and deploys to, so that who created it no longer deletes it.

        Best effort, and only where somebody would.
        """
        arn = description.get("EndpointArn")
        if arn is None:
            return
        try:
            self.seen_tags = tags = self._hook.tags_of(arn)
            if tags is None:
                self._warn_of_no_mark("its tags cannot be read (sagemaker:ListTags)")
            elif self.claim.needs_mark(tags):
                self._hook.add_tags(arn, {DEPLOYED_TAG: self.claim.mark})
        except SageMakerInferenceError as error:
            self._warn_of_no_mark(error)

    def _warn_of_no_mark(self, why: object) -> None:
        log.warning(
            "endpoint %s could not be marked as deployed by this task: should the task that created it fail, it may "
            "delete it: %s",
            self.target.endpoint_name,
            why,
        )

    def _remember(self, description: Mapping[str, Any]) -> None:
        self.claim = replace(self.claim, created_at=created_at(description))
