"""Read a manifest from S3, in either of its forms: JSON Lines one by one, or an array with a prefix as a whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from airflow_sm_plugin._log import get_log
from airflow_sm_plugin.batches.inputs import BatchInput, ManifestEntry, entry_of_line
from airflow_sm_plugin.core.manifest_array import LARGEST_ARRAY, parse_array
from airflow_sm_plugin.core.s3 import S3Uri, relative_key
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects

log = get_log(__name__)

_SHOWN = 10


async def manifest_entries(
    s3: S3Objects, location: str, *, target_models: bool
) -> AsyncGenerator[ManifestEntry, None]:
    """Yield what a manifest lists, in order. Close it (``contextlib.aclosing``).

    :param target_models: whether a line may say which model is its input's
    :raises InputNotFound: there is no such manifest
    :raises InvalidRequest: it is none; the message says which line or element is not what it must be
    :raises ServiceError: S3 refused, or did not answer at any attempt
    """
    number, is_begun, array = 0, False, _Array(location)
    passed_over: dict[str, None] = {}
    async with aclosing(s3.read_lines(location, longest=LARGEST_ARRAY)) as lines:
        async for line in lines:
            number += 1
            if not is_begun:
                is_begun = bool(line.strip("\ufeff \t\r"))
                array.is_one = line.lstrip("\ufeff \t").startswith("[")
            if array.is_one:
                array.add(line)
                continue
            entry = entry_of_line(line, number=number, target_models=target_models)
            if entry is None:
                continue
            if entry.passed_over and len(passed_over) <= _SHOWN:
                passed_over |= dict.fromkeys(entry.passed_over)
            yield entry
    for entry in array.entries():
        yield entry
    if passed_over:
        names = [f"{name!r:.80}" for name in list(passed_over)[:_SHOWN]]
        more = " and more" if len(passed_over) > _SHOWN else ""
        log.info("%s: its lines have keys that are passed over: %s%s", location, ", ".join(names), more)


class _Array:
    """A manifest that is one JSON array, as far as it was read."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._lines: list[str] = []
        self._size = 0
        self.is_one = False

    def add(self, line: str) -> None:
        self._size += len(line) + 1
        if self._size > LARGEST_ARRAY:
            raise InvalidRequest(
                f"the manifest {self._location} is a JSON array of more than {LARGEST_ARRAY} bytes, which is read as a "
                f"whole: write JSON Lines, which may have any size, or several manifests"
            )
        self._lines.append(line)

    def entries(self) -> Iterator[ManifestEntry]:
        if not self.is_one:
            return
        prefix, names = parse_array("\n".join(self._lines).lstrip("\ufeff"))
        self._lines.clear()
        top = S3Uri.parse(prefix, name="the prefix of the manifest").key
        for number, name in enumerate(names, start=2):
            place = f"element {number}"
            if name.startswith("s3://"):
                raise InvalidRequest(
                    f"{place} of the manifest is {name!r:.200}: names are relative to the prefix, {prefix!r:.200}, "
                    f"which stands before each; leave bucket and prefix out, or write JSON Lines of source-ref"
                )
            try:
                key = S3Uri.parse_object(prefix + name, name=f"{place} of the manifest").key
            except InvalidS3Uri as error:
                raise InvalidS3Uri(f"{error}; it is the prefix with the element behind it") from None
            one = BatchInput(source=prefix + name, relative=relative_key(top, key))
            yield ManifestEntry(place=place, input=one)
