"""S3 locations: ``s3://bucket/key``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
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


class Presence(enum.Enum):
    """The result of one HEAD of an object: S3 answers 403 for a missing key without ``s3:ListBucket``."""

    PRESENT = "present"
    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"


def check_inputs_apart(inputs: str, places: Mapping[str, str], *, is_object: bool = False) -> None:
    """Refuse inputs of which one may be, or become, an object that is written by a batch or by its endpoint.

    :param inputs: ``s3://bucket/prefix`` that is listed, or the location of one object
    :param places: what is written, for the message, and below which ``s3://bucket/prefix``
    :param is_object: whether ``inputs`` is the location of one object, as a manifest lists it
    :raises InvalidRequest: naming both places
    """
    listed = S3Uri.parse(inputs, name="inputs")
    for place, location in places.items():
        if _meet(listed, S3Uri.parse(location, name=place), is_object=is_object):
            kind = "the input" if is_object else "inputs"
            raise InvalidRequest(
                f"{kind} {inputs} and {place} {location} are not apart: what is written there would be taken for "
                f"inputs, by this run or the next. Use prefixes of which neither contains the other; nothing was sent"
            )


def _meet(listed: S3Uri, written: S3Uri, *, is_object: bool) -> bool:
    """Return whether a key can be in both places."""
    path = written.key.rstrip("/")
    folder = f"{path}/" if path else ""
    if listed.bucket != written.bucket:
        return False
    return listed.key.startswith(folder) or (not is_object and folder.startswith(listed.key))


def relative_key(prefix: str, key: str) -> str:
    """Return a key below the folder that a prefix names or ends in, as Batch Transform names its outputs.

    The prefixes ``in`` and ``in/`` both leave ``a.csv`` of ``in/a.csv``; ``in/par`` leaves ``part-0.csv`` of
    ``in/part-0.csv``. AWS's MNIST notebook reads ``data-0.csv.out`` after a transform of ``…/mnist-1000-samples``.
    """
    if prefix and not prefix.endswith("/") and key.startswith(f"{prefix}/"):
        return key[len(prefix) + 1 :]
    top = prefix[: prefix.rfind("/") + 1]
    return key.removeprefix(top)
