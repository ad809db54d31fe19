"""A log of numbered objects in S3. The first writer of a number wins, by conditional writes (``If-None-Match``).

Claims, ledgers, journals and the choice of a plan use it: a process that wrote a number knows that no other did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_sm_plugin.batches.folder import numbered
from airflow_sm_plugin.batches.listing import listed_names, names_below
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.exceptions import PreconditionFailed

if TYPE_CHECKING:
    from airflow_sm_plugin.aws.s3.objects import S3Objects


@dataclass(frozen=True)
class NumberedLog:
    """Entries 0, 1, 2, … below a prefix. Every call raises ServiceError where S3 refused, or did not answer.

    :param prefix: ``s3://…/`` with a slash at its end
    """

    s3: S3Objects
    prefix: str

    async def latest(self) -> int:
        """List the log for the number of the last entry; -1 for an empty log.

        The number in the last name decides, not the count of objects: a lifecycle rule may have deleted the first ones.
        """
        names = await names_below(self.s3, self.prefix)
        return int(names[-1].rpartition("/")[2].removesuffix(".json")) if names else -1

    async def length(self) -> int | None:
        """Count the entries; None where some of them are missing."""
        names = await names_below(self.s3, self.prefix)
        top = S3Uri.parse(self.prefix).key
        return len(names) if names == [numbered(top, number) for number in range(len(names))] else None

    async def goes_on_after(self, number: int) -> bool:
        uri, entry = S3Uri.parse(self.prefix), S3Uri.parse(numbered(self.prefix, number))
        return bool((await listed_names(self.s3, uri.bucket, uri.key, start_after=entry.key)).names)

    async def read(self, number: int) -> bytes:
        """Read an entry; raise InputNotFound if there is none."""
        return await self.s3.read(numbered(self.prefix, number))

    async def write(self, number: int, body: bytes) -> bool:
        """Write an entry; return False where another writer was first.

        :param body: unique to this writer: an entry with this body is its own, of a write whose answer was lost
        """
        location = numbered(self.prefix, number)
        try:
            await self.s3.write(location, body, only_if_new=True)
        except PreconditionFailed:
            return await self.s3.read_if_any(location) == body
        return True
