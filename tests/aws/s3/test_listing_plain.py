"""Pages of listings in S3's own form are read without the parser, to the same end."""

from __future__ import annotations

from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.aws.s3.listing import Page, names_of
from airflow_sm_plugin.exceptions import ServiceUnavailable

any_keys = st.lists(st.text(min_size=1, max_size=40), max_size=5)


def page(keys: list[str], *, truncated: bool = False, encoded: bool = True, prefix: str = "") -> bytes:
    """Make S3's answer to a listing."""
    contents = "".join(
        f"<Contents><Key>{quote_plus(key, safe='/')}</Key><ETag>&quot;0&quot;</ETag><Size>1</Size></Contents>"
        for key in keys
    )
    kind = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>'
        f"<Prefix>{quote_plus(prefix)}</Prefix><KeyCount>{len(keys)}</KeyCount>{kind}"
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{contents}</ListBucketResult>"
    ).encode()


@given(any_keys, st.booleans(), st.text(max_size=20))
def test_every_key_comes_back_as_the_parser_gives_it(keys: list[str], truncated: bool, prefix: str) -> None:
    plain = page(keys, truncated=truncated, prefix=prefix)
    parsed = plain.replace(b"<Name>", b"<!-- sent to the parser --><Name>")
    assert names_of(plain) == names_of(parsed) == Page(keys, truncated, bucket="b")


@pytest.mark.parametrize("token", ["1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=", "a&amp;b"])
def test_the_token_comes_back_as_the_parser_gives_it(token: str) -> None:
    element = f"<NextContinuationToken>{token}</NextContinuationToken>".encode()
    plain = page(["a"], truncated=True).replace(b"<IsTruncated>", element + b"<IsTruncated>")
    parsed = plain.replace(b"<Name>", b"<!-- sent to the parser --><Name>")
    assert names_of(plain) == names_of(parsed) == Page(["a"], True, token.replace("&amp;", "&"), "b")


@pytest.mark.parametrize(
    ("text", "put"),
    [
        pytest.param(b"<Size>", b"<!-- <Key>no</Key> --><Size>", id="a comment"),
        pytest.param(b"<Size>1", b"<Size><![CDATA[<Key>no</Key>]]>1", id="a CDATA section"),
        pytest.param(b"<Size>", b"<?note <Key>no</Key>?><Size>", id="a processing instruction"),
        pytest.param(b"<Key>a", b"<Key >a", id="a tag with a space"),
        pytest.param(b"<Key>a", b"<Key>&#97;", id="an entity"),
        pytest.param(b"<Key>a", b"<Key>\xc3\xa4", id="a letter beyond ASCII"),
        pytest.param(b"<KeyCount>2</KeyCount>", b"", id="no count"),
    ],
)
def test_another_form_is_left_to_the_parser(text: bytes, put: bytes) -> None:
    expected = ["\u00e4" if put.endswith(b"\xc3\xa4") else "a", "b"]
    assert names_of(page(["a", "b"]).replace(text, put)).names == expected


def test_keys_that_were_not_encoded_are_left_as_they_are() -> None:
    assert names_of(page(["a+b", "c"], encoded=False)).names == ["a%2Bb", "c"]


def test_half_an_answer_is_none() -> None:
    with pytest.raises(ServiceUnavailable, match="no listing"):
        names_of(page(["a", "b"])[:-20])
