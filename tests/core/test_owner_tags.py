"""Ownership: the same over retries, another for every other task instance, read from a tag."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import (
    DEPLOYED_TAG,
    ENDPOINT_TAG,
    OWNER_TAG,
    is_made_here,
    is_owned,
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


TAGS = st.dictionaries(
    st.sampled_from(["a", "b", "c", OWNER_TAG, ENDPOINT_TAG, DEPLOYED_TAG]), st.sampled_from(["1", "2"])
)


@given(wanted=TAGS, present=TAGS | st.none())
def test_written_are_the_users_tags_that_are_missing_or_different(
    wanted: dict[str, str], present: dict[str, str] | None
) -> None:
    """None of ours, which say whose a resource is; and after the writing all that was asked for is there."""
    written = tags_to_write(wanted, present)
    assert not is_made_here(written)
    assert all((present or {}).get(key) != value for key, value in written.items())
    after = {**(present or {}), **written}
    assert all(after[key] == value for key, value in wanted.items() if not is_made_here({key: value}))
