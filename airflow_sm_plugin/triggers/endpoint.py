"""Wait for an endpoint: until it may be changed, or until it serves a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from airflow_sm_plugin.core.endpoint_status import EndpointState, Step, judge, next_step
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.hooks.errors import meaning
from airflow_sm_plugin.triggers.polling import PollingTrigger


class EndpointTrigger(PollingTrigger):
    """What the triggers of one endpoint and the configuration wanted for it share.

    :param note: comes back in the event: what the task has to remember (``dag.test()`` loses ``defer``'s own kwargs)
    """

    client_type = "sagemaker"

    def __init__(
        self,
        *,
        endpoint_name: str,
        wanted_config: str,
        note: Mapping[str, Any],
        deadline: float,
        poll_interval: float,
        aws: Mapping[str, Any],
    ) -> None:
        super().__init__(deadline=deadline, poll_interval=poll_interval, aws=aws)
        self.endpoint_name = endpoint_name
        self.wanted_config = wanted_config
        self.note = dict(note)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments beside those of every trigger."""
        return {"endpoint_name": self.endpoint_name, "wanted_config": self.wanted_config, "note": self.note}

    def error_event(self, error: Exception) -> dict[str, Any]:
        """Return the event of a wait that broke."""
        return super().error_event(error) | {"note": self.note}


class EndpointChangeableTrigger(EndpointTrigger):
    """End when nothing is in progress that forbids the next step, or the deadline passed; the task looks for itself.

    An endpoint that is gone may be created, one that comes to serve ``wanted_config`` needs no change: both end it.
    """

    async def look(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Describe the endpoint once."""
        description: Mapping[str, Any] | None
        try:
            description = await client.describe_endpoint(EndpointName=self.endpoint_name)
        except ClientError as error:
            if meaning(error) is not Meaning.NOT_FOUND:
                raise
            description = None
        waits = next_step(description, wanted_config=self.wanted_config) is Step.WAIT_OUT
        return None if waits and now < self.deadline else {"status": "over", "note": self.note}


class EndpointServingTrigger(EndpointTrigger):
    """End when the endpoint serves ``wanted_config``, rolled back, failed, is gone, or the deadline passed.

    The event's ``verdict`` holds state, status, configuration name and SageMaker's reason.
    """

    async def look(self, client: Any, *, now: float) -> dict[str, Any] | None:  # noqa: ANN401 - an aiobotocore client
        """Describe the endpoint once."""
        description = await client.describe_endpoint(EndpointName=self.endpoint_name)
        verdict = judge(description, wanted_config=self.wanted_config)
        if verdict.state is EndpointState.WAIT and now < self.deadline:
            return None
        return {"status": "over", "verdict": verdict.as_mapping(), "note": self.note}
