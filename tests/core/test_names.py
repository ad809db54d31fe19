"""Names keep SageMaker's pattern; derived ones are stable and tell contents apart."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import (
    MAX_NAME_LENGTH,
    check_name,
    content_name,
    digest,
    is_content_name,
)
from airflow_sm_plugin.exceptions import InvalidName

AWS_PATTERN = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(min_value=-(2**53), max_value=2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def is_valid(value: str) -> bool:
    try:
        return check_name(value, "model name") is value
    except InvalidName:
        return False


@given(st.text(alphabet="aZ09-_. ä\n", max_size=70) | st.text(max_size=70))
def test_a_name_is_valid_if_and_only_if_sagemaker_takes_it(value: str) -> None:
    assert is_valid(value) == bool(len(value) <= MAX_NAME_LENGTH and AWS_PATTERN.fullmatch(value))


@pytest.mark.parametrize("length", [1, 62, 63])
def test_lengths_up_to_the_limit_are_allowed(length: int) -> None:
    assert check_name("n" * length, "endpoint name") == "n" * length


def test_one_character_over_the_limit_is_refused_with_value_limit_and_remedy() -> None:
    """A candidate's name may have 64 characters, one more than a model's: this is met in practice."""
    with pytest.raises(InvalidName, match=f"'{'n' * 64}' has 64 characters.* up to 63: shorten it"):
        check_name("n" * 64, "model name")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "the model name is empty"),
        ("a_b.c", "holds '.' '_'"),
        ("churn model", "holds ' '"),
        ("größe", "holds 'ß' 'ö'"),
        ("a\n", r"holds '\n'"),
        ("-a", "begins or ends with a hyphen"),
        ("a-", "begins or ends with a hyphen"),
        ("-", "begins or ends with a hyphen"),
        ("٣", "holds '٣'"),
    ],
)
def test_the_message_says_what_is_wrong(value: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(reason)):
        check_name(value, "model name")


def test_hyphens_inside_may_follow_each_other() -> None:
    assert check_name("a--b", "model name") == "a--b"


def test_a_long_run_of_hyphens_is_refused_at_once() -> None:
    """The pattern has a repetition within a repetition; it must not backtrack for ever."""
    with pytest.raises(InvalidName):
        check_name("a" + "-" * 62, "model name")


@given(st.text(max_size=100), json_values)
def test_a_derived_name_is_always_valid(stem: str, content: object) -> None:
    check_name(content_name(stem, content), "model name")


@given(st.text(max_size=100), json_values)
def test_a_derived_name_is_stable_over_a_journey_through_json(stem: str, content: object) -> None:
    """XCom and S3 hold JSON: a retry that read its content from there finds the same name."""
    assert content_name(stem, json.loads(json.dumps(content))) == content_name(stem, content)


@given(json_values, json_values)
def test_derived_names_are_equal_exactly_when_contents_are(one: object, other: object) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (content_name("m", one) == content_name("m", other)) == same


@given(st.text(max_size=80), st.text(max_size=80))
def test_derived_names_of_different_stems_differ(one: str, other: str) -> None:
    """Also where both stems are the same after cutting and mending: two endpoints never share a configuration."""
    assert (content_name(one, "content") == content_name(other, "content")) == (one == other)


def test_two_long_stems_alike_up_to_the_cut_do_not_share_a_name() -> None:
    assert content_name("e" * 60 + "-a", {}) != content_name("e" * 60 + "-b", {})


def test_the_order_of_a_list_counts_and_that_of_a_mapping_does_not() -> None:
    assert digest(["a", "b"]) != digest(["b", "a"])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_digest_stays_the_same_between_releases() -> None:
    """A retry after an upgrade must find what the first try made."""
    assert digest({"a": [1, None, "ü"]}) == "da9973f06676"
    assert re.fullmatch(r"[0-9a-f]{12}", digest(None))


def test_the_stem_stays_readable() -> None:
    assert re.fullmatch(r"churn-model-v2-[0-9a-f]{12}", content_name("churn_model v2!", 1))
    assert re.fullmatch(r"x-[0-9a-f]{12}", content_name("///", 1))


def test_a_cut_stem_does_not_end_in_two_hyphens() -> None:
    name = content_name("a" * 49 + "-" + "b" * 20, 1)
    assert re.fullmatch(r"a{49}-[0-9a-f]{12}", name)


@given(
    st.from_regex(AWS_PATTERN, fullmatch=True).filter(lambda stem: len(stem) <= MAX_NAME_LENGTH), json_values
)
def test_a_derived_name_is_known_again_by_its_stem(stem: str, content: object) -> None:
    assert is_content_name(content_name(stem, content), stem)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("e" * 60 + "-a", "e" * 60 + "-b"),
        ("e" * 50, "e" * 51),
        ("e" * 49, "e" * 49 + "-b"),
    ],
)
def test_of_stems_that_are_cut_to_the_same_a_name_alone_does_not_tell(one: str, other: str) -> None:
    """The shorter one is not cut, and yet the longer one's names look like its own."""
    assert is_content_name(content_name(one, {}), other)
    assert is_content_name(content_name(other, {}), one)


def test_an_ordinary_stem_is_recognised_by_its_names() -> None:
    assert not is_content_name(content_name("e" * 60, {}), "e" * 48)


@pytest.mark.parametrize(
    "name",
    [
        "churn",
        "churn-mine",
        "churn-b-0123456789ab",
        "churn-0123456789abc",
        "churn-0123456789AB",
        "achurn-0123456789ab",
    ],
)
def test_a_name_of_anything_else_is_not_known(name: str) -> None:
    assert not is_content_name(name, "churn")
