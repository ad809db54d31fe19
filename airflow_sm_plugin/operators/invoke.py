"""Invoke SageMaker endpoints in real time. The asynchronous operator can also be imported from here."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SensitiveField, reveal
from airflow_sm_plugin.core.names import FRESH_LINES_SECONDS
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import boolean, seconds, text, whole_number
from airflow_sm_plugin.exceptions import InvalidRequest, ModelError, ModelUnavailable
from airflow_sm_plugin.invoke.request import MAX_PAYLOAD_BYTES, MODEL_LOAD_SECONDS, InvokeReply, InvokeRequest
from airflow_sm_plugin.links import ResultLink, persist_location
from airflow_sm_plugin.operators.invocation import InvocationOperator, encoded_body, inference_id_of

if TYPE_CHECKING:
    from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator

__all__ = ["SageMakerInvokeEndpointAsyncOperator", "SageMakerInvokeEndpointOperator"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Import the asynchronous operator on first access, so that real-time DAGs do not load its modules."""
    if name != "SageMakerInvokeEndpointAsyncOperator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator

    return SageMakerInvokeEndpointAsyncOperator


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """Arguments of sending and of keeping the answer, after templates are rendered."""

    body_location: str | None
    output_location: str | None
    return_output: bool
    return_output_limit: int
    return_custom_attributes: bool
    attempts: int
    model_load_seconds: float
    error_text_limit: int


