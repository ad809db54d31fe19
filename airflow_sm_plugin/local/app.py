"""One WSGI application in front of moto's: ours answers SageMaker and its runtime, moto the rest.

Both planes are signed for ``sagemaker``, which tells them apart from every other service whatever the host
name. Beside them: ``GET /_embedded/health`` and ``GET|PUT /_embedded/settings``; ``POST /moto-api/reset``
resets both.
"""

from __future__ import annotations

import http
import io
import json
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_sm_plugin.local.errors import ServiceError, UnknownOperationFailure
from airflow_sm_plugin.local.operations import NotOurs, handler_of
from airflow_sm_plugin.local.protocol import (
    CONTROL_PLANE,
    RUNTIME,
    Request,
    Response,
    control_plane_response,
    error_response,
    parse_request,
    runtime_response,
    signed_region,
)
from airflow_sm_plugin.local.settings import Settings
from airflow_sm_plugin.local.state import Account
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
        """Answer one HTTP request."""
        path = environ.get("PATH_INFO", "/")
        if path.startswith("/_embedded/"):
            return _write(self._embedded(environ, path), start_response)
        if path == "/moto-api/reset":
            self.account.reset()
        region = signed_region(environ.get("HTTP_AUTHORIZATION", ""))
        if region is not None:
            return self._sagemaker_or_moto(environ, start_response, path, region)
        requests_log.info("%s %s (moto)", environ["REQUEST_METHOD"], path)
        return self._moto(environ, start_response)

    def _sagemaker_or_moto(
        self, environ: WSGIEnvironment, start_response: StartResponse, path: str, region: str
    ) -> Iterable[bytes]:
        response = self._sagemaker(environ, path, region)
        if response is None:
            try:
                return self._moto(environ, start_response)
            except NotImplementedError as unknown:
                refusal = UnknownOperationFailure(f"The embedded SageMaker does not answer this: {unknown}")
                response = error_response(refusal, CONTROL_PLANE)
        return _write(response, start_response)

    def _embedded(self, environ: WSGIEnvironment, path: str) -> Response:
        settings: Settings = self.account.settings
        if path == "/_embedded/health":
            return _json(200, {"status": "ok"})
        if path != "/_embedded/settings":
            return _json(404, {"message": f"nothing at {path}"})
        if environ["REQUEST_METHOD"] == "PUT":
            try:
                settings.change(json.loads(_body(environ)))
            except (ValueError, AttributeError) as error:
                return _json(400, {"message": str(error)})
        return _json(200, settings.as_json())

    def _sagemaker(self, environ: WSGIEnvironment, path: str, region: str) -> Response | None:
        started = time.monotonic()
        body = _body(environ)
        headers = _headers(environ)
        service = CONTROL_PLANE if "x-amz-target" in headers else RUNTIME
        label = headers.get("x-amz-target", path)
        try:
            request = parse_request(
                method=environ["REQUEST_METHOD"], path=path, headers=headers, body=body, region=region
            )
            response = self._answer(request) if request else None
        except ServiceError as error:
            response = error_response(error, service)
            label += f" {error.code_for(service)}"
        except Exception:
            log.exception("%s failed", label)
            response = error_response(ServiceError("Internal failure of the embedded SageMaker"), service)
        if response is not None:
            took = (time.monotonic() - started) * 1000
            requests_log.info("%s %s %d %.0f ms", environ["REQUEST_METHOD"], label, response.status, took)
        return response

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


def _body(environ: WSGIEnvironment) -> bytes:
    """Read the body and leave it readable again for moto."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _headers(environ: WSGIEnvironment) -> dict[str, str]:
    """Return the headers with lower-case names."""
    found = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    if environ.get("CONTENT_TYPE"):
        found["content-type"] = environ["CONTENT_TYPE"]
    return found


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _write(response: Response, start_response: StartResponse) -> Iterable[bytes]:
    try:
        phrase = http.HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Error"
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    start_response(f"{response.status} {phrase}", list(headers.items()))
    return [response.body]
