"""The base of the operators that invoke endpoints, real-time and asynchronous."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import BaseOperatorLink, Context
from airflow_sm_plugin._safe_text import is_text
from airflow_sm_plugin.base import SageMakerInferenceOperator, task_instance_owner
from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.core.template_values import as_text, is_given, whole_number
from airflow_sm_plugin.exceptions import EndpointNotFound, EndpointNotInService, InvalidRequest, ServiceError
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, persist_endpoint
from airflow_sm_plugin.resources.endpoint_status import SERVING_STATUSES

if TYPE_CHECKING:
    from airflow_sm_plugin.triggers.async_inference import AsyncInferenceTrigger


class InvocationOperator(SageMakerInferenceOperator):
    """An operator that invokes an endpoint."""

    endpoint_name: str
    operator_extra_links: Collection[BaseOperatorLink] = (EndpointConsoleLink(), EndpointLogsLink())

    @contextmanager
    def explaining(self, endpoint_name: str) -> Iterator[None]:
        """Tell an endpoint that does not serve yet from one that does not exist, where that is permitted."""
        try:
            yield
        except EndpointNotFound as error:
            status = self._status_of(endpoint_name)
            if status is None:
                raise
            if status in SERVING_STATUSES:
                raise EndpointNotInService(
                    f"SageMaker did not find endpoint {endpoint_name} when it was invoked, and it is {status} now: it "
                    f"was created or changed a moment ago, so that a retry finds it"
                ) from error
            raise EndpointNotInService(
                f"endpoint {endpoint_name} is {status}, it serves only InService: wait for it first "
                f"(SageMakerDeployEndpointOperator does)"
            ) from error

    def keep_link(self, context: Context) -> None:
        """Store what the links to the endpoint's pages are made of."""
        region_name = self.control_plane().conn_region_name
        persist_endpoint(context, region_name=region_name, endpoint_name=self.endpoint_name)

    def show_container_logs(self, lines: object) -> None:
        """Show the last lines of the endpoint's containers in the task's log."""
        count = whole_number(lines, "container_log_lines")
        self.container_logs().show_tail(endpoint_log_group(self.endpoint_name), lines=count)

    def wait_with(self, trigger: AsyncInferenceTrigger, *, deferrable: bool) -> Mapping[str, Any]:
        """Defer, so that :meth:`execute_complete` gets the trigger's event, or wait here and return the event."""
        if deferrable:
            from airflow_sm_plugin.triggers.polling import GRACE_SECONDS

            self.check_not_killed()
            timeout = timedelta(seconds=max(0.0, trigger.deadline - time.time()) + GRACE_SECONDS)
            self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        return self.run_until_killed(trigger.event_here())

    def _status_of(self, endpoint_name: str) -> str | None:
        try:
            description = self.control_plane().describe_endpoint(endpoint_name)
        except ServiceError:
            return None
        return None if description is None else str(description["EndpointStatus"])


def encoded_body(body: object) -> bytes:
    """Return a body as bytes: bytes as they are, anything else as the text that it stands for.

    :raises InvalidRequest: it stands for no text, or for one that cannot be written as UTF-8
    """
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    written = as_text(body, "body")
    if not is_text(written):
        raise InvalidRequest(
            "body is no text, half of a surrogate pair is missing: write it as JSON, which escapes it, or pass bytes"
        )
    return written.encode()


def inference_id_of(context: Context) -> str | None:
    """Return an id that stays the same over retries of one task instance; None outside of Airflow."""
    owner = task_instance_owner(context)
    return owner and f"airflow-{owner}"


def whole_number_if_given(value: object, name: str, *, at_least: int = 0) -> int | None:
    """Return a whole number as :func:`whole_number` does; None when it is not given."""
    return whole_number(value, name, at_least=at_least) if is_given(value) else None
