"""Which endpoints are idle: a table. Whatever is not known keeps an endpoint."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from airflow_sm_plugin.endpoints.idleness import MadeResource, RunState, SeenEndpoint, decide
from airflow_sm_plugin.resources.made_in import MadeIn

HOUR = 3600.0
NOW = 1_000_000.0
CREATOR, DEPLOYER = MadeIn("churn", "first", "deploy"), MadeIn("churn", "second", "deploy")
RESOURCE = MadeResource(name="e", made_in=[CREATOR, DEPLOYER], changed_at=NOW - 30 * HOUR)
IDLE = SeenEndpoint(
    name="e",
    status="InService",
    resources=[RESOURCE],
    runs={CREATOR: RunState.ENDED, DEPLOYER: RunState.ENDED},
)


def decided(seen: SeenEndpoint, **changes: Any) -> tuple[bool, str]:  # noqa: ANN401 - fields of any type
    decision = decide(dataclasses.replace(seen, **changes), now=NOW, idle_seconds=24 * HOUR)
    return decision.delete, decision.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "not invoked for 24 h"),
        ({"last_used": NOW - 24 * HOUR}, "not invoked for 24 h"),
        ({"status": "OutOfService"}, "not invoked for 24 h"),
        ({"status": "UpdateRollbackFailed"}, "not invoked for 24 h"),
        ({"status": "Failed"}, "it is Failed"),
        ({"status": "Failed", "usage_unknown": "denied"}, "it is Failed"),
        ({"status": None}, "configurations without an endpoint"),
    ],
)
def test_idle(changes: dict[str, Any], reason: str) -> None:
    deletes, words = decided(IDLE, **changes)
    assert deletes
    assert words.startswith(reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"resources": []}, "no tag of our operators"),
        ({"resources": [], "objection": "its tags cannot be read"}, "its tags cannot be read"),
        ({"objection": "it has configuration x"}, "it has configuration x"),
        ({"status": "Failed", "objection": "it has configuration x"}, "it has configuration x"),
        ({"status": "Creating"}, "it is Creating"),
        ({"status": "Deleting"}, "it is Deleting"),
        ({"status": "SomethingNew"}, "it is SomethingNew"),
        ({"runs": {}}, "run first of DAG churn has not ended"),
        ({"runs": {CREATOR: RunState.ENDED}}, "run second of DAG churn has not ended"),
        (
            {"runs": {CREATOR: RunState.ACTIVE, DEPLOYER: RunState.ENDED}},
            "run first of DAG churn has not ended",
        ),
        (
            {"runs": {CREATOR: RunState.ENDED, DEPLOYER: RunState.ELSEWHERE}},
            "run second of DAG churn belongs to",
        ),
        (
            {"runs": {CREATOR: RunState.UNKNOWN_AIRFLOW, DEPLOYER: RunState.ENDED}},
            "run first of DAG churn may be another Airflow's",
        ),
        (
            {"runs": {CREATOR: RunState.UNKNOWN_DAG, DEPLOYER: RunState.ENDED}},
            "run first of DAG churn belongs to",
        ),
        ({"status": "Failed", "runs": {CREATOR: RunState.ENDED}}, "run second of DAG churn has not ended"),
        ({"status": None, "runs": {DEPLOYER: RunState.ENDED}}, "run first of DAG churn has not ended"),
        ({"last_used": NOW}, "invoked, or with requests in its queue"),
        ({"last_used": NOW - 24 * HOUR + 1}, "invoked, or with requests in its queue"),
        ({"last_used": NOW + 900}, "invoked, or with requests in its queue"),
        ({"usage_unknown": "denied"}, "not known when it was invoked: denied"),
        ({"usage_unknown": "denied", "last_used": NOW - 90 * HOUR}, "not known when it was invoked: denied"),
    ],
)
def test_kept(changes: dict[str, Any], reason: str) -> None:
    deletes, words = decided(IDLE, **changes)
    assert not deletes
    assert words.startswith(reason)


@pytest.mark.parametrize("status", ["InService", "Failed", None])
def test_what_is_younger_than_the_idle_time_is_never_idle(status: str | None) -> None:
    young = dataclasses.replace(RESOURCE, name="f", changed_at=NOW - 24 * HOUR + 1)
    deletes, reason = decided(IDLE, status=status, resources=[RESOURCE, young])
    assert not deletes
    assert reason == "created or changed 24 h ago, less than 24 h"


@pytest.mark.parametrize("made_in", [[None], [CREATOR, None]])
@pytest.mark.parametrize("status", ["InService", "Failed", None])
def test_a_task_that_cannot_be_named_keeps_it(made_in: list[MadeIn | None], status: str | None) -> None:
    deletes, reason = decided(IDLE, status=status, resources=[dataclasses.replace(RESOURCE, made_in=made_in)])
    assert not deletes
    assert reason.startswith("its tags do not name the task that made it")


def test_idle_since_is_the_latest_that_is_known() -> None:
    assert IDLE.idle_since == RESOURCE.changed_at
    assert dataclasses.replace(IDLE, last_used=NOW - 5).idle_since == NOW - 5
    assert dataclasses.replace(IDLE, last_used=NOW - 40 * HOUR).idle_since == RESOURCE.changed_at
    assert dataclasses.replace(IDLE, resources=[]).idle_since is None
