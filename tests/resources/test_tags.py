"""A user's tags: a refusal comes before the call, with the tag, the limit and the remedy."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sm_plugin.core.names import DEPLOYED_TAG, ENDPOINT_TAG, OWNER_TAG
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.tags import check_tags, read_tags

TAGS = {"team": "risk", "ключ é": "значение @/+-=._:", "empty": ""}
AS_BOTO3 = [{"Key": key, "Value": value} for key, value in TAGS.items()]


@pytest.mark.parametrize("given_tags", [TAGS, AS_BOTO3])
def test_tags_are_a_mapping_or_boto3s_list_or_text_of_either(given_tags: object) -> None:
    for value in (given_tags, json.dumps(given_tags), str(given_tags)):
        assert read_tags(value, "tags") == TAGS


@pytest.mark.parametrize("value", [None, "", "None"])
def test_nothing_is_no_tags(value: object) -> None:
    assert read_tags(value, "tags") is None


@pytest.mark.parametrize(
    "value",
    [
        ["team"],
        [{"team": "risk"}],
        [{"Key": "team"}],
        [{"Key": "team", "Value": "risk", "More": "1"}],
        [{"Key": "team", "Value": "risk"}, {"Key": "team", "Value": "other"}],
        "[1]",
    ],
)
def test_another_list_is_refused_and_both_forms_are_shown(value: object) -> None:
    with pytest.raises(
        InvalidRequest, match=re.escape('{"team": "risk"}, or a list as boto3 spells it, [{"Key"')
    ):
        read_tags(value, "tags")


@pytest.mark.parametrize(
    "key", [OWNER_TAG, ENDPOINT_TAG, DEPLOYED_TAG, "airflow-sm-plugin:", "airflow-sm-plugin:x"]
)
def test_a_tag_reserved_for_these_operators_is_refused(key: str) -> None:
    for value in ({key: "x"}, [{"Key": key, "Value": "x"}]):
        with pytest.raises(InvalidRequest, match=f"tag '{key}' begins with 'airflow-sm-plugin:'"):
            read_tags(value, "tags")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"": "x"}, "a tag has an empty key: give it one of 1 to 128"),
        ({"k" * 129: "x"}, "has 129 characters, SageMaker takes up to 128"),
        ({"k": "v" * 257}, "the value of tag 'k' has 257 characters, SageMaker takes up to 256"),
        ({"Aws:k": "x"}, "begins with 'aws:'"),
        ({"k": "\U0001f600"}, "the value of tag 'k' has the character"),
        ({"\U0001f600": "x"}, "the key of tag .* has the character"),
        ({"k": "a\nb"}, r"has the character '\\n'"),
        ({"k": "\ud83d"}, r"has the character '\\ud83d'"),
        ({"k": '{"a": 1}'}, "has the character '{'"),
        ({"k": 1}, "tag 'k' is int, not text"),
    ],
)
def test_a_tag_that_sagemaker_would_refuse_is_refused(tags: Mapping[Any, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        check_tags(tags, "model", ours=1)


@given(st.characters(), st.booleans())
@example("\u00a0", False)
@example("\u2028", True)
@example("²", True)
def test_letters_digits_spaces_and_some_signs_are_permitted(sign: str, in_key: bool) -> None:
    tags = {f"k{sign}": "v"} if in_key else {"k": sign}
    if unicodedata.category(sign)[0] in "LZN" or sign in "_.:/=+-@":
        check_tags(tags, "model", ours=1)
    else:
        with pytest.raises(InvalidRequest, match="SageMaker takes letters, digits, spaces and _"):
            check_tags(tags, "model", ours=1)
