"""Lines out of chunks."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.lines import LONGEST_LINE, LineSplitter
from airflow_sm_plugin.exceptions import InvalidRequest


def lines_of(*chunks: bytes) -> list[str]:
    splitter = LineSplitter("a text")
    found = [line for chunk in chunks for line in splitter.after(chunk)]
    return [*found, *splitter.rest()]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))), st.data())
def test_the_lines_do_not_depend_on_where_the_chunks_end(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert lines_of(*chunks) == lines


def test_the_last_line_needs_no_end_and_windows_ends_are_ends() -> None:
    assert lines_of(b"a\r\nb", b"\r", b"\n\nc") == ["a", "b", "", "c"]
    assert lines_of() == lines_of(b"") == []


def test_what_is_no_text_is_named_by_its_line() -> None:
    with pytest.raises(InvalidRequest, match="line 2 of a text is no UTF-8"):
        lines_of(b"a\n\xff\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]\n".encode("utf-16"), "is no UTF-8 text: it looks like UTF-16, as Excel and PowerShell write it"),
        (
            b"\xfe\xff" + "[]\n".encode("utf-16-be"),
            "is no UTF-8 text: it looks like UTF-16: write it as UTF-8",
        ),
        ("[]\n".encode("utf-16-le"), "holds NUL, as UTF-16 does: write it as UTF-8 text"),
        ("[]\n".encode("utf-16-be"), "holds NUL, as UTF-16 does: write it as UTF-8 text"),
        (gzip.compress(b"[]\n", mtime=0), "is no UTF-8 text: it looks like gzip: write it uncompressed"),
        (b"PK\x03\x04\x14\x00\x08\xff", "is no UTF-8 text: it looks like a ZIP file: write it as text"),
        ("Zürich".encode("latin-1"), "is no UTF-8 text: write it as UTF-8"),
    ],
)
def test_the_likely_format_of_no_text_is_named(text: bytes, said: str) -> None:
    for chunks in ([text], [text[:1], text[1:]]):
        with pytest.raises(InvalidRequest, match=f"line 1 of a text {said}"):
            lines_of(*chunks)


def test_memory_is_bounded_by_one_line() -> None:
    longest = b"x" * LONGEST_LINE
    assert lines_of(longest, b"\n", b"y") == [longest.decode(), "y"]
    with pytest.raises(InvalidRequest, match=r"line 2 of a text is longer than 1048576 bytes"):
        lines_of(b"\n", longest, b"x")
