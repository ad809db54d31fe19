"""Numbers, durations and times as people read them."""

from __future__ import annotations

import pytest

from airflow_sm_plugin.core.text import (
    amount,
    clock,
    count,
    day,
    duration,
    legible,
    ordinal,
    period,
    plural,
    share,
    shortened,
)
from tests.multi_model.report.reports import T0


def plain(text: str) -> str:
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (0.00004, "0.04 ms"),
        (0.34, "340 ms"),
        (0.9996, "1 s"),
        (4.23, "4.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (222, "3 min 42 s"),
        (3_599.7, "1 h"),
        (7_380, "2 h 3 min"),
        (86_399, "1 d"),
        (100_000, "1 d 4 h"),
        (100_000_000, "1 157 d 10 h"),
    ],
)
def test_durations_show_the_two_units_that_matter(seconds: float, said: str) -> None:
    assert plain(duration(seconds)) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (0.125, "0.12"), (0.5, "0.5"), (4.56, "4.6"), (9.97, "10"), (12_345.6, "12 346")],
)
def test_amounts_have_about_three_digits(number: float, said: str) -> None:
    assert plain(amount(number)) == said


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 10, "0 %"),
        (0, 0, "0 %"),
        (1, 1_000_000, "< 0.01 %"),
        (1, 8, "12.5 %"),
        (999_999, 1_000_000, "> 99.99 %"),
        (3, 3, "100 %"),
    ],
)
def test_a_few_are_not_called_none_nor_nearly_all_all(part: int, whole: int, said: str) -> None:
    assert plain(share(part, whole)) == said


def test_thousands_are_apart_by_a_space_at_which_no_line_breaks() -> None:
    assert count(1_234_567) == "1\u202f234\u202f567"
    assert plural(1, "model") == "1 model"
    assert plain(plural(2_000, "model")) == "2 000 models"


def test_times_are_in_utc_and_a_day_is_named_once() -> None:
    assert (day(T0), clock(T0), clock(T0, seconds=False)) == ("18 Nov 2026", "11:06:40", "11:06")
    assert period(T0, T0 + 60) == "18 Nov 2026, 11:06:40 to 11:07:40 UTC"
    assert period(T0, T0 + 86_400) == "18 Nov 2026, 11:06:40 to 19 Nov 2026, 11:06:40 UTC"


def test_a_long_name_loses_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghijk", 6) == "ab…ijk"
    assert len(shortened("x" * 1_000, 100)) == 100


def test_control_characters_are_replaced_and_lines_stay() -> None:
    assert legible("a\x00b\x1bc\x85d\ne\tf") == "a\ufffdb\ufffdc\ufffdd\ne\tf"


def test_positions_in_a_row_have_their_endings() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 22, 111, 112)
    assert [ordinal(number) for number in numbers] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "111th", "112th"]
    )
