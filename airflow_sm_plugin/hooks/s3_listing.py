"""Read pages of S3's ListObjectsV2: names only, and many times faster than botocore's general parser."""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_plus

from airflow_sm_plugin.exceptions import ServiceUnavailable


@dataclass(frozen=True)
class Page:
    """One page of key names, in S3's order (UTF-8 bytes).

    ``next_start_after`` is the last key when more follow, else None.
    """

    names: list[str]
    next_start_after: str | None


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One listed object: its size in bytes, its ETag without quotes."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True)
class ObjectPage:
    """One page of objects, in S3's order; ``next_start_after`` as in :class:`Page`."""

    objects: list[ListedObject]
    next_start_after: str | None


def names_of(body: bytes) -> Page:
    """Read the key names of an answer.

    :raises ServiceUnavailable: it is not the XML of a listing
    """
    found = _texts_of(body, "Key")
    names = _decoded(found)
    return Page(names, names[-1] if names and found["IsTruncated"] == ["true"] else None)


def objects_of(body: bytes) -> ObjectPage:
    """Read the objects of an answer.

    :raises ServiceUnavailable: it is not the XML of a listing, or an object lacks its size or ETag
    """
    found = _texts_of(body, "Key", "Size", "ETag")
    try:
        objects = [
            ListedObject(key, int(size), etag.strip('"'))
            for key, size, etag in zip(_decoded(found), found["Size"], found["ETag"], strict=True)
        ]
    except ValueError as error:
        raise _unreadable(error) from error
    more = bool(objects) and found["IsTruncated"] == ["true"]
    return ObjectPage(objects, objects[-1].key if more else None)


def _decoded(found: dict[str, list[str]]) -> list[str]:
    if found["EncodingType"] != ["url"]:
        return found["Key"]
    return [unquote_plus(key) if "%" in key or "+" in key else key for key in found["Key"]]


def _texts_of(body: bytes, *wanted: str) -> dict[str, list[str]]:
    """Return the texts of the wanted elements, which a listing has in its objects only."""
    found: dict[str, list[str]] = {name: [] for name in (*wanted, "IsTruncated", "EncodingType")}
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True
    texts: list[str] = []
    parser.CharacterDataHandler = texts.append  # without a Python frame of its own: called for every element
    parser.EndElementHandler = _collector(found, texts)
    try:
        parser.Parse(body, True)  # noqa: FBT003 - expat takes no keyword
    except xml.parsers.expat.ExpatError as error:
        raise _unreadable(error) from error
    if len(found["IsTruncated"]) != 1:
        raise _unreadable("it does not say whether it is truncated")
    return found


def _collector(found: dict[str, list[str]], texts: list[str]) -> Callable[[str], None]:
    """Return what expat calls at an element's end: none of the wanted ones is ever empty, so its text came last."""

    def element_ends(name: str) -> None:
        if name in found and texts:
            found[name].append(texts[-1])

    return element_ends


def _unreadable(why: object) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"the answer to s3:ListObjectsV2 is no listing: {why}; a later retry may fare better"
    )
