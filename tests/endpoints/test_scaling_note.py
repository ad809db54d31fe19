"""Scaling that was taken down survives in tags, unchanged and within SageMaker's limits."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.endpoints.scaling_note import (
    NOTE_TAG,
    VariantScaling,
    merged,
    note_of,
    note_prefix,
    note_tags,
    noted_in,
    repointed,
)
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.scaling import SERVERLESS_DIMENSION, ScaledVariant

ENDPOINT = "churn"
VALUE = re.compile(r"[\w .:/=+\-@]{0,256}")
"""A tag's value, as SageMaker permits it."""
ROLE = "arn:aws:iam::1:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/R"
ARN = "arn:aws:autoscaling:us-east-1:1:scalingPolicy:{}:resource/sagemaker/endpoint/churn/variant/v:policyName/steps"

texts = st.text(st.characters(codec="utf-8"), max_size=40)
numbers = st.integers(0, 1000) | st.floats(0, 1e6, allow_nan=False)
policies = st.lists(
    st.builds(
        lambda name, value: {
            "PolicyName": name,
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": {"TargetValue": value, "ScaleInCooldown": 3},
        },
        texts,
        numbers,
    ),
    max_size=4,
)
scalings = st.builds(
    VariantScaling,
    variant=st.builds(ScaledVariant, st.just(ENDPOINT), texts),
    target=st.fixed_dictionaries({"MinCapacity": st.integers(0, 9), "MaxCapacity": st.integers(1, 99)}),
    policies=policies,
    actions=st.just([]),
    alarms=st.dictionaries(texts, st.lists(texts, min_size=1, max_size=3), max_size=3),
)


def of(name: str = "v", *, least: int = 1, most: int = 4, **more: Any) -> VariantScaling:  # noqa: ANN401 - of the class
    target = {"MinCapacity": least, "MaxCapacity": most}
    return VariantScaling(variant=ScaledVariant(ENDPOINT, name), target=target, **more)


def policy(name: str, value: float = 1.0) -> dict[str, Any]:
    return {"PolicyName": name, "TargetTrackingScalingPolicyConfiguration": {"TargetValue": value}}


@given(st.lists(scalings, min_size=1, max_size=4))
def test_a_note_reads_back_and_sagemaker_takes_its_tags(
    taken: list[VariantScaling],
) -> None:
    tags = note_of(taken)
    assert all(VALUE.fullmatch(value) for value in tags.values())
    others = {"team": "fraud", "airflow-sm-plugin:created-by": "x"}
    assert noted_in({**others, **tags}, ENDPOINT) == taken
    assert note_tags({**others, **tags}) == sorted(tags)


@given(st.lists(scalings, min_size=3, max_size=4), scalings)
def test_a_shorter_note_over_a_longer_one_reads_back(
    longer: list[VariantScaling], shorter: VariantScaling
) -> None:
    """AddTags replaces tags by their keys, and leaves the others."""
    assert noted_in({**note_of(longer), **note_of([shorter])}, ENDPOINT) == [shorter]


@given(scalings, scalings, st.integers(1 << 60, 1 << 62), st.integers(1, 1 << 60))
def test_notes_of_two_tasks_are_read_together_and_share_no_key(
    earlier: VariantScaling, later: VariantScaling, moment: int, passed: int
) -> None:
    first = note_of([earlier], prefix=note_prefix({}, moment))
    second = note_of([later], prefix=note_prefix(first, moment + passed))
    assert not set(first) & set(second)
    assert noted_in({**second, **first}, ENDPOINT) == merged([earlier], [later])
    assert noted_in(second, ENDPOINT) == [later]


def test_the_keys_of_an_emptied_note_are_used_again() -> None:
    first = note_of([of()], prefix=note_prefix({}, 1 << 60))
    emptied = dict.fromkeys(first, "")
    assert set(note_of([of("w")], prefix=note_prefix(emptied, 1 << 61))) & set(first)
    assert not set(note_of([of("w")], prefix=note_prefix(first, 1 << 61))) & set(first)


def test_a_note_that_lost_its_first_tag_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="cannot be read any more"):
        noted_in({f"{NOTE_TAG}02": "2/eJw"}, ENDPOINT)


@pytest.mark.parametrize("tags", [{}, {"team": "fraud"}, {f"{NOTE_TAG}01": ""}])
def test_without_a_note_nothing_was_taken_down(tags: dict[str, str]) -> None:
    assert noted_in(tags, ENDPOINT) == []


@pytest.mark.parametrize(
    "value", ["x", "1/", "2/eJw", "1/eJw=", "1/!!!!", "-1/", "0/", "1/eJyrVspMUbJSMFSqBQAUCAMF"]
)
def test_a_changed_note_is_an_error_and_not_forgotten(value: str) -> None:
    with pytest.raises(
        InvalidRequest, match=r"tags airflow-sm-plugin:scaling-\* of endpoint churn .* cannot be read"
    ):
        noted_in({f"{NOTE_TAG}01": value}, ENDPOINT)


