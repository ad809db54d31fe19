"""The embedded SageMaker's own HTTP interface below ``/_embedded/``.

Health, settings, the fault plan, the call log, what becomes of endpoints, and the models they hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from airflow_sm_plugin.local.account.state import Account
from airflow_sm_plugin.local.endpoints.endpoint_statuses import put_status
from airflow_sm_plugin.local.endpoints.model_views import hosted_models
from airflow_sm_plugin.local.faults.faults import FaultPlan, plan_from
from airflow_sm_plugin.local.faults.outcomes import outcome_from
from airflow_sm_plugin.local.protocol.protocol import Response

PREFIX = "/_embedded/"


@dataclass(frozen=True)
class ControlRequest:
    """A request below ``/_embedded/``; ``rest`` is the path behind the route's name, in segments."""

    method: str
    rest: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    def value(self) -> object:
        """Return the body's JSON. Raises ValueError."""
        try:
            parsed: object = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {error}") from None
        return parsed


Route = Callable[[Account, ControlRequest], object]


class NoSuchRoute(Exception):
    """Nothing answers this method and path."""


def answer(account: Account, *, method: str, path: str, query: str, body: bytes) -> Response:
    """Answer a request below ``/_embedded/``: 400 says what is wrong with it, 404 that nothing is there."""
    name, *rest = path.removeprefix(PREFIX).split("/")
    first = {key: values[0] for key, values in parse_qs(query, keep_blank_values=True).items()}
    try:
        route = _ROUTES.get(name)
        if route is None:
            raise NoSuchRoute
        return _json(200, route(account, ControlRequest(method, tuple(rest), first, body)))
    except NoSuchRoute:
        return error(404, f"nothing answers {method} {path}")
    except ValueError as wrong:
        return error(400, str(wrong))


def error(status: int, message: str) -> Response:
    """Write an error as this interface does."""
    return _json(status, {"message": message})


def _health(account: Account, request: ControlRequest) -> object:  # noqa: ARG001 - a route like the others
    return {"status": "ok"}


def _settings(account: Account, request: ControlRequest) -> object:
    if request.method == "PUT":
        value = request.value()
        if not isinstance(value, Mapping):
            raise ValueError("settings are an object of numbers by name")
        account.settings.change(value)
    elif request.method != "GET":
        raise NoSuchRoute
    return account.settings.as_json()


def _faults(account: Account, request: ControlRequest) -> object:
    plan = account.faults
    if request.method == "PUT":
        rules, seed = plan_from(request.value())
        plan.replace(rules, seed=seed)
    elif request.method == "POST":
        rules, seed = plan_from(request.value())
        if seed is not None:
            raise ValueError("a seed is for the whole plan: PUT it")
        plan.add(rules)
    elif request.method == "DELETE":
        _forget(plan, request.query)
    elif request.method != "GET":
        raise NoSuchRoute
    return plan.as_json()


def _forget(plan: FaultPlan, query: Mapping[str, str]) -> None:
    """Clear the plan, or forget the rules of ``?resource=``; a slip must not clear what others have set."""
    if not query:
        plan.clear()
    elif set(query) == {"resource"} and query["resource"]:
        plan.forget(query["resource"])
    else:
        raise ValueError(
            "say which rules to forget with ?resource=<as it stands in them>, or nothing for all"
        )


def _calls(account: Account, request: ControlRequest) -> object:
    if request.method == "DELETE":
        account.calls.clear()
    elif request.method != "GET":
        raise NoSuchRoute
    since = request.query.get("since") or "0"
    if not since.isdigit():
        raise ValueError(f"since must be a sequence number, not {since!r}")
    return account.calls.as_json(
        since=int(since),
        service=request.query.get("service") or None,
        operation=request.query.get("operation") or "*",
        resource=request.query.get("resource") or "*",
    )


def _endpoints(account: Account, request: ControlRequest) -> object:
    outcomes = account.outcomes
    if request.method == "PUT" and len(request.rest) == 2 and request.rest[1] == "next":
        value = request.value()
        given = value if isinstance(value, list) else [value]
        outcomes.replace(request.rest[0], [outcome_from(one) for one in given])
    elif request.method == "PUT" and len(request.rest) == 2 and request.rest[1] == "status":
        name, value = request.rest[0], request.value()
        found = [region for region in account.regions() if put_status(region, name, value)]
        if not found:
            raise ValueError(f"there is no endpoint {name}")
    elif request.method == "DELETE" and not request.rest:
        outcomes.clear()
    elif request.method != "GET" or request.rest:
        raise NoSuchRoute
    return {"next": outcomes.as_json()}


def _models(account: Account, request: ControlRequest) -> object:
    if request.method != "GET" or request.rest:
        raise NoSuchRoute
    endpoint = request.query.get("endpoint") or None
    found = [hosted_models(region, endpoint) for region in account.regions()]
    if endpoint and all(rows is None for rows in found):
        raise ValueError(f"there is no endpoint {endpoint}")
    return {"instances": [row for rows in found for row in rows or ()]}


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


_ROUTES: Mapping[str, Route] = {
    "health": _health,
    "settings": _settings,
    "faults": _faults,
    "calls": _calls,
    "endpoints": _endpoints,
    "models": _models,
}
