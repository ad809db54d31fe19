"""One WSGI application in front of moto's: this one answers SageMaker and its runtime, moto every other service.

A request passes, in this order: the check that its sender is permitted to use this service (``protocol/access``),
``/_embedded/ui/`` (``pages``), ``/_embedded/`` (``control``) and ``/moto-api/``, the check of its signature where AWS
requires one, the fault plan, the policies of its access key (``authorization``), and then the operation. Both planes of
SageMaker are signed for ``sagemaker``, which identifies them whatever the host name. Every call of every service is in
the call log; ``POST /moto-api/reset`` resets this service and moto.
"""

from __future__ import annotations

import datetime
import logging
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from botocore.model import OperationNotFoundError

from airflow_sm_plugin.local.account import s3_checks
from airflow_sm_plugin.local.account.operations import PASSED_ON, handler_of, moto_failure
from airflow_sm_plugin.local.account.state import Account, now
from airflow_sm_plugin.local.catalogue import cloudformation
from airflow_sm_plugin.local.catalogue.tags import TAGGING_API, answer_tagging_api, tagged_by_moto
from airflow_sm_plugin.local.faults.fault_rules import Rule
from airflow_sm_plugin.local.faults.faults import Strike
from airflow_sm_plugin.local.front import control
from airflow_sm_plugin.local.front.authorization import check_permissions
from airflow_sm_plugin.local.front.http_channel import Dropped
from airflow_sm_plugin.local.pages import site
from airflow_sm_plugin.local.protocol.access import (
    PAGES,
    ServedNames,
    is_browser_at_root,
    needs_signature,
    refusal,
)
from airflow_sm_plugin.local.protocol.answers import (
    ClientAnswer,
    in_form,
    is_unknown_path,
    is_without_message,
    of_response,
    passed_on,
    with_encoded_start,
)
from airflow_sm_plugin.local.protocol.call_names import NOT_IN_MOTO, CallName, name_call
from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.errors import (
    AccessDeniedFailure,
    MissingAuthenticationFailure,
    ServiceFailure,
    UnknownOperationFailure,
    UnknownPathFailure,
)
from airflow_sm_plugin.local.protocol.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    Request,
    Response,
    control_plane_response,
    error_response,
    json_object,
    parse_request,
    runtime_response,
)
from airflow_sm_plugin.local.protocol.validation import validate
from airflow_sm_plugin.local.scaling import scaling
from airflow_sm_plugin.local.scaling.read_metrics import CLOUDWATCH, publish_before

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)
requests_log = logging.getLogger("airflow_sm_plugin.local.requests")

_MOTO_API = "/moto-api/"
_METHODS = "GET, HEAD, POST, PUT, DELETE, PATCH"


