"""S3 locations: ``s3://bucket/key``."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin.core.safe_text import is_text
from airflow_sm_plugin.exceptions import InvalidS3Uri

_SCHEME = "s3://"


@dataclass(frozen=True)
class S3Uri:
    """A bucket and a key; the key is empty for a whole bucket."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, value: str, *, name: str = "location") -> S3Uri:
        """Read ``s3://bucket`` or ``s3://bucket/key``. The key is taken as it is: S3 keys are opaque.

        :param name: what the value is, for the message
        :raises InvalidS3Uri: another scheme, or no bucket
        """
        if not str(value).startswith(_SCHEME):
            raise InvalidS3Uri(f"{name} must look like s3://bucket/key, not {value!r}")
        bucket, _, key = value.removeprefix(_SCHEME).partition("/")
        if not is_text(value):
            raise InvalidS3Uri(f"{name} {value!r:.200} is no text: half of a surrogate pair is missing")
        if not bucket:
            raise InvalidS3Uri(f"{name} has no bucket: {value!r}")
        return cls(bucket, key)

    @classmethod
    def parse_object(cls, value: str, *, name: str = "location") -> S3Uri:
        """Read the location of one object; a bucket or prefix alone is refused."""
        uri = cls.parse(value, name=name)
        if not uri.key or uri.key.endswith("/"):
            raise InvalidS3Uri(f"{name} must name an object, not a bucket or prefix: {value!r}")
        return uri

    def __str__(self) -> str:
        """Return the location as text."""
        return f"{_SCHEME}{self.bucket}/{self.key}"
