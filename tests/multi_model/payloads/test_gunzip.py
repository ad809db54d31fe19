"""Decompression is bounded at every step, and refuses truncated or damaged data."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.source import MAX_PIECE_BYTES, Gunzip

DATA = st.binary(max_size=200)


def gunzip(data: bytes, size: int = 65_536) -> bytes:
    stream = Gunzip()
    pieces: list[bytes] = []
    for begin in range(0, len(data), size):
        pieces += stream.feed(data[begin : begin + size])
    stream.finish()
    assert all(0 < len(piece) <= MAX_PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@given(st.lists(st.tuples(DATA, st.integers(0, 20)), max_size=4), st.integers(1, 100))
def test_members_and_zeros_after_them_are_accepted_in_any_chunks(
    members: list[tuple[bytes, int]], size: int
) -> None:
    compressed = b"".join(gzip.compress(data) + bytes(zeros) for data, zeros in members)
    assert gunzip(compressed, size) == b"".join(data for data, _ in members)


@given(DATA, st.data())
def test_a_gzip_that_ends_too_early_is_refused(data: bytes, draw: st.DataObject) -> None:
    compressed = gzip.compress(data)
    cut = draw.draw(st.integers(1, len(compressed) - 1))
    with pytest.raises(InvalidRequest, match="no whole gzip: it ends too early"):
        gunzip(compressed[:cut])


@given(DATA, DATA.filter(lambda data: data.lstrip(b"\0")), st.integers(1, 100))
def test_other_data_than_gzip_are_refused(data: bytes, other: bytes, size: int) -> None:
    if not other.lstrip(b"\0").startswith(b"\x1f"):
        with pytest.raises(InvalidRequest, match="no whole gzip"):
            gunzip(gzip.compress(data) + other, size)


def test_a_damaged_gzip_is_refused() -> None:
    compressed = bytearray(gzip.compress(b"a,b\n" * 1_000))
    compressed[-8] ^= 1
    with pytest.raises(InvalidRequest, match=r"no whole gzip: .* incorrect data check"):
        gunzip(bytes(compressed))


def test_an_empty_object_is_empty() -> None:
    assert gunzip(b"") == b""


def test_a_bomb_is_decompressed_in_bounded_memory() -> None:
    compressor = zlib.compressobj(wbits=31)
    megabyte = bytes(2**20)
    bomb = b"".join(compressor.compress(megabyte) for _ in range(64)) + compressor.flush()
    stream = Gunzip()
    tracemalloc.start()
    try:
        size = sum(map(len, stream.feed(bomb)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stream.finish()
    assert size == 64 * 2**20
    assert peak < 2_000_000
