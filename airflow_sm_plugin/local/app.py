"""One WSGI application in front of moto's: ours answers SageMaker and its runtime, moto the rest.

Both planes are signed for ``sagemaker``, which tells them apart from every other service whatever the host
name. The fault plan and the call log see every call of every service. Beside them ``/_embedded/`` (see
:mod:`.control`); ``POST /moto-api/reset`` resets ours and moto's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_sm_plugin.local import control, scaling
from airflow_sm_plugin.local.answers import Answer, fault_answer, of_response, passed_on
from airflow_sm_plugin.local.call_names import CallName, Signature, name_other, name_sagemaker, signature_of
from airflow_sm_plugin.local.environ import body_of, headers_of
from airflow_sm_plugin.local.errors import ServiceError, UnknownOperationFailure
from airflow_sm_plugin.local.faults import Strike
from airflow_sm_plugin.local.http_channel import Dropped
from airflow_sm_plugin.local.moto_operations import moto_failure
from airflow_sm_plugin.local.operations import NotOurs, handler_of
from airflow_sm_plugin.local.other_services import other_service_response
from airflow_sm_plugin.local.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    Request,
    Response,
    control_plane_response,
    error_response,
    parse_request,
    runtime_response,
)
from airflow_sm_plugin.local.state import Account, now
from airflow_sm_plugin.local.tags import tagged_by_moto
from airflow_sm_plugin.local.validation import validate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)
requests_log = logging.getLogger("airflow_sm_plugin.local.requests")


class EmbeddedApplication:
    """The WSGI application. Thread-safe; every request is logged without its query and body."""

    def __init__(self, account: Account, moto: WSGIApplication) -> None:
        self.account = account
        self._moto = moto

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one HTTP request. Raises Dropped when the connection is to close without an answer."""
        path = environ.get("PATH_INFO", "/")
        query = environ.get("QUERY_STRING", "")
        if path.startswith(control.PREFIX):
            response = control.answer(
                self.account, method=environ["REQUEST_METHOD"], path=path, query=query, body=body_of(environ)
            )
            return of_response(response, None).write(start_response)
        if path.startswith("/moto-api/"):
            if path == "/moto-api/reset":
                self.account.reset()
            return self._moto(environ, start_response)
        signature = signature_of(environ.get("HTTP_AUTHORIZATION", ""), query)
        return self._called(environ, path, signature).write(start_response)

    def _called(self, environ: WSGIEnvironment, path: str, signature: Signature) -> Answer:
        """Carry a call out, as the fault plan lets it, and note it."""
        began, started = now(), time.monotonic()
        request: Request | ServiceError | None = None
        if signature.service == CONTROL_PLANE:
            request = _parsed(environ, path, signature.region)
        name = _named(environ, path, signature, request)
        strike = Strike() if name.is_own else self.account.faults.strike(name)
        fault = strike.rule.fault if strike.rule else None
        strike.hold_call()
        if fault == "drop":
            answer = None
        elif strike.rule is not None and fault in ("error", "throttle"):
            answer = fault_answer(name, *strike.rule.answer(name))
        elif signature.service == CONTROL_PLANE:
            answer = self._sagemaker(environ, name, request)
        else:
            answer = self._other_service(environ, name)
            if name.service == "application-autoscaling" and answer.status < 300:
                scaling.heard(self.account.region(name.region), name.operation, name.resource)
        self.account.calls.add(
            name,
            began=began,
            status=answer.status if answer else None,
            error=answer.error if answer else None,
            fault=strike.fault,
            carried_out=fault in (None, "lost_answer"),
        )
        _log(name, environ, answer, strike, (time.monotonic() - started) * 1000)
        if answer is None:
            raise Dropped
        if strike.rule is not None and fault == "lost_answer":
            answer.discard()
            strike.hold_answer()
            raise Dropped
        return answer

    def _sagemaker(
        self, environ: WSGIEnvironment, name: CallName, request: Request | ServiceError | None
    ) -> Answer:
        try:
            if isinstance(request, ServiceError):
                raise request
            response = self._answer(request) if request else None
            if response is None:
                return self._motos_sagemaker(environ, request)
            return of_response(response, None)
        except ServiceError as error:
            return of_response(error_response(error, name.service), error.code_for(name.service))
        except Exception:
            log.exception("%s failed", name.operation)
            failure = ServiceError("Internal failure of the embedded SageMaker")
            return of_response(error_response(failure, name.service), failure.code)

    def _other_service(self, environ: WSGIEnvironment, name: CallName) -> Answer:
        try:
            response = other_service_response(self.account, name, lambda: body_of(environ))
        except ServiceError as error:
            return fault_answer(name, error.status, error.code, error.message)
        return of_response(response, None) if response else passed_on(self._moto, environ)

    def _motos_sagemaker(self, environ: WSGIEnvironment, request: Request | None) -> Answer:
        try:
            answer = passed_on(self._moto, environ)
            return tagged_by_moto(self.account.region(request.region), request, answer) if request else answer
        except NotImplementedError as unknown:
            raise UnknownOperationFailure(f"The embedded SageMaker does not answer this: {unknown}") from None
        except Exception as crash:
            if request is None:
                raise
            raise moto_failure(crash, request.operation, request.params) from None

    def _answer(self, request: Request) -> Response | None:
        handler = handler_of(request.operation)
        if handler is None:
            return None
        validate(request)
        try:
            result = handler(self.account.region(request.region), request.params)
        except NotOurs:
            return None
        if request.service == RUNTIME:
            return runtime_response(request.operation, result)
        return control_plane_response(result)


def _parsed(environ: WSGIEnvironment, path: str, region: str) -> Request | ServiceError | None:
    try:
        return parse_request(
            method=environ["REQUEST_METHOD"],
            path=path,
            headers=headers_of(environ),
            body=body_of(environ),
            region=region,
        )
    except ServiceError as error:
        return error


def _named(
    environ: WSGIEnvironment, path: str, signature: Signature, request: Request | ServiceError | None
) -> CallName:
    method = environ["REQUEST_METHOD"]
    if signature.service == CONTROL_PLANE:
        read = None if isinstance(request, ServiceError) else request
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        return name_sagemaker(read, signature, method=method, path=path, target=target)
    return name_other(
        signature,
        method=method,
        path=path,
        query=environ.get("QUERY_STRING", ""),
        headers=headers_of(environ),
        body=lambda: body_of(environ),
    )


def _log(
    name: CallName, environ: WSGIEnvironment, answer: Answer | None, strike: Strike, milliseconds: float
) -> None:
    if name.service not in (CONTROL_PLANE, RUNTIME):
        requests_log.info("%s %s (moto)%s", name.method, name.path, _told(strike))
        return
    label = environ.get("HTTP_X_AMZ_TARGET", name.path)
    if answer is None:
        requests_log.info("%s %s%s", name.method, label, _told(strike))
        return
    if answer.error:
        label += f" {answer.error}"
    requests_log.info("%s %s %d %.0f ms%s", name.method, label, answer.status, milliseconds, _told(strike))


def _told(strike: Strike) -> str:
    return f" (fault plan: {strike.fault})" if strike.fault else ""