class EmbeddedApplication:
    """The WSGI application. Thread-safe; every request is logged without its query and body."""

    def __init__(self, account: Account, moto: WSGIApplication, served: ServedNames) -> None:
        self.account = account
        self._moto = moto
        self._served = served

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer an HTTP request. Raises Dropped when the connection is to close without an answer."""
        http = ReceivedRequest.of(environ, self._served)
        try:
            return self._answer(http).write(start_response)
        except Dropped:
            raise
        except Exception as error:
            log.exception("%s %s failed", http.method, http.shown_path)
            name = name_call(http, None, reads_body=False)
            return _failure(http, name, error).write(start_response, sys.exc_info())

    def _answer(self, http: ReceivedRequest) -> ClientAnswer:
        denial = refusal(
            self._served, method=http.method, target=http.target, path=http.path, headers=http.headers
        )
        if denial is not None:
            return self._refuse(http, AccessDeniedFailure(denial))
        if http.method == "OPTIONS":
            return of_response(Response(204, b"", {"Allow": _METHODS}), None, http.request_id)
        if http.bucket is None and (answer := self._answer_itself(http)) is not None:
            return answer
        if needs_signature(
            http.signature,
            method=http.method,
            path=http.path,
            query=http.query,
            headers=http.headers,
            body=http.body,
        ):
            return self._refuse(http, MissingAuthenticationFailure(_NOT_SIGNED))
        return self._call(http)

    def _answer_itself(self, http: ReceivedRequest) -> ClientAnswer | None:
        """Answer a request for this service's own pages and interfaces; None for one for AWS."""
        is_at_root = is_browser_at_root(http.method, http.path, http.query, http.headers)
        if is_at_root or (http.method, http.path) == ("GET", PAGES.rstrip("/")):
            return site.to_pages(http)
        if http.path.startswith(PAGES):
            return site.answer(self.account, http)
        if http.path.startswith(control.PREFIX):
            return of_response(control.answer(self.account, http), None, http.request_id)
        if http.path.startswith(_MOTO_API):
            if http.path.rstrip("/") == f"{_MOTO_API}reset" and http.method == "POST":
                self.account.reset()
            return passed_on(self._moto, http)
        return None

    def _refuse(self, http: ReceivedRequest, error: ServiceFailure) -> ClientAnswer:
        requests_log.warning("%s %s refused (403): %s", http.method, http.shown_path, error.message)
        if http.bucket is None and http.path.startswith((control.PREFIX, _MOTO_API)):
            return of_response(control.error(403, error.message), error.code, http.request_id)
        name = name_call(http, None, reads_body=False)
        answer = _error(http, name, error)
        self._log_call(http, name, now(), answer, Strike(), carried_out=False)
        return answer

    def _call(self, http: ReceivedRequest) -> ClientAnswer:
        began, started = now(), time.monotonic()
        request = _parse(http) if http.signature.service == CONTROL_PLANE else None
        name = name_call(http, None if isinstance(request, ServiceFailure) else request)
        strike = Strike() if name.is_own else self.account.faults.strike(name)
        fault = strike.rule.fault if strike.rule else None
        strike.hold_call()
        if fault == "drop":
            answer = None
        elif strike.rule is not None and fault in ("error", "throttle"):
            answer = _struck(http, name, strike.rule)
        else:
            answer = self._carry_out(http, name, request)
        carried_out = fault in (None, "lost_answer")
        self._log_call(http, name, began, answer, strike, carried_out=carried_out)
        _log(name, http, answer, strike, (time.monotonic() - started) * 1000)
        if answer is None:
            raise Dropped
        if fault == "lost_answer":
            answer.discard()
            strike.hold_answer()
            raise Dropped
        return answer

    def _log_call(
        self,
        http: ReceivedRequest,
        name: CallName,
        began: datetime.datetime,
        answer: ClientAnswer | None,
        strike: Strike,
        *,
        carried_out: bool,
    ) -> None:
        self.account.calls.add(
            name,
            request_id=answer.request_id if answer else http.request_id,
            began=began,
            status=answer.status if answer else None,
            error=answer.error if answer else None,
            fault=strike.fault,
            carried_out=carried_out,
        )

    def _carry_out(
        self, http: ReceivedRequest, name: CallName, request: Request | ServiceFailure | None
    ) -> ClientAnswer:
        """Answer an operation of SageMaker, or have moto answer; any exception becomes an error of the service."""
        try:
            if isinstance(request, ServiceFailure):
                raise request
            check_permissions(self.account, http, name, request)
            if (name.service, name.operation) == ("application-autoscaling", "DescribeScalingActivities"):
                region = self.account.region(name.region)
                activities = scaling.describe_activities(region, json_object(http.body()))
                return of_response(control_plane_response(activities), None, http.request_id)
            if request is None:
                response = other_service_response(self.account, name, http.body)
            else:
                response = self._sagemaker(request)
            if response is not None:
                return of_response(response, None, http.request_id)
            return self._answer_by_moto(http, name, request)
        except ServiceFailure as error:
            return _error(http, name, error)
        except Exception as error:
            log.exception("%s failed", name.operation)
            return _failure(http, name, error)

    def _answer_by_moto(self, http: ReceivedRequest, name: CallName, request: Request | None) -> ClientAnswer:
        """Have moto answer. Raises UnknownOperationFailure for an operation that moto lacks or confuses."""
        unknown = (
            f"Neither the embedded SageMaker nor moto behind it answers {name.operation} of {name.service}"
        )
        target = http.headers.get("x-amz-target", "").lower()
        is_sagemakers = http.signature.service.lower() == CONTROL_PLANE or target.startswith("sagemaker.")
        if request is None and is_sagemakers:
            raise UnknownOperationFailure(unknown)  # moto ignores the letters' case, and would answer
        if name.service == "s3" and name.operation in NOT_IN_MOTO:
            raise UnknownOperationFailure(unknown)
        try:
            if name.service == "s3" and not http.is_s3_control:
                return self._s3(http, name.operation)
            answer = passed_on(self._moto, http)
        except (NotImplementedError, OperationNotFoundError) as error:
            raise UnknownOperationFailure(unknown) from error
        except Exception as crash:
            if request is None:
                raise
            raise moto_failure(crash, request.operation, request.params) from crash
        if request is not None:
            return tagged_by_moto(self.account.region(request.region), request, answer)
        if http.method != "HEAD" and is_unknown_path(answer):
            raise UnknownPathFailure(unknown)
        if name.service == "application-autoscaling" and answer.status < 300:
            scaling.follow(self.account.region(name.region), name.operation, name.resource)
        return answer

    def _s3(self, http: ReceivedRequest, operation: str) -> ClientAnswer:
        s3_checks.check(operation, http)
        try:
            answer = passed_on(self._moto, http)
        except NotImplementedError:
            raise
        except Exception as crash:
            failure = s3_checks.failure_of_crash(crash, operation, http)
            if failure is None:
                raise
            raise failure from crash
        if http.method != "HEAD" and is_without_message(answer):
            raise s3_checks.failure_of_status(answer.status, operation)
        return with_encoded_start(answer, http.query) if operation == "ListObjectsV2" else answer

    def _sagemaker(self, request: Request) -> Response | None:
        """Answer an operation of SageMaker; None when moto is to answer it."""
        handler = handler_of(request.operation)
        if handler is None and request.service == RUNTIME:
            raise UnknownPathFailure(f"The embedded SageMaker does not answer {request.operation}")
        if handler is not None or request.operation in PASSED_ON:
            validate(request)
        if handler is None:
            return None
        result = handler(self.account.region(request.region), request.params)
        if request.service == RUNTIME:
            return runtime_response(request.operation, result)
        return control_plane_response(result)


