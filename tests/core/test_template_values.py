"""What templates render, read: text of numbers and booleans, and nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.template_values import boolean, choice, is_given, number, whole_number
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
