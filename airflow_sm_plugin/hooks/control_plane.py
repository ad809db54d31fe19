"""SageMaker's control plane: endpoints, and by its parts endpoint configurations, models, model packages, AutoML jobs.

Every method can be repeated: an existing resource with the same content is reused, a missing one counts as deleted.
No listing is used to test for existence: list calls are throttled hard.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_sm_plugin.aws.errors import meaning, translated, words_of
from airflow_sm_plugin.core.failed_polls import FailedPolls
from airflow_sm_plugin.core.names import is_same
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.core.text import plural
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointConfigNotFound,
    ModelNotFound,
    SageMakerInferenceError,
    TaskKilled,
)
from airflow_sm_plugin.hooks.calls import CONSISTENCY_SECONDS, found, is_not_found, repeated, until_visible
from airflow_sm_plugin.hooks.endpoint_configs import EndpointConfigs
from airflow_sm_plugin.hooks.models import Models
from airflow_sm_plugin.hooks.sagemaker_calls import SageMakerCalls
from airflow_sm_plugin.resources import endpoint_status
from airflow_sm_plugin.resources.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.resources.endpoint_cost import counts_of, instances_of, left_behind
from airflow_sm_plugin.resources.model import without_empty

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.automl import AutoMLJobs
    from airflow_sm_plugin.hooks.model_packages import ModelPackages

_MISSING_KIND = re.compile(r"Could not find (model|endpoint configuration|endpoint)\b", re.IGNORECASE)
_MAY_NOT_DEREGISTER = "application-autoscaling:DeregisterScalableTarget"
_CALLS = 5
"""Attempts of a throttled call: as many as botocore makes by default of other calls."""
_QUOTA = "ResourceLimitExceeded"
_SENT_ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1})


class SageMakerControlPlaneHook(SageMakerCalls):
    """Talk to SageMaker's control plane. Takes the arguments of the provider's ``AwsBaseHook``."""

    @cached_property
    def configs(self) -> EndpointConfigs:
        return EndpointConfigs(self)

    @cached_property
    def models(self) -> Models:
        return Models(self)

    @cached_property
    def model_packages(self) -> ModelPackages:
        from airflow_sm_plugin.hooks.model_packages import ModelPackages

        return ModelPackages(self)

    @cached_property
    def automl(self) -> AutoMLJobs:
        from airflow_sm_plugin.hooks.automl import AutoMLJobs

        return AutoMLJobs(self)

    def describe_endpoint(self, name: str) -> Mapping[str, Any] | None:
        return found(
            f"sagemaker:DescribeEndpoint {name}", lambda: self.client.describe_endpoint(EndpointName=name)
        )

    def create_endpoint(self, spec: EndpointConfigSpec) -> bool:
        """Create the endpoint; False when it existed. Repeats while a new configuration is not visible yet.

        :raises EndpointConfigNotFound: the configuration does not become visible
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
        """Start to move the endpoint to the configuration; False when it is gone or another change is in progress.

        botocore sends the request once, however it is configured: a repeated UpdateEndpoint deploys a second time when
        only the first answer was lost. A throttled request did nothing, and is sent up to five times in all.

        :raises ServiceUnavailable: the update may have been accepted: describe the endpoint before another update
        :raises EndpointConfigNotFound: as :meth:`create_endpoint`
        :raises ModelNotFound: as :meth:`create_endpoint`
        """
        client: Any = self.get_client_type(config=self.config.merge(_SENT_ONCE))
        members = {
            "EndpointName": spec.endpoint_name,
            "EndpointConfigName": spec.config_name,
            "DeploymentConfig": dict(deployment_config or {}),
            "RetainAllVariantProperties": retain_variant_properties or None,
        }
        request = without_empty(members)
        return self._when_consistent(
            f"sagemaker:UpdateEndpoint {spec.endpoint_name}",
            lambda: repeated(
                lambda: client.update_endpoint(**request),
                attempts=_CALLS,
                passes=_is_throttled,
                reason="SageMaker throttles UpdateEndpoint",
            ),
            spec,
        )

    def _when_consistent(self, doing: str, call: Callable[[], object], spec: EndpointConfigSpec) -> bool:
        """Repeat a call while SageMaker does not see the new configuration; create it again if it is gone.

        :return: False when the endpoint exists already, is gone, or is in progress
        :raises EndpointConfigNotFound: the configuration did not become visible
        :raises ModelNotFound: the model of the configuration does not exist
        """
        with translated(doing):
            try:
                until_visible(call, is_missing=_misses_config, before_retry=lambda: self.configs.ensure(spec))
            except ClientError as error:
                if (
                    meaning(error) in (Meaning.ALREADY_EXISTS, Meaning.IN_PROGRESS)
                    or _missing_kind(error) == "endpoint"
                ):
                    return False
                if _missing_kind(error) == "model":
                    raise ModelNotFound(
                        f"{doing}: a model of endpoint configuration {spec.config_name} does not exist",
                        reason=words_of(error)[1],
                        do="create the model, then run this task again",
                    ) from None
                if _misses_config(error):
                    raise EndpointConfigNotFound(
                        f"{doing}: endpoint configuration {spec.config_name} was created, and created again where it "
                        f"was gone, for {CONSISTENCY_SECONDS:.0f} s, and still does not exist",
                        reason=words_of(error)[1],
                        do="find out what deletes it; a retry starts from the beginning",
                    ) from None
                raise
        return True

    def delete_endpoint(
        self,
        name: str,
        *,
        max_wait: float,
        poll_interval: float,
        description: Mapping[str, Any] | None = None,
        check: Callable[[], object] | None = None,
    ) -> bool:
        """Delete an endpoint and wait until it is gone; first wait for any change in progress, as SageMaker demands.

        An endpoint created under the same name meanwhile is another endpoint, and stays.

        :param max_wait: seconds for all of it
        :param description: the endpoint's description, where the caller has one; default: the first one that is read
        :param check: called immediately before each DeleteEndpoint; an exception it raises ends the deletion
        :return: whether the endpoint existed
        :raises EndpointDeadlineExceeded: the endpoint still existed
        """
        give_up = time.monotonic() + max_wait
        target, deletion_requested, paused = description, False, False

        def gone(description: Mapping[str, Any] | None) -> bool:
            return description is None or (target is not None and not is_same(description, target))

        def at_rest(description: Mapping[str, Any] | None) -> bool:
            nonlocal target
            target = target or description
            return (
                description is None
                or gone(description)
                or not endpoint_status.in_progress(str(description["EndpointStatus"]))
            )

        while True:
            description = self.poll_until(
                name, at_rest, give_up=give_up, poll_interval=poll_interval, paused=paused
            )
            if description is None or gone(description):
                break
            if not at_rest(description) or (deletion_requested and time.monotonic() >= give_up):
                verdict = endpoint_status.judge(description, wanted_config="")
                raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=max_wait)
            if check is not None:
                check()
            self.request_deletion(name)
            paused = deletion_requested  # asked twice, it is not seen being deleted yet: no haste
            deletion_requested = True
        if target is not None:
            self.log.info("endpoint %s deleted", name)
        return target is not None

    def left_behind(self, name: str) -> str | None:
        """Describe an endpoint that a failed task leaves behind: status, instances, cost; by best effort.

        :return: empty when there is none, None where it cannot be described
        """
        try:
            description = self.describe_endpoint(name)
        except SageMakerInferenceError as error:
            self.log.debug("what is left of endpoint %s is not known: %s", name, error)
            return None
        if description is None:
            return ""
        config: Mapping[str, Any] | None = None
        try:
            config = self.configs.describe(str(description.get("EndpointConfigName")))
        except SageMakerInferenceError as error:
            self.log.debug("the instances of endpoint %s are not known: %s", name, error)
        instances = instances_of((config or {}).get("ProductionVariants") or (), counts_of(description))
        return left_behind(name, str(description["EndpointStatus"]), instances)

    def request_deletion(self, name: str) -> bool:
        """Ask for an endpoint's deletion; False when a change in progress forbids it now.

        :raises AccessDenied: also where the endpoint scales and the role cannot deregister it
        """
        with translated(f"sagemaker:DeleteEndpoint {name}"):
            try:
                self.client.delete_endpoint(EndpointName=name)
            except ClientError as error:
                if _MAY_NOT_DEREGISTER in words_of(error)[1]:
                    raise AccessDenied(
                        f"endpoint {name} cannot be deleted: it is registered with Application Auto Scaling, and the "
                        f"role is not permitted to end that",
                        do="allow application-autoscaling:DeregisterScalableTarget to the role (SageMaker then "
                        "deregisters by itself), or have another role run "
                        "SageMakerScaleEndpointOperator(action='remove')",
                    ) from None
                refusal = meaning(error)
                if refusal not in (Meaning.NOT_FOUND, Meaning.IN_PROGRESS):
                    raise
                return refusal is Meaning.NOT_FOUND
        return True

    def poll_until(
        self,
        name: str,
        enough: Callable[[Mapping[str, Any] | None], bool],
        *,
        give_up: float,
        poll_interval: float,
        paused: bool = False,
    ) -> Mapping[str, Any] | None:
        """Describe the endpoint until ``enough`` holds or time is up; return the last description, None when gone.

        Deletions and cleanups wait with this loop; deployments wait with their triggers.
        :mod:`airflow_sm_plugin.core.failed_polls` has the limits of failed polls.

        :param give_up: deadline by ``time.monotonic()``; there is always one poll
        :param paused: begin with a pause, since the endpoint was described already
        :raises ServiceUnavailable: too many polls in a row failed, or all of them until time was up
        :raises Throttled: likewise
        """
        failed, was_described = FailedPolls(), False
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
                failed = failed.one_more(error.reason or error.as_sentence)
                if failed.end_the_wait(error) or (not was_described and time.monotonic() >= give_up):
                    broke = f"the wait for endpoint {name} broke, {plural(failed.in_a_row, 'failed poll')} in a row"
                    raise error.during(broke) from None
                self.log.warning("the wait for endpoint %s goes on: %s", name, failed.in_words("SageMaker"))
            else:
                failed, was_described = FailedPolls(), True
                self.log.debug("endpoint %s is %s", name, (description or {}).get("EndpointStatus", "gone"))
                if enough(description):
                    return description
            if was_described and time.monotonic() >= give_up:
                return description


def _is_throttled(error: ClientError) -> bool:
    """Recognize throttling, which passes quickly, unlike an exhausted quota."""
    return meaning(error) is Meaning.THROTTLED and words_of(error)[0] != _QUOTA


def _missing_kind(error: ClientError) -> str | None:
    """Name the kind of the missing resource: model, endpoint, or (also for unknown words) endpoint configuration."""
    if not is_not_found(error):
        return None
    kind = _MISSING_KIND.search(words_of(error)[1])
    return "endpoint configuration" if kind is None else kind[1].lower()


def _misses_config(error: ClientError) -> bool:
    return _missing_kind(error) == "endpoint configuration"
