"""A template renders the fields of a key, and cannot reach anything else."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.templates import check_template, fields_of, render
from airflow_sm_plugin.core.s3 import relative_key
from airflow_sm_plugin.exceptions import InvalidRequest

PLAIN = string.ascii_letters + string.digits + "-_. "


@pytest.mark.parametrize(
    ("key", "prefix", "expected"),
    [
        (
            "in/day=2026-01-01/store_id=7/a.csv",
            "in/",
            {
                "day": "2026-01-01",
                "store_id": "7",
                "key": "in/day=2026-01-01/store_id=7/a.csv",
                "relative": "day=2026-01-01/store_id=7/a.csv",
                "name": "a.csv",
                "stem": "a",
                "suffix": ".csv",
                "parent": "store_id=7",
            },
        ),
        (
            "a.csv.gz",
            "",
            {
                "key": "a.csv.gz",
                "relative": "a.csv.gz",
                "name": "a.csv.gz",
                "stem": "a.csv",
                "suffix": ".gz",
                "parent": "",
            },
        ),
    ],
)
def test_a_key_gives_its_partitions_and_its_parts(key: str, prefix: str, expected: dict[str, str]) -> None:
    assert fields_of(key, relative=relative_key(prefix, key)) == expected


@pytest.mark.parametrize(
    ("prefix", "key", "relative"),
    [
        ("", "in/a.csv", "in/a.csv"),
        ("", "/a.csv", "/a.csv"),
        ("in", "in/a.csv", "a.csv"),
        ("in/", "in/a.csv", "a.csv"),
        ("in/", "in/deep/a.csv", "deep/a.csv"),
        ("in/deep", "in/deep/a.csv", "a.csv"),
        ("in/deep", "in/deeper/a.csv", "deeper/a.csv"),
        ("in/a.csv", "in/a.csv", "a.csv"),
        ("in/part-", "in/part-1.csv", "part-1.csv"),
        ("in", "input/a.csv", "input/a.csv"),
        ("in/", "in//a.csv", "/a.csv"),
        ("in//", "in//a.csv", "a.csv"),
        ("elsewhere/", "in/a.csv", "in/a.csv"),
    ],
)
def test_relative_is_below_the_folder_that_the_prefix_names_or_ends_in(
    prefix: str, key: str, relative: str
) -> None:
    """A prefix may end in the middle of a name, as S3 and Batch Transform take it."""
    assert relative_key(prefix, key) == relative


FOLDERS = st.lists(st.text("ab=_.", min_size=1, max_size=4), min_size=1, max_size=3).map("/".join)


@given(FOLDERS, FOLDERS)
def test_a_slash_behind_a_folder_changes_no_relative_key(folder: str, below: str) -> None:
    key = f"{folder}/{below}"
    assert relative_key(folder, key) == relative_key(f"{folder}/", key) == below


@given(FOLDERS, st.integers(0, 20))
def test_a_relative_key_is_an_end_of_the_key_that_begins_with_a_whole_name(key: str, length: int) -> None:
    relative = relative_key(key[:length], key)
    assert relative
    assert f"/{key}".endswith(f"/{relative}")


@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [(".hidden", ".hidden", ""), ("a.", "a.", ""), ("plain", "plain", ""), ("a.b.c", "a.b", ".c")],
)
def test_stem_and_suffix_are_those_of_pathlib(name: str, stem: str, suffix: str) -> None:
    fields = fields_of(f"in/{name}")
    assert (fields["stem"], fields["suffix"]) == (stem, suffix)


def test_partitions_of_the_prefix_count_the_deepest_wins_and_values_stay_as_spelled() -> None:
    fields = fields_of("day=1/in/day=2/x=a%2Fb=c/=y/z=/f")
    assert (fields["day"], fields["x"], fields["z"]) == ("2", "a%2Fb=c", "")
    assert set(fields) == {"day", "x", "z", "key", "relative", "name", "stem", "suffix", "parent"}


def test_an_object_is_no_partition_and_a_partition_never_hides_what_every_key_has() -> None:
    fields = fields_of("name=bob/parent=x/v=1")
    assert fields["name"] == "v=1"
    assert fields["parent"] == "parent=x"
    assert "v" not in fields


@given(st.lists(st.text(min_size=1).filter(lambda part: "/" not in part), min_size=1, max_size=5))
def test_stem_and_suffix_make_the_name_and_folders_and_name_the_key(parts: list[str]) -> None:
    key = "/".join(parts)
    fields = fields_of(key)
    assert fields["stem"] + fields["suffix"] == fields["name"] == parts[-1]
    assert fields["relative"] == fields["key"] == key
    assert fields["parent"] == (parts[-2] if len(parts) > 1 else "")


@given(
    st.dictionaries(
        st.text(PLAIN, min_size=1, max_size=8).filter(lambda name: name.strip()), st.text(), max_size=4
    ),
    st.text(),
)
def test_every_field_is_replaced_by_its_value_and_the_rest_stays(fields: dict[str, str], rest: str) -> None:
    """Braces in values and in the text around are just text."""
    escaped = rest.replace("{", "{{").replace("}", "}}")
    template = escaped + "".join(f"{{{name}}}" for name in fields) + escaped
    assert render(template, fields, argument="target_model") == rest + "".join(fields.values()) + rest


def test_a_field_that_is_not_there_is_named_with_those_that_are() -> None:
    fields = fields_of("in/store_id=7/a.csv")
    with pytest.raises(
        InvalidRequest,
        match=re.escape("target_model names the field {stroe_id}, which there is not for the key"),
    ) as refused:
        render("store-{stroe_id}.tar.gz", fields, argument="target_model")
    assert "'in/store_id=7/a.csv'" in str(refused.value)
    assert "key, name, parent, relative, stem, store_id, suffix" in str(refused.value)


@pytest.mark.parametrize(
    "template",
    [
        "{key.__class__}",
        "{key[0]}",
        "{0}",
        "{}",
        "{key!r}",
        "{key:>10}",
        "{key:{name}}",
        "{key",
        "key}",
        "{",
        '{"trace": "x"}',
    ],
)
def test_only_names_may_stand_in_braces(template: str) -> None:
    with pytest.raises(InvalidRequest, match=r"custom_attributes .*\{\{ and \}\} stand for braces"):
        render(template, fields_of("in/a.csv"), argument="custom_attributes")


@pytest.mark.parametrize("template", ["secret-token {nothing}", "secret-token {", "secret-token {}"])
def test_no_message_shows_the_template(template: str) -> None:
    """It may hold custom attributes, which are sensitive."""
    with pytest.raises(InvalidRequest) as refused:
        render(template, {"key": "a"}, argument="custom_attributes")
    assert "secret-token" not in str(refused.value)


@pytest.mark.parametrize(
    ("template", "is_one"), [("{shop}-{{x}}", True), ("", True), ("{", False), ("{a.b!r}", False)]
)
def test_a_template_is_checked_without_a_key(template: str, is_one: bool) -> None:
    if is_one:
        check_template(template, argument="output_name")
        return
    with pytest.raises(InvalidRequest, match="output_name"):
        check_template(template, argument="output_name")
