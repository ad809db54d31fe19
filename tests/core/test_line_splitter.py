"""Lines out of chunks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.line_splitter import LONGEST_LINE, LineSplitter
from airflow_sm_plugin.exceptions import InvalidRequest


def lines_of(*chunks: bytes) -> list[str]:
    splitter = LineSplitter("a text")
    found = [line for chunk in chunks for line in splitter.after(chunk)]
    return [*found, *splitter.rest()]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))), st.data())
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


def test_memory_is_bounded_by_one_line() -> None:
    longest = b"x" * LONGEST_LINE
    assert lines_of(longest, b"\n", b"y") == [longest.decode(), "y"]
    with pytest.raises(InvalidRequest, match=r"line 2 of a text is longer than 1048576 bytes"):
        lines_of(b"\n", longest, b"x")