def test_a_note_that_finds_no_room_is_refused_naming_how_many_tags_it_needs() -> None:
    many = [
        of(f"v{number}", alarms={f"{number * 7919}": [f"{number * 104729:x}" * 9]}) for number in range(60)
    ]
    with pytest.raises(
        InvalidRequest, match=r"in \d+ tags of the endpoint, which has room for 1 of 50: remove some"
    ):
        note_of(many, room=1)


def test_a_description_is_kept_so_that_it_can_be_put_again() -> None:
    begins = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    action = {
        "ScheduledActionName": "n",
        "Schedule": "rate(1 day)",
        "StartTime": begins,
        "ScheduledActionARN": "a",
    }
    described = VariantScaling.described(
        ScaledVariant(ENDPOINT, "v"),
        {
            "MinCapacity": 0,
            "MaxCapacity": 2,
            "RoleARN": ROLE,
            "CreationTime": begins,
            "ScalableTargetARN": "a",
        },
        [{**policy("tracking"), "PolicyARN": "a", "Alarms": [], "CreationTime": begins}],
        [action],
        {"steps": ["busy"], "tracking": []},
    )
    (read,) = noted_in(note_of([described]), ENDPOINT)
    assert read.target == {"MinCapacity": 0, "MaxCapacity": 2}
    assert read.policies == [policy("tracking")]
    assert read.actions == [
        {"ScheduledActionName": "n", "Schedule": "rate(1 day)", "StartTime": begins.timestamp()}
    ]
    assert read.alarms == {"steps": ["busy"]}


@pytest.mark.parametrize(
    ("least", "most", "instances", "asynchronous", "expected"),
    [
        (1, 4, 2, False, (1, 4)),
        (0, 4, 0, True, (0, 4)),
        (0, 4, 1, False, (1, 4)),
        (2, 4, 1, False, (2, 4)),
        (1, 4, 6, False, (1, 6)),
        (0, 0, 0, True, (0, 0)),
    ],
)
def test_capacities_stay_but_where_they_contradict_the_endpoint(
    least: int, most: int, instances: int, expected: tuple[int, int], *, asynchronous: bool
) -> None:
    asked = of(least=least, most=most).registration(instances=instances, asynchronous=asynchronous)
    assert (asked["MinCapacity"], asked["MaxCapacity"]) == expected


def test_a_serverless_variant_scales_in_its_own_dimension() -> None:
    variant = ScaledVariant(ENDPOINT, "v", SERVERLESS_DIMENSION)
    taken = VariantScaling(variant=variant, target={"MinCapacity": 0, "MaxCapacity": 2})
    (read,) = noted_in(note_of([taken]), ENDPOINT)
    asked = read.registration(instances=0, asynchronous=False)
    assert (asked["ScalableDimension"], asked["MinCapacity"]) == (SERVERLESS_DIMENSION, 0)


def test_registered_scaling_wins_and_the_note_adds_only_missing_parts() -> None:
    noted = [
        of("v", most=9, policies=[policy("old"), policy("both", 1)], alarms={"old": ["a"]}),
        of("w", most=7),
    ]
    registered = [of("v", most=3, policies=[policy("both", 2)]), of("x")]
    both = {scaling.variant.variant_name: scaling for scaling in merged(noted, registered)}
    assert set(both) == {"v", "w", "x"}
    assert both["v"].target["MaxCapacity"] == 3
    assert both["v"].policies == [policy("old"), policy("both", 2)]
    assert both["v"].alarms == {"old": ["a"]}
    assert both["w"].target["MaxCapacity"] == 7


def test_an_alarm_sets_off_the_policy_that_was_put_back_and_keeps_the_rest() -> None:
    alarm = {
        "AlarmName": "busy",
        "AlarmArn": "arn",
        "Threshold": 3.0,
        "AlarmActions": ["arn:aws:sns:us-east-1:1:people", ARN.format("old")],
        "StateValue": "OK",
    }
    variant = ScaledVariant(ENDPOINT, "v")
    assert repointed(alarm, variant, ARN.format("new")) == {
        "AlarmName": "busy",
        "Threshold": 3.0,
        "AlarmActions": ["arn:aws:sns:us-east-1:1:people", ARN.format("new")],
    }
    assert repointed({**alarm, "AlarmActions": [ARN.format("new")]}, variant, ARN.format("new")) is None
    assert repointed(alarm, ScaledVariant(ENDPOINT, "w"), ARN.format("new")) is None
    assert repointed({"AlarmName": "busy"}, variant, ARN.format("new")) is None


def test_a_note_is_compressed() -> None:
    taken = [of(policies=[policy(f"p{number}") for number in range(10)])]
    assert (
        sum(map(len, note_of(taken).values())) < len(json.dumps([dict(one) for one in taken[0].policies])) / 2
    )
