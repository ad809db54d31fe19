"""Buckets, folders and objects, as the pages show them. S3 is read as this service's own client reads it."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_sm_plugin.local.account.calls import Call
from airflow_sm_plugin.local.account.state import Account

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectTypeDef

SHOWN_BYTES = 256 * 1024
"""Bytes of a text object that its page shows. The whole object is one click away."""

_LISTED = 500
"""Folders and objects on one page of a folder."""

_SEARCHED_PAGES = 20
"""Listings of 1,000 objects each that are searched for an ending: a quarter of a second each."""

_REGION = "us-east-1"
"""Buckets of every region are read through it: moto keeps them in one table."""

_CHUNK_BYTES = 256 * 1024
_GENERIC = ("", "binary/octet-stream", "application/octet-stream", "application/x-www-form-urlencoded")
"""Content types of an object that was written without one."""
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(?:; ?[\w-]+=[\w.\"-]+)*", re.ASCII)
_BUCKET = re.compile(r"[\w.-]+", re.ASCII)
"""Names, and not the ARN of an access point, for which botocore would make up another address."""
_ENCODING = re.compile(r"[\w-]+", re.ASCII)


class PageMissing(Exception):
    """There is no such page, endpoint, log group, bucket or object.

    :param text: for the reader
    :param calls: those of a deleted endpoint, the latest first, of its ``region``, and its ``log_group``
    """

    def __init__(
        self, text: str, *, calls: Sequence[Call] = (), region: str = "", log_group: str = ""
    ) -> None:
        super().__init__(text)
        self.calls = calls
        self.region = region
        self.log_group = log_group


@dataclass(frozen=True)
class ObjectContent:
    """The whole content of one object, and the headers to serve it with."""

    name: str
    size: int
    content_type: str
    encoding: str
    body: StreamingBody

    def chunks(self) -> Iterator[bytes]:
        with closing(self.body):
            yield from self.body.iter_chunks(_CHUNK_BYTES)


def folder(account: Account, query: Mapping[str, str]) -> Mapping[str, Any]:
    """Describe a page of one folder, or all buckets where no bucket is named.

    The query has ``bucket``, ``prefix`` (ends in a slash, or is the beginning of names) and ``token`` (of the next
    page, as S3 gave it); with ``ending``, only objects whose names end so are listed, those of folders below included.
    """
    bucket, prefix, ending = _bucket(query), query.get("prefix", ""), query.get("ending", "")
    page: Mapping[str, Any] = {"bucket": bucket, "prefix": prefix, "ending": ending, "crumbs": crumbs(prefix)}
    if not bucket:
        return {**page, "buckets": buckets(account), "rows": [], "token": "", "is_whole": True}
    with _refusals(f"s3://{bucket}/{prefix}"):
        rows, token = (
            _ending_in(_s3(account), bucket, prefix, ending)
            if ending
            else _listed(_s3(account), bucket, prefix, query.get("token", ""))
        )
    return {**page, "buckets": [], "rows": rows, "token": "" if ending else token, "is_whole": not token}


def _listed(s3: S3Client, bucket: str, prefix: str, token: str) -> tuple[list[Mapping[str, Any]], str]:
    """List a page of folders and objects; return it with the token of the next page."""
    found = s3.list_objects_v2(
        Bucket=bucket,
        Prefix=prefix,
        Delimiter="/",
        MaxKeys=_LISTED,
        **({"ContinuationToken": token} if token else {}),  # type: ignore[arg-type] # the stubs want literals
    )
    start = prefix.rfind("/") + 1
    folders = [
        {"folder": below["Prefix"], "name": below["Prefix"][start:]}
        for below in found.get("CommonPrefixes", ())
    ]
    objects = [_row(listed, start) for listed in found.get("Contents", ())]
    return [*folders, *objects], found.get("NextContinuationToken", "")


def _ending_in(s3: S3Client, bucket: str, prefix: str, ending: str) -> tuple[list[Mapping[str, Any]], str]:
    """List objects by the ending of their names; the text is empty if all objects were searched."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    start, rows = prefix.rfind("/") + 1, list[Mapping[str, Any]]()
    for number, page in enumerate(pages):
        rows += [_row(listed, start) for listed in page.get("Contents", ()) if listed["Key"].endswith(ending)]
        if page["IsTruncated"] and (number + 1 >= _SEARCHED_PAGES or len(rows) >= _LISTED):
            return rows[:_LISTED], "more"
    return rows[:_LISTED], "more" if len(rows) > _LISTED else ""


def _row(listed: ObjectTypeDef, start: int) -> Mapping[str, Any]:
    return {
        "key": listed["Key"],
        "name": listed["Key"][start:] or "(this folder's own object)",
        "size": listed["Size"],
        "modified": listed["LastModified"],
    }


