"""Invoke SageMaker endpoints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SageMakerInferenceOperator, SensitiveField, failing_well, reveal
from airflow_sm_plugin.core.async_inference import AsyncRequest, Sight
from airflow_sm_plugin.core.names import digest
from airflow_sm_plugin.exceptions import EndpointNotFound, EndpointNotInService, InputNotFound, ServiceError
from airflow_sm_plugin.links import EndpointConsoleLink, EndpointLogsLink, persist_endpoint


class SageMakerInvokeEndpointAsyncOperator(SageMakerInferenceOperator):
    """Send one asynchronous invocation; give its XCom to :class:`SageMakerAsyncInferenceSensor` to await the result.

    The input object is looked at first: SageMaker would accept an input that does not exist and fail it later. Limits
    are checked before the call. Throttling and 5xx answers are repeated up to five times in all; an answer that was
    lost is not, since SageMaker knows no idempotency token: a retry of the task may send the input again.

    Returns on XCom: ``{"output_location", "failure_location" or None, "inference_id", "input_location" or None,
    "submitted_at": epoch seconds, "endpoint_name"}``. Locations are opaque: use them as they are.

    :param endpoint_name: (templated)
    :param input_location: ``s3://bucket/key`` of the payload, up to 1 GB (templated)
    :param body: the payload itself, text or bytes up to 128,000 bytes; instead of ``input_location``; masked in
        Airflow's rendered fields (templated)
    :param content_type: MIME type of the payload, e.g. ``text/csv`` (templated)
    :param accept: MIME type wanted for the output (templated)
    :param custom_attributes: up to 1024 visible US-ASCII characters, e.g. a trace id; handed to the model, and echoed
        in SNS notifications; masked in Airflow's rendered fields (templated)
    :param inference_id: up to 64 characters; default derived from DAG, run, task and map index (templated)
    :param request_ttl: seconds the request may wait in the queue, 60 to 21600; default SageMaker's, 6 hours
    :param invocation_timeout: seconds the model may take, 1 to 3600; default SageMaker's, 15 minutes
    :param filename: name of the output object, where the installed botocore knows it (templated)
    :param s3_output_path_extension: goes between the endpoint's output path and the file name, where the installed
        botocore knows it (templated)
    :param check_input: look whether the input object exists; default True
    :raises InvalidRequest: an argument breaks a limit; not retried
    :raises InputNotFound: the input object does not exist; not retried
    :raises EndpointNotFound: no such endpoint; not retried
    :raises EndpointNotAsynchronous: it serves real-time requests only; not retried
    :raises EndpointNotInService: it does not serve now; retried
    """

    template_fields: Sequence[str] = (
        *SageMakerInferenceOperator.template_fields,
        "endpoint_name",
        "input_location",
        "body",
        "content_type",
        "accept",
        "custom_attributes",
        "inference_id",
        "filename",
        "s3_output_path_extension",
    )
    operator_extra_links = (EndpointConsoleLink(), EndpointLogsLink())
    body = SensitiveField()
    custom_attributes = SensitiveField()

    def __init__(
        self,
        *,
        endpoint_name: str,
        input_location: str | None = None,
        body: str | bytes | None = None,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        inference_id: str | None = None,
        request_ttl: int | None = None,
        invocation_timeout: int | None = None,
        filename: str | None = None,
        s3_output_path_extension: str | None = None,
        check_input: bool = True,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.input_location = input_location
        self.body = body
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.inference_id = inference_id
        self.request_ttl = request_ttl
        self.invocation_timeout = invocation_timeout
        self.filename = filename
        self.s3_output_path_extension = s3_output_path_extension
        self.check_input = check_input

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, look at the input, send."""
        with failing_well():
            request = self._request(context).checked()
            hook = self.runtime()
            persist_endpoint(context, region_name=hook.conn_region_name, endpoint_name=request.endpoint_name)
            if self.check_input and request.input_location:
                self._check_input(request.input_location)
            try:
                invocation = hook.invoke_endpoint_async(request)
            except EndpointNotFound as error:
                self._raise_not_in_service(error)
                raise
            self.log.info(
                "endpoint %s accepted inference %s, output at %s",
                request.endpoint_name,
                invocation.inference_id,
                invocation.output_location,
            )
            return invocation.as_mapping() | {"endpoint_name": request.endpoint_name}

    def _request(self, context: Context) -> AsyncRequest:
        body = reveal(self.body)
        return AsyncRequest(
            endpoint_name=self.endpoint_name,
            input_location=self.input_location or None,
            body=body.encode() if isinstance(body, str) else body,
            content_type=self.content_type,
            accept=self.accept,
            custom_attributes=reveal(self.custom_attributes),
            inference_id=self.inference_id or _inference_id(context),
            request_ttl=self.request_ttl,
            invocation_timeout=self.invocation_timeout,
            filename=self.filename,
            s3_output_path_extension=self.s3_output_path_extension,
        )

    def _check_input(self, location: str) -> None:
        if not location.startswith("s3://"):
            return
        sight = self.result_store().sight(location)
        if sight is Sight.ABSENT:
            raise InputNotFound(
                f"the input object {location} does not exist: upload it first, or mend input_location"
            )
        if sight is not Sight.PRESENT:
            self.log.warning(
                "could not look at input %s (%s); sending it all the same", location, sight.value
            )

    def _raise_not_in_service(self, error: EndpointNotFound) -> None:
        """Tell an endpoint that does not serve yet from one that does not exist, where we may look."""
        try:
            description = self.control_plane().describe_endpoint(self.endpoint_name)
        except ServiceError:
            return
        if description is not None:
            raise EndpointNotInService(
                f"endpoint {self.endpoint_name} is {description['EndpointStatus']}, it serves only InService: "
                f"wait for it first (SageMakerDeployEndpointOperator does)"
            ) from error


def _inference_id(context: Context) -> str | None:
    """Return an id that stays the same over retries of one task instance; None outside of Airflow."""
    ti = context.get("ti")
    if ti is None:
        return None
    return f"airflow-{digest([ti.dag_id, ti.run_id, ti.task_id, ti.map_index])}"
