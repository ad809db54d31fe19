"""Read a manifest from S3, and check the objects that it lists.

JSON Lines are read line by line, an array with a prefix as a whole. The objects are checked before anything is sent,
because SageMaker accepts the location of a missing object and fails the request later. All functions raise ServiceError
where S3 refuses, or does not answer at any attempt.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.aws.s3.listing import ListedObject
from airflow_sm_plugin.batches.inputs import BatchInput, ManifestEntry, entry_of_line
from airflow_sm_plugin.core.manifest_array import LARGEST_ARRAY, parse_array
from airflow_sm_plugin.core.s3 import Presence, S3Uri, relative_key
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest, InvalidS3Uri

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

HEADS_AT_ONCE = 32
"""HeadObject requests in flight, if S3 has as many connections. So many entries of a manifest are in memory."""

_SHOWN_KEYS = 10
_SHOWN_INPUTS = 5


async def manifest_entries(
    s3: S3Objects, location: str, *, target_models: bool
) -> AsyncGenerator[ManifestEntry, None]:
    """Yield the entries of a manifest, in order. Close it (``contextlib.aclosing``).

    :param target_models: whether a line may contain ``target-model``
    :raises InputNotFound: there is no such manifest
    :raises InvalidRequest: a line or an element, which the message names, is not valid
    """
    line_number, is_begun, array = 0, False, _Array(location)
    passed_over: dict[str, None] = {}
    async with aclosing(s3.read_lines(location, longest=LARGEST_ARRAY)) as lines:
        async for line in lines:
            line_number += 1
            if not is_begun:
                is_begun = bool(line.strip("\ufeff \t\r"))
                array.is_used = line.lstrip("\ufeff \t").startswith("[")
            if array.is_used:
                array.add(line)
                continue
            entry = entry_of_line(line, number=line_number, target_models=target_models)
            if entry is None:
                continue
            if entry.passed_over and len(passed_over) <= _SHOWN_KEYS:
                passed_over |= dict.fromkeys(entry.passed_over)
            yield entry
    for entry in array.entries():
        yield entry
    if passed_over:
        names = [f"{name!r:.80}" for name in list(passed_over)[:_SHOWN_KEYS]]
        more = " and more" if len(passed_over) > _SHOWN_KEYS else ""
        log.info("%s: its lines have keys that are passed over: %s%s", location, ", ".join(names), more)


@dataclasses.dataclass
class _Array:
    """The lines of a manifest that is one JSON array, as far as they were read."""

    location: str
    lines: list[str] = dataclasses.field(default_factory=list)
    size: int = 0
    is_used: bool = False

    def add(self, line: str) -> None:
        self.size += len(line) + 1
        if self.size > LARGEST_ARRAY:
            raise InvalidRequest(
                f"the manifest {self.location} is a JSON array of more than {LARGEST_ARRAY} bytes, which is read as a "
                f"whole: write JSON Lines, which may have any size, or several manifests"
            )
        self.lines.append(line)

    def entries(self) -> Iterator[ManifestEntry]:
        if not self.is_used:
            return
        prefix, names = parse_array("\n".join(self.lines).lstrip("\ufeff"))
        self.lines.clear()
        top = S3Uri.parse(prefix, name="the prefix of the manifest").key
        for number, name in enumerate(names, start=2):
            position = f"element {number}"
            if name.startswith("s3://"):
                raise InvalidRequest(
                    f"{position} of the manifest is {name!r:.200}: names are relative to the prefix, {prefix!r:.200}, "
                    f"which stands before each; leave bucket and prefix out, or write JSON Lines of source-ref"
                )
            try:
                key = S3Uri.parse_object(prefix + name, name=f"{position} of the manifest").key
            except InvalidS3Uri as error:
                raise InvalidS3Uri(f"{error}; it is the prefix with the element behind it") from None
            yield ManifestEntry(
                position=position, input=BatchInput(source=prefix + name, relative=relative_key(top, key))
            )


async def checked_inputs(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry], *, manifest: str
) -> AsyncGenerator[BatchInput, None]:
    """Yield the inputs in their order, with size and ETag. Where S3 denies access, yield them unchanged.

    After a missing input the others are still checked, so that the error has the number of all missing ones.

    :raises InputNotFound: at the end, if some inputs do not exist
    """
    missing, missing_count, forbidden = list[ManifestEntry](), 0, 0
    async with aclosing(_heads(s3, entries)) as heads:
        async for entry, head in heads:
            if head is Presence.ABSENT:
                missing_count += 1
                missing += [entry] if missing_count <= _SHOWN_INPUTS else []
            if missing:
                continue
            if isinstance(head, ListedObject):
                yield dataclasses.replace(entry.input, size=head.size, etag=head.etag or None)
            else:
                forbidden += 1
                yield entry.input
    if missing:
        raise _not_found(missing, missing_count, manifest)
    if forbidden:
        log.warning(
            "%d inputs of %s cannot be checked: S3 answered 403, as it does without s3:GetObject, and for missing "
            "objects without s3:ListBucket; they are sent unchecked",
            forbidden,
            manifest,
        )


async def _heads(
    s3: S3Objects, entries: AsyncIterable[ManifestEntry]
) -> AsyncGenerator[tuple[ManifestEntry, ListedObject | Presence], None]:
    """Yield each entry with the answer to its HeadObject, in order."""
    waiting: deque[tuple[ManifestEntry, asyncio.Task[ListedObject | Presence]]] = deque()
    try:
        async for entry in entries:
            if len(waiting) == HEADS_AT_ONCE:
                yield waiting[0][0], await waiting[0][1]
                waiting.popleft()
            waiting.append((entry, asyncio.create_task(s3.stat(entry.input.source))))
        for entry, head in waiting:
            yield entry, await head
    finally:
        for _, head in waiting:
            head.cancel()
        await asyncio.gather(*(head for _, head in waiting), return_exceptions=True)


def _not_found(missing: list[ManifestEntry], count: int, manifest: str) -> InputNotFound:
    """Make the error about missing inputs, of which *missing* are the first."""
    subject, verb = ("an input", "does") if count == 1 else (f"{count} inputs", "do")
    shown = [
        f"{entry.position}: {entry.input.source}"
        + (" (the prefix with the element behind it)" if entry.position.startswith("element") else "")
        for entry in missing
    ]
    more = f"; and {count - len(missing)} more" if count > len(missing) else ""
    return InputNotFound(
        f"{subject} of the manifest {manifest} {verb} not exist: {'; '.join(shown)}{more}. Nothing was sent",
        do="upload what is missing, or take it out of the manifest",
    )