class SageMakerInvokeEndpointOperator(InvocationOperator):
    """Send one real-time invocation, with every header of InvokeEndpoint; keep the answer in S3 or on XCom on request.

    Throttling, 5xx answers, time-outs and containers that time out are retried up to ``attempts`` times in all;
    ModelNotReadyException until ``model_load_seconds`` have passed. botocore's own retries are off, whatever is
    configured. Without ``output_location`` and ``return_output`` the answer is not kept: payloads are secrets.

    Returns on XCom: ``{"endpoint_name", "output_location" or None, "output": text or None, "content_type",
    "invoked_production_variant", "custom_attributes": text or None, "attempts", "new_session_id" or None,
    "closed_session_id" or None}``.

    Further arguments: see :class:`~airflow_sm_plugin.operators.invocation.InvocationOperator` and its base.

    :param body: the payload, text or bytes up to 26,214,400 bytes (4 MB on a serverless endpoint), e.g. another task's
        XCom, of which a mapping or list is sent as JSON (``docs/templates.md``); masked in Airflow's rendered fields
    :param body_location: ``s3://bucket/key`` of the payload, instead of ``body``
    :param output_location: ``s3://bucket/key`` to write the answer to; required for one that is larger than
        ``return_output_limit`` or no UTF-8 text
    :param return_custom_attributes: put the response's CustomAttributes on XCom; default False
    :param target_model: the model's path below a multi-model endpoint's prefix. SageMaker concatenates both: begin the
        path with a slash where the prefix does not end in one
    :param target_container_hostname: container of a multi-container endpoint with direct invocation
    :param enable_explanations: SageMaker Clarify's expression
    :param inference_component_name: the component's name, on an endpoint that has inference components
    :param session_id: ``NEW_SESSION`` or a session's id
    :param prefix_aware_id: up to 64 characters; requests with the same id go to the same instance of a variant whose
        RoutingConfig has RoutingStrategy PREFIX_AWARE, where the installed botocore has this parameter
    :param attempts: calls in all; default 5
    :param model_load_seconds: seconds for which a cold model is waited for; default 420
    :raises InferenceError: InputNotFound, ModelError, ModelUnavailable, ModelLoadTimeout
    :raises EndpointNotRealTime: the endpoint is asynchronous
    """

    not_templated = ()
    none_fields = ("body", "custom_attributes")
    operator_extra_links = (*InvocationOperator.operator_extra_links, ResultLink())
    body = SensitiveField()
    custom_attributes = SensitiveField()

    def __init__(
        self,
        *,
        endpoint_name: str,
        body: str | bytes | None = None,
        body_location: str | None = None,
        output_location: str | None = None,
        content_type: str | None = None,
        accept: str | None = None,
        custom_attributes: str | None = None,
        target_model: str | None = None,
        target_variant: str | None = None,
        target_container_hostname: str | None = None,
        inference_id: str | None = None,
        enable_explanations: str | None = None,
        inference_component_name: str | None = None,
        session_id: str | None = None,
        prefix_aware_id: str | None = None,
        return_output: bool | str = False,
        return_output_limit: int | str = 48_000,
        return_custom_attributes: bool | str = False,
        attempts: int | str = 5,
        model_load_seconds: float | str = MODEL_LOAD_SECONDS,
        container_log_lines: int | str = 20,
        error_text_limit: int | str = 1_000,
        **kwargs: Any,  # noqa: ANN401 - Airflow's own operator arguments
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint_name = endpoint_name
        self.body = body
        self.body_location = body_location
        self.output_location = output_location
        self.return_output = return_output
        self.return_output_limit = return_output_limit
        self.return_custom_attributes = return_custom_attributes
        self.content_type = content_type
        self.accept = accept
        self.custom_attributes = custom_attributes
        self.target_model = target_model
        self.target_variant = target_variant
        self.target_container_hostname = target_container_hostname
        self.inference_id = inference_id
        self.enable_explanations = enable_explanations
        self.inference_component_name = inference_component_name
        self.session_id = session_id
        self.prefix_aware_id = prefix_aware_id
        self.attempts = attempts
        self.model_load_seconds = model_load_seconds
        self.container_log_lines = container_log_lines
        self.error_text_limit = error_text_limit

    def execute(self, context: Context) -> dict[str, Any]:
        with self.reading_arguments():
            settings = self._checked_settings()
            request = self._request_without_body(context).checked()
            request = replace(request, body=self._payload(settings.body_location)).checked()
            console = self.keep_link(context)
            with self.explaining(), self._showing_logs(request.inference_id):
                self.check_not_killed()
                reply = self.runtime().invoke_endpoint(
                    request,
                    attempts=settings.attempts,
                    model_load_seconds=settings.model_load_seconds,
                    error_text_limit=settings.error_text_limit,
                    sleep=self.pause,
                )
            self.log.info(
                "endpoint %s, variant %s, answered %d bytes at attempt %d",
                request.endpoint_name,
                reply.invoked_production_variant,
                len(reply.body),
                reply.attempts,
            )
            if settings.output_location is not None:
                persist_location(context, console, ResultLink, settings.output_location)
            return self._keep(context, reply, settings)

    def _checked_settings(self) -> _Settings:
        """Check the arguments before anything is read, sent or paid."""
        body_location = text(self.body_location, "body_location")
        output_location = text(self.output_location, "output_location")
        if (self.body is None) == (body_location is None):
            raise InvalidRequest("give exactly one of body and body_location")
        for name, location in (("body_location", body_location), ("output_location", output_location)):
            if location is not None:
                S3Uri.parse_object(location, name=name)
        if output_location is not None and output_location == body_location:
            raise InvalidRequest(
                f"output_location is body_location, {body_location}: the answer would replace the payload"
            )
        whole_number(self.container_log_lines, "container_log_lines")
        return _Settings(
            body_location=body_location,
            output_location=output_location,
            return_output=boolean(self.return_output, "return_output"),
            return_output_limit=whole_number(self.return_output_limit, "return_output_limit", at_least=1),
            return_custom_attributes=boolean(self.return_custom_attributes, "return_custom_attributes"),
            attempts=whole_number(self.attempts, "attempts", at_least=1),
            model_load_seconds=seconds(self.model_load_seconds, "model_load_seconds"),
            error_text_limit=whole_number(self.error_text_limit, "error_text_limit"),
        )

    def _request_without_body(self, context: Context) -> InvokeRequest:
        headers = self.texts(
            *("content_type", "accept", "target_model", "target_variant", "target_container_hostname"),
            *("enable_explanations", "inference_component_name", "session_id", "prefix_aware_id"),
        )
        return InvokeRequest(
            endpoint_name=self.endpoint_name,
            body=b"",
            custom_attributes=reveal(self.custom_attributes),
            inference_id=text(self.inference_id, "inference_id") or inference_id_of(context),
            **headers,
        )

    def _payload(self, location: str | None) -> bytes:
        if location is not None:
            return self.result_store().read(location, limit=MAX_PAYLOAD_BYTES + 1)
        return encoded_body(reveal(self.body))

    def _keep(self, context: Context, reply: InvokeReply, settings: _Settings) -> dict[str, Any]:
        output = _text_for_xcom(reply.body, settings) if settings.return_output else None
        if settings.output_location is not None:
            self.result_store().write(settings.output_location, reply.body, content_type=reply.content_type)
        self.note_data(context, inputs=[settings.body_location], outputs=[settings.output_location])
        return {
            "endpoint_name": self.endpoint_name,
            "output_location": settings.output_location,
            "output": output,
            "content_type": reply.content_type,
            "invoked_production_variant": reply.invoked_production_variant,
            "custom_attributes": reply.custom_attributes if settings.return_custom_attributes else None,
            "attempts": reply.attempts,
            "new_session_id": reply.new_session_id,
            "closed_session_id": reply.closed_session_id,
        }

    @contextmanager
    def _showing_logs(self, inference_id: str | None) -> Iterator[None]:
        """Show the container's last log lines after a failure, without those of earlier invocations."""
        started = time.time()
        try:
            yield
        except (ModelError, ModelUnavailable):
            ids = [inference_id] if inference_id else []
            self.show_container_logs(since=started, patience=FRESH_LINES_SECONDS, inference_ids=ids)
            raise


def _text_for_xcom(body: bytes, settings: _Settings) -> str | None:
    """Decode the answer; None when XCom cannot hold it and it is written to ``output_location``."""
    limit = settings.return_output_limit
    try:
        output = body.decode() if len(body) <= limit and b"\x00" not in body else None
    except UnicodeDecodeError:
        output = None
    if output is None and settings.output_location is None:
        raise InvalidRequest(
            f"the answer, {len(body)} bytes, is no UTF-8 text or larger than return_output_limit "
            f"({limit}), or holds NUL: pass output_location, which takes what cannot go on XCom"
        )
    return output
