"""The page that compares us with the Amazon provider names what its script runs, each situation for each operator."""

from __future__ import annotations

import re

from tests.docs.side_by_side import BEGIN, COLUMNS, END, PAGE, SIDES, SITUATIONS

TEXT = PAGE.read_text()
MADE = TEXT.partition(BEGIN)[2].partition(END)[0]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in MADE.splitlines()
    if line.startswith("| ")
]


def test_its_rows_are_the_situations_of_the_script_for_each_operator() -> None:
    head, *rows = ROWS
    assert head == list(COLUMNS)
    expected = [
        (situation.name if side == SIDES[0] else "", side) for situation in SITUATIONS for side in SIDES
    ]
    assert [(row[0], row[1]) for row in rows] == expected
    assert len(SITUATIONS) == 12


def test_every_row_tells_everything() -> None:
    for row in ROWS:
        assert len(row) == len(COLUMNS)
        assert all(row[2:])


def test_it_says_when_and_with_which_versions_it_was_made() -> None:
    assert re.search(
        r"^\d{4}-\d\d-\d\d, Python 3\S+, apache-airflow \S+, apache-airflow-providers-amazon \S+, ",
        MADE,
        re.MULTILINE,
    )
