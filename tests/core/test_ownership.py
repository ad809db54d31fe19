"""Ownership: the same over retries, another for every other task instance, read from a tag."""

from __future__ import annotations

import dataclasses
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import (
    DEPLOYED_TAG,
    ENDPOINT_TAG,
    NEVER_SERVED,
    OWNER_TAG,
    EndpointClaim,
    is_made_here,
    is_owned,
    mark_of,
    owner_of,
    tags_to_write,
    with_owner,
)

TASK = {"dag_id": "churn", "run_id": "scheduled__2026-01-01T00:00:00+00:00", "task_id": "deploy"}
SAGEMAKER_TAG = re.compile(r"[\w\s.:/=+\-@]*")
owners = st.builds(
    owner_of, dag_id=st.text(), run_id=st.text(), task_id=st.text(), map_index=st.integers(-1, 9)
)
tags = st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3)


def test_an_owner_stays_the_same_between_tries_and_releases() -> None:
    """A retry after an upgrade must know again what the first try made."""
    assert owner_of(**TASK, map_index=-1) == "43055d3b5041"
    assert OWNER_TAG == "airflow-sm-plugin:created-by"


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "other"},
        {"run_id": "scheduled__2026-01-02T00:00:00+00:00"},
        {"task_id": "other"},
        {"map_index": 0},
        # Joined without a border these would be the same text.
        {"dag_id": "churnd", "task_id": "eploy"},
    ],
)
def test_another_task_instance_is_another_owner(other: dict[str, str | int]) -> None:
    one = {**TASK, "map_index": -1}
    assert owner_of(**{**one, **other}) != owner_of(**one)  # type: ignore[arg-type] # a table of both types


@given(owners)
def test_an_owner_fits_into_a_tag_and_tells_nothing(owner: str) -> None:
    assert re.fullmatch(r"[0-9a-f]{12}", owner)
    assert SAGEMAKER_TAG.fullmatch(OWNER_TAG)
    assert len(OWNER_TAG) <= 128


@given(tags, owners, owners)
def test_what_an_owner_tagged_is_its_own_only(given_tags: dict[str, str], owner: str, other: str) -> None:
    tagged = with_owner(given_tags, owner)
    assert is_owned(tagged, owner)
    assert is_made_here(tagged)
    assert is_owned(tagged, other) == (owner == other)
    assert given_tags.items() <= tagged.items()


@given(tags)
def test_without_an_owner_tags_stay_as_they_are(given_tags: dict[str, str]) -> None:
    tagged = with_owner(given_tags, None)
    assert tagged == given_tags
    assert tagged is not given_tags
    assert not is_owned(tagged, None)


def test_tags_that_cannot_be_read_or_are_another_products_prove_nothing() -> None:
    owner = owner_of(**TASK, map_index=-1)
    assert not is_owned(None, owner)
    assert not is_made_here(None)
    assert not is_owned({}, owner)
    assert not is_made_here({"created-by": owner, "airflow": "x"})
    assert not is_owned({"created-by": owner}, owner)


def test_a_user_cannot_disown_a_task_by_a_tag_of_his() -> None:
    assert with_owner({OWNER_TAG: "another"}, "me") == {OWNER_TAG: "me"}


def test_whatever_our_operators_made_is_known_as_such() -> None:
    assert is_made_here({"airflow-sm-plugin:job": "churn-job"})


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


TAGS = st.dictionaries(
    st.sampled_from(["a", "b", "c", OWNER_TAG, ENDPOINT_TAG, DEPLOYED_TAG]), st.sampled_from(["1", "2"])
)


@given(asked=TAGS, there=TAGS | st.none())
def test_written_are_the_users_tags_that_are_missing_or_different(
    asked: dict[str, str], there: dict[str, str] | None
) -> None:
    """None of ours, which say whose a resource is; and after the writing all that was asked for is there."""
    written = tags_to_write(asked, there)
    assert not is_made_here(written)
    assert all((there or {}).get(key) != value for key, value in written.items())
    after = {**(there or {}), **written}
    assert all(after[key] == value for key, value in asked.items() if not is_made_here({key: value}))
