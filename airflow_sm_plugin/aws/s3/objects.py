"""S3 from an event loop: pages of listings, small objects whole, large ones by the line, writes that can be fenced."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.aws.calls import AwsCalls, open_calls
from airflow_sm_plugin.aws.connection import AwsConnection
from airflow_sm_plugin.aws.errors import meaning, status_of, translate, translated
from airflow_sm_plugin.aws.retry import NOT_FOUND, NOTHING_IN_RANGE, is_race_lost, presence_after, repeated
from airflow_sm_plugin.aws.s3.listing import (
    ListedObject,
    ObjectPage,
    Page,
    Wanted,
    names_in,
    objects_in,
    whole_page,
)
from airflow_sm_plugin.aws.s3.object_options import PLAIN, ObjectOptions, conditions, quoted_etag
from airflow_sm_plugin.aws.s3.stream import Reading
from airflow_sm_plugin.core.lines import LONGEST_LINE, LineSplitter
from airflow_sm_plugin.core.s3 import Presence, S3Uri, object_not_found
from airflow_sm_plugin.core.service_errors import Meaning
from airflow_sm_plugin.exceptions import AccessDenied, InputChanged, PreconditionFailed

__all__ = ["ListedObject", "ObjectPage", "Page", "S3Objects"]

_AnyPage = TypeVar("_AnyPage", Page, ObjectPage)


class S3Objects:
    """Objects in S3. Reads and writes are repeated over an outage of a minute; listings and :meth:`presence` are not.

    One of those that fails is a failed poll: whoever waits counts them. Nothing here logs content.

    :attr calls: the bare calls, each sent once
    :attr last_problem: the error of the last :meth:`presence` that S3 did not answer
    """

    def __init__(self, calls: AwsCalls, options: ObjectOptions = PLAIN) -> None:
        self.calls = calls
        self.last_problem = ""
        self._options = options

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AwsConnection, *, max_connections: int | None = None, options: ObjectOptions = PLAIN
    ) -> AsyncIterator[S3Objects]:
        """Open connections for the block.

        :param max_connections: how many at once; None is what ``botocore_config`` says (botocore's default: 10)
        :param options: how :meth:`write` keeps objects, unless that has its own
        :raises ServiceUnavailable: no credentials
        :raises InvalidRequest: no region
        """
        async with open_calls(connection, "s3", max_connections=max_connections) as calls:
            yield cls(calls, options)

    async def list_names(self, bucket: str, prefix: str, *, start_after: str = "") -> Page:
        """List one page of key names (up to 1,000) behind ``start_after``, in S3's order; empty only at the end.

        :raises ServiceError: S3 refused, throttled, did not answer, or what it answered is not what was asked for
        """
        return await self._listed(Wanted(bucket, prefix, start_after), names_in)

    async def list_objects(self, bucket: str, prefix: str, *, start_after: str = "") -> ObjectPage:
        """List one page of objects with sizes and ETags, as :meth:`list_names`."""
        return await self._listed(Wanted(bucket, prefix, start_after), objects_in)

    async def _listed(self, wanted: Wanted, read: Callable[[Mapping[str, Any]], _AnyPage]) -> _AnyPage:
        parameters = {"Bucket": wanted.bucket, "Prefix": wanted.prefix}
        if wanted.start_after:
            parameters["StartAfter"] = wanted.start_after

        async def page(token: str) -> _AnyPage:
            following = {"ContinuationToken": token} if token else {}
            return read(await self.calls.call("ListObjectsV2", **parameters, **following))

        with translated(f"s3:ListObjectsV2 {wanted}"):
            return await whole_page(page, wanted)

    async def presence(self, location: str) -> Presence:
        """Check whether an object exists; UNKNOWN where the service did not say.

        :raises SageMakerInferenceError: no request can be sent: no region, or a location that botocore refuses
        """
        uri = S3Uri.parse_object(location)
        try:
            await self._head(uri)
        except (ClientError, BotoCoreError) as error:
            presence = presence_after(error, location)
            if presence is Presence.UNKNOWN:
                self.last_problem = translate(error, f"s3:HeadObject {location}").reason
            return presence
        return Presence.PRESENT

    async def stat(self, location: str) -> ListedObject | Presence:
        """Read an object's size and ETag; ABSENT when there is none, FORBIDDEN without the permission.

        Repeated like a read, unlike :meth:`presence`. Without ``s3:ListBucket`` S3 calls a missing object FORBIDDEN.

        :raises ServiceError: S3 refused otherwise, or did not answer at any attempt
        """
        uri = S3Uri.parse_object(location)
        try:
            return await repeated(f"s3:HeadObject {location}", lambda: self._head(uri))
        except ClientError as error:
            if meaning(error) is Meaning.NOT_FOUND:
                return Presence.ABSENT
            if meaning(error) is Meaning.ACCESS_DENIED:
                return Presence.FORBIDDEN
            raise translate(error, f"s3:HeadObject {location}") from None

    async def _head(self, uri: S3Uri) -> ListedObject:
        response = await self.calls.call("HeadObject", Bucket=uri.bucket, Key=uri.key)
        metadata = {name.lower(): value for name, value in response.get("Metadata", {}).items()}
        size, etag = response.get("ContentLength", 0), response.get("ETag", "")
        return ListedObject(uri.key, size, etag.strip('"'), metadata or None)

    async def read(self, location: str, *, first_bytes: int | None = None) -> bytes:
        """Read an object, or its beginning.

        :raises InputNotFound: it does not exist
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        return await self._found(location, None if first_bytes is None else (0, first_bytes))

    async def read_range(self, location: str, start: int, length: int) -> bytes:
        """Read ``length`` bytes of an object from byte ``start`` on; fewer when it ends before.

        :raises InputNotFound: it does not exist
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        return await self._found(location, (start, length))

    async def read_if_any(self, location: str) -> bytes | None:
        """Read an object, None when it does not exist.

        :raises ServiceError: S3 refused, or did not answer at any attempt. Without ``s3:ListBucket`` it refuses to say
            that an object is missing
        """
        return await self._read(location, None)

    async def _found(self, location: str, part: tuple[int, int] | None) -> bytes:
        body = await self._read(location, part)
        if body is None:
            raise object_not_found(location)
        return body

    async def _read(self, location: str, part: tuple[int, int] | None) -> bytes | None:
        uri = S3Uri.parse_object(location)
        wanted = {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"} if part else {}

        async def get() -> bytes:
            response = await self.calls.call("GetObject", Bucket=uri.bucket, Key=uri.key, **wanted)
            body: bytes = response["Body"]
            return body

        try:
            return await repeated(f"s3:GetObject {location}", get)
        except ClientError as error:
            if part is not None and status_of(error) == NOTHING_IN_RANGE:  # it ends before its first byte
                return b""
            if meaning(error) is Meaning.NOT_FOUND:
                return None
            raise translate(error, f"s3:GetObject {location}") from None

    async def chunks(self, location: str, *, etag: str | None, start: int = 0) -> AsyncGenerator[bytes]:
        """Yield an object's bytes in pieces of up to 64 KiB; it is never in memory as a whole.

        A connection that breaks is opened again where it broke, over an outage of a minute.

        :param etag: of the object that is meant, with or without quotes; None takes any
        :param start: byte to begin at; at or behind the object's end nothing is left
        :raises InputNotFound: it does not exist
        :raises InputChanged: its ETag is another one, or another process wrote it meanwhile
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        reading = Reading(location, InputChanged, etag=quoted_etag(etag) if etag else "", done=start)
        async with aclosing(reading.chunks(self.calls)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def read_lines(self, location: str, *, longest: int = LONGEST_LINE) -> AsyncGenerator[str]:
        """Yield an object's lines, without their ends; the rest is as in :meth:`chunks`.

        :param longest: bytes that a line may have
        :raises InputNotFound: it does not exist
        :raises InvalidRequest: a line is no UTF-8 or longer
        :raises ServiceError: S3 refused, or did not answer at any attempt
        :raises PreconditionFailed: another process wrote the object meanwhile
        """
        lines = LineSplitter(location, longest=longest)
        async with aclosing(Reading(location, PreconditionFailed).chunks(self.calls)) as chunks:
            async for chunk in chunks:
                for line in lines.after(chunk):
                    yield line
        for line in lines.rest():
            yield line

    async def write(
        self,
        location: str,
        body: bytes | bytearray,
        *,
        content_type: str = "application/json",
        only_if_new: bool = False,
        if_match: str | None = None,
        options: ObjectOptions | None = None,
    ) -> None:
        """Write an object.

        :param only_if_new: only where there is none yet: the first of several writers wins
        :param if_match: only to replace the object with this ETag, with or without quotes; S3 wants the permission
            ``s3:GetObject`` for that, too
        :raises PreconditionFailed: one of these did not hold: another process wrote or deleted it. Not when it was an
            earlier attempt of this very call whose answer was lost
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        uri = S3Uri.parse_object(location)
        parameters: dict[str, Any] = {
            "Bucket": uri.bucket,
            "Key": uri.key,
            "Body": body,
            "ContentType": content_type,
            **(options or self._options).parameters(),
            **conditions(only_if_new=only_if_new, if_match=if_match),
        }
        attempts = 0

        async def put() -> None:
            nonlocal attempts
            attempts += 1
            await self.calls.call("PutObject", **parameters)

        try:
            await repeated(f"s3:PutObject {location}", put)
        except ClientError as error:
            if not is_race_lost(error) or not (only_if_new or if_match is not None):
                raise translate(error, f"s3:PutObject {location}") from None
            if attempts > 1 and await self._holds(location, body):
                return
            what = "written it before" if only_if_new else "replaced or deleted it"
            raise PreconditionFailed(f"s3:PutObject {location}: another process has {what}") from error

    async def _holds(self, location: str, body: bytes | bytearray) -> bool:
        try:
            return await self.read_if_any(location) == body
        except AccessDenied:
            return False  # it is not known

    async def delete(self, location: str, *, if_match: str | None = None) -> None:
        """Delete an object; a missing object is fine.

        :param if_match: only the object with this ETag, with or without quotes; S3 wants the permission
            ``s3:GetObject`` for that, too
        :raises PreconditionFailed: another object is there
        :raises ServiceError: S3 refused, or did not answer at any attempt
        """
        uri = S3Uri.parse_object(location)
        parameters = {"Bucket": uri.bucket, "Key": uri.key, **conditions(if_match=if_match)}
        try:
            await repeated(
                f"s3:DeleteObject {location}", lambda: self.calls.call("DeleteObject", **parameters)
            )
        except ClientError as error:
            if if_match is None or not is_race_lost(error):
                raise translate(error, f"s3:DeleteObject {location}") from error
            if status_of(error) != NOT_FOUND:
                raise PreconditionFailed(
                    f"s3:DeleteObject {location}: another process has replaced or deleted it"
                ) from error
