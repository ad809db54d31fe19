"""Read pages of S3's ListObjectsV2: names only, and many times faster than botocore's general parser."""

from __future__ import annotations

import operator
import re
import xml.parsers.expat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from airflow_sm_plugin.exceptions import RequestRefused, ServiceError, ServiceUnavailable

_KEY = re.compile("<Key>([^<&]+)</Key>")
_END = "</ListBucketResult>"
_TOKEN = "NextContinuationToken"  # noqa: S105 - of a listing, no secret
_OF_ANY_PAGE = ("IsTruncated", "EncodingType", _TOKEN, "Name")


@dataclass(frozen=True)
class Page:
    """One page of key names, in S3's order (UTF-8 bytes).

    :param is_truncated: whether more follow
    :param token: NextContinuationToken; empty for none
    :param bucket: whose listing the answer says it is; empty where it does not say
    """

    names: list[str]
    is_truncated: bool
    token: str = ""
    bucket: str = ""

    @property
    def next_start_after(self) -> str | None:
        return self.names[-1] if self.is_truncated and self.names else None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One listed object: its size in bytes, its ETag without quotes.

    :param metadata: with names in lower case; only where it was asked for by itself, and has some
    """

    key: str
    size: int
    etag: str
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True)
class ObjectPage:
    """One page of objects, in S3's order; the rest is as in :class:`Page`."""

    objects: list[ListedObject]
    is_truncated: bool
    token: str = ""
    bucket: str = ""

    @property
    def names(self) -> list[str]:
        return [listed.key for listed in self.objects]

    @property
    def next_start_after(self) -> str | None:
        return self.objects[-1].key if self.is_truncated and self.objects else None


def names_in(response: Mapping[str, Any]) -> Page:
    """Read the key names of a response, parsed or not (see :class:`~airflow_sm_plugin.aws.calls.AwsCalls`)."""
    if "Body" in response:
        return names_of(response["Body"])
    page = objects_in(response)
    return Page(page.names, page.is_truncated, page.token, page.bucket)


def objects_in(response: Mapping[str, Any]) -> ObjectPage:
    """Read the objects of a response, as :func:`names_in`."""
    if "Body" in response:
        return objects_of(response["Body"])
    objects = [
        ListedObject(listed["Key"], listed["Size"], listed["ETag"].strip('"'))
        for listed in response.get("Contents", [])
    ]
    token, bucket = response.get(_TOKEN, ""), response.get("Name", "")
    return ObjectPage(objects, response["IsTruncated"], token, bucket)


def names_of(body: bytes) -> Page:
    """Read the key names of an answer.

    :raises ServiceUnavailable: it is not the XML of a listing
    """
    if (page := _plain_page(body)) is not None:
        return page
    texts_by_element = _texts_of(body, "Key")
    return Page(_decoded(texts_by_element), *_frame(texts_by_element))


def objects_of(body: bytes) -> ObjectPage:
    """Read the objects of an answer.

    :raises ServiceUnavailable: it is not the XML of a listing, or an object lacks its size or ETag
    """
    texts_by_element = _texts_of(body, "Key", "Size", "ETag")
    try:
        objects = [
            ListedObject(key, int(size), etag.strip('"'))
            for key, size, etag in zip(
                _decoded(texts_by_element), texts_by_element["Size"], texts_by_element["ETag"], strict=True
            )
        ]
    except ValueError as error:
        raise _unreadable(error) from error
    return ObjectPage(objects, *_frame(texts_by_element))


def _frame(texts_by_element: dict[str, list[str]]) -> tuple[bool, str, str]:
    """Read whether an answer is truncated, its token, and its bucket."""
    return (
        texts_by_element["IsTruncated"] == ["true"],
        "".join(texts_by_element[_TOKEN]),
        "".join(texts_by_element["Name"]),
    )


