"""Write what an input comes to: ``.out``, ``.errors.jsonl``, ``.attributes.jsonl``; each at once and whole.

From memory where all of it is there; else put together from the journal's data objects, by S3 itself where a stretch is
long enough for a part of a multipart upload, so that neither memory nor this process sees it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from airflow_sm_plugin.core.batch_journal import Failure, Placed
from airflow_sm_plugin.core.output_parts import Copied, Joined, Stretch, joined, parts_of, reads_of, stretches
from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.hooks.s3_upload import MultipartUpload, abort_uploads
from airflow_sm_plugin.hooks.s3_upload_calls import ObjectOptions

if TYPE_CHECKING:
    from airflow_sm_plugin.core.input_manifest import BatchInput
    from airflow_sm_plugin.hooks.s3_objects import S3Objects

LEAST_PART = 5 * 1024 * 1024
"""Bytes: S3 takes smaller parts only at the end."""

_MOST_PARTS = 9_000
_LARGE_AT_ONCE = 2
"""Outputs put together at the same time; each has one part in memory, and what was read for it."""

_READS_AT_ONCE = 8

_JSON_LINES = "application/jsonl"


class OutputWriter:
    """Write the outputs of a shard's inputs.

    :param outputs: ``s3://bucket/prefix``
    :param content_type: of ``.out``
    :param data_prefix: where the journal's data objects lie
    """

    def __init__(
        self, s3: S3Objects, outputs: str, *, content_type: str, data_prefix: str, options: ObjectOptions
    ) -> None:
        self._s3 = s3
        self._outputs = outputs.rstrip("/")
        self._content_type = content_type
        self._data_prefix = data_prefix
        self._options = options
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
        """
        await asyncio.gather(
            self._put(self.location(one), body, self._content_type),
            self._side(one, ".attributes.jsonl", notes),
        )
        await self._remove_stale(one, keep_attributes=bool(notes))

    async def assemble(self, one: BatchInput, runs: Sequence[Placed], failures: Sequence[Failure]) -> None:
        """Write the outputs of an input from the journal's data objects, and its failures.

        :param runs: in the input's order
        """
        output = [Stretch(self._data(placed), placed.run.at, placed.run.size) for placed in runs]
        notes = [Stretch(self._data(placed), placed.run.notes_at, placed.run.notes_size) for placed in runs]
        unreadable = any(failure.records is None for failure in failures)
        if runs or not unreadable:
            await self._put_together(self.location(one), list(stretches(output)), self._content_type)
        else:
            await self._s3.delete(self.location(one))
        found = list(stretches(notes))
        if found:
            await self._put_together(self.location(one, ".attributes.jsonl"), found, _JSON_LINES)
        if failures:
            await self._put(
                self.location(one, ".errors.jsonl"), b"".join(error_rows(one, failures)), _JSON_LINES
            )
        await self._remove_stale(one, keep_attributes=bool(found), keep_errors=bool(failures))

    def _data(self, placed: Placed) -> str:
        return f"{self._data_prefix}{placed.data}"

    async def _side(self, one: BatchInput, suffix: str, body: bytes) -> None:
        if body:
            await self._put(self.location(one, suffix), body, _JSON_LINES)

    async def _put(self, location: str, body: bytes, content_type: str) -> None:
        await self._s3.write(location, body, content_type=content_type, options=self._options)

    async def _put_together(self, location: str, found: list[Stretch], content_type: str) -> None:
        total = sum(stretch.size for stretch in found)
        if total <= LEAST_PART:
            await self._put(location, await self._joined(found), content_type)
            return
        async with self._large:
            await abort_uploads(self._s3, location)
            upload = await MultipartUpload.begin(
                self._s3, location, content_type=content_type, options=self._options
            )
            try:
                for part in parts_of(found, least=LEAST_PART, most=max(LEAST_PART, total // _MOST_PARTS)):
                    await self._add(upload, part)
                await upload.complete()
            except BaseException:
                await asyncio.shield(upload.abort())
                raise

    async def _add(self, upload: MultipartUpload, part: Copied | Joined) -> None:
        if isinstance(part, Copied):
            await upload.copy(*part.stretch)
        else:
            await upload.add(await self._joined(part.stretches))

    async def _joined(self, wanted: list[Stretch]) -> bytes:
        """Read what is wanted, a few reads at a time."""
        reads, bodies = reads_of(wanted), list[bytes]()
        for first in range(0, len(reads), _READS_AT_ONCE):
            some = reads[first : first + _READS_AT_ONCE]
            bodies += await asyncio.gather(*(self._s3.read_range(*read) for read in some))
        return joined(wanted, zip(reads, bodies, strict=True))

    # Side files of earlier batches

    async def _remove_stale(
        self, one: BatchInput, *, keep_attributes: bool, keep_errors: bool = False
    ) -> None:
        stale = await self._stale if self._stale is not None else set()
        for suffix, keep in ((".errors.jsonl", keep_errors), (".attributes.jsonl", keep_attributes)):
            location = self.location(one, suffix)
            if not keep and location in stale:
                await self._s3.delete(location)

    async def _side_files(self) -> set[str]:
        uri, found, after = S3Uri.parse(f"{self._outputs}/"), set[str](), ""
        while True:
            page = await self._s3.list_names(uri.bucket, uri.key, start_after=after)
            found.update(
                f"s3://{uri.bucket}/{name}"
                for name in page.names
                if name.endswith((".errors.jsonl", ".attributes.jsonl"))
            )
            if page.next_start_after is None:
                return found
            after = page.next_start_after


def error_rows(one: BatchInput, failures: Iterable[Failure]) -> Iterator[bytes]:
    """Yield an input's failures as lines of JSON, in the input's order; the keys are always the same."""
    for failure in sorted(failures, key=lambda failure: (failure.first_record, failure.start)):
        row = error_row(one, failure)
        yield json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def error_row(one: BatchInput, failure: Failure) -> dict[str, object]:
    """Return what a row of errors tells."""
    return {
        "source": one.source,
        "target_model": one.target_model,
        "first_record": failure.first_record,
        "record_count": failure.records,
        "error": failure.error,
        "status": failure.status,
        "message": failure.message,
        "attempts": failure.attempts,
    }
