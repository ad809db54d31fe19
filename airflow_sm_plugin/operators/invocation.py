"""Base of the operators that invoke endpoints, real-time and asynchronous."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from airflow_sm_plugin._compat import BaseOperatorLink, Context
from airflow_sm_plugin._safe_text import is_text
from airflow_sm_plugin.aws.console import Console
from airflow_sm_plugin.base import SageMakerInferenceOperator, task_instance_owner
from airflow_sm_plugin.core.names import endpoint_log_group
from airflow_sm_plugin.core.template_values import as_text, whole_number
from airflow_sm_plugin.exceptions import EndpointNotFound, EndpointNotInService, InvalidRequest, ServiceError
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, persist_endpoint
from airflow_sm_plugin.resources.endpoint_status import SERVING_STATUSES


class InvocationOperator(SageMakerInferenceOperator):
    """Base of the operators that invoke an endpoint. The arguments that several of them share are described here.

    Further arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param content_type: MIME type of the payload, e.g. ``text/csv``
    :param accept: MIME type wanted for the answer
    :param custom_attributes: up to 1024 visible US-ASCII characters, e.g. a trace id, which the model gets; masked in
        Airflow's rendered fields
    :param target_variant: production variant
    :param inference_id: up to 64 characters; default derived from DAG, run, task and map index
    :param request_ttl: limit of seconds in the endpoint's queue, 60 to 21600; default SageMaker's, 6 hours
    :param invocation_timeout: limit of seconds for the model, 1 to 3600; default SageMaker's, 15 minutes
    :param max_wait_seconds: of an asynchronous result: seconds after submission; default request_ttl +
        invocation_timeout, which is 22,500 unless they are given
    :param completion_queue: URL of an SQS queue that gets the endpoint's notifications and has no other reader. A
        message ends a pause between polls early; only S3 decides whether a result exists
    :param return_output: put the answer on XCom as text; default False
    :param return_output_limit: limit of its bytes; default 48,000
    :param failure_text_limit: bytes of a failure object that a message or row shows; default 1000, 0 shows none
    :param error_text_limit: characters of a container's error text that a message or row shows; default 1000, 0 shows
        none
    :raises EndpointNotFound: no such endpoint
    :raises EndpointNotInService: the endpoint does not serve now
    """

    endpoint_name: str
    container_log_lines: int | str
    operator_extra_links: Collection[BaseOperatorLink] = (EndpointConsoleLink(), EndpointLogsLink())

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Replace EndpointNotFound by EndpointNotInService if DescribeEndpoint is permitted and finds the endpoint."""
        try:
            yield
        except EndpointNotFound as error:
            status = self._endpoint_status()
            if status is None:
                raise
            if status in SERVING_STATUSES:
                raise EndpointNotInService(
                    f"SageMaker did not find endpoint {self.endpoint_name} when it was invoked, and it is {status} "
                    f"now: it was created or changed a moment ago",
                    *error.args[1:],  # what a batch has done is kept
                    do="retry: it will be found",
                ) from None
            raise EndpointNotInService(
                f"endpoint {self.endpoint_name} is {status}, it serves only InService",
                *error.args[1:],
                do="wait for it first (SageMakerDeployEndpointOperator does)",
            ) from None

    def keep_link(self, context: Context) -> Console:
        """Store the endpoint for the task's links, and return where they lead."""
        console = self.console()
        persist_endpoint(context, console, endpoint_name=self.endpoint_name)
        return console

    def show_container_logs(
        self, *, since: float | None, inference_ids: Collection[str], patience: float = 0
    ) -> None:
        """Show the containers' last lines after a failure: of the failed requests, or marked as the endpoint's.

        :param since: epoch seconds before which nothing belongs to this task; None where that is not known
        :param inference_ids: of the requests that failed, as far as they are known
        """
        self.container_logs().show_tail(
            endpoint_log_group(self.endpoint_name),
            lines=whole_number(self.container_log_lines, "container_log_lines"),
            since=since,
            patience=patience,
            inference_ids=inference_ids,
        )

    def _endpoint_status(self) -> str | None:
        try:
            description = self.control_plane().describe_endpoint(self.endpoint_name)
        except ServiceError:
            return None
        return None if description is None else str(description["EndpointStatus"])


def encoded_body(body: object) -> bytes:
    """Encode a body as UTF-8, unless it is bytes; raise InvalidRequest if that is impossible."""
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    written = as_text(body, "body")
    if not is_text(written):
        raise InvalidRequest(
            "body is no text, half of a surrogate pair is missing: write it as JSON, which escapes it, or pass bytes"
        )
    return written.encode()


def inference_id_of(context: Context) -> str | None:
    """Derive an id that stays the same over retries of a task instance; None outside of Airflow."""
    owner = task_instance_owner(context)
    return owner and f"airflow-{owner}"
