"""What a batch asks SageMaker about its endpoint: whether it is still there, and where it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.async_inference.locations import LocationPattern
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.core.separate_places import places_written_by
from airflow_sm_plugin.exceptions import AccessDenied, EndpointNotAsynchronous, EndpointNotFound, ServiceError
from airflow_sm_plugin.hooks.control_plane import SageMakerControlPlaneHook

log = get_log(__name__)


class EndpointFacts:
    """Describes one endpoint, off the event loop."""

    def __init__(self, connection: AwsConnection, endpoint_name: str) -> None:
        self._connection = connection
        self._name = endpoint_name

    async def is_gone(self) -> bool:
        """Say whether it was deleted; what waited in its queue is lost then. Not where nobody may ask."""
        try:
            description = await self._describe()
        except ServiceError as error:
            log.info("cannot tell whether endpoint %s is still there: %s", self._name, error)
            return False
        return description is None or description["EndpointStatus"] == "Deleting"

    async def places(self) -> dict[str, str]:
        """Return where it writes, as :func:`check_inputs_apart` takes it; nothing where nobody may ask.

        :raises EndpointNotFound: there is none of that name
        :raises ServiceError: SageMaker did not answer
        """
        try:
            description = await self._describe()
        except AccessDenied as error:
            log.warning("cannot tell whether inputs are apart from what the endpoint writes: %s", error)
            return {}
        if description is None:
            raise EndpointNotFound(f"there is no endpoint {self._name} in this account and region")
        return places_written_by(description)

    async def guess(self) -> LocationPattern:
        """Return where results would lie, by the endpoint's configuration and the documentation's natural reading.

        :raises EndpointNotFound: there is none of that name
        :raises EndpointNotAsynchronous: it writes no results
        :raises AccessDenied: nobody may ask
        """
        try:
            description = await self._describe()
        except AccessDenied as error:
            raise AccessDenied(
                f"a killed try left requests in doubt before anything was accepted, and where their results would lie "
                f"is told by the endpoint only: {error}. Pass on_unknown='resend', which sends them again, perhaps a "
                f"second time"
            ) from error
        if description is None:
            raise EndpointNotFound(f"there is no endpoint {self._name} in this account and region")
        output = (description.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}
        if not output.get("S3OutputPath"):
            raise EndpointNotAsynchronous(f"endpoint {self._name} is not asynchronous: it has no output path")
        return LocationPattern.guessed(output["S3OutputPath"], output.get("S3FailurePath") or None)

    async def _describe(self) -> Mapping[str, Any] | None:
        return await asyncio.to_thread(self._describe_now)

    def _describe_now(self) -> Mapping[str, Any] | None:
        hook = SageMakerControlPlaneHook(**self._connection.hook_arguments())
        return hook.describe_endpoint(self._name)
