"""What goes back to a client: an answer of ours, moto's as it came, or an error of the fault plan."""

from __future__ import annotations

import http
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from airflow_sm_plugin.local.call_names import CallName
from airflow_sm_plugin.local.protocol import RUNTIME, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True)
class Answer:
    """An HTTP answer that can be written once, or discarded.

    :param error: the error code if it is an error and the code is known
    """

    status: int
    error: str | None
    line: str
    headers: Sequence[tuple[str, str]] = field(repr=False)
    content: Iterable[bytes] = field(repr=False)

    def write(self, start_response: StartResponse) -> Iterable[bytes]:
        """Write it, as a WSGI application does."""
        start_response(self.line, list(self.headers))
        return self.content

    def discard(self) -> None:
        """Let it go: nobody will read it."""
        close: Callable[[], None] | None = getattr(self.content, "close", None)
        if close is not None:
            close()


def of_response(response: Response, error: str | None) -> Answer:
    """Return an answer of ours."""
    headers = {**response.headers, "Content-Length": str(len(response.body))}
    return Answer(response.status, error, _line(response.status), list(headers.items()), [response.body])


def passed_on(application: WSGIApplication, environ: WSGIEnvironment) -> Answer:
    """Have ``application`` carry a request out and return its answer, not yet written to anybody."""
    told: list[tuple[str, list[tuple[str, str]]]] = []

    def start(line: str, headers: list[tuple[str, str]], _: object = None) -> Callable[[bytes], object]:
        told.append((line, headers))
        return lambda _: None  # the imperative half of WSGI, which moto does not use

    content = application(environ, start)
    line, headers = told[-1]
    status = int(line.split()[0])
    code = next((value for name, value in headers if name.lower() == "x-amzn-errortype"), None)
    return Answer(status, code, line, headers, content)


def fault_answer(call: CallName, status: int, code: str, message: str) -> Answer:
    """Return an error in the form that the called service's clients read."""
    headers = {"x-amzn-ErrorType": code}
    if call.service == "s3":
        body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        headers["Content-Type"] = "application/xml"
    elif call.service in ("sns", "sts", "iam", "cloudformation"):
        kind = "Sender" if status < 500 else "Receiver"
        error = f"<Type>{kind}</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        body = f"<ErrorResponse><Error>{error}</Error><RequestId>fault-plan</RequestId></ErrorResponse>"
        headers["Content-Type"] = "text/xml"
    elif call.service == RUNTIME:
        body = json.dumps({"ErrorCode": code, "Message": message})
        headers["Content-Type"] = "application/json"
    else:
        body = json.dumps({"__type": code, "message": message})
        headers["Content-Type"] = "application/x-amz-json-1.1"
    return of_response(Response(status, b"" if call.method == "HEAD" else body.encode(), headers), code)


def _line(status: int) -> str:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return f"{status} {phrase}"
