"""S3 locations are read as they are: keys are opaque."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.s3 import LONGEST_KEY, S3Uri, check_input_location
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

buckets = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True)


@given(buckets, st.text(max_size=40))
def test_text_and_parts_are_two_views_of_one_location(bucket: str, key: str) -> None:
    """Slashes, spaces, percent signs, question marks: nothing in a key is interpreted."""
    uri = S3Uri.parse(f"s3://{bucket}/{key}")
    assert (uri.bucket, uri.key) == (bucket, key)
    assert S3Uri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("s3://bucket", S3Uri("bucket", "")),
        ("s3://bucket/", S3Uri("bucket", "")),
        ("s3://bucket//a", S3Uri("bucket", "/a")),
        ("s3://bucket/a?b#c%2F", S3Uri("bucket", "a?b#c%2F")),
    ],
)
def test_bucket_and_key_are_split_at_the_first_slash(value: str, expected: S3Uri) -> None:
    assert S3Uri.parse(value) == expected


@pytest.mark.parametrize(
    "value", ["", "bucket/key", "https://bucket/key", "S3://bucket/key", "s3:/bucket", 5, None]
)
def test_another_scheme_is_refused_with_the_argument_and_the_value(value: object) -> None:
    with pytest.raises(InvalidS3Uri, match="input_location must look like s3://bucket/key") as refused:
        S3Uri.parse(value, name="input_location")  # type: ignore[arg-type]  # a template may render to anything
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("value", ["s3://", "s3:///key"])
def test_a_location_without_a_bucket_is_refused(value: str) -> None:
    with pytest.raises(InvalidS3Uri, match="has no bucket"):
        S3Uri.parse(value)


@pytest.mark.parametrize("value", ["s3://bucket", "s3://bucket/", "s3://bucket/prefix/"])
def test_a_bucket_or_prefix_is_no_object(value: str) -> None:
    with pytest.raises(InvalidS3Uri, match="must name an object"):
        S3Uri.parse_object(value)


def test_an_object_is_taken_as_it_is() -> None:
    assert S3Uri.parse_object("s3://bucket/a/b.csv") == S3Uri("bucket", "a/b.csv")


@pytest.mark.parametrize(
    "key", ["k" * LONGEST_KEY, "é" * (LONGEST_KEY // 2), "\U0001f600" * (LONGEST_KEY // 4)]
)
def test_a_key_has_as_many_bytes_as_s3_takes(key: str) -> None:
    assert S3Uri.parse_object(f"s3://bucket/{key}").key == key
    with pytest.raises(InvalidS3Uri, match=rf"outputs .* bytes, S3 takes up to {LONGEST_KEY}"):
        S3Uri.parse(f"s3://bucket/{key}k", name="outputs")


def as_header(value: str) -> str:
    """Return what is left of a value that goes through an HTTP header."""
    return value.encode("ascii", "replace").translate(None, delete=bytes(range(0x20))).decode().strip()


@given(st.text(min_size=1, max_size=1_100) | st.text(" ~a%?#+/.", min_size=1, max_size=1_100))
def test_a_location_is_refused_or_carried_as_it_is(key: str) -> None:
    location = f"s3://bucket/{key}"
    try:
        check_input_location(location, name="input_location")
    except InvalidRequest as refused:
        assert "input_location" in str(refused)  # noqa: PT017 - either outcome is right
        assert len(location) > 1_024 or as_header(location) != location or "\x7f" in location
    else:
        assert as_header(location) == location
        assert len(location) <= 1_024


@pytest.mark.parametrize("tail", [" ", "é", "k" * 1_024])
def test_an_https_location_that_cannot_be_sent_is_not_shown(tail: str) -> None:
    """It may be signed."""
    with pytest.raises(InvalidRequest, match=r"input_location (has|holds)") as refused:
        check_input_location(f"https://b.example/k?X-Amz-Signature=secret{tail}", name="input_location")
    assert "secret" not in str(refused.value)
