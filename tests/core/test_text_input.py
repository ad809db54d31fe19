"""Text inputs: what is no text is known by its first bytes, and a line of CSV that is no whole record by its quotes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import lzma
import zipfile

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_sm_plugin.core.text_input import (
    HEAD,
    CsvLine,
    check_head,
    format_by_name,
    is_text,
    whole_csv_lines,
)
from airflow_sm_plugin.exceptions import InvalidRequest

TEXT = "id,text\n1,hello\n2,world\n"


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.csv", TEXT)
    return packed.getvalue()


NO_TEXT = {
    "gzip": (gzip.compress(TEXT.encode()), "compression_type='Gzip'"),
    "ZIP": (zipped(), "decompress it"),
    "bzip2": (bz2.compress(TEXT.encode()), "decompress it"),
    "an empty bzip2": (bz2.compress(b""), "decompress it"),
    "xz": (lzma.compress(TEXT.encode()), "decompress it"),
    "Zstandard": (b"\x28\xb5\x2f\xfd\x20\x09\x49\0\0", "decompress it"),
    "LZ4": (b"\x04\x22\x4d\x18\x64\x40\xa7", "decompress it"),
    "Snappy": (b"\xff\x06\0\0sNaPpY", "decompress it"),
    "Parquet": (b"PAR1\x15\x04\x15\x10\x15\x14\x4c\x15", "write it as text"),
    "ORC": (b"ORC\x1d\0\0\x0a\x06\x12\x04", "write it as text"),
    "Avro": (b"Obj\x01\x04\x16avro.schema", "write it as text"),
    "Arrow": (b"ARROW1\0\0\xff\xff\xff\xff", "write it as text"),
    "Excel": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "write it as text"),
    "UTF-16, little": (b"\xff\xfe" + TEXT.encode("utf-16-le"), "write it as UTF-8"),
    "UTF-16, big": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "write it as UTF-8"),
    "UTF-16, little, without a mark": (TEXT.encode("utf-16-le"), "write it as UTF-8"),
    "UTF-16, big, without a mark": (TEXT.encode("utf-16-be"), "write it as UTF-8"),
    "UTF-32, little": (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "write it as UTF-8"),
    "UTF-32, big": (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), "write it as UTF-8"),
    "UTF-32, little, without a mark": (TEXT.encode("utf-32-le"), "write it as UTF-8"),
}


@pytest.mark.parametrize(("head", "remedy"), NO_TEXT.values(), ids=NO_TEXT)
@pytest.mark.parametrize("content_type", ["text/csv", "Text/CSV; charset=utf-8", "application/jsonlines"])
def test_what_is_no_text_is_refused_with_what_it_is_and_the_remedy(
    head: bytes, remedy: str, content_type: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"the input looks like .* Nothing of it was sent") as refused:
        check_head(head[:HEAD], content_type, is_split=True)
    assert remedy in str(refused.value)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"1",
        b"PAR1,ORC\n1,2\n",
        b"ORC_ID,x\n",
        b"ORC\n1\n",
        b"BZh,x\n",
        b"Object,x\n",
        b"PK,x\n",
        b"7z,x\n",
        b"\xef\xbb\xbfid\n",
        "é,ü\n".encode("latin-1"),
        "日本\n".encode("shift-jis"),
        b"a,\0,b\n",
        b'\n{"a": 1}',
    ],
)
def test_text_is_text_whatever_its_letters(head: bytes) -> None:
    check_head(head, "text/csv", is_split=True)


@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_no_text_in_utf8_is_refused(text: str) -> None:
    head = text.encode(errors="ignore")
    if not head.startswith((b"PAR1", b"ORC", b"\x04\x22\x4d\x18", b"Obj\x01", b"PK\x03\x04", b"BZh")):
        check_head(head[:HEAD], "text/csv", is_split=True)


def test_wide_text_may_be_sent_whole_where_the_content_type_says_so() -> None:
    head = TEXT.encode("utf-16")[:HEAD]
    check_head(head, "text/csv; charset=utf-16", is_split=False)
    for content_type, is_split in (("text/csv; charset=utf-16", True), ("text/csv", False)):
        with pytest.raises(InvalidRequest, match="UTF-16"):
            check_head(head, content_type, is_split=is_split)


@pytest.mark.parametrize(
    ("content_type", "promises_text"),
    [
        ("text/csv", True),
        ("TEXT/CSV;charset=utf-8", True),
        ("text/plain", True),
        ("application/json", True),
        ("application/jsonlines", True),
        ("application/x-ndjson", True),
        ("application/geo+json", True),
        ("application/x-parquet", False),
        ("application/octet-stream", False),
        ("application/gzip", False),
        ("image/png", False),
        ("", False),
        (None, False),
    ],
)
def test_a_content_type_promises_text_or_not(content_type: str | None, promises_text: bool) -> None:
    assert is_text(content_type) is promises_text


@pytest.mark.parametrize(
    ("key", "content_type", "speaks_of"),
    [
        ("in/x.csv", "text/csv", None),
        ("in/x.csv.gz", "text/csv", "gzip"),
        ("in/X.GZ", "application/jsonlines", "gzip"),
        ("in/x.parquet", "text/csv", "Parquet"),
        ("in/x.snappy.parquet", "text/csv", "Parquet"),
        ("in/x.parquet", "application/x-parquet", None),
        ("in/x.parquet", None, None),
        ("in.parquet/x.csv", "text/csv", None),
        ("in/gz", "text/csv", None),
    ],
)
def test_a_name_speaks_of_a_format(key: str, content_type: str | None, speaks_of: str | None) -> None:
    assert format_by_name(key, content_type) == speaks_of


FIELDS = st.text(st.sampled_from(list('ab",;| \t\r\n5é')), max_size=6)
ROWS = st.lists(st.lists(FIELDS, min_size=2, max_size=4), min_size=1, max_size=6)


@given(
    ROWS,
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
)
@example([["1", "a\nb"]], csv.QUOTE_ALL, ",", False)
def test_rows_as_a_csv_writer_writes_them_are_whole_but_for_line_feeds_in_fields(
    rows: list[list[str]], quoting: int, separator: str, windows: bool
) -> None:
    end = "\r\n" if windows else "\n"
    place = 0
    for row in rows:
        if any("\n" in value for value in row):
            break
        place += len(written([row], quoting, separator, end))
    assert whole_csv_lines(written(rows, quoting, separator, end)) == place


def written(rows: list[list[str]], quoting: int, separator: str, end: str) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, delimiter=separator, lineterminator=end).writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


@given(st.lists(st.lists(st.from_regex(r'[a-z0-9 ]["a-z0-9 ]*', fullmatch=True), max_size=4), max_size=6))
@example([['5" pipe', "1"], ['he said "no', "2"]])
def test_a_quote_inside_of_an_unquoted_field_is_text(rows: list[list[str]]) -> None:
    block = "".join(",".join(row) + "\n" for row in rows).encode()
    assert whole_csv_lines(block) == len(block)


@pytest.mark.parametrize(
    ("block", "whole"),
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
        (b'a;"b\n', 0),
        (b'a, "b\n', 6),
        (b'"a"b"\n', 6),
        (b"a\r\n", 3),
        (b"a\r\r\n", 4),
        (b"a\rb\n", 0),
        (b"a\nb\rc\r\n", 2),
        (b"a\r", 2),
        (b'"a\rb","c\r"\n', 11),
        (b'"a\rb",c\rd\n', 0),
    ],
)
def test_lines_are_whole_records_or_not(block: bytes, whole: int) -> None:
    assert whole_csv_lines(block) == whole


def test_many_carriage_returns_in_a_long_quoted_field_are_read_once() -> None:
    block = b'1,"' + b"a\r" * 500_000 + b'"\n'
    assert whole_csv_lines(block) == len(block)


@given(
    st.lists(st.sampled_from([b"a", b'"', b'"', b",", b"|", b"\r", b" "]), max_size=24).map(b"".join),
    st.lists(st.integers(0, 24), max_size=6),
)
@example(b'"a""b"', [3])
@example(b'"a""', [3])
@example(b'a""', [2])
@example(b"a\rb", [2])
def test_a_line_in_pieces_is_whole_as_it_is_at_once(line: bytes, cuts: list[int]) -> None:
    read, places = CsvLine(), [0, *sorted(min(cut, len(line)) for cut in cuts), len(line)]
    for begin, end in itertools.pairwise(places):
        read.add(line[begin:end])
    assert read.is_whole is (whole_csv_lines(line) == len(line))
