"""The addresses of the pages: a GET of each is answered with HTML, an object's content, or the stylesheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, quote

from jinja2 import Environment, FunctionLoader, StrictUndefined

from airflow_sm_plugin.core.text import legible
from airflow_sm_plugin.local.account.state import Account
from airflow_sm_plugin.local.pages import browser, views
from airflow_sm_plugin.local.pages.browser import ObjectContent, PageMissing
from airflow_sm_plugin.local.protocol.access import PAGES, STYLESHEET
from airflow_sm_plugin.local.protocol.answers import ClientAnswer, of_response, of_stream
from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.protocol import Response

_SAME_FOR_ALL = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""No script at all. ``data:`` is the empty icon, which spares a refused request for ``/favicon.ico``."""
_OBJECT_POLICY = "sandbox allow-scripts"
"""A stored page runs its scripts with an origin of its own: this service refuses whatever they send to it."""


Query = Mapping[str, str]
Page = Callable[[Account, Query], Mapping[str, Any]]
"""Makes the variables of the template that has the page's name."""


def answer(account: Account, http: ReceivedRequest) -> ClientAnswer:
    """Answer a request below :data:`PAGES`."""
    query = {key: values[0] for key, values in parse_qs(http.query, keep_blank_values=True).items()}
    name = http.path.removeprefix(PAGES)
    if http.method != "GET":
        return _text(http, 405, "The pages only read: GET is the only method.\n", {"Allow": "GET"})
    try:
        if http.path == STYLESHEET:
            return _answer(http, 200, _file("style.css").encode(), "text/css; charset=utf-8", {})
        if name == "file":
            return _stored(http, browser.content(account, query))
        page = _PAGES.get(name)
        if page is None:
            raise PageMissing(f"There is no page {http.path}.")
        return _page(http, 200, name or "overview", page(account, query))
    except PageMissing as missing:
        return _page(http, 404, "missing", {**vars(missing), "text": str(missing)})


def to_pages(http: ReceivedRequest) -> ClientAnswer:
    """Send a browser from the service's root to the pages."""
    return _text(http, 302, "", {"Location": PAGES})


def _page(http: ReceivedRequest, status: int, name: str, variables: Mapping[str, Any]) -> ClientAnswer:
    body = _templates().get_template(name).render(**variables).encode(errors="replace")
    headers = {"Content-Security-Policy": _PAGE_POLICY}
    return _answer(http, status, body, "text/html; charset=utf-8", headers)


def _stored(http: ReceivedRequest, stored: ObjectContent) -> ClientAnswer:
    headers = {
        **_SAME_FOR_ALL,
        "Content-Type": stored.content_type,
        "Content-Length": str(stored.size),
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(stored.name, safe='')}",
        "Content-Security-Policy": _OBJECT_POLICY,
    }
    if stored.encoding:
        headers["Content-Encoding"] = stored.encoding
    return of_stream(200, headers, stored.chunks(), http.request_id)


def _text(http: ReceivedRequest, status: int, text: str, headers: Mapping[str, str]) -> ClientAnswer:
    return _answer(http, status, text.encode(), "text/plain; charset=utf-8", headers)


def _answer(
    http: ReceivedRequest, status: int, body: bytes, content_type: str, headers: Mapping[str, str]
) -> ClientAnswer:
    response = Response(status, body, {"Content-Type": content_type, **_SAME_FOR_ALL, **headers})
    return of_response(response, None, http.request_id)


@cache
def _file(name: str) -> str:
    return (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def address(page: str, **query: str) -> str:
    """Make a link to a page. A query, not a path: browsers change ``..`` and ``//`` in paths, and keys have both."""
    parameters = "&".join(f"{name}={quote(value, safe='/')}" for name, value in query.items())
    return f"{PAGES}{page}?{parameters}" if parameters else f"{PAGES}{page}"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FunctionLoader(lambda name: _file(f"{name}.jinja")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    environment.globals.update(address=address, stylesheet=STYLESHEET)
    environment.filters.update(moment=views.moment, size=views.size, dash=lambda value: value or "-")
    return environment


_PAGES: Mapping[str, Page] = {
    "": views.overview,
    "endpoint": views.endpoint,
    "logs": views.logs,
    "s3": browser.folder,
    "object": browser.object_page,
}
