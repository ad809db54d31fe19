"""The service's own interface below ``/_embedded/``: health, settings, faults, calls, endpoints, models, policies."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from airflow_sm_plugin.local.account.state import Account, Record, Region, now
from airflow_sm_plugin.local.endpoints.endpoints import KIND
from airflow_sm_plugin.local.endpoints.hosted_models import hosted_models
from airflow_sm_plugin.local.faults.faults import FaultPlan, plan_from
from airflow_sm_plugin.local.faults.outcomes import BadOutcome, is_seconds, outcome_from
from airflow_sm_plugin.local.protocol.access import PAGES
from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.protocol import Response

PREFIX = "/_embedded/"

STATUSES = (
    "OutOfService",
    "Creating",
    "Updating",
    "SystemUpdating",
    "RollingBack",
    "InService",
    "Failed",
    "UpdateRollbackFailed",
)


@dataclass(frozen=True)
class ControlRequest:
    """A request below ``/_embedded/``; ``rest`` has the path's segments after the route's name."""

    method: str
    rest: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes

    def value(self) -> object:
        try:
            parsed: object = json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"the body is not JSON: {error}") from None
        return parsed


Route = Callable[[Account, ControlRequest], object]


class NoSuchRoute(Exception):
    """Nothing answers this method and path."""


def answer(account: Account, http: ReceivedRequest) -> Response:
    """Answer a request below ``/_embedded/``: 400 with the reason for a wrong one, 404 for an unknown route."""
    name, *rest = http.path.removeprefix(PREFIX).split("/")
    first = {key: values[0] for key, values in parse_qs(http.query, keep_blank_values=True).items()}
    try:
        route = _ROUTES.get(name)
        if route is None:
            raise NoSuchRoute
        return _json(200, route(account, ControlRequest(http.method, tuple(rest), first, http.body())))
    except NoSuchRoute:
        return error(404, f"nothing answers {http.method} {http.path}")
    except ValueError as wrong:
        return error(400, str(wrong))


def error(status: int, message: str) -> Response:
    return _json(status, {"message": message})


def _health(account: Account, request: ControlRequest) -> object:  # noqa: ARG001 - a route like the others
    """Answer that the service is up; ``ui`` is the address of its pages, for a task's links in Airflow."""
    return {"status": "ok", "ui": f"{account.public_url}{PAGES}"}


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
    """Clear the plan, or remove the rules of ``?resource=``; a misspelt query must not remove other users' rules."""
    if not query:
        plan.clear()
    elif set(query) == {"resource"} and query["resource"]:
        plan.forget(query["resource"])
    else:
        raise ValueError(
            "name the rules to remove with ?resource=<their resource>; without a query, all are removed"
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
        outcomes.replace(request.rest[0], [outcome_from(outcome) for outcome in given])
    elif request.method == "PUT" and len(request.rest) == 2 and request.rest[1] == "status":
        name, value = request.rest[0], request.value()
        changed = [region for region in account.regions() if put_status(region, name, value)]
        if not changed:
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
    rows_by_region = [hosted_models(region, endpoint) for region in account.regions()]
    if endpoint and all(rows is None for rows in rows_by_region):
        raise ValueError(f"there is no endpoint {endpoint}")
    return {"instances": [row for rows in rows_by_region for row in rows or ()]}


def _policies(account: Account, request: ControlRequest) -> object:
    if request.method in ("PUT", "DELETE") and len(request.rest) == 1 and request.rest[0]:
        if request.method == "PUT":
            account.policies.put(request.rest[0], request.value())
        else:
            account.policies.remove(request.rest[0])
    elif request.method != "GET" or request.rest:
        raise NoSuchRoute
    return account.policies.as_json()


def _json(status: int, value: object) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


_ROUTES: Mapping[str, Route] = {
    "health": _health,
    "settings": _settings,
    "faults": _faults,
    "calls": _calls,
    "endpoints": _endpoints,
    "models": _models,
    "policies": _policies,
}


def put_status(region: Region, name: str, value: object) -> bool:
    """Set an endpoint's status from ``{"status": …, "seconds": …, "reason": …}``; return whether the endpoint exists.

    :param value: after ``seconds`` the old status returns; without them the new one stays until the endpoint changes.
        ``reason`` becomes the FailureReason

    Raises BadOutcome for a wrong value, and for an endpoint that is being deployed.
    """
    if not isinstance(value, Mapping) or set(value) - {"status", "seconds", "reason"}:
        raise BadOutcome('a status is {"status": …, "seconds": number or null, "reason": text or null}')
    if value.get("status") not in STATUSES:
        raise BadOutcome(f"status must be one of {', '.join(STATUSES)}, not {value.get('status')!r}")
    seconds = value.get("seconds")
    if seconds is not None and not is_seconds(seconds):
        raise BadOutcome(f"seconds must be a number of seconds >= 0, or null, not {seconds!r}")
    with region.table(KIND) as endpoints:
        record = endpoints.get(name)
        if record is None:
            return False
        if record.get("_pending") is not None:
            raise BadOutcome(f"endpoint {name} is being deployed: set its outcome before instead")
        before = {key: record.get(key) for key in ("EndpointStatus", "FailureReason")}
        forced = {"EndpointStatus": value["status"], "FailureReason": value.get("reason")}
        marker = object()
        record.update({**forced, "LastModifiedTime": now(), "_forced": marker})
    if seconds is not None:
        region.in_background(f"status of {name}", lambda: _restore(region, record, before, seconds))
    return True


def _restore(region: Region, record: Record, before: Record, seconds: float) -> None:
    with region.lock:
        marker, status = record["_forced"], record["EndpointStatus"]
    region.closed.wait(seconds)
    with region.lock:
        if record.get("_forced") is marker and record["EndpointStatus"] == status:
            record.update({**before, "LastModifiedTime": now()})
