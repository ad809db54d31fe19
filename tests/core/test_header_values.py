"""A header value is refused exactly where HTTP, or what lies between, would change it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.custom_attributes import validate
from airflow_sm_plugin.core.header_values import check_header, unsendable
from airflow_sm_plugin.exceptions import InvalidCustomAttributes, InvalidRequest

CARRIED = re.compile(r"[!-~]([ -~]*[!-~])?")
VALUES = st.text(alphabet="a7 ~\t\x00\x7fä\n", max_size=6) | st.text(max_size=12)


@given(VALUES)
def test_what_is_carried_as_it_is_and_nothing_else_is_taken(value: str) -> None:
    try:
        check_header(value, "target_model")
    except InvalidRequest:
        assert not CARRIED.fullmatch(value)
    else:
        assert CARRIED.fullmatch(value)


@given(VALUES.filter(bool))
def test_custom_attributes_keep_the_same_rule(value: str) -> None:
    try:
        validate(value)
    except InvalidCustomAttributes:
        assert unsendable(value)
    else:
        assert unsendable(value) is None


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ("a ", "U+0020 at its end"),
        (" a", "U+0020 at its beginning"),
        (" ", "U+0020 at its beginning"),
        ("ä ", "U+00E4"),
    ],
)
def test_the_character_and_its_position_are_named(value: str, where: str) -> None:
    assert unsendable(value) == where
    with pytest.raises(
        InvalidRequest, match=f"accept {value!r} is not allowed: it holds {re.escape(where)},"
    ):
        check_header(value, "accept")


def test_lengths_are_checked_first_and_none_is_not_sent() -> None:
    check_header(None, "accept")
    check_header("x" * 1_024, "accept")
    for value in ("", "x" * 1_025):
        with pytest.raises(
            InvalidRequest, match=f"accept has {len(value)} characters, SageMaker takes 1 to 1024"
        ):
            check_header(value, "accept")
