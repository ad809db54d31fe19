"""Who owns a batch: each process that begins takes a claim, a number, and the later one owns it.

Two processes may believe that a batch is theirs: a killed worker's orphan goes on while the retry starts.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Protocol

from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.exceptions import FencedOff, PreconditionFailed

if TYPE_CHECKING:
    from airflow_sm_plugin.hooks.s3_objects import S3Objects

RACES = 20
"""How often a number that another writer was faster with is tried again."""


class ClaimedFolder(Protocol):
    """A folder in S3 that processes take claims on."""

    @property
    def location(self) -> str:
        """``s3://…`` without a slash at its end."""

    @property
    def claims(self) -> str:
        """The prefix of the claims."""

    def claim(self, number: int) -> str:
        """Return where one claim lies."""


class Claim:
    """One process's claim on a batch: the later one owns it."""

    def __init__(self, s3: S3Objects, folder: ClaimedFolder, *, token: str, number: int) -> None:
        self._s3 = s3
        self._folder = folder
        self.token = token
        self.number = number

    @classmethod
    async def taken(cls, s3: S3Objects, folder: ClaimedFolder, *, token: str) -> Claim:
        """Take the next number.

        :param token: what no other process has
        :raises ServiceError: S3 refused or did not answer
        """
        for _ in range(RACES):
            number = len(await names_below(s3, folder.claims))
            body = json.dumps({"token": token, "at": time.time()}).encode()
            try:
                await s3.write(folder.claim(number), body, only_if_new=True)
            except PreconditionFailed:
                continue
            return cls(s3, folder, token=token, number=number)
        raise FencedOff(f"{folder.location}: {RACES} other processes claimed this batch meanwhile")

    async def check(self) -> None:
        """Make sure that nobody has taken the batch over since.

        :raises FencedOff: somebody has
        """
        uri = S3Uri.parse(self._folder.claims)
        mine = S3Uri.parse(self._folder.claim(self.number)).key
        if (await self._s3.list_names(uri.bucket, uri.key, start_after=mine)).names:
            raise fenced_off(self._folder.location)


def fenced_off(location: str) -> FencedOff:
    """Return the error of a process that is no longer the batch's owner."""
    return FencedOff(
        f"another process has taken over the batch in {location}, a retry of this task: this one, left behind, stops"
    )


async def names_below(s3: S3Objects, prefix: str) -> list[str]:
    """Return all keys below a prefix, in order."""
    uri, names, after = S3Uri.parse(prefix), list[str](), ""
    while True:
        page = await s3.list_names(uri.bucket, uri.key, start_after=after)
        names += page.names
        if page.next_start_after is None:
            return names
        after = page.next_start_after
