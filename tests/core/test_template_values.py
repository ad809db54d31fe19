"""Values that templates render: text of numbers and booleans, and nothing, are read."""

from __future__ import annotations

import json
import traceback
from collections import UserList
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.template_values import (
    as_text,
    boolean,
    choice,
    is_given,
    mapping,
    mappings,
    names,
    number,
    sequence,
    text,
    texts_by_name,
    whole_number,
)
from airflow_sm_plugin.exceptions import InvalidRequest


@pytest.mark.parametrize("value", [None, "", "  ", "None"])
def test_nothing_is_not_given(value: object) -> None:
    assert is_given(value) is False


@pytest.mark.parametrize("value", [0, False, "0", "a"])
def test_what_is_there_is_given_though_it_may_be_false(value: object) -> None:
    assert is_given(value) is True


@pytest.mark.parametrize(
    ("true", "false"), [(True, False), ("True", "false"), (" yes ", "NO"), ("1", "0"), (1, 0)]
)
def test_booleans_are_read_off_text(true: object, false: object) -> None:
    assert boolean(true, "force_new") is True
    assert boolean(false, "force_new") is False


@pytest.mark.parametrize("value", ["", "None", None, "maybe", 2])
def test_what_is_no_boolean_is_refused_by_name(value: object) -> None:
    """Above all the text "False" must not count as true, and nothing not as false."""
    with pytest.raises(InvalidRequest, match="force_new must be true or false"):
        boolean(value, "force_new")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_number_survives_its_text(value: float) -> None:
    assert number(value, "x") == number(str(value), "x") == value


@pytest.mark.parametrize("value", ["", "a", None, True, "nan", "inf", float("nan"), [1]])
def test_what_is_no_number_is_refused_by_name(value: object) -> None:
    with pytest.raises(InvalidRequest, match="required_objective must be a number, not"):
        number(value, "required_objective")


@pytest.mark.parametrize(("value", "read"), [(3, 3), ("3", 3), ("3.0", 3), (1, 1)])
def test_whole_numbers_are_read_off_text(value: object, read: int) -> None:
    assert whole_number(value, "candidate_rank", at_least=1) == read


@pytest.mark.parametrize("value", ["0", -1, "2.5"])
def test_a_part_of_a_number_or_too_small_a_one_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"candidate_rank must be a whole number, 1 or more, not '?-?\d"):
        whole_number(value, "candidate_rank", at_least=1)


def test_a_choice_is_one_of_the_given_words() -> None:
    assert choice("GPU", "processing_unit", ("CPU", "GPU")) == "GPU"
    with pytest.raises(InvalidRequest, match="processing_unit must be one of CPU, GPU, not 'gpu'"):
        choice("gpu", "processing_unit", ("CPU", "GPU"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values))
def test_every_mapping_survives_its_text_in_json_and_as_python_writes_it(value: dict[str, object]) -> None:
    for spelling in (value, json.dumps(value), f" {value!r}\n"):
        assert mapping(spelling, "tags") == value


@given(st.lists(json_values))
def test_every_list_survives_its_text_in_json_and_as_python_writes_it(value: list[object]) -> None:
    for spelling in (value, json.dumps(value), f" {value!r}\n"):
        assert sequence(spelling, "names") == value


def test_a_tuple_is_a_list_too() -> None:
    assert (
        list(sequence(("a", "b"), "names") or ()) == list(sequence("('a', 'b')", "names") or ()) == ["a", "b"]
    )


@pytest.mark.parametrize("value", [None, "", "None"])
def test_what_is_not_given_is_no_list_and_no_mapping(value: object) -> None:
    assert [read(value, "x") for read in (mapping, sequence, mappings)] == [None] * 3


def test_the_mappings_of_a_list_may_be_text_as_well() -> None:
    expected = [{"ModelName": "m"}, {"ModelName": "n"}]
    assert mappings(["{'ModelName': 'm'}", {"ModelName": "n"}], "production_variants") == expected
    assert mappings(json.dumps(expected), "production_variants") == expected


