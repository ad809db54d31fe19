"""The tag that names the task instance which made a resource: read back as it was written, and nothing else is read."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import CREATED_IN_TAG, DEPLOYED_IN_TAG, OWNER_TAG
from airflow_sm_plugin.resources.made_in import MadeIn, airflow_site, creator_in, deployer_in

MADE = MadeIn("churn", "scheduled__2026-11-30T00:00:00+00:00", "deploy", site="1a2b3c4d")
IDS = st.text(min_size=1, max_size=60)
SAGEMAKER_VALUE = re.compile(r"[\w \u0080-\U0010ffff.:/=+@-]{0,256}")


def test_people_can_read_it() -> None:
    assert MADE.as_tag() == "churn/scheduled__2026-11-30T00:00:00+00:00/deploy@1a2b3c4d"
    mapped = dataclasses.replace(MADE, map_index=3, site="")
    assert mapped.as_tag() == "churn/scheduled__2026-11-30T00:00:00+00:00/deploy/3@"


@given(dag=IDS, run=IDS, task=IDS, index=st.integers(-1, 5000))
def test_whatever_the_ids_it_is_read_as_written(dag: str, run: str, task: str, index: int) -> None:
    made = MadeIn(dag, run, task, index, "1a2b3c4d")
    tag = made.as_tag()
    if tag is None:
        return
    assert SAGEMAKER_VALUE.fullmatch(tag)
    if dag.isprintable() and run.isprintable() and task.isprintable():
        assert MadeIn.from_tag(tag) == made


def test_a_tilde_is_escaped_since_aws_refuses_it() -> None:
    made = MadeIn("a", "b~c=", "d")
    assert made.as_tag() == "a/b=7Ec=3D/d@"
    assert MadeIn.from_tag("a/b=7Ec=3D/d@") == made


def test_ids_that_are_too_long_give_no_tag_rather_than_a_cut_one() -> None:
    assert MadeIn("d" * 120, "r" * 120, "t" * 20).as_tag() is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "unnamed",
        "a/b@",
        "a/b/c",
        "a//c@",
        "a/b/c/-1@",
        "a/b/c/x@",
        "a/b/c/3/4@",
        "a/b=FF/c@",
        "a/b=7e/c@",
        "a/b=41/c@",
    ],
)
def test_another_text_is_not_read(value: str | None) -> None:
    assert MadeIn.from_tag(value) is None


def test_both_tags_of_the_creator_must_name_the_same_task() -> None:
    tags = {OWNER_TAG: MADE.owner, CREATED_IN_TAG: str(MADE.as_tag())}
    assert creator_in(tags) == deployer_in(tags) == MADE
    assert creator_in({**tags, OWNER_TAG: "another"}) is None
    assert creator_in({CREATED_IN_TAG: tags[CREATED_IN_TAG]}) is None
    assert creator_in({OWNER_TAG: MADE.owner}) is None


def test_the_latest_deployer_counts_beside_the_creator() -> None:
    later = dataclasses.replace(MADE, run_id="later")
    tags = {OWNER_TAG: MADE.owner, CREATED_IN_TAG: str(MADE.as_tag()), DEPLOYED_IN_TAG: str(later.as_tag())}
    assert (creator_in(tags), deployer_in(tags)) == (MADE, later)
    assert deployer_in({**tags, DEPLOYED_IN_TAG: "unnamed"}) is None


def test_an_airflow_is_known_by_its_address() -> None:
    assert airflow_site("https://airflow.example.com/") == airflow_site("https://AIRFLOW.example.com")
    assert airflow_site("https://a.example.com") != airflow_site("https://b.example.com")
    assert airflow_site(" ") == ""