_NOT_SIGNED = (
    "The request is not signed, or its Authorization header names no access key, date, region and service. Any "
    "credentials do: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY to any text, or run curl with --aws-sigv4."
)


def _parse(http: ReceivedRequest) -> Request | ServiceFailure | None:
    try:
        return parse_request(
            method=http.method,
            path=http.path,
            headers=http.headers,
            body=http.body(),
            region=http.signature.region,
        )
    except ServiceFailure as error:
        return error


def _error(http: ReceivedRequest, name: CallName, error: ServiceFailure) -> ClientAnswer:
    code = error.code_for(name.service)
    if name.service in (CONTROL_PLANE, RUNTIME):
        return of_response(error_response(error, name.service), code, http.request_id)
    return in_form(http, name.service, status=error.status, code=code, message=error.message)


def _struck(http: ReceivedRequest, name: CallName, rule: Rule) -> ClientAnswer:
    recorded = rule.recorded(name)
    if recorded is not None:
        return _error(http, name, recorded)
    status, code, message = rule.answer(name)
    return in_form(http, name.service, status=status, code=code, message=message)


def _failure(http: ReceivedRequest, name: CallName, error: Exception) -> ClientAnswer:
    reason = f"{type(error).__name__}: {error}"
    return _error(http, name, ServiceFailure(f"The embedded SageMaker failed at {name.operation}: {reason}"))


def _log(
    name: CallName, http: ReceivedRequest, answer: ClientAnswer | None, strike: Strike, milliseconds: float
) -> None:
    fault = f" (fault plan: {strike.fault})" if strike.fault else ""
    error = f" {answer.error}" if answer is not None and answer.error else ""
    if name.service not in (CONTROL_PLANE, RUNTIME):
        requests_log.info("%s %s (moto)%s%s", name.method, http.shown_path, error, fault)
        return
    label = http.headers.get("x-amz-target", http.shown_path) + error
    if answer is None:
        requests_log.info("%s %s%s", name.method, label, fault)
        return
    requests_log.info("%s %s %d %.0f ms%s", name.method, label, answer.status, milliseconds, fault)


def other_service_response(account: Account, name: CallName, body: Callable[[], bytes]) -> Response | None:
    """Answer for a service whose answer by moto would lack SageMaker's resources, else None. Raises ServiceFailure."""
    if name.service == "cloudformation":
        cloudformation.check(body())
    if name.service == CLOUDWATCH:
        publish_before(account.region(name.region), name.operation)
    if name.service == TAGGING_API:
        return answer_tagging_api(account.region(name.region), name.operation, body())
    return None
