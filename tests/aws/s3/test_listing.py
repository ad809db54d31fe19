"""Pages of listings, read without botocore."""

from __future__ import annotations

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.aws.s3.listing import ListedObject, ObjectPage, Page, names_of, objects_of
from airflow_sm_plugin.exceptions import ServiceUnavailable

any_key = st.text(min_size=1, max_size=40)
ascii_characters = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
other_characters = st.characters(min_codepoint=0xA0, max_codepoint=0xD7FF)
xml_key = st.text(ascii_characters | other_characters, min_size=1, max_size=40)


def page(keys: list[str], *, encoded: bool = True, truncated: bool = False) -> bytes:
    """Make S3's answer to a listing, with parts that the parser ignores."""
    contents = "".join(
        f"<Contents><Key>{quote_plus(key, safe='/') if encoded else escape(key)}</Key>"
        f"<LastModified>2026-01-31T23:59:59.000Z</LastModified><ETag>&quot;{number:032x}-2&quot;</ETag>"
        f"<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><Size>{number}</Size>"
        f"<Owner><ID>Key</ID></Owner><StorageClass>STANDARD</StorageClass></Contents>"
        for number, key in enumerate(keys)
    )
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name><Prefix/>'
        f"<StartAfter></StartAfter>{kind}<IsTruncated>{str(truncated).lower()}</IsTruncated>{contents}"
        f"</ListBucketResult>"
    ).encode()


@given(st.lists(any_key, max_size=5), st.booleans())
def test_every_key_comes_back_whatever_its_characters(keys: list[str], truncated: bool) -> None:
    last = keys[-1] if keys and truncated else None
    assert names_of(page(keys, truncated=truncated)) == Page(keys, truncated, bucket="bucket")
    assert names_of(page(keys, truncated=truncated)).next_start_after == last
    listed = [ListedObject(key, number, f"{number:032x}-2") for number, key in enumerate(keys)]
    assert objects_of(page(keys, truncated=truncated)) == ObjectPage(listed, truncated, bucket="bucket")
    assert objects_of(page(keys, truncated=truncated)).next_start_after == last


@given(st.lists(xml_key, max_size=5))
def test_keys_are_taken_as_they_are_where_the_server_did_not_encode_them(keys: list[str]) -> None:
    assert names_of(page(keys, encoded=False)).names == keys


def test_a_space_comes_as_a_plus_and_a_plus_encoded() -> None:
    assert names_of(page(["a b+c%20d"])).names == ["a b+c%20d"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        b"<ListBucketResult><IsTruncated>false",
        b"<Error><Code>InternalError</Code></Error>",
        b'{"no": "xml"}',
    ],
)
def test_what_is_no_listing_is_not_taken_for_an_empty_one(body: bytes) -> None:
    for read in (names_of, objects_of):
        with pytest.raises(ServiceUnavailable, match="no listing"):
            read(body)


def test_an_object_without_size_is_not_guessed() -> None:
    body = page(["a", "b"]).replace(b"<Size>1</Size>", b"")
    assert names_of(body).names == ["a", "b"]
    with pytest.raises(ServiceUnavailable, match="no listing"):
        objects_of(body)
