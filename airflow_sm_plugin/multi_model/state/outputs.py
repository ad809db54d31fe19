"""Write the outputs of an input: ``.out``, ``.errors.jsonl``, ``.attributes.jsonl``; each appears only when complete.

Results in memory are written directly. Others are assembled from the journal's data objects: S3 copies each range
that is long enough for a part of a multipart upload, so that its bytes do not pass through this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.aws.s3.upload import LEAST_PART_BYTES
from airflow_sm_plugin.batches.folder import ATTRIBUTES, ERRORS
from airflow_sm_plugin.batches.listing import pages_below
from airflow_sm_plugin.batches.parallel import side_by_side
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import ResourceConflict
from airflow_sm_plugin.multi_model.state.byte_ranges import (
    ByteRange,
    PackedRanges,
    Read,
    parts_of,
    reads_of,
)
from airflow_sm_plugin.multi_model.state.fenced_objects import Check, FencedObjects, UploadRecords

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.object_options import ObjectOptions
    from airflow_sm_plugin.aws.s3.objects import S3Objects
    from airflow_sm_plugin.aws.s3.upload import MultipartUpload
    from airflow_sm_plugin.batches.inputs import BatchInput
    from airflow_sm_plugin.multi_model.state.journal import StoredFailure
    from airflow_sm_plugin.multi_model.state.records import Run

_MOST_PARTS = 9_000
"""Full joined parts of an upload. S3's limit is 10,000; the others are left for copied ranges and the joined parts
before them, which can be shorter."""

_LARGE_AT_ONCE = 2
"""Outputs assembled at the same time; each has one part in memory, and the reads for it."""

_READS_AT_ONCE = 4
"""Reads for one part at the same time, each of some hundred kilobytes up to the whole part."""

_JSON_LINES = "application/jsonl"


class OutputWriter:
    """Write the outputs of a shard's inputs, as long as this process owns the shard.

    :param outputs: ``s3://bucket/prefix``
    :param content_type: of ``.out``
    :param data_prefix: of the journal's data objects
    :param mark: see :class:`~airflow_sm_plugin.multi_model.state.fenced_objects.FencedObjects`, also for ``check`` and
        ``check_lately``
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
        check_lately: Check,
    ) -> None:
        self._s3 = s3
        self._fenced = FencedObjects(s3, options, mark=mark, check=check, check_lately=check_lately)
        self._records = records
        self._outputs = outputs.rstrip("/")
        self._content_type = content_type
        self._data_prefix = data_prefix
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._stale: asyncio.Task[set[str]] | None = None

    def start_listing(self) -> None:
        """Start to list the error and attribute files of earlier batches: new outputs must not have stale ones."""
        self._stale = asyncio.create_task(self._side_files())

    async def close(self) -> None:
        """Stop listing."""
        if self._stale is not None:
            self._stale.cancel()
            await asyncio.gather(self._stale, return_exceptions=True)

    def location(self, batch_input: BatchInput, suffix: str = ".out") -> str:
        return f"{self._outputs}/{batch_input.output}{suffix}"

    async def write(self, batch_input: BatchInput, body: bytes, notes: bytes) -> None:
        """Write the outputs of an input without failures from memory.

        :param notes: rows of the responses' attributes, or empty
        :raises FencedOff: another process has taken the shard over: its outputs are not changed
        """
        has_replaced, _ = await asyncio.gather(
            self._fenced.write(self.location(batch_input), body, content_type=self._content_type),
            self._write_notes(batch_input, notes),
        )
        stale = [ERRORS] if notes else [ERRORS, ATTRIBUTES]
        await self._remove_stale(batch_input, stale, has_replaced=has_replaced)

    async def assemble(
        self, batch_input: BatchInput, runs: Iterable[tuple[Run, str]], failures: Sequence[StoredFailure]
    ) -> None:
        """Write the outputs of an input from the journal's data objects: results, attributes, and rows of failures.

        :param runs: in the input's order, with the names of their data objects; read once
        :raises FencedOff: another process has taken the shard over: its outputs are not changed
        """
        output, notes = PackedRanges(self._data_prefix), PackedRanges(self._data_prefix)
        run = None
        for run, data in runs:
            output.add(data, run.offset, run.size)
            notes.add(data, run.notes_offset, run.notes_size)
        if run is not None or all(failure.records is not None for failure, _ in failures):
            has_replaced = await self._assemble(self.location(batch_input), output, self._content_type)
        else:  # no record of the input could be read
            has_replaced = True
            await self._fenced.delete(self.location(batch_input))
        stale = []
        for suffix, rows in ((ATTRIBUTES, notes), (ERRORS, self._rows(failures))):
            if rows.size:
                location = self.location(batch_input, suffix)
                await self._confirmed(location, self._assemble(location, rows, _JSON_LINES))
            else:
                stale.append(suffix)
        await self._remove_stale(batch_input, stale, has_replaced=has_replaced)

    def _rows(self, failures: Sequence[StoredFailure]) -> PackedRanges:
        rows = PackedRanges(self._data_prefix)
        # Sorted twice, because a million pairs of both keys would take a hundred megabytes.
        by_start = sorted(failures, key=lambda stored: stored.failure.start)
        for failure, data in sorted(by_start, key=lambda stored: stored.failure.first_record):
            rows.add(data, failure.offset, failure.size)
        return rows

    async def _write_notes(self, batch_input: BatchInput, notes: bytes) -> None:
        location = self.location(batch_input, ATTRIBUTES)
        if notes:
            await self._confirmed(location, self._fenced.write(location, notes, content_type=_JSON_LINES))

    async def _confirmed(self, location: str, write: Awaitable[bool]) -> None:
        """Confirm a new side file, because the next owner does not replace it if its own would be empty."""
        if not await write:
            await self._fenced.confirm(location)

    async def _assemble(self, location: str, ranges: PackedRanges, content_type: str) -> bool:
        """Write an object, and return whether it replaced another."""
        if ranges.size <= LEAST_PART_BYTES:
            body = await self._read(list(ranges))
            return await self._fenced.write(location, body, content_type=content_type)

        async def fill(upload: MultipartUpload) -> None:
            most = max(LEAST_PART_BYTES, ranges.size // _MOST_PARTS)
            for part in parts_of(ranges, least=LEAST_PART_BYTES, most=most):
                if isinstance(part, ByteRange):
                    await upload.copy(*part)
                else:
                    await upload.add(await self._read(part))

        async with self._large:
            return await self._fenced.upload(location, fill, content_type=content_type, records=self._records)

    async def _read(self, wanted: list[ByteRange]) -> bytearray:
        """Read ranges into one body; beside it only a few reads are in memory."""
        body = bytearray(sum(byte_range.size for byte_range in wanted))

        async def fill(read: Read) -> None:
            content = await self._s3.read_range(*read.source)
            if len(content) != read.source.size:
                raise ResourceConflict(
                    f"{read.source.location} is shorter than the journal says, so it was replaced. Remove the shard's "
                    f"state and clear the task: then the whole shard is done again"
                )
            read.fill(body, content)

        await side_by_side(fill, reads_of(wanted), at_once=_READS_AT_ONCE)
        return body

    # Side files of earlier batches

    async def _remove_stale(
        self, batch_input: BatchInput, suffixes: Iterable[str], *, has_replaced: bool
    ) -> None:
        """Delete the side files that have no new rows.

        :param has_replaced: whether there was an output: its writer can have written side files after the listing
        """
        listed = await self._stale if self._stale is not None else set()
        for suffix in suffixes:
            location = self.location(batch_input, suffix)
            if has_replaced or location in listed:
                await self._fenced.delete(location)

    async def _side_files(self) -> set[str]:
        root = f"{self._outputs}/"
        bucket = S3Uri.parse(root).bucket
        return {
            f"s3://{bucket}/{name}"
            async for names in pages_below(self._s3, root)
            for name in names
            if name.endswith((ERRORS, ATTRIBUTES))
        }
