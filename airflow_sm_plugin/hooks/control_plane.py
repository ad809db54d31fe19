"""SageMaker's control plane: models, endpoint configurations, endpoints, AutoML jobs.

Every method may be repeated: what exists already with the same content is reused, what is missing already counts as
deleted. Nothing is ever *listed* to test for existence: list calls are throttled hard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.exceptions import ClientError

from airflow_sm_plugin.core import endpoint_status
from airflow_sm_plugin.core.endpoint_config import EndpointConfigSpec
from airflow_sm_plugin.core.endpoint_status import EndpointState, EndpointVerdict
from airflow_sm_plugin.core.model import ModelSpec
from airflow_sm_plugin.core.names import is_content_name
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    AutoMLJobNotFound,
    CandidateNotFound,
    EndpointNotFound,
    ModelNotFound,
    RequestRefused,
    ResourceConflict,
    ServiceUnavailable,
    Throttled,
)
from airflow_sm_plugin.hooks.errors import meaning, translated

if TYPE_CHECKING:
    from mypy_boto3_sagemaker import SageMakerClient

_CONSISTENCY_SECONDS = 30.0
_CONSISTENCY_PAUSE = 2.0


class SageMakerControlPlaneHook(AwsBaseHook):
    """Talk to SageMaker's control plane. Takes the arguments of the provider's ``AwsBaseHook``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - handed on to the provider's hook
        kwargs["client_type"] = "sagemaker"
        super().__init__(*args, **kwargs)

    @property
    def client(self) -> SageMakerClient:
        """Return the boto3 client."""
        return cast("SageMakerClient", self.get_conn())

    def role_arn(self, role: str) -> str:
        """Return the ARN of a role given by name or ARN; only a name costs an ``iam:GetRole``."""
        if role.startswith("arn:"):
            return role
        with translated(f"iam:GetRole {role}"):
            return str(self.expand_role(role))

    # Models

    def create_model(self, spec: ModelSpec) -> tuple[str, str, bool]:
        """Create the model, or find it already there with the same content.

        :return: name, ARN, and whether this call created it
        :raises ResourceConflict: the name is taken by a model with other content
        """
        request = spec.parameters()
        name = request["ModelName"]
        with translated(f"sagemaker:CreateModel {name}"):
            try:
                return name, str(self.client.create_model(**request)["ModelArn"]), True
            except ClientError as error:
                if meaning(error) is not Meaning.ALREADY_EXISTS:
                    raise
        there = self.describe_model(name)
        differences = spec.differences(there)
        if differences:
            raise ResourceConflict(
                f"model {name} exists already with other content: {'; '.join(differences)} differ. "
                f"Choose another name, leave the name out to derive one from the content, or delete the model"
            )
        self.log.info("model %s exists already with the same content: reused", name)
        return name, str(there["ModelArn"]), False

    def describe_model(self, name: str) -> Mapping[str, Any]:
        """Describe a model.

        :raises ModelNotFound: there is none of that name
        """
        found = self._found(
            f"sagemaker:DescribeModel {name}", lambda: self.client.describe_model(ModelName=name)
        )
        if found is None:
            raise ModelNotFound(f"there is no SageMaker model {name} in {self.conn_region_name}")
        return found

    def delete_model(self, name: str) -> bool:
        """Delete a model; say whether there was one."""
        return self._gone(f"sagemaker:DeleteModel {name}", lambda: self.client.delete_model(ModelName=name))

    # Endpoint configurations

    def ensure_endpoint_config(self, spec: EndpointConfigSpec) -> bool:
        """Create the endpoint configuration unless it is there; its name is its content. Say whether it was created.

        :raises ModelNotFound: a variant names a model that does not exist
        """
        with translated(f"sagemaker:CreateEndpointConfig {spec.config_name}"):
            try:
                self.client.create_endpoint_config(**spec.config_parameters())
            except ClientError as error:
                said = meaning(error)
                if said is Meaning.ALREADY_EXISTS:
                    return False
                if said is not Meaning.NOT_FOUND:
                    raise
                names = ", ".join(variant.model_name for variant in spec.variants)
                raise ModelNotFound(
                    f"endpoint {spec.endpoint_name} cannot be configured: there is no SageMaker model {names} in "
                    f"{self.conn_region_name}; create it first"
                ) from error
        self.log.info("endpoint configuration %s created", spec.config_name)
        return True

    def describe_endpoint_config(self, name: str) -> Mapping[str, Any] | None:
        """Describe an endpoint configuration, None when there is none."""
        doing = f"sagemaker:DescribeEndpointConfig {name}"
        return self._found(doing, lambda: self.client.describe_endpoint_config(EndpointConfigName=name))

    def delete_endpoint_config(self, name: str) -> bool:
        """Delete an endpoint configuration; say whether there was one."""
        return self._gone(
            f"sagemaker:DeleteEndpointConfig {name}",
            lambda: self.client.delete_endpoint_config(EndpointConfigName=name),
        )

    def derived_endpoint_configs(self, endpoint_name: str) -> list[str]:
        """List the configurations whose names were derived for an endpoint; none where listing is not permitted.

        For an endpoint that is gone: nothing else tells any more what it served.
        """
        try:
            with translated(f"sagemaker:ListEndpointConfigs {endpoint_name}"):
                pages = self.client.get_paginator("list_endpoint_configs").paginate(
                    NameContains=endpoint_name
                )
                names = [found["EndpointConfigName"] for page in pages for found in page["EndpointConfigs"]]
        except AccessDenied as denied:
            self.log.warning(
                "cannot look for configurations that endpoint %s left: %s", endpoint_name, denied
            )
            return []
        return [name for name in names if is_content_name(name, endpoint_name)]

    # Endpoints

    def describe_endpoint(self, name: str) -> Mapping[str, Any] | None:
        """Describe an endpoint, None when there is none."""
        return self._found(
            f"sagemaker:DescribeEndpoint {name}", lambda: self.client.describe_endpoint(EndpointName=name)
        )

    def create_endpoint(self, spec: EndpointConfigSpec) -> bool:
        """Create the endpoint; say whether this call did. A configuration made just now may not be visible yet."""
        return self._when_consistent(
            f"sagemaker:CreateEndpoint {spec.endpoint_name}",
            lambda: self.client.create_endpoint(**spec.endpoint_parameters()),
        )

    def update_endpoint(self, spec: EndpointConfigSpec) -> bool:
        """Start to move the endpoint to the configuration; False when something else is in progress there."""
        return self._when_consistent(
            f"sagemaker:UpdateEndpoint {spec.endpoint_name}",
            lambda: self.client.update_endpoint(
                EndpointName=spec.endpoint_name, EndpointConfigName=spec.config_name
            ),
        )

    def _when_consistent(self, doing: str, call: Callable[[], object]) -> bool:
        """Repeat a call for a little while as long as SageMaker does not see the new configuration yet.

        :return: False when the endpoint exists already, or is in progress
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
                if said is Meaning.NOT_FOUND and "could not find model" in str(error).lower():
                    raise ModelNotFound(
                        f"{error}. Its endpoint configuration exists: create the model"
                    ) from error
                if said is not Meaning.NOT_FOUND or time.monotonic() >= give_up:
                    raise
                time.sleep(_CONSISTENCY_PAUSE)
            else:
                return True

    def delete_endpoint(self, name: str, *, max_wait: float, poll_interval: float) -> bool:
        """Delete an endpoint and return when it is gone; wait out what is in progress first, as SageMaker demands.

        :param max_wait: seconds for all of it
        :return: whether there was one
        :raises EndpointDeadlineExceeded: it was still there
        """
        give_up = time.monotonic() + max_wait
        existed = False
        while (description := self.describe_endpoint(name)) is not None:
            existed = True
            verdict = endpoint_status.judge(description, wanted_config="")
            if not endpoint_status.in_progress(verdict.status):
                self._request_deletion(name)
            elif time.monotonic() >= give_up:
                raise endpoint_status.deadline_exceeded(verdict, endpoint_name=name, seconds=max_wait)
            else:
                time.sleep(min(poll_interval, max(0.0, give_up - time.monotonic())))
        if existed:
            self.log.info("endpoint %s deleted", name)
        return existed

    def _request_deletion(self, name: str) -> None:
        with translated(f"sagemaker:DeleteEndpoint {name}"):
            try:
                self.client.delete_endpoint(EndpointName=name)
            except ClientError as error:
                if meaning(error) not in (Meaning.NOT_FOUND, Meaning.IN_PROGRESS):
                    raise

    def wait_for_endpoint(
        self, name: str, *, wanted_config: str, max_wait: float, poll_interval: float
    ) -> EndpointVerdict:
        """Wait until the endpoint serves, rolls back or fails; the last verdict still waits when time ran out.

        :raises EndpointNotFound: it is gone
        """
        give_up = time.monotonic() + max_wait
        verdict = self.endpoint_verdict(name, wanted_config=wanted_config)
        while True:
            if verdict.state is not EndpointState.WAIT or time.monotonic() >= give_up:
                return verdict
            self.log.debug("endpoint %s is %s", name, verdict.status)
            time.sleep(min(poll_interval, max(0.0, give_up - time.monotonic())))
            try:
                verdict = self.endpoint_verdict(name, wanted_config=wanted_config)
            except (ServiceUnavailable, Throttled) as error:
                self.log.warning("the wait for endpoint %s goes on after a failed look: %s", name, error)

    def endpoint_verdict(self, name: str, *, wanted_config: str) -> EndpointVerdict:
        """Look once.

        :raises EndpointNotFound: it is gone
        """
        description = self.describe_endpoint(name)
        if description is None:
            raise EndpointNotFound(f"there is no endpoint {name} in {self.conn_region_name}")
        return endpoint_status.judge(description, wanted_config=wanted_config)

    # AutoML jobs

    def describe_auto_ml_job(self, name: str) -> Mapping[str, Any]:
        """Describe an AutoML job made by CreateAutoMLJob or CreateAutoMLJobV2.

        V2 describes both; only where V2 is not permitted the first version is asked.

        :raises AutoMLJobNotFound: there is none of that name
        """
        try:
            job = self._found(
                f"sagemaker:DescribeAutoMLJobV2 {name}",
                lambda: self.client.describe_auto_ml_job_v2(AutoMLJobName=name),
            )
        except AccessDenied as denied:
            job = self._describe_auto_ml_job_v1(name, denied)
        if job is None:
            raise AutoMLJobNotFound(
                f"there is no AutoML job {name} in {self.conn_region_name}: mend its name, region_name or the account"
            )
        return job

    def _describe_auto_ml_job_v1(self, name: str, denied: AccessDenied) -> Mapping[str, Any] | None:
        try:
            return self._found(
                f"sagemaker:DescribeAutoMLJob {name}",
                lambda: self.client.describe_auto_ml_job(AutoMLJobName=name),
            )
        except (AccessDenied, RequestRefused):
            raise denied from None

    def candidate(self, job_name: str, candidate_name: str) -> Mapping[str, Any]:
        """Return a candidate by its exact name.

        :raises CandidateNotFound: the job has none of that name
        """
        with translated(f"sagemaker:ListCandidatesForAutoMLJob {job_name}"):
            answer = self.client.list_candidates_for_auto_ml_job(
                AutoMLJobName=job_name, CandidateNameEquals=candidate_name
            )
        for candidate in answer["Candidates"]:
            if candidate["CandidateName"] == candidate_name:
                return cast("Mapping[str, Any]", candidate)
        raise CandidateNotFound(
            f"AutoML job {job_name} has no candidate {candidate_name!r}; leave candidate_name out for the best one"
        )

    # Shared

    def _found(self, doing: str, call: Callable[[], object]) -> Mapping[str, Any] | None:
        with translated(doing):
            try:
                return cast("Mapping[str, Any]", call())
            except ClientError as error:
                if meaning(error) is Meaning.NOT_FOUND:
                    return None
                raise

    def _gone(self, doing: str, call: Callable[[], object]) -> bool:
        with translated(doing):
            try:
                call()
            except ClientError as error:
                if meaning(error) is Meaning.NOT_FOUND:
                    return False
                raise
        return True
