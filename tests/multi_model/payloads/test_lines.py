"""Blocks are whole lines; together with the lines that are counted they are the bytes that were fed."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.multi_model.payloads.lines import DividedLine, LineReader

CHUNKS = st.lists(st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r", b" "])).map(b"".join), max_size=12)


@given(CHUNKS, st.integers(1, 6))
def test_blocks_end_with_lf_and_hold_all_but_what_is_too_long(chunks: list[bytes], longest: int) -> None:
    lines = LineReader(longest=longest)
    blocks = list(itertools.chain.from_iterable(lines.feed(chunk) for chunk in chunks))
    assert all(block.endswith(b"\n") for block in blocks if isinstance(block, bytes))
    data, offset = b"".join(chunks), 0
    for block in [*blocks, *lines.finish()]:
        if isinstance(block, bytes):
            assert data[offset : offset + len(block)] == block
            offset += len(block)
        else:
            assert not isinstance(block, DividedLine)  # no CSV
            line = data[offset : offset + block.length].removesuffix(b"\n").removesuffix(b"\r")
            assert b"\n" not in line
            assert block.size == (len(line) if line.strip(b" \r") else 0)
            assert len(line) > longest
            offset += block.length
    assert offset == len(data)


def test_a_chunk_of_whole_lines_is_not_copied() -> None:
    chunk = b"a\nb\n"
    (block,) = LineReader(longest=1).feed(chunk)
    assert block is chunk
