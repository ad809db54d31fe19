"""SageMaker's own manifest is read as it stands, or the message says which element is not what it must be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.manifest_array import parse_array
from airflow_sm_plugin.exceptions import InvalidRequest

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=5)


@given(NAMES, st.none() | st.integers(0, 4), st.booleans())
def test_a_prefix_and_names_are_read_however_they_are_spaced(
    names: list[str], indent: int | None, as_bytes: bool
) -> None:
    text = json.dumps([{"prefix": "s3://b/in/"}, *names], indent=indent)
    assert parse_array(text.encode() if as_bytes else text) == ("s3://b/in/", names)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("[", "not JSON .*in line 1"),
        ('[{"prefix": "s3://b/"},\n"a"\n"b"]', "not JSON .*delimiter in line 3"),
        ("[" * 100_000, "not JSON"),
        ("{}", "no JSON array"),
        ("[]", "no JSON array with a prefix"),
        ('["s3://b/a"]', "element 1 of the manifest must be"),
        ('[{"prefix": 1}, "a"]', "element 1"),
        ('[{"prefix": ""}, "a"]', "element 1"),
        ('[{}, "a"]', "element 1"),
        ('[[["prefix", "s3://b/"]], "a"]', "element 1"),
        ('[{"prefix": "s3://b/", "version": 2}, "a"]', "element 1 .*and no more"),
        ('[{"prefix": "s3://b/", "prefix": "s3://c/"}, "a"]', "element 1 .*and no more"),
        ('[{"source-ref": "s3://b/a"}]', "element 1 .*augmented manifest has one JSON object a line"),
        (
            '[{"prefix": "s3://b/"}, "a", 7]',
            "element 3 of the manifest must be a key below the prefix, not a JSON int",
        ),
        ('[{"prefix": "s3://b/"}, ""]', "element 2 .*not empty"),
        ('[{"prefix": "s3://b/"}, {"prefix": "s3://c/"}]', "element 2 .*not an object"),
        ('[{"prefix": "s3://b/"}, ["a"]]', "element 2 .*not a JSON list"),
    ],
)
def test_another_shape_is_refused_with_the_element(manifest: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        parse_array(manifest)
