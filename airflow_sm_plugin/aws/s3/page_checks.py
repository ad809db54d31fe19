"""Believe a page of a listing only when it can be one of what was asked for.

Who lists goes on behind the last key of a page. A store that does not know ``start-after`` would answer the same page
for ever, and who asks for claims later than a process's own would get that one. S3's directory buckets document that
they neither take ``start-after`` nor list in order.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from airflow_sm_plugin.aws.s3.listing import ObjectPage, Page
from airflow_sm_plugin.exceptions import RequestRefused, ServiceError, ServiceUnavailable

MOST_EMPTY_PAGES = 100
"""Pages in a row that are truncated and have no keys."""

_DIRECTORY_BUCKET = "--x-s3"
_PLAIN_BUCKET = re.compile(r"(?!.*(-s3alias|--[a-z-]*s3)$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names under which a bucket calls itself: aliases and ARNs of access points are others."""

_AnyPage = TypeVar("_AnyPage", Page, ObjectPage)


@dataclass(frozen=True)
class Wanted:
    """What is listed: keys that begin with the prefix and are greater than ``start_after``."""

    bucket: str
    prefix: str
    start_after: str

    def __str__(self) -> str:
        """Return the prefix's location."""
        return f"s3://{self.bucket}/{self.prefix}"


async def whole_page(ask: Callable[[str], Awaitable[_AnyPage]], wanted: Wanted) -> _AnyPage:
    """Return the first page that has keys, or the last one of all.

    :param ask: lists one page, given a continuation token
    :raises ServiceUnavailable: an answer is not one of what was asked for, or does not say how to go on
    :raises RequestRefused: it is a directory bucket's, which will never be
    """
    token = ""
    for _ in range(MOST_EMPTY_PAGES):
        page = await ask(token)
        if (doubt := _doubt(page, wanted)) is not None:
            raise _refusal(wanted, doubt)
        if page.names or not page.is_truncated:
            return page
        if page.token in ("", token):
            raise _refusal(wanted, "it says that more follows, and neither has a key nor says how to go on")
        token = page.token
    raise _refusal(wanted, f"{MOST_EMPTY_PAGES} pages in a row have no key and say that more follows")


def _doubt(page: Page | ObjectPage, wanted: Wanted) -> str | None:
    """Return why a page is not to be believed; None when it is."""
    if page.bucket not in ("", wanted.bucket) and _PLAIN_BUCKET.fullmatch(wanted.bucket):
        return f"it is of another bucket, {page.bucket:.80}"
    if isinstance(page, ObjectPage) and any(listed.size < 0 for listed in page.objects):
        return "an object has a negative size"
    return _doubt_of_keys(page.names, wanted) if page.names else None


def _doubt_of_keys(keys: Sequence[str], wanted: Wanted) -> str | None:
    first, last = keys[0], keys[-1]
    if not all(map(operator.lt, keys, keys[1:])):
        return "its keys are not in order, or one is there twice"
    # Between two keys that begin with the prefix are, in order, only such keys.
    for key in (first, last):
        if not key.startswith(wanted.prefix):
            return f"it has the key {key:.200}, which does not begin with the prefix"
    if first <= wanted.start_after:
        return (
            f"it begins with {first:.200}, though only keys behind {wanted.start_after:.200} were asked for"
        )
    return None


def _refusal(wanted: Wanted, why: str) -> ServiceError:
    text = f"s3:ListObjectsV2 {wanted}: the answer is not to be believed: {why}"
    if wanted.bucket.endswith(_DIRECTORY_BUCKET):
        return RequestRefused(f"{text}. Directory buckets list in no order: use a general purpose bucket")
    return ServiceUnavailable(f"{text}. Check the endpoint URL and proxies; a later retry may fare better")
