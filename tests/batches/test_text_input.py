"""Text inputs: binary formats are recognized by their first bytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batches.text_input import HEAD, check_head, format_by_name, is_csv, is_text
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
    "UTF-16 of no US-ASCII but separators, little": (
        "日本,語\n東京,都\n".encode("utf-16-le"),
        "write it as UTF-8",
    ),
    "UTF-16 of no US-ASCII but separators, big": (
        "日本,語\n東京,都\n".encode("utf-16-be"),
        "write it as UTF-8",
    ),
    "UTF-16 of a long line": (("語" * 1_000 + "\n").encode("utf-16-le"), "write it as UTF-8"),
    "NumPy": (b"\x93NUMPY\x01\0v\0{'descr': '<f8'}", "split_type='None'"),
    "pickle": (pickle.dumps({"a": [1.5, "x"]}), "split_type='None'"),
    "a short pickle": (pickle.dumps(5, protocol=5), "split_type='None'"),
    "an old pickle": (pickle.dumps(5, protocol=2), "split_type='None'"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "split_type='None'"),
    "SAS": (b"\0" * 12 + b"\xc2\xea\x81\x60", "split_type='None'"),
    "SAS transport": (b"HEADER RECORD*******LIBRARY HEADER RECORD!!!!!!!000000", "split_type='None'"),
    "MATLAB": (b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM", "split_type='None'"),
    "PNG": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "split_type='None'"),
    "JPEG": (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "split_type='None'"),
    "SQLite": (b"SQLite format 3\0", "split_type='None'"),
    "text with a NUL": (b"a,\0,b\n", "write it as UTF-8"),
    "a NUL far behind": (b"a,b\n" * 1_000 + b"\0", "write it as UTF-8"),
    "UTF-32, little": (b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"), "write it as UTF-8"),
    "UTF-32, big": (b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"), "write it as UTF-8"),
    "UTF-32, little, without a mark": (TEXT.encode("utf-32-le"), "write it as UTF-8"),
}


@pytest.mark.parametrize(("head", "remedy"), NO_TEXT.values(), ids=NO_TEXT)
@pytest.mark.parametrize("content_type", ["text/csv", "Text/CSV; charset=utf-8", "application/jsonlines"])
def test_binary_inputs_are_refused_with_their_format_and_the_remedy(
    head: bytes, remedy: str, content_type: str
) -> None:
    with pytest.raises(InvalidRequest, match=r"the input looks like .* Nothing of it was sent") as refused:
        check_head(head[:HEAD], content_type, is_split=True)
    assert remedy in str(refused.value)
    assert len(str(refused.value)) < 350


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
        b"1\x012\x023\n",  # Hive's separators
        b"1\x1f2\x1e",
        b"1,2\r\n\x1a",  # as MS-DOS ended files
        b"page 1\x0cpage 2\n",
        "日本\n".encode("iso-2022-jp"),  # ESC
        "한국\n".encode("iso-2022-kr"),  # SO, SI
        b"it\x19s,\x10\n",  # what is left of other encodings
        b"%PDF,x\n",
        "€,x\n".encode("cp1252"),
        b'\n{"a": 1}',
    ],
)
def test_text_is_text_whatever_its_letters(head: bytes) -> None:
    check_head(head, "text/csv", is_split=True)


@given(st.text(st.characters(exclude_characters="\0"), max_size=40))
def test_no_text_in_utf8_is_refused(text: str) -> None:
    head = text.encode(errors="ignore")
    if not head.startswith(
        (b"PAR1", b"ORC", b"\x04\x22\x4d\x18", b"Obj\x01", b"PK\x03\x04", b"BZh", b"%PDF-")
    ):
        check_head(head[:HEAD], "text/csv", is_split=True)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-32-be"])
def test_wide_text_may_be_sent_whole_where_the_content_type_says_so(encoding: str) -> None:
    head = TEXT.encode(encoding)[:HEAD]
    check_head(head, "text/csv; charset=utf-16", is_split=False)
    for content_type, is_split in (("text/csv; charset=utf-16", True), ("text/csv", False)):
        with pytest.raises(InvalidRequest, match="UTF-"):
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
        ("application/csv", True),
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
    ("key", "content_type", "format_name"),
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
def test_a_suffix_stands_for_a_format(key: str, content_type: str | None, format_name: str | None) -> None:
    assert format_by_name(key, content_type) == format_name


@pytest.mark.parametrize(
    ("content_type", "is_of_csv"),
    [
        ("text/csv", True),
        ("text/csv; charset=utf-8; header=present", True),
        (" TEXT/CSV ;charset=utf-8", True),
        ("application/csv", True),
        ("text/x-csv", True),
        ("application/X-CSV", True),
        ("text/comma-separated-values", True),
        ("text/tab-separated-values", True),
        ("Text/Tab-Separated-Values; charset=utf-8", True),
        ("text/tsv", True),
        ("application/x-tsv", True),
        ("text/plain", False),
        ("application/jsonlines", False),
        ("application/vnd.csv+json", False),
        ("", False),
        (None, False),
    ],
)
def test_a_content_type_is_of_csv_or_not(content_type: str | None, is_of_csv: bool) -> None:
    assert is_csv(content_type) is is_of_csv
    assert not is_of_csv or is_text(content_type)


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/jsonlines", "application/x.y+json"]
)
@pytest.mark.parametrize(
    "head", [b"{\n", b"[\n  1,\n", b'{"a": [\n', b'[{"a": 1},\n', b'\xef\xbb\xbf\n{\r\n "a": 1', b'{"a":\n1}']
)
def test_json_that_is_divided_into_lines_is_refused(head: bytes, content_type: str) -> None:
    with pytest.raises(InvalidRequest, match=r'split_type="None"'):
        check_head(head, content_type, is_split=True)
    check_head(head, content_type, is_split=False)
    check_head(head, "text/csv", is_split=True)


@pytest.mark.parametrize(
    "head", [b'{"a": 1}\n', b"[1, 2]\n[3]\n", b"1\n2\n", b'"{"\n', b"{", b"", b"{broken}\n{}\n"]
)
def test_json_lines_are_taken_whatever_their_first_record_is(head: bytes) -> None:
    check_head(head, "application/jsonlines", is_split=True)
