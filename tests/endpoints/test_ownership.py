"""Which endpoints a task deletes: its own, that no other task deploys to, or that serve no requests."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import DEPLOYED_TAG, NEVER_SERVED, OWNER_TAG, mark_of, owner_of
from airflow_sm_plugin.endpoints.ownership import EndpointClaim

owners = st.builds(
    owner_of, dag_id=st.text(), run_id=st.text(), task_id=st.text(), map_index=st.integers(-1, 9)
)

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
LATER = datetime(2026, 1, 3, tzinfo=UTC)
ME = EndpointClaim(owner="me", try_number=2, config_name="churn-1", created_at=CREATED.timestamp())
UNKNOWN = dataclasses.replace(ME, created_at=None)
MINE = {"EndpointConfigName": "churn-1", "EndpointStatus": "InService", "CreationTime": CREATED}
MY_TAGS = {OWNER_TAG: "me", DEPLOYED_TAG: "me/2"}


@pytest.mark.parametrize(
    "tags_found",
    [MY_TAGS, {OWNER_TAG: "me"}, {**MY_TAGS, DEPLOYED_TAG: "me/1"}],
    ids=["this try", "an earlier version", "an earlier try"],
)
def test_a_task_may_delete_what_it_created(tags_found: dict[str, str]) -> None:
    assert ME.objection(MINE, tags_found) is None


@pytest.mark.parametrize("status", ["Creating", "Failed", "InService", "Updating", "OutOfService"])
def test_what_may_have_served_before_this_try_stays(status: str) -> None:
    """As after an update: an earlier run of the same task created the endpoint, and its tag is still there."""
    objection = UNKNOWN.objection({**MINE, "EndpointStatus": status}, MY_TAGS)
    assert (objection is None) == (status in NEVER_SERVED)


@pytest.mark.parametrize(
    ("claim", "described", "tags_found", "says"),
    [
        (ME, {"EndpointConfigName": "churn-2"}, MY_TAGS, "has configuration churn-2"),
        (ME, {"CreationTime": LATER}, MY_TAGS, "created again by another task or person"),
        (ME, {}, {**MY_TAGS, OWNER_TAG: "you"}, "do not name this task"),
        (ME, {}, {}, "do not name this task"),
        (ME, {}, None, "cannot be read"),
        (ME, {}, {**MY_TAGS, DEPLOYED_TAG: "you/1"}, "another task, or a later try"),
        (ME, {}, {**MY_TAGS, DEPLOYED_TAG: "me/3"}, "another task, or a later try"),
        (ME, {}, {**MY_TAGS, DEPLOYED_TAG: "odd"}, "another task, or a later try"),
        (dataclasses.replace(ME, owner=None), {}, MY_TAGS, "tags nothing"),
    ],
)
@pytest.mark.parametrize("status", ["Creating", "InService", "OutOfService"])
def test_a_task_deletes_no_endpoint_that_is_not_or_no_longer_its_own(
    claim: EndpointClaim,
    described: dict[str, Any],
    tags_found: dict[str, str] | None,
    says: str,
    status: str,
) -> None:
    objection = claim.objection({**MINE, "EndpointStatus": status, **described}, tags_found)
    assert objection is not None
    assert says in objection


def test_a_failed_endpoint_serves_no_requests_so_its_creator_may_delete_it() -> None:
    failed = {**MINE, "EndpointStatus": "Failed"}
    assert ME.objection(failed, {**MY_TAGS, DEPLOYED_TAG: "you/1"}) is None
    assert ME.objection(failed, {**MY_TAGS, OWNER_TAG: "you"}) is not None


@pytest.mark.parametrize(
    ("tags_found", "needed"),
    [
        ({OWNER_TAG: "you"}, True),
        ({OWNER_TAG: "you", DEPLOYED_TAG: "you/1"}, True),
        ({OWNER_TAG: "you", DEPLOYED_TAG: "me/1"}, True),
        ({OWNER_TAG: "you", DEPLOYED_TAG: "me/2"}, False),
        ({OWNER_TAG: "you", DEPLOYED_TAG: "a-third/1"}, False),
        ({OWNER_TAG: "me", DEPLOYED_TAG: "me/1"}, True),
        ({OWNER_TAG: "me", DEPLOYED_TAG: "you/1"}, False),
        ({OWNER_TAG: "me"}, True),
        ({DEPLOYED_TAG: "you/1"}, False),
        ({}, False),
    ],
)
def test_a_mark_is_set_where_a_task_would_delete_and_never_replaces_that_of_another(
    tags_found: dict[str, str], needed: bool
) -> None:
    assert ME.needs_mark(tags_found) == needed


@given(owners, owners, st.integers(1, 9), st.integers(1, 9))
def test_once_another_has_marked_it_only_that_task_deletes_a_serving_endpoint(
    creator: str, other: str, creators_try: int, others_try: int
) -> None:
    """Nor does he: it is not he who created it."""
    assume(creator != other)
    found = {OWNER_TAG: creator, DEPLOYED_TAG: mark_of(creator, creators_try)}
    claims = [
        dataclasses.replace(ME, owner=owner, try_number=number)
        for owner, number in ((creator, creators_try), (other, others_try))
    ]
    assert claims[0].objection(MINE, found) is None
    assert claims[1].needs_mark(found)
    marked = {**found, DEPLOYED_TAG: claims[1].mark}
    assert all(claim.objection(MINE, marked) for claim in claims)
    assert not any(claim.needs_mark(marked) for claim in claims)
