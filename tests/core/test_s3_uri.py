"""S3 locations are read as they are: keys are opaque."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_sm_plugin.core.s3_uri import S3Uri
from airflow_sm_plugin.exceptions import InvalidS3Uri

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
