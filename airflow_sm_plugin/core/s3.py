"""S3 locations: ``s3://bucket/key``."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_sm_plugin._safe_text import is_text
from airflow_sm_plugin.core.header_values import unsendable
from airflow_sm_plugin.exceptions import InvalidRequest, InvalidS3Uri

LONGEST_KEY = 1_024
"""Bytes of a key in UTF-8: S3's limit."""

_LONGEST_INPUT_LOCATION = 1_024
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
        :raises InvalidS3Uri: another scheme, no bucket, or a key that is longer than S3 permits
        """
        if not str(value).startswith(_SCHEME):
            raise InvalidS3Uri(f"{name} must look like s3://bucket/key, not {value!r}")
        bucket, _, key = value.removeprefix(_SCHEME).partition("/")
        if not is_text(value):
            raise InvalidS3Uri(f"{name} {value!r:.200} is no text: half of a surrogate pair is missing")
        if not bucket:
            raise InvalidS3Uri(f"{name} has no bucket: {value!r}")
        if len(key) * 4 > LONGEST_KEY and (size := len(key.encode())) > LONGEST_KEY:
            raise InvalidS3Uri(
                f"{name} {value!r:.200}… has a key of {size} bytes, S3 takes up to {LONGEST_KEY}: shorten it"
            )
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


def check_input_location(location: str, *, name: str) -> None:
    """Refuse a location that no ``X-Amzn-SageMaker-InputLocation`` header carries as it is.

    A header drops spaces at its end, and what becomes of other characters than US-ASCII is documented nowhere.
    SageMaker would look for an object of another name, and blame that name in a failure object.

    :param location: what InvokeEndpointAsync is to fetch: ``s3://…`` or ``https://…``
    :param name: what the location is, for the message; of ``https://…`` it shows no more, since it may be signed
    :raises InvalidRequest: too long, or a character that cannot be sent
    """
    shown = f"{name} {location!r:.200}" if location.startswith(_SCHEME) else name
    if len(location) > _LONGEST_INPUT_LOCATION:
        raise InvalidRequest(
            f"{shown} has {len(location)} characters, SageMaker takes up to {_LONGEST_INPUT_LOCATION}: use a shorter "
            f"key"
        )
    if bad := unsendable(location):
        raise InvalidRequest(
            f"{shown} holds {bad}, which cannot be sent: SageMaker takes the location in an HTTP "
            f"header of visible US-ASCII; rename the object"
        )
