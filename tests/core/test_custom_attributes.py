"""CustomAttributes are valid exactly when HTTP carries them unchanged and SageMaker takes their length."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.custom_attributes import MAX_LENGTH, validate
from airflow_sm_plugin.exceptions import InvalidCustomAttributes

RULE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?")
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


def is_valid(value: str) -> bool:
    try:
        return validate(value) is value
    except InvalidCustomAttributes:
        return False


@given(
    st.text(alphabet=st.characters(min_codepoint=0x1E, max_codepoint=0x81), max_size=12)
    | st.text(max_size=12)
    | st.text(alphabet=VISIBLE + " ", min_size=MAX_LENGTH - 2, max_size=MAX_LENGTH + 2)
)
def test_a_value_is_valid_if_and_only_if_it_keeps_the_rule(value: str) -> None:
    assert is_valid(value) == bool(RULE.fullmatch(value))


def test_every_visible_character_is_allowed() -> None:
    assert validate(VISIBLE) == VISIBLE


def test_a_space_inside_is_allowed() -> None:
    """AWS's own example has one."""
    assert validate("Trace ID: c000b4f9-1c57-4cd5-8d7f") == "Trace ID: c000b4f9-1c57-4cd5-8d7f"


@pytest.mark.parametrize("length", [1, MAX_LENGTH - 1, MAX_LENGTH])
def test_lengths_up_to_the_limit_are_allowed(length: int) -> None:
    assert validate("x" * length) == "x" * length


def test_one_character_over_the_limit_is_refused_with_both_numbers() -> None:
    with pytest.raises(InvalidCustomAttributes, match="1025 characters long, SageMaker takes up to 1024"):
        validate("x" * (MAX_LENGTH + 1))


def test_an_empty_value_is_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidCustomAttributes, match="pass None"):
        validate("")


@pytest.mark.parametrize(
    ("value", "position", "code"),
    [
        ("a\nb", 2, "U+000A"),
        ("\tab", 1, "U+0009"),
        ("ab\x7f", 3, "U+007F"),
        ("trace=Zürich", 8, "U+00FC"),
        ("x\U0001f600", 2, "U+1F600"),
        ("a\x00", 2, "U+0000"),
        ("a\u00a0b", 2, "U+00A0"),
    ],
)
def test_the_first_bad_character_is_named_by_position_and_code(value: str, position: int, code: str) -> None:
    with pytest.raises(InvalidCustomAttributes, match=re.escape(f"character {position} of")) as refused:
        validate(value)
    assert code in str(refused.value)


@pytest.mark.parametrize("value", [" a", "a ", " ", "  a  "])
def test_a_space_at_an_end_is_refused(value: str) -> None:
    """HTTP drops it on the way, so the model would see another value."""
    with pytest.raises(InvalidCustomAttributes, match="strip"):
        validate(value)


@pytest.mark.parametrize("value", [b"abc", 5, None, ["a"]])
def test_what_is_no_text_is_refused_as_such(value: object) -> None:
    with pytest.raises(InvalidCustomAttributes, match=f"must be text, not {type(value).__name__}"):
        validate(value)  # type: ignore[arg-type]  # a template may render to anything


@given(
    st.text(alphabet=string.ascii_letters, min_size=8, max_size=40),
    st.sampled_from(["{}\n", " {}", "{} ", "ü{}", "{}\x7f", "{}" + "x" * MAX_LENGTH]),
)
def test_no_message_ever_shows_the_value(secret: str, spoil: str) -> None:
    with pytest.raises(InvalidCustomAttributes) as refused:
        validate(spoil.format(f"secret-{secret}"))
    assert f"secret-{secret}" not in str(refused.value)
