"""Facts about the endpoint of a batch: whether it exists and serves, and the S3 locations it reads and writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.exceptions import (
    AccessDenied,
    EndpointNotAsynchronous,
    EndpointNotFound,
    EndpointNotInService,
    EndpointNotMultiModel,
    EndpointNotRealTime,
    ModelNotFound,
    ServiceError,
)
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook
from airflow_sm_plugin.resources.endpoint_config import models_of
from airflow_sm_plugin.resources.endpoint_status import SERVING_STATUSES, locations_written_by

log = get_log(__name__)


@dataclass(frozen=True, kw_only=True)
class EndpointModels:
    """A multi-model endpoint that serves.

    :param prefixes: ``s3://bucket/prefix/`` of the artefacts of each container that has one; empty without permission
    :param ends_in_slash: whether the models spell the prefixes with a slash at the end; None if unknown or mixed.
        SageMaker joins prefix and name of a target model without adding a slash
    :param written: the S3 locations that the endpoint writes, as far as they can be read
    """

    endpoint_name: str
    prefixes: tuple[str, ...] = ()
    ends_in_slash: bool | None = None
    written: Mapping[str, str] = field(default_factory=dict)

    @property
    def locations(self) -> dict[str, str]:
        """S3 locations that no input may share: the endpoint's outputs and its models."""
        models = {
            f"model prefix {number} of the endpoint": prefix for number, prefix in enumerate(self.prefixes, 1)
        }
        return {**self.written, **models}


class EndpointFacts:
    """Describe one endpoint, off the event loop."""

    def __init__(self, connection: AwsConnection, endpoint_name: str) -> None:
        self._connection = connection
        self._name = endpoint_name

    async def is_gone(self) -> bool:
        """Check for deletion, which loses queued requests. False without permission to describe."""
        try:
            description = await asyncio.to_thread(self._described)
        except ServiceError as error:
            log.info("not known whether endpoint %s still exists: %s", self._name, error)
            return False
        return description is None or description["EndpointStatus"] == "Deleting"

    async def written_locations(self) -> dict[str, str]:
        """List the S3 locations it writes, for :func:`check_inputs_apart`; none without permission to describe.

        :raises EndpointNotFound: no endpoint has that name
        :raises ServiceError: SageMaker did not answer
        """
        try:
            return locations_written_by(await asyncio.to_thread(self._existing))
        except AccessDenied as error:
            log.warning("not known whether inputs are apart from the endpoint's outputs: %s", error)
            return {}

    async def output_paths(self) -> tuple[str, str | None]:
        """Read the S3OutputPath, and the S3FailurePath if there is one.

        :raises EndpointNotFound: no endpoint has that name
        :raises EndpointNotAsynchronous: the endpoint writes no results
        :raises AccessDenied: the role is not permitted to describe the endpoint
        """
        try:
            description = await asyncio.to_thread(self._existing)
        except AccessDenied as error:
            raise AccessDenied(
                "a killed try left requests without a known answer before anything was accepted, and only the "
                "endpoint's description contains the location of their results",
                reason=error.as_sentence,
                do="allow sagemaker:DescribeEndpoint, or pass on_unknown='resend', which sends them again, perhaps a "
                "second time",
            ) from None
        output = (description.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}
        if not output.get("S3OutputPath"):
            raise EndpointNotAsynchronous(
                f"endpoint {self._name} is not asynchronous: it has no output path",
                do="deploy it with async_output_path",
            )
        return output["S3OutputPath"], output.get("S3FailurePath") or None

    async def models(self) -> EndpointModels | None:
        """Describe the models of a multi-model endpoint; None, and a log line, without permission.

        :raises EndpointNotFound: no endpoint has that name
        :raises EndpointNotInService: the endpoint does not serve now
        :raises EndpointNotRealTime: the endpoint is asynchronous
        :raises EndpointNotMultiModel: no container serves many models
        :raises ServiceError: SageMaker refused otherwise, or did not answer
        """
        return await asyncio.to_thread(self._models)

    @cached_property
    def _hook(self) -> SageMakerControlPlaneHook:
        return SageMakerControlPlaneHook(**self._connection.hook_arguments())

    def _described(self) -> Mapping[str, Any] | None:
        return self._hook.describe_endpoint(self._name)

    def _existing(self) -> Mapping[str, Any]:
        description = self._described()
        if description is None:
            raise EndpointNotFound(
                f"there is no endpoint {self._name} in {self._hook.conn_region_name}",
                do="deploy it first, or correct its name or region_name",
            )
        return description

    def _models(self) -> EndpointModels | None:
        try:
            endpoint = self._existing()
        except AccessDenied as error:
            log.info("endpoint %s is not checked: %s", self._name, error)
            return None
        _check_multi_model(self._name, endpoint)
        models = EndpointModels(endpoint_name=self._name, written=locations_written_by(endpoint))
        try:
            containers = list(_containers(self._hook, endpoint.get("EndpointConfigName")))
        except (AccessDenied, ModelNotFound) as error:
            # An endpoint goes on serving when its model is deleted, so this is no failure.
            log.info("the models of endpoint %s cannot be checked: %s", self._name, error)
            return models
        spelled = [_prefix(container) for container in containers if container.get("Mode") == "MultiModel"]
        if not spelled:
            raise EndpointNotMultiModel(
                f"endpoint {self._name} serves no target models: none of its containers has Mode MultiModel",
                do="deploy a model of SageMakerCreateModelOperator(mode='MultiModel')",
            )
        given = dict.fromkeys(filter(None, spelled))
        slashes = {prefix.endswith("/") for prefix in given}
        if len(slashes) > 1:
            log.warning(
                "the model prefixes of endpoint %s end with and without a slash (%s): SageMaker joins them with the "
                "name of a target model as they are, so that one of the containers does not find it; spell them alike",
                self._name,
                ", ".join(given),
            )
        return replace(
            models,
            prefixes=tuple(
                dict.fromkeys(prefix if prefix.endswith("/") else f"{prefix}/" for prefix in given)
            ),
            ends_in_slash=slashes.pop() if len(slashes) == 1 else None,
        )


def _check_multi_model(endpoint_name: str, endpoint: Mapping[str, Any]) -> None:
    status = endpoint.get("EndpointStatus")
    if status not in SERVING_STATUSES:
        raise EndpointNotInService(
            f"endpoint {endpoint_name} is {status}, it serves only InService",
            reason=str(endpoint.get("FailureReason") or ""),
            do="wait for it first (SageMakerDeployEndpointOperator does)",
        )
    if endpoint.get("AsyncInferenceConfig"):
        raise EndpointNotRealTime(
            f"endpoint {endpoint_name} is asynchronous, and such an endpoint has no target models",
            do="use SageMakerAsyncBatchOperator, or deploy a real-time multi-model endpoint",
        )


def _containers(hook: SageMakerControlPlaneHook, config_name: str | None) -> Iterator[Mapping[str, Any]]:
    """Yield the containers of every model behind an endpoint.

    :param config_name: None where its description names no configuration
    :raises ModelNotFound: a model, or the configuration that names it, was deleted or is not known
    """
    if not config_name:
        raise ModelNotFound("DescribeEndpoint names no endpoint configuration")
    config = hook.configs.describe(config_name)
    if config is None:
        raise ModelNotFound(f"there is no endpoint configuration {config_name} any more")
    for name in models_of(config):
        model = hook.models.describe(name)
        yield from model.get("Containers") or filter(None, [model.get("PrimaryContainer")])


def _prefix(container: Mapping[str, Any]) -> str:
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    return str(container.get("ModelDataUrl") or source.get("S3Uri") or "")
