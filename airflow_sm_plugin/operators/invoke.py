"""Invoke SageMaker endpoints in real time. The asynchronous operator can be imported from here as well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from airflow_sm_plugin._compat import Context
from airflow_sm_plugin.base import SensitiveField, reveal
from airflow_sm_plugin.core.names import FRESH_LINES_SECONDS, endpoint_log_group
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import boolean, seconds, text, whole_number
from airflow_sm_plugin.exceptions import InvalidRequest, ModelError, ModelUnavailable
from airflow_sm_plugin.invoke.request import MAX_PAYLOAD_BYTES, MODEL_LOAD_SECONDS, InvokeReply, InvokeRequest
from airflow_sm_plugin.links import persist_endpoint
from airflow_sm_plugin.operators.invocation import InvocationOperator, encoded_body, inference_id_of

if TYPE_CHECKING:
    from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator

__all__ = ["SageMakerInvokeEndpointAsyncOperator", "SageMakerInvokeEndpointOperator"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - a class
    """Import the asynchronous operator when it is asked for: who invokes in real time need not load its leg."""
    if name != "SageMakerInvokeEndpointAsyncOperator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from airflow_sm_plugin.operators.invoke_async import SageMakerInvokeEndpointAsyncOperator

    return SageMakerInvokeEndpointAsyncOperator


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """How an invocation is sent and its answer kept, after templates are rendered."""

    return_output: bool
    return_output_limit: int
    return_custom_attributes: bool
    attempts: int
    model_load_seconds: float
    container_log_lines: int
    error_text_limit: int


class SageMakerInvokeEndpointOperator(InvocationOperator):
    """Send one real-time invocation, with every header of InvokeEndpoint; keep the answer in S3 or, asked for, on XCom.

    Throttling, 5xx answers, time-outs and containers that time out are tried again up to ``attempts`` times in all;
    ModelNotReadyException until the model's own deadline. botocore's own retries are off, whatever is configured. The
    answer is kept nowhere unless ``output_location`` or ``return_output`` asks for it: payloads are secrets.

    Returns on XCom: ``{"endpoint_name", "output_location" or None, "output": text or None, "content_type",
    "invoked_production_variant", "custom_attributes": text or None, "attempts", "new_session_id" or None,
    "closed_session_id" or None}``.

    ``container_log_lines`` and other shared arguments: see :class:`~airflow_sm_plugin.base.SageMakerInferenceOperator`.

    :param endpoint_name: the endpoint's name
    :param body: the payload, text or bytes up to 26,214,400 bytes (4 MB on a serverless endpoint), e.g. another task's
        XCom, of which a mapping or list is sent as JSON (``docs/templates.md``); masked in Airflow's rendered fields
    :param body_location: ``s3://bucket/key`` of the payload, instead of ``body``
    :param output_location: ``s3://bucket/key`` to write the answer to
    :param return_output: put the answer on XCom as text; default False
    :param return_output_limit: bytes up to which it may go there; a larger answer, or one that is no UTF-8 text, needs
        ``output_location``, which then takes it; default 48,000
    :param return_custom_attributes: put the response's CustomAttributes on XCom; default False
    :param content_type: MIME type of the payload, e.g. ``text/csv``
    :param accept: MIME type wanted for the answer
    :param custom_attributes: up to 1024 visible US-ASCII characters, e.g. a trace id; masked
    :param target_model: the model's path below a multi-model endpoint's prefix. SageMaker joins both as they are: begin
        it with a slash where the model's prefix does not end in one
    :param target_variant: production variant
    :param target_container_hostname: container of a multi-container endpoint with direct invocation
    :param inference_id: up to 64 characters; default derived from DAG, run, task and map index
    :param enable_explanations: SageMaker Clarify's expression
    :param inference_component_name: the component's name, on an endpoint that has such
    :param session_id: ``NEW_SESSION`` or a session's id
    :param prefix_aware_id: up to 64 characters; requests of one id go to the same instance of a variant whose
        RoutingConfig has RoutingStrategy PREFIX_AWARE, where the installed botocore knows it
    :param attempts: calls in all; default 5
    :param model_load_seconds: how long a cold model is waited for; default 420
    :param error_text_limit: how many characters of a container's error text a message shows; default 1000, 0 none
    :raises InvalidRequest: an argument breaks a limit; not retried
    :raises InputNotFound: the payload's object does not exist; not retried
    :raises ModelError: the container raised or answered an error; not retried
    :raises ModelUnavailable: it timed out or was overloaded at every attempt; retried
    :raises ModelLoadTimeout: a cold model was not loaded in time; retried
    :raises EndpointNotFound: no such endpoint; not retried
    :raises EndpointNotRealTime: it is asynchronous; not retried
    :raises EndpointNotInService: it does not serve now; retried
    """

    not_templated = ()
    none_fields = ("body", "custom_attributes")
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
            request = replace(self._request(context).checked(), body=self._payload()).checked()
            hook = self.runtime()
            persist_endpoint(context, region_name=hook.conn_region_name, endpoint_name=request.endpoint_name)
            with (
                self.explaining(request.endpoint_name),
                self._showing_logs(request.endpoint_name, settings.container_log_lines),
            ):
                self.check_not_killed()
                reply = hook.invoke_endpoint(
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
            return self._keep(request.endpoint_name, reply, settings)

    def _checked_settings(self) -> _Settings:
        """Refuse arguments that cannot be, before anything is read, sent or paid."""
        body_location, output_location = self._locations()
        if (self.body is None) == (body_location is None):
            raise InvalidRequest("give exactly one of body and body_location")
        for name, location in (("body_location", body_location), ("output_location", output_location)):
            if location is not None:
                S3Uri.parse_object(location, name=name)
        if output_location is not None and output_location == body_location:
            raise InvalidRequest(
                f"output_location is body_location, {body_location}: the answer would replace the payload"
            )
        return _Settings(
            return_output=boolean(self.return_output, "return_output"),
            return_output_limit=whole_number(self.return_output_limit, "return_output_limit", at_least=1),
            return_custom_attributes=boolean(self.return_custom_attributes, "return_custom_attributes"),
            attempts=whole_number(self.attempts, "attempts", at_least=1),
            model_load_seconds=seconds(self.model_load_seconds, "model_load_seconds"),
            container_log_lines=whole_number(self.container_log_lines, "container_log_lines"),
            error_text_limit=whole_number(self.error_text_limit, "error_text_limit"),
        )

    def _locations(self) -> tuple[str | None, str | None]:
        """Return where the payload lies and where the answer goes, each None where it is not given."""
        return text(self.body_location, "body_location"), text(self.output_location, "output_location")

    def _request(self, context: Context) -> InvokeRequest:
        """Return the request without its payload."""
        return InvokeRequest(
            endpoint_name=self.endpoint_name,
            body=b"",
            content_type=text(self.content_type, "content_type"),
            accept=text(self.accept, "accept"),
            custom_attributes=reveal(self.custom_attributes),
            target_model=text(self.target_model, "target_model"),
            target_variant=text(self.target_variant, "target_variant"),
            target_container_hostname=text(self.target_container_hostname, "target_container_hostname"),
            inference_id=text(self.inference_id, "inference_id") or inference_id_of(context),
            enable_explanations=text(self.enable_explanations, "enable_explanations"),
            inference_component_name=text(self.inference_component_name, "inference_component_name"),
            session_id=text(self.session_id, "session_id"),
            prefix_aware_id=text(self.prefix_aware_id, "prefix_aware_id"),
        )

    def _payload(self) -> bytes:
        location, _ = self._locations()
        if location is not None:
            return self.result_store().read(location, limit=MAX_PAYLOAD_BYTES + 1)
        return encoded_body(reveal(self.body))

    def _keep(self, endpoint_name: str, reply: InvokeReply, settings: _Settings) -> dict[str, Any]:
        output = self._for_xcom(reply.body, settings.return_output_limit) if settings.return_output else None
        _, output_location = self._locations()
        if output_location is not None:
            self.result_store().write(output_location, reply.body, content_type=reply.content_type)
        return {
            "endpoint_name": endpoint_name,
            "output_location": output_location,
            "output": output,
            "content_type": reply.content_type,
            "invoked_production_variant": reply.invoked_production_variant,
            "custom_attributes": reply.custom_attributes if settings.return_custom_attributes else None,
            "attempts": reply.attempts,
            "new_session_id": reply.new_session_id,
            "closed_session_id": reply.closed_session_id,
        }

    def _for_xcom(self, body: bytes, limit: int) -> str | None:
        """Return the answer as text; None when it cannot go on XCom and ``output_location`` takes it."""
        try:
            output = body.decode() if len(body) <= limit and b"\x00" not in body else None
        except UnicodeDecodeError:
            output = None
        if output is None and self._locations()[1] is None:
            raise InvalidRequest(
                f"the answer, {len(body)} bytes, is no UTF-8 text or larger than return_output_limit "
                f"({limit}), or holds NUL: pass output_location, which takes what cannot go on XCom"
            )
        return output

    @contextmanager
    def _showing_logs(self, endpoint_name: str, lines: int) -> Iterator[None]:
        """Show the container's last log lines when it failed: those since then, not those of earlier invocations."""
        began = time.time()
        try:
            yield
        except (ModelError, ModelUnavailable):
            self.container_logs().show_tail(
                endpoint_log_group(endpoint_name), lines=lines, patience=FRESH_LINES_SECONDS, since=began
            )
            raise
