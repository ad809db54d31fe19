"""Read, write and list the S3 objects that requests name, through moto at the same address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import IO

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.core.input_selection import InputSelection
from airflow_sm_plugin.core.manifest_array import parse_array
from airflow_sm_plugin.core.s3 import relative_key
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.local.account.state import Region

_VIRTUAL_HOST = re.compile(
    r"https://(?P<bucket>[^/]+?)\.s3[.-][^/]*?amazonaws\.com(?:\.cn)?/(?P<key>.*)", re.DOTALL
)
_PATH_STYLE = re.compile(
    r"https://s3[.-][^/]*?amazonaws\.com(?:\.cn)?/(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL
)
_CHUNK_BYTES = 256 * 1024
"""Bytes of an object in memory while it is read; smaller chunks only cost more steps."""
_S3_URI = re.compile(r"(?:s3|https)://(?P<bucket>[^/]+)/?(?P<key>.*)", re.DOTALL)


class ObjectFailure(Exception):
    """S3 refused a call. ``reason`` is its error code, such as ``NoSuchKey`` or ``NoSuchBucket``."""

    def __init__(self, location: Location, reason: str) -> None:
        super().__init__(f"{location.uri}: {reason}")
        self.location = location
        self.reason = reason


@dataclass(frozen=True)
class Location:
    """A bucket and a key, or a prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Read ``s3://bucket/key``, or the https:// address of an object. Raises ValueError otherwise."""
        for pattern in (_PATH_STYLE, _VIRTUAL_HOST, _S3_URI):
            match = pattern.fullmatch(uri)
            if match:
                return cls(match["bucket"], match["key"])
        raise ValueError(f"not an S3 location: {uri}")

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def below(self, relative: str) -> Location:
        """Join this prefix and ``relative`` with exactly one slash."""
        prefix = self.key.rstrip("/")
        return Location(self.bucket, f"{prefix}/{relative}" if prefix else relative)


def read(region: Region, location: Location) -> bytes:
    with _refused(location):
        response = region.aws.s3(region.name).get_object(Bucket=location.bucket, Key=location.key)
        return bytes(response["Body"].read())


def copy_to(region: Region, location: Location, file: IO[bytes], *, count: Callable[[int], None]) -> None:
    """Copy an object to a file, chunk by chunk. Raises ObjectFailure.

    :param count: called with the size of each chunk before it is written; an exception of it ends the copy
    """
    with _refused(location):
        response = region.aws.s3(region.name).get_object(Bucket=location.bucket, Key=location.key)
        with closing(response["Body"]) as body:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                count(len(chunk))
                file.write(chunk)


def write(
    region: Region,
    location: Location,
    body: bytes,
    *,
    content_type: str | None = None,
    kms_key_id: str | None = None,
) -> None:
    """Put an object, encrypted with the KMS key if one is given. Raises ObjectFailure."""
    extra: dict[str, str] = {}
    if content_type:
        extra["ContentType"] = content_type
    if kms_key_id:
        extra |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id}
    with _refused(location):
        region.aws.s3(region.name).put_object(
            Bucket=location.bucket,
            Key=location.key,
            Body=body,
            **extra,  # type: ignore[arg-type] # the stubs want literals; any of these strings can come
        )


def keys_below(region: Region, location: Location) -> Iterator[str]:
    """Yield the keys that begin with the location's key, in S3's order. Raises ObjectFailure."""
    pages = region.aws.s3(region.name).get_paginator("list_objects_v2")
    with _refused(location):
        for page in pages.paginate(Bucket=location.bucket, Prefix=location.key):
            yield from (listed_object["Key"] for listed_object in page.get("Contents", ()))


def check_object(region: Region, location: Location) -> None:
    """Check that an object exists. Raises ObjectFailure, ``NoSuchKey`` where only the object is missing."""
    if _first_key(region, location) != location.key:  # a listing has an object before all longer keys
        raise ObjectFailure(location, "NoSuchKey")


def check_prefix(region: Region, location: Location) -> None:
    """Check that a prefix has objects. Raises ObjectFailure as :func:`check_object`."""
    if _first_key(region, location) is None:
        raise ObjectFailure(location, "NoSuchKey")


def _first_key(region: Region, location: Location) -> str | None:
    """List the first key with this prefix. A listing reports a missing bucket as such; a HEAD reports only 404."""
    with _refused(location):
        page = region.aws.s3(region.name).list_objects_v2(
            Bucket=location.bucket, Prefix=location.key, MaxKeys=1
        )
    return next((listed_object["Key"] for listed_object in page.get("Contents", ())), None)


@contextmanager
def _refused(location: Location) -> Iterator[None]:
    """Convert botocore's errors in the block to ObjectFailure."""
    try:
        yield
    except ClientError as error:
        raise ObjectFailure(location, error.response["Error"]["Code"]) from error
    except BotoCoreError as error:
        raise ObjectFailure(location, type(error).__name__) from error


class BadManifest(Exception):
    """The object is not a manifest."""


@dataclass(frozen=True)
class InputObject:
    """One object, and its key below the job's prefix."""

    location: Location
    relative: str


def objects_below(region: Region, prefix: Location) -> Iterator[InputObject]:
    """Yield the inputs below a prefix, in S3's order. Raises ObjectFailure.

    AWS documents "all objects with the specified key name prefix", and nothing about the markers that Spark and others
    leave beside data; whether the service skips them is not proven. They are skipped here, as the batch operators do.
    """
    selection = InputSelection(prefix.key)
    for key in keys_below(region, prefix):
        if selection.takes(key):
            yield InputObject(Location(prefix.bucket, key), relative_key(prefix.key, key))


def objects_in_manifest(region: Region, manifest: Location) -> Iterator[InputObject]:
    """Yield the objects of a manifest, in its order. Raises ObjectFailure, and BadManifest.

    The relative key begins after the manifest's prefix; how Batch Transform names such outputs is not documented.
    """
    try:
        prefix, names = parse_array(read(region, manifest))
        top = Location.parse(prefix)
    except (InvalidRequest, ValueError) as error:
        raise BadManifest(f"The manifest file {manifest.uri} cannot be read: {error}") from error
    for name in names:
        location = Location.parse(prefix + name)
        yield InputObject(location, relative_key(top.key, location.key))
