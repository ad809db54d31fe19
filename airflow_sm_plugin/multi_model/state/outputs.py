"""Write what an input comes to: ``.out``, ``.errors.jsonl``, ``.attributes.jsonl``; each at once and whole.

From memory where all of it is there; else put together from the journal's data objects, by S3 itself where a range is
long enough for a part of a multipart upload, so that neither memory nor this process sees it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.aws.s3.upload import LEAST_PART_BYTES
from airflow_sm_plugin.batches.folder import ATTRIBUTES, ERRORS
from airflow_sm_plugin.batches.listing import pages_below
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.multi_model.state.byte_ranges import (
    ByteRange,
    PackedRanges,
    joined,
    parts_of,
    reads_of,
)
from airflow_sm_plugin.multi_model.state.fenced_objects import Check, FencedObjects

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.aws.s3.upload import MultipartUpload
    from airflow_sm_plugin.batches.inputs import BatchInput
    from airflow_sm_plugin.multi_model.state.journal import Placed, PlacedFailure
    from airflow_sm_plugin.multi_model.state.upload_records import UploadRecords

_MOST_PARTS = 9_000
_LARGE_AT_ONCE = 2
"""Outputs put together at the same time; each has one part in memory, and what was read for it."""

_READS_AT_ONCE = 8

_JSON_LINES = "application/jsonl"


class OutputWriter:
    """Write the outputs of a shard's inputs, as long as the shard is this process's.

    :param outputs: ``s3://bucket/prefix``
    :param content_type: of ``.out``
    :param data_prefix: where the journal's data objects lie
    :param mark: which batch and process writes them; no other process's
    :param records: of uploads in parts
    :param check: raises FencedOff where another process had taken the shard over before it was called
    :param check_lately: the same, cheaper: what it says may be a second old; by default ``check``
    """

    def __init__(
        self,
        s3: S3Objects,
        outputs: str,
        *,
        content_type: str,
        data_prefix: str,
        mark: str,
        records: UploadRecords,
        options: ObjectOptions,
        check: Check,
        check_lately: Check | None = None,
    ) -> None:
        self._s3 = s3
        self._fenced = FencedObjects(s3, options, mark=mark, check=check, check_lately=check_lately or check)
        self._records = records
        self._outputs = outputs.rstrip("/")
        self._content_type = content_type
        self._data_prefix = data_prefix
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._stale: asyncio.Task[set[str]] | None = None

    def look_for_stale(self) -> None:
        """Begin to list the error and attribute files of earlier batches, which must not stay beside new outputs."""
        self._stale = asyncio.create_task(self._side_files())

    async def close(self) -> None:
        """Stop listing."""
        if self._stale is not None:
            self._stale.cancel()
            await asyncio.gather(self._stale, return_exceptions=True)

    def location(self, one: BatchInput, suffix: str = ".out") -> str:
        """Return where an input's output lies."""
        return f"{self._outputs}/{one.output}{suffix}"

    async def write(self, one: BatchInput, body: bytes, notes: bytes) -> None:
        """Write the outputs of an input without failures from memory.

        :param notes: rows of the response's attributes; empty for none
        :raises FencedOff: another process has taken the shard over: its outputs stay as they are
        """
        was_there, _ = await asyncio.gather(
            self._fenced.write(self.location(one), body, content_type=self._content_type),
            self._attributes(one, notes),
        )
        await self._remove_stale(one, [ERRORS] if notes else [ERRORS, ATTRIBUTES], was_there=was_there)

    async def assemble(
        self, one: BatchInput, runs: Iterable[Placed], failures: Sequence[PlacedFailure]
    ) -> None:
        """Write the outputs of an input from the journal's data objects: results, attributes, and rows of failures.

        :param runs: in the input's order; passed through once
        :raises FencedOff: another process has taken the shard over: its outputs stay as they are
        """
        output, notes = PackedRanges(self._data_prefix), PackedRanges(self._data_prefix)
        run = None
        for run, data in runs:
            output.add(data, run.at, run.size)
            notes.add(data, run.notes_at, run.notes_size)
        if run is not None or all(failure.records is not None for failure, _ in failures):
            was_there = await self._put_together(self.location(one), output, self._content_type)
        else:  # all of it could not be read
            was_there = True
            await self._fenced.delete(self.location(one))
        if notes.size:
            await self._put_beside(self.location(one, ATTRIBUTES), notes)
        if failures:
            await self._put_beside(self.location(one, ERRORS), self._rows(failures))
        stale = ([] if failures else [ERRORS]) + ([] if notes.size else [ATTRIBUTES])
        await self._remove_stale(one, stale, was_there=was_there)

    def _rows(self, failures: Sequence[PlacedFailure]) -> PackedRanges:
        rows = PackedRanges(self._data_prefix)
        # Sorted twice, for a million pairs of both keys would take a hundred megabytes.
        by_start = sorted(failures, key=lambda each: each.failure.start)
        for failure, data in sorted(by_start, key=lambda each: each.failure.first_record):
            rows.add(data, failure.at, failure.size)
        return rows

    async def _attributes(self, one: BatchInput, notes: bytes) -> None:
        if notes:
            location = self.location(one, ATTRIBUTES)
            if not await self._fenced.write(location, notes, content_type=_JSON_LINES):
                await self._fenced.confirm(location)

    async def _put_beside(self, location: str, rows: PackedRanges) -> None:
        """Write a side file. The shard's next owner may have none in its place: then ours must not stay."""
        if not await self._put_together(location, rows, _JSON_LINES):
            await self._fenced.confirm(location)

    async def _put_together(self, location: str, found: PackedRanges, content_type: str) -> bool:
        """Write an object, and return whether one was there before."""
        if found.size <= LEAST_PART_BYTES:
            body = await self._joined(list(found))
            return await self._fenced.write(location, body, content_type=content_type)

        async def fill(upload: MultipartUpload) -> None:
            most = max(LEAST_PART_BYTES, found.size // _MOST_PARTS)
            for part in parts_of(found, least=LEAST_PART_BYTES, most=most):
                if isinstance(part, ByteRange):
                    await upload.copy(*part)
                else:
                    await upload.add(await self._joined(part))

        async with self._large:
            return await self._fenced.upload(location, fill, content_type=content_type, records=self._records)

    async def _joined(self, wanted: list[ByteRange]) -> bytes:
        """Read what is wanted, a few reads at a time."""
        reads, bodies = reads_of(wanted), list[bytes]()
        for first in range(0, len(reads), _READS_AT_ONCE):
            some = reads[first : first + _READS_AT_ONCE]
            bodies += await asyncio.gather(*(self._s3.read_range(*read) for read in some))
        return joined(wanted, zip(reads, bodies, strict=True))

    # Side files of earlier batches

    async def _remove_stale(self, one: BatchInput, suffixes: Iterable[str], *, was_there: bool) -> None:
        """Delete side files that there are no rows for.

        :param was_there: whether there was an output: who wrote it may have written these since they were listed
        """
        listed = await self._stale if self._stale is not None else set()
        for suffix in suffixes:
            location = self.location(one, suffix)
            if was_there or location in listed:
                await self._fenced.delete(location)

    async def _side_files(self) -> set[str]:
        root, found = f"{self._outputs}/", set[str]()
        bucket = S3Uri.parse(root).bucket
        async for names in pages_below(self._s3, root):
            found.update(f"s3://{bucket}/{name}" for name in names if name.endswith((ERRORS, ATTRIBUTES)))
        return found