def buckets(account: Account) -> list[Mapping[str, Any]]:
    """List all buckets, by name, with the time of their creation."""
    with _refusals("the buckets"):
        found = _s3(account).list_buckets()["Buckets"]
    return sorted(
        ({"name": bucket["Name"], "created": bucket["CreationDate"]} for bucket in found),
        key=lambda row: str(row["name"]),
    )


def object_page(account: Account, query: Mapping[str, str]) -> Mapping[str, Any]:
    """Describe one object; with the beginning of its content where that is text."""
    bucket, key = _named(query)
    with _refusals(f"s3://{bucket}/{key}"):
        head = _s3(account).head_object(Bucket=bucket, Key=key)
        beginning = b""
        if head["ContentLength"]:
            part = _s3(account).get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{SHOWN_BYTES - 1}")
            beginning = part["Body"].read()
    size = head["ContentLength"]
    content_type = media_type(head.get("ContentType", ""), key)
    return {
        "bucket": bucket,
        "key": key,
        "name": key.rpartition("/")[2] or key,
        "crumbs": crumbs(key.rpartition("/")[0]),
        "size": size,
        "modified": head["LastModified"],
        "content_type": content_type,
        "is_page": content_type.startswith("text/html"),
        "text": text_of(beginning, is_whole=size <= SHOWN_BYTES),
        "shown": SHOWN_BYTES if size > SHOWN_BYTES else None,
    }


def content(account: Account, query: Mapping[str, str]) -> ObjectContent:
    """Open one object. Its content is read while it is sent."""
    bucket, key = _named(query)
    with _refusals(f"s3://{bucket}/{key}"):
        response = _s3(account).get_object(Bucket=bucket, Key=key)
    encoding = response.get("ContentEncoding", "")
    return ObjectContent(
        name=key.rpartition("/")[2] or "object",
        size=response["ContentLength"],
        content_type=media_type(response.get("ContentType", ""), key),
        encoding=encoding if _ENCODING.fullmatch(encoding) else "",
        body=response["Body"],
    )


def crumbs(prefix: str) -> list[tuple[str, str]]:
    """List the folders on the way to a prefix: the name and the prefix of each."""
    names = prefix.rstrip("/").split("/") if prefix.rstrip("/") else []
    return [(name, "/".join(names[: depth + 1]) + "/") for depth, name in enumerate(names)]


def media_type(given: str, key: str) -> str:
    """Choose a content type: the object's own, or by the key's ending where that says nothing.

    Text is sent as UTF-8: an object written by boto3 names no encoding.
    """
    bare = given.partition(";")[0].strip().lower()
    if bare in _GENERIC:
        given = mimetypes.guess_type(key.rpartition("/")[2], strict=False)[0] or "application/octet-stream"
    elif not _MEDIA_TYPE.fullmatch(given):
        return "application/octet-stream"
    return f"{given}; charset=utf-8" if given.startswith("text/") and ";" not in given else given


def text_of(beginning: bytes, *, is_whole: bool) -> str | None:
    """Decode the beginning of an object; None when it is no UTF-8 text. A cut character at its end is left out."""
    if b"\x00" in beginning:
        return None
    try:
        return beginning.decode()
    except UnicodeDecodeError as error:
        is_cut = (
            not is_whole and error.reason == "unexpected end of data" and error.start >= len(beginning) - 3
        )
        return beginning[: error.start].decode() if is_cut else None


def _named(query: Mapping[str, str]) -> tuple[str, str]:
    bucket, key = _bucket(query), query.get("key", "")
    if not bucket or not key:
        raise PageMissing("The address names no object: it needs bucket and key.")
    return bucket, key


def _bucket(query: Mapping[str, str]) -> str:
    bucket = query.get("bucket", "")
    if bucket and not _BUCKET.fullmatch(bucket):
        raise PageMissing(f"{bucket} is not the name of a bucket.")
    return bucket


def _s3(account: Account) -> S3Client:
    return account.aws.s3(_REGION)


@contextmanager
def _refusals(wanted: str) -> Iterator[None]:
    """Convert botocore's errors in the block to PageMissing."""
    try:
        yield
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in ("404", "NoSuchKey"):
            raise PageMissing(
                f"There is no object {wanted}. A task may be about to write it: load this page again."
            ) from None
        if code == "NoSuchBucket":
            raise PageMissing(f"There is no bucket for {wanted}.") from None
        raise PageMissing(
            f"{wanted} cannot be read: {code}: {error.response['Error'].get('Message', '')}"
        ) from None
    except BotoCoreError as error:
        raise PageMissing(f"{wanted} cannot be read: {error}") from None
