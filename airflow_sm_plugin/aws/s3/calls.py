"""The calls of S3 that :class:`~airflow_sm_plugin.aws.s3.objects.S3Objects` is made of, whoever carries them out.

Each is one request, repeated by nobody here; they raise botocore's own errors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from airflow_sm_plugin.aws.s3.listing import ListedObject, ObjectPage, Page
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions, UploadCalls
from airflow_sm_plugin.core.s3 import S3Uri


@dataclass(frozen=True)
class OpenObject:
    """An object being read: its ETag as S3 spells it, and its bytes in chunks."""

    etag: str
    chunks: AsyncIterator[bytes]


class S3Calls(Protocol):
    """One request of S3 each."""

    @property
    def uploads(self) -> UploadCalls:
        """The calls of uploads in parts."""

    async def names(self, bucket: str, prefix: str, start_after: str, token: str = "") -> Page:
        """List one page, key names only.

        :param token: of the page before; empty for the first behind ``start_after``
        """

    async def objects(self, bucket: str, prefix: str, start_after: str, token: str = "") -> ObjectPage:
        """List one page, as :meth:`names`."""

    async def head(self, uri: S3Uri) -> ListedObject:
        """Return the object as a listing tells of it; an error answer says that it is not there."""

    async def get(self, uri: S3Uri, bytes_range: str | None) -> bytes:
        """Return an object or a part of it.

        :param bytes_range: ``bytes=first-last``
        """

    def opened(self, uri: S3Uri, start: int, etag: str) -> AbstractAsyncContextManager[OpenObject]:
        """Read an object piece by piece from byte ``start`` on, the very object with this ``etag`` if not empty."""

    async def put(
        self,
        uri: S3Uri,
        body: bytes,
        content_type: str,
        *,
        only_if_new: bool,
        if_match: str | None = None,
        options: ObjectOptions = PLAIN,
    ) -> None:
        """Write an object, under :func:`~airflow_sm_plugin.aws.s3.object_options.conditions`."""

    async def delete(self, uri: S3Uri, *, if_match: str | None = None) -> None:
        """Delete an object; that there was none is fine.

        :param if_match: only the object with this ETag, with or without quotes
        """
