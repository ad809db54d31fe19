"""Inputs as payloads: whole, or what has no result yet, plain or compressed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.batch.payload_source import payloads
from airflow_sm_plugin.core.batch_journal import Gap
from airflow_sm_plugin.core.input_manifest import BatchInput
from airflow_sm_plugin.core.payloads import Payload, SplitOptions
from airflow_sm_plugin.hooks.s3_objects import S3Objects


class InPieces:
    """An object that comes in pieces of one size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body = body
        self._size = size

    async def chunks(self, _: str, *, etag: str | None, start: int = 0) -> AsyncGenerator[bytes]:
        assert etag == "e"
        for at in range(start, len(self._body), self._size):
            yield self._body[at : at + self._size]


def read(body: bytes, size: int, options: SplitOptions, *, gunzip: bool, gaps: list[Gap]) -> list[Payload]:
    async def collect() -> list[Payload]:
        one = BatchInput(source="s3://b/k", size=len(body), etag="e")
        s3 = cast("S3Objects", InPieces(body, size))
        return [
            each async for several in payloads(s3, one, options, gunzip=gunzip, gaps=gaps) for each in several
        ]

    return asyncio.run(collect())


LINES = st.lists(st.sampled_from([b"", b"a", b"bb", b"ccc,ccc", b"\xff\xfe"]), max_size=12)


@given(
    lines=LINES,
    size=st.integers(1, 9),
    records=st.none() | st.integers(1, 3),
    header=st.booleans(),
    gunzip=st.booleans(),
    data=st.data(),
)
def test_the_gaps_between_known_payloads_give_exactly_the_others(
    *,
    lines: list[bytes],
    size: int,
    records: int | None,
    header: bool,
    gunzip: bool,
    data: st.DataObject,
) -> None:
    """Whatever was written down before a kill, the resume sends the rest and nothing else."""
    body = b"\n".join(lines)
    stored = gzip.compress(body) if gunzip else body
    strategy = "SingleRecord" if records is None else "MultiRecord"
    options = SplitOptions(batch_strategy=strategy, max_records=records, skip_header=header)
    whole = read(stored, size, options, gunzip=gunzip, gaps=[Gap(0, None, 0)])
    known = data.draw(st.sets(st.sampled_from(range(len(whole)))) if whole else st.just(set[int]()))
    gaps: list[Gap] = []
    at, record = 0, 0
    for number, each in enumerate(whole):
        if number in known:
            if each.first_record > record:
                gaps.append(Gap(at, each.start, record))
            at, record = each.end, each.first_record + each.records
    gaps.append(Gap(at, None, record))
    rest = read(stored, size, options, gunzip=gunzip, gaps=gaps)
    assert rest == [each for number, each in enumerate(whole) if number not in known]
