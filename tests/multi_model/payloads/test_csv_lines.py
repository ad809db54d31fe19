"""A line of CSV is refused only if every reading divides it."""

from __future__ import annotations

import csv
import io
import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.payloads.csv_lines import SEPARATORS, CsvLine, CsvLines, csv_separator

COMMA = CsvLines(b",")
FIELDS = st.text(st.sampled_from(list('ab",;| \t\r\n5é')), max_size=6)
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=4), min_size=1, max_size=6)


def whole_length(block: bytes, separator: bytes = b",") -> int:
    return CsvLines(separator).whole_length(block)


def written(rows: list[list[str]], quoting: int, separator: str, end: str, *, escaped: bool = False) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(
        text,
        quoting=quoting,  # type: ignore[arg-type]
        delimiter=separator,
        lineterminator=end,
        doublequote=not escaped,
        escapechar="\\" if escaped else None,
    ).writerows(rows)
    return text.getvalue().encode()


@given(
    ROWS,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
)
@example([["1", "a\nb"]], csv.QUOTE_ALL, ",", False)
def test_rows_as_a_csv_writer_writes_them_are_whole_but_for_line_feeds_in_fields(
    rows: list[list[str]], quoting: int, separator: str, windows: bool
) -> None:
    end = "\r\n" if windows else "\n"
    expected = 0
    for row in rows:
        if any("\n" in value for value in row):
            break
        expected += len(written([row], quoting, separator, end))
    assert whole_length(written(rows, quoting, separator, end), separator.encode()) == expected


@given(
    st.lists(st.lists(st.text(st.sampled_from(list('ab",;\\ \t\r5é'))), min_size=2, max_size=4), max_size=6),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
)
@example([["1", '27"', "5"]], ",", False)
@example([["a\\", '27"']], ",", True)
def test_rows_with_escaped_quotation_marks_are_whole(
    rows: list[list[str]], separator: str, escaped: bool
) -> None:
    """Spark escapes a quotation mark, Python doubles it: neither form counts as a divided record."""
    block = written(rows, csv.QUOTE_ALL, separator, "\n", escaped=escaped)
    assert whole_length(block, separator.encode()) == len(block)


@given(st.lists(st.lists(st.from_regex(r'[a-z0-9 ]["a-z0-9 ]*', fullmatch=True), max_size=4), max_size=6))
@example([['5" pipe', "1"], ['he said "no', "2"]])
def test_a_quotation_mark_inside_of_an_unquoted_field_is_text(rows: list[list[str]]) -> None:
    block = "".join(",".join(row) + "\n" for row in rows).encode()
    assert whole_length(block) == len(block)


@pytest.mark.parametrize(
    "line",
    [
        rb'1,"27\"",5',
        rb'1,"27\"" tall",5',
        rb'"C:\","27\""',
        rb'"a\\","b"',
        b'1,foo |"bar',
        b'12:30;"x',
        b'1,"x";"y"',
        b'a\t"b',
        b'1, "x',
    ],
)
def test_a_record_on_one_line_is_whole(line: bytes) -> None:
    for block in (line + b"\n", line + b"\r\n", b"1,2\n" + line + b"\n3,4\n", line):
        assert whole_length(block) == len(block)


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("line", [b'1,"line one', b'"a', b'1,"a ""b""', b'1,"a""', rb'1,"a\\', b'"a",b,"'])
def test_a_line_that_every_reading_divides_is_refused(line: bytes, separator: bytes) -> None:
    block = line.replace(b",", separator) + b"\n"
    assert whole_length(b"1\n" + block + b"2\n", separator) == 2


@pytest.mark.parametrize(
    ("block", "size"),
    [
        (b"", 0),
        (b"a\nb", 3),
        (b'"', 0),
        (b'""', 2),
        (b'"""', 0),
        (b'""""\n', 5),
        (b'a\n"b\n', 2),
        (b'a,"b""\n', 0),
        (b'a,"b"""\n', 8),
        (b'a;"b\n', 5),
        (b'a, "b\n', 6),
        (b'"a"b"\n', 6),
        (b"a\r\n", 3),
        (b"a\r\r\n", 4),
        (b"a\rb\n", 0),
        (b"a\nb\rc\r\n", 2),
        (b"a\r", 2),
        (b'"a\rb","c\r"\n', 11),
        (b'"a\rb",c\rd\n', 0),
        (b'"a\\"",\rb"\n', 10),
        (b'"27\\""\n"a\n', 7),
        (b'"27\\""\na\rb\n', 7),
        (b'a\rb\n"27\\""\n', 0),
    ],
)
def test_lines_are_whole_records_or_not(block: bytes, size: int) -> None:
    assert whole_length(block) == size


@pytest.mark.parametrize(
    ("head", "separator"),
    [
        (b"", b","),
        (b"text", b","),
        (b"id,text\n", b","),
        (b"id;text\r\n1;2\r\n", b";"),
        (b"\xef\xbb\xbfid;text\n", b";"),
        (b"id\ttext\n", b"\t"),
        (b"id|text\n", b"|"),
        (b'"id";"te,xt"\n', b";"),
        (b'1;"M\xc3\xbcller, Hans"\n', b";"),
        (b"id;te,xt\n", b","),
        (b"id;a|b\n", b","),
        (b'"id;text"\n', b","),
        (b'12:30;"x\n', b","),
        (b'1,"line one; and\nline two"\n', b","),
        (b"text\nid;text\n", b","),
    ],
)
def test_the_first_line_shows_the_separator_or_it_is_a_comma(head: bytes, separator: bytes) -> None:
    assert csv_separator(head, "text/csv") == separator


@pytest.mark.parametrize("content_type", ["text/tab-separated-values", "Application/TSV; charset=utf-8"])
def test_content_types_of_tab_separated_values_have_tabs(content_type: str) -> None:
    assert csv_separator(b"a,b;c\n", content_type) == b"\t"


@pytest.mark.parametrize(
    "line", [b'1,"' + b"a\r" * 500_000 + b'"\n', b'"27\\"",5\n' * 100_000, b'"a\\"",\rb"\n' * 100_000]
)
def test_each_line_is_read_a_fixed_number_of_times(line: bytes) -> None:
    """Reading all lines again for each line would take hours."""
    assert COMMA.whole_length(line) == len(line)


@given(
    st.lists(st.sampled_from([b"a", b'"', b'"', b",", b"|", b"\r", b" ", b"\\"]), max_size=24).map(b"".join),
    st.lists(st.integers(0, 24), max_size=6),
)
@example(b'"a""b"', [3])
@example(b'"a""', [3])
@example(b'a""', [2])
@example(b"a\rb", [2])
@example(b'"a\\""', [3])
@example(b'"a\\\\""', [4])
def test_a_line_in_pieces_is_whole_if_the_line_is(line: bytes, cuts: list[int]) -> None:
    readings, offsets = (
        [CsvLine(reading) for reading in COMMA.readings],
        [0, *sorted(min(cut, len(line)) for cut in cuts), len(line)],
    )
    for begin, end in itertools.pairwise(offsets):
        for reading in readings:
            reading.add(line[begin:end])
    assert any(reading.is_whole for reading in readings) is (COMMA.whole_length(line) == len(line))