@pytest.mark.parametrize(
    "value",
    [
        "{'a': hunter2}",
        '{"a": hunter2',
        "hunter2",
        "['hunter2']",
        ["hunter2"],
        b"hunter2",
        "dict(a='hunter2')",
    ],
)
def test_what_is_no_mapping_is_refused_by_name_and_shows_nothing_of_itself(value: object) -> None:
    """Down to the traceback: it may be a container's environment."""
    with pytest.raises(
        InvalidRequest, match="environment must be a mapping, or text of one as JSON"
    ) as caught:
        mapping(value, "environment")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "value",
    ["hunter2", "{'a': 'hunter2'}", {"a": "hunter2"}, b"hunter2", "'hunter2'", {"hunter2"}, 7, "[" * 9999],
)
def test_what_is_no_list_is_refused_by_name_and_shows_nothing_of_itself(value: object) -> None:
    with pytest.raises(InvalidRequest, match="containers must be a list, or text of one as JSON") as caught:
        sequence(value, "containers")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_in_a_list_of_mappings_the_one_that_is_none_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"production_variants\[1\] must be a mapping, .*, not int"):
        mappings([{}, 5], "production_variants")


@pytest.mark.parametrize("value", [{1: "a"}, "{1: 'a'}"])
def test_a_key_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match="tags must be a mapping whose keys are all text"):
        mapping(value, "tags")


class TestText:
    @given(st.text())
    def test_text_stays_as_it_is(self, value: str) -> None:
        assert as_text(value, "body") == value

    @given(st.lists(json_values) | st.dictionaries(st.text(), json_values))
    def test_mappings_and_lists_become_equal_json(self, value: object) -> None:
        assert json.loads(as_text(value, "body")) == value

    @given(st.lists(st.integers() | st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=9))
    def test_numbers_that_were_read_as_a_tuple_are_joined_again(self, values: list[float]) -> None:
        written = ",".join(map(str, values))
        assert as_text(tuple(values), "body") == written

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (42, "42"),
            (5.1, "5.1"),
            (True, "True"),
            (Decimal("1.50"), "1.50"),
            (date(2026, 1, 2), "2026-01-02"),
            (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02 00:00:00+00:00"),
            (UserList([1, "a"]), '[1, "a"]'),
        ],
    )
    def test_what_a_template_would_print_is_printed(self, value: object, written: str) -> None:
        assert as_text(value, "inference_id") == text(value, "inference_id") == written

    @pytest.mark.parametrize(
        "value",
        [
            {"hunter2"},
            b"hunter2",
            ("hunter2", 1),
            ((1, 2), (3, 4)),
            (),
            (True, False),
            {"hunter2": {1}},
            [float("nan")],
            object(),
            None,
        ],
    )
    def test_anything_else_is_refused_by_name_without_its_value(self, value: object) -> None:
        with pytest.raises(InvalidRequest, match="body must be text, not") as refused:
            as_text(value, "body")
        assert "hunter2" not in "".join(traceback.format_exception(refused.value))

    @pytest.mark.parametrize("value", [None, "", " ", "None"])
    def test_what_is_not_given_is_none(self, value: object) -> None:
        assert text(value, "accept") is None


class TestTexts:
    @pytest.mark.parametrize(
        ("value", "read"),
        [
            ({"run": 42, "flag": True, "rate": 0.5}, {"run": "42", "flag": "True", "rate": "0.5"}),
            ('{"flag": true, "run": 42}', {"flag": "true", "run": "42"}),
            ("{'flag': True}", {"flag": "True"}),
            ({"list": ["a"]}, {"list": '["a"]'}),
            ("None", None),
        ],
    )
    def test_the_values_of_a_mapping_are_spelled_as_they_were_written(
        self, value: object, read: object
    ) -> None:
        assert texts_by_name(value, "tags") == read

    def test_nothing_is_no_value(self) -> None:
        with pytest.raises(InvalidRequest, match=r"tags\['team'\] must be text, not NoneType"):
            texts_by_name({"team": None}, "tags")

    def test_names_of_a_list_may_be_numbers(self) -> None:
        assert names("['a', 7]", "model_names") == names(("a", 7), "model_names") == ["a", "7"]
        assert names(None, "model_names") is None
