"""Inputs as payloads: all of an input, or its gaps without a result, plain or compressed."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncGenerator
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.aws.s3.objects import S3Objects
from airflow_sm_plugin.batches.inputs import BatchInput
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.multi_model.payloads.payload import Payload, SplitOptions
from airflow_sm_plugin.multi_model.payloads.source import payloads
from airflow_sm_plugin.multi_model.state.journal import Gap


class InPieces:
    """An object that arrives in pieces of one size."""

    def __init__(self, body: bytes, size: int) -> None:
        self._body = body
        self._size = size

    async def chunks(self, _: str, *, etag: str | None, start: int = 0) -> AsyncGenerator[bytes]:
        assert etag == "e"
        for begin in range(start, len(self._body), self._size):
            yield self._body[begin : begin + self._size]


def read(body: bytes, size: int, options: SplitOptions, *, gunzip: bool, gaps: list[Gap]) -> list[Payload]:
    async def collect() -> list[Payload]:
        batch_input = BatchInput(source="s3://b/k", size=len(body), etag="e")
        s3 = cast("S3Objects", InPieces(body, size))
        return [
            each
            async for several in payloads(s3, batch_input, options, gunzip=gunzip, gaps=gaps)
            for each in several
        ]

    return asyncio.run(collect())


@pytest.mark.parametrize("size", [3, 7, 65_536])
@pytest.mark.parametrize("gunzip", [False, True])
@pytest.mark.parametrize("content_type", ["text/csv", "text/tab-separated-values"])
@pytest.mark.parametrize("header", ["id;text", "x;" * 3_000])
def test_a_resume_in_the_middle_ends_where_the_first_try_would_have_ended(
    size: int, gunzip: bool, content_type: str, header: str
) -> None:
    """The separator is known from the first line only, so the resume reads that line again."""
    separator = "\t" if "tab" in content_type else ";"
    text = f'{header}\n1;a, b\n2;c, d\n3;e, f\n4;"g, h\n"\n'.replace(";", separator)
    options = SplitOptions(content_type=content_type, skip_header=True)
    body = text.encode()
    stored = gzip.compress(body) if gunzip else body
    second, third = text.index("2"), text.index("3", len(header))
    for gaps in (
        [Gap(0, None, 0)],
        [Gap(second, None, 1)],
        [Gap(second, third, 1), Gap(third, None, 2)],
        [Gap(0, second, 0), Gap(third, None, 2)],
    ):
        with pytest.raises(InvalidRequest, match=f"the line at byte {text.index('4')}, where record 3 "):
            read(stored, size, options, gunzip=gunzip, gaps=gaps)


LINES = st.lists(st.sampled_from([b"", b"a", b"bb", b"ccc,ccc", b"\xff\xfe"]), max_size=12)


@given(
    lines=LINES,
    size=st.integers(1, 9),
    records=st.none() | st.integers(1, 3),
    header=st.booleans(),
    gunzip=st.booleans(),
    data=st.data(),
)
def test_the_gaps_between_recorded_payloads_have_exactly_the_others(
    *,
    lines: list[bytes],
    size: int,
    records: int | None,
    header: bool,
    gunzip: bool,
    data: st.DataObject,
) -> None:
    """Whichever payloads were recorded before a kill, the resume sends exactly the others."""
    body = b"\n".join(lines)
    stored = gzip.compress(body) if gunzip else body
    strategy = "SingleRecord" if records is None else "MultiRecord"
    options = SplitOptions(batch_strategy=strategy, max_records=records, skip_header=header)
    all_payloads = read(stored, size, options, gunzip=gunzip, gaps=[Gap(0, None, 0)])
    recorded = data.draw(
        st.sets(st.sampled_from(range(len(all_payloads)))) if all_payloads else st.just(set[int]())
    )
    gaps: list[Gap] = []
    end, record = 0, 0
    for index, each in enumerate(all_payloads):
        if index in recorded:
            if each.first_record > record:
                gaps.append(Gap(end, each.start, record))
            end, record = each.end, each.first_record + each.records
    gaps.append(Gap(end, None, record))
    rest = read(stored, size, options, gunzip=gunzip, gaps=gaps)
    assert rest == [each for index, each in enumerate(all_payloads) if index not in recorded]
