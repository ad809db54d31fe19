"""SageMaker's control plane: endpoints, and all that its own modules add to the hook.

Every method may be repeated: what exists already with the same content is reused, what is missing already counts as
deleted. Nothing is ever *listed* to test for existence: list calls are throttled hard.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated, words_of
from airflow_sm_plugin.core.backoff import pause_after
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.names import is_same
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointConfigNotFound,
    EndpointNotFound,
    ModelNotFound,
    RequestRefused,
    SageMakerInferenceError,
    TaskKilled,
)
from airflow_sm_plugin.hooks.automl import AutoMLCalls
from airflow_sm_plugin.hooks.endpoint_configs import EndpointConfigCalls
from airflow_sm_plugin.hooks.model_packages import ModelPackageCalls
from airflow_sm_plugin.hooks.models import ModelCalls
from airflow_sm_plugin.resources import endpoint_status
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.resources.endpoint_status import EndpointState, EndpointVerdict

_CONSISTENCY_SECONDS = 30.0
_CONSISTENCY_PAUSE = 2.0
_MISSING_KIND = re.compile(r"Could not find (model|endpoint configuration|endpoint)\b", re.IGNORECASE)
_MAY_NOT_DEREGISTER = "application-autoscaling:DeregisterScalableTarget"
_CALLS = 5
"""Of one that is throttled: as many as botocore makes by default of the others."""
_QUOTA = "ResourceLimitExceeded"
_SENT_ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


class SageMakerControlPlaneHook(EndpointConfigCalls, ModelCalls, ModelPackageCalls, AutoMLCalls):
    """Talk to SageMaker's control plane. Takes the arguments of the provider's ``AwsBaseHook``."""

    def describe_endpoint(self, name: str) -> Mapping[str, Any] | None:
        """Describe an endpoint, None when there is none."""
        return self._found(
            f"sagemaker:DescribeEndpoint {name}", lambda: self.client.describe_endpoint(EndpointName=name)
        )

    def create_endpoint(self, spec: EndpointConfigSpec) -> bool:
        """Create the endpoint; say whether this call did. A configuration made just now may not be visible yet.

        :raises EndpointConfigNotFound: it does not come to be seen
        :raises ModelNotFound: the configuration names a model that does not exist
        """
        return self._when_consistent(
            f"sagemaker:CreateEndpoint {spec.endpoint_name}",
            lambda: self.client.create_endpoint(**spec.endpoint_parameters()),
            spec,
        )

    def update_endpoint(
        self,
        spec: EndpointConfigSpec,
        *,
        deployment_config: Mapping[str, Any] | None = None,
        retain_variant_properties: bool = False,
    ) -> bool:
        """Start to move the endpoint to the configuration; False when it is gone, or something is in progress there.

        botocore sends it once, whatever it is told: a repeated UpdateEndpoint deploys a second time where only the
        answer of the first was lost. Only a throttled one, which did nothing, is sent again here, up to five times in
        all. Nothing else here may not be repeated.

        :raises ServiceUnavailable: look before it is asked for again: it may have been accepted
        :raises EndpointConfigNotFound: as :meth:`create_endpoint`
        :raises ModelNotFound: as :meth:`create_endpoint`
        """
        client: Any = self.get_client_type(config=self.config.merge(_SENT_ONCE))
        request: dict[str, Any] = {
            "EndpointName": spec.endpoint_name,
            "EndpointConfigName": spec.config_name,
        }
        if deployment_config:
            request["DeploymentConfig"] = dict(deployment_config)
        if retain_variant_properties:
            request["RetainAllVariantProperties"] = True
        return self._when_consistent(
            f"sagemaker:UpdateEndpoint {spec.endpoint_name}",
            lambda: _through_throttling(lambda: client.update_endpoint(**request)),
            spec,
        )

    def _when_consistent(self, doing: str, call: Callable[[], object], spec: EndpointConfigSpec) -> bool:
        """Repeat a call for a little while as long as SageMaker does not see the new configuration.

        It may not see it yet, or somebody has deleted it meanwhile: then it is created again.

        :return: False when the endpoint exists already, is gone, or is in progress
        :raises EndpointConfigNotFound: it is not seen in the end
        :raises ModelNotFound: the configuration is there, its model is not
        """
        give_up = time.monotonic() + _CONSISTENCY_SECONDS
        while True:
            try:
                with translated(doing):
                    call()
            except RequestRefused as error:
                said = meaning(error.__cause__) if isinstance(error.__cause__, ClientError) else None
                if said in (Meaning.ALREADY_EXISTS, Meaning.IN_PROGRESS):
                    return False
                if said is not Meaning.NOT_FOUND:
                    raise
                kind = _MISSING_KIND.search(str(error))
                if kind is not None and kind[1].lower() == "endpoint":
                    return False
                if kind is not None and kind[1].lower() == "model":
                    raise ModelNotFound(
                        f"{error}. Its endpoint configuration exists: create the model"
                    ) from error
                if time.monotonic() >= give_up:
                    raise EndpointConfigNotFound(
                        f"{error}. It was created, and created again where it was gone, for "
                        f"{_CONSISTENCY_SECONDS:.0f} s: see what deletes it; a retry begins anew"
                    ) from error
                time.sleep(_CONSISTENCY_PAUSE)
                self.ensure_endpoint_config(spec)
            else:
                return True

    def delete_endpoint(
        self,
        name: str,
        *,
        max_wait: float,
        poll_interval: float,
        found: Mapping[str, Any] | None = None,
        check: Callable[[], object] | None = None,
    ) -> bool:
        """Delete an endpoint and return when it is gone; wait out what is in progress first, as SageMaker demands.

        One that is created under its name meanwhile is another endpoint, and stays.

        :param max_wait: seconds for all of it
        :param found: the endpoint's description, where the caller has one; default whichever is there first
        :param check: called immediately before each DeleteEndpoint; what it raises ends the deletion
        :return: whether there was one
        :raises EndpointDeadlineExceeded: it was still there
        """
        give_up = time.monotonic() + max_wait
        target, asked, paused = found, False, False

        def gone(seen: Mapping[str, Any] | None) -> bool:
            return seen is None or (target is not None and not is_same(seen, target))

        def at_rest(seen: Mapping[str, Any] | None) -> bool:
            nonlocal target
            target = target or seen
            return seen is None or gone(seen) or not endpoint_status.in_progress(str(seen["EndpointStatus"]))

        while True:
            description = self.look_until(
                name, at_rest, give_up=give_up, poll_interval=poll_interval, paused=paused
            )
            if description is None or gone(description):
                break
            if not at_rest(description) or (asked and time.monotonic() >= give_up):
                verdict = endpoint_status.judge(description, wanted_config="")
                raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=max_wait)
            if check is not None:
                check()
            self.request_deletion(name)
            paused, asked = asked, True  # asked twice, it is not seen being deleted yet: no haste
        if target is not None:
            self.log.info("endpoint %s deleted", name)
        return target is not None

    def request_deletion(self, name: str) -> bool:
        """Ask for an endpoint's deletion; False when something in progress forbids it now.

        :raises AccessDenied: also where it scales and the role may not deregister it
        """
        with translated(f"sagemaker:DeleteEndpoint {name}"):
            try:
                self.client.delete_endpoint(EndpointName=name)
            except ClientError as error:
                said = meaning(error)
                if said not in (Meaning.NOT_FOUND, Meaning.IN_PROGRESS):
                    self._explain_scaled(name, error)
                    raise
                return said is Meaning.NOT_FOUND
        return True

    def _explain_scaled(self, name: str, error: ClientError) -> None:
        if _MAY_NOT_DEREGISTER in words_of(error)[1]:
            raise AccessDenied(
                f"endpoint {name} cannot be deleted: it is registered with Application Auto Scaling, and the role may "
                f"not end that. Allow application-autoscaling:DeregisterScalableTarget to it (SageMaker then "
                f"deregisters by itself), or have another role run SageMakerScaleEndpointOperator(action='remove')"
            ) from error

    def wait_for_endpoint(
        self, name: str, *, wanted_config: str, max_wait: float, poll_interval: float
    ) -> EndpointVerdict:
        """Wait until the endpoint serves, rolls back or fails; the last verdict still waits when time ran out.

        :raises EndpointNotFound: it is gone
        :raises ServiceUnavailable: too many looks in a row failed, or all of them until time ran out
        :raises Throttled: likewise
        """

        def ended(seen: Mapping[str, Any] | None) -> bool:
            return self._judged(name, seen, wanted_config).state is not EndpointState.WAIT

        give_up = time.monotonic() + max_wait
        description = self.look_until(name, ended, give_up=give_up, poll_interval=poll_interval)
        return self._judged(name, description, wanted_config)

    def _judged(
        self, name: str, description: Mapping[str, Any] | None, wanted_config: str
    ) -> EndpointVerdict:
        if description is None:
            raise EndpointNotFound(f"there is no endpoint {name} in {self.conn_region_name}")
        return endpoint_status.judge(description, wanted_config=wanted_config)

    def look_until(
        self,
        name: str,
        enough: Callable[[Mapping[str, Any] | None], bool],
        *,
        give_up: float,
        poll_interval: float,
        paused: bool = False,
    ) -> Mapping[str, Any] | None:
        """Describe the endpoint until that is ``enough`` or time is up; return the last description, None when gone.

        The one loop of every blocking wait for an endpoint. Failed looks are endured as
        :mod:`airflow_sm_plugin.core.failed_polls` says.

        :param give_up: when time is up, by ``time.monotonic()``; there is always one look
        :param paused: begin with a pause, since one has looked already
        :raises ServiceUnavailable: too many looks in a row failed, or all of them until time was up
        :raises Throttled: likewise
        """
        failed, seen = FailedPolls(), False
        description: Mapping[str, Any] | None = None
        while True:
            if paused:
                time.sleep(min(poll_interval, max(0.0, give_up - time.monotonic())))
            paused = True
            try:
                description = self.describe_endpoint(name)
            except TaskKilled:
                raise
            except SageMakerInferenceError as error:
                failed = failed.one_more()
                if failed.end_the_wait(error) or (not seen and time.monotonic() >= give_up):
                    raise type(error)(
                        f"the wait for endpoint {name} broke, {failed.in_a_row} failed looks in a row: {error}"
                    ) from error
                self.log.warning("the wait for endpoint %s goes on after a failed look: %s", name, error)
            else:
                failed, seen = FailedPolls(), True
                self.log.debug("endpoint %s is %s", name, (description or {}).get("EndpointStatus", "gone"))
                if enough(description):
                    return description
            if seen and time.monotonic() >= give_up:
                return description


def _through_throttling(call: Callable[[], object]) -> object:
    """Repeat a call that SageMaker throttles, a few times; a quota that is used up does not pass as quickly."""
    for attempt in range(1, _CALLS):
        try:
            return call()
        except ClientError as error:
            if meaning(error) is not Meaning.THROTTLED or words_of(error)[0] == _QUOTA:
                raise
        time.sleep(pause_after(attempt, jitter=random.random()))  # noqa: S311 - jitter
    return call()
