"""Write the shards of a plan to S3: their inputs in chunks, then which models they have."""

from __future__ import annotations

import asyncio
import itertools
import operator
from collections.abc import AsyncIterator, Container, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.inputs import CHUNK
from airflow_sm_plugin.multi_model.plan.packing import Piece
from airflow_sm_plugin.multi_model.plan.plan import ModelWork, ShardPlan
from airflow_sm_plugin.multi_model.plan.spool import PlanSpool
from airflow_sm_plugin.multi_model.state.folder import PlanFolder, ShardFolder

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

_WRITES_AT_ONCE = 8


async def write_shards(
    s3: S3Objects,
    spool: PlanSpool,
    packed: Sequence[Sequence[Piece]],
    *,
    folder: PlanFolder,
    missing: Container[str],
) -> None:
    """Write all shards; some chunks are on their way at once, none but these is in memory.

    :param packed: what each shard has
    :param missing: target models whose artefact is not there
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    async with _writing() as writes:
        for number, pieces in enumerate(packed):
            shard = _Shard(number, folder.shard(number))
            for location, body in shard.objects(spool, pieces, missing):
                await _room_among(writes)
                write = s3.write(location, body, content_type="application/jsonl")
                writes.add(asyncio.create_task(write))


@asynccontextmanager
async def _writing() -> AsyncIterator[set[asyncio.Task[None]]]:
    """Have a set of writes for the block; at its end they are done, or if it fails nothing of them goes on."""
    writes = set[asyncio.Task[None]]()
    try:
        yield writes
        while writes:
            await _one_of(writes)
    finally:
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)


async def _room_among(writes: set[asyncio.Task[None]]) -> None:
    while len(writes) >= _WRITES_AT_ONCE:
        await _one_of(writes)


async def _one_of(writes: set[asyncio.Task[None]]) -> None:
    """Wait for some of the writes and take them out; the first that failed is raised."""
    done, _ = await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    writes -= done
    for write in done:
        write.result()


class _Shard:
    """One shard being written."""

    def __init__(self, number: int, folder: ShardFolder) -> None:
        self._number = number
        self._folder = folder
        self._works: list[ModelWork] = []
        self._count = self._bytes = 0

    def objects(
        self, spool: PlanSpool, pieces: Sequence[Piece], missing: Container[str]
    ) -> Iterator[tuple[str, bytes]]:
        """Yield its objects: chunks of its inputs, and itself."""
        lines = self._lines(spool, pieces, missing)
        for chunk in itertools.count():
            body = "".join(itertools.islice(lines, CHUNK)).encode()
            if not body:
                break
            yield self._folder.inputs(chunk), body
        plan = ShardPlan(
            number=self._number, inputs=self._count, bytes=self._bytes, models=tuple(self._works)
        )
        yield self._folder.plan, plan.as_json()

    def _lines(self, spool: PlanSpool, pieces: Sequence[Piece], missing: Container[str]) -> Iterator[str]:
        for model, of_model in itertools.groupby(pieces, operator.attrgetter("target_model")):
            first, size = self._count, 0
            for line, bytes_ in itertools.chain.from_iterable(map(spool.lines_of, of_model)):
                self._count += 1
                size += bytes_
                yield f"{line}\n"
            self._bytes += size
            self._works.append(
                ModelWork(
                    target_model=model,
                    first=first,
                    count=self._count - first,
                    bytes=size,
                    missing=model in missing,
                )
            )