def _plain_page(body: bytes) -> Page | None:
    """Read the page of an answer as S3 writes it, in a fraction of the parser's time; None for any other answer.

    Without comments, CDATA sections and processing instructions a ``<Key>`` is always an element's begin, encoded keys
    hold no entities, and S3 gives the number of keys.
    """
    if not body.isascii() or b"<!" in body or body.rfind(b"<?") > 0:
        return None
    text = body.decode()
    more = _only(text, "IsTruncated")
    if (
        more not in ("true", "false")
        or _only(text, "EncodingType") != "url"
        or not text.rstrip().endswith(_END)
    ):
        return None
    keys = _KEY.findall(text)
    if _only(text, "KeyCount") != str(len(keys)):
        return None
    token, bucket = _at_most_one(text, _TOKEN), _at_most_one(text, "Name")
    if token is None or bucket is None:
        return None
    return Page(_unquoted(keys), more == "true", token, bucket)


def _at_most_one(text: str, name: str) -> str | None:
    """Read an element's text, empty where it is missing; None where only the parser can read it."""
    if f"<{name}" not in text:
        return ""
    element_text = _only(text, name)
    return None if element_text is None or "&" in element_text else element_text


def _only(text: str, name: str) -> str | None:
    tag = f"<{name}>"
    begin = text.find(tag)
    if begin < 0 or text.find(tag, begin + 1) >= 0:
        return None
    begin += len(tag)
    return text[begin : text.find("<", begin)]


def _decoded(texts_by_element: dict[str, list[str]]) -> list[str]:
    keys = texts_by_element["Key"]
    return _unquoted(keys) if texts_by_element["EncodingType"] == ["url"] else keys


def _unquoted(keys: list[str]) -> list[str]:
    return [unquote_plus(key) if "%" in key or "+" in key else key for key in keys]


def _texts_of(body: bytes, *wanted: str) -> dict[str, list[str]]:
    texts_by_element: dict[str, list[str]] = {name: [] for name in (*wanted, *_OF_ANY_PAGE)}
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True
    texts: list[str] = []
    parser.CharacterDataHandler = texts.append  # without a Python frame of its own: called for every element
    parser.EndElementHandler = _collector(texts_by_element, texts)
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat takes no keyword
    except xml.parsers.expat.ExpatError as error:
        raise _unreadable(error) from error
    if len(texts_by_element["IsTruncated"]) != 1:
        raise _unreadable("it does not say whether it is truncated")
    return texts_by_element


def _collector(texts_by_element: dict[str, list[str]], texts: list[str]) -> Callable[[str], None]:
    """Make expat's end handler: none of the wanted elements is ever empty, so its text came last."""

    def element_ends(name: str) -> None:
        if name in texts_by_element and texts:
            texts_by_element[name].append(texts[-1])

    return element_ends


def _unreadable(why: object) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the answer to s3:ListObjectsV2 is no listing: {why}; a later retry may fare better"
    )


MOST_EMPTY_PAGES = 100
"""Pages in a row that are truncated and have no keys."""

_DIRECTORY_BUCKET = "--x-s3"
_PLAIN_BUCKET = re.compile(r"(?!.*(-s3alias|--[a-z-]*s3)$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Plain bucket names: aliases and ARNs of access points are not among them."""

_AnyPage = TypeVar("_AnyPage", Page, ObjectPage)


@dataclass(frozen=True)
class Wanted:
    """A requested listing: keys with the prefix that are greater than ``start_after``."""

    bucket: str
    prefix: str
    start_after: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


async def whole_page(ask: Callable[[str], Awaitable[_AnyPage]], wanted: Wanted) -> _AnyPage:
    """Return the first page that has keys, or the last one of all, if it can be one of what was asked for.

    The next page is asked for behind the last key. A store that does not know ``start-after`` would answer the same
    page for ever. S3's directory buckets document that they neither take ``start-after`` nor list in order.

    :param ask: list one page, given a continuation token
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
    """Give the reason to distrust a page; None when there is none."""
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
