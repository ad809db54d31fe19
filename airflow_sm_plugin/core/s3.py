"""S3 locations: ``s3://bucket/key``."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_sm_plugin._safe_text import is_text
from airflow_sm_plugin.core.header_values import unsendable
from airflow_sm_plugin.exceptions import InputNotFound, InvalidRequest, InvalidS3Uri

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
        """Parse ``s3://bucket`` or ``s3://bucket/key``. The key is taken as it is: S3 keys are opaque.

        :param name: of the value, for the message
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
        """Parse the location of one object; a bucket or prefix alone is refused."""
        uri = cls.parse(value, name=name)
        if not uri.key or uri.key.endswith("/"):
            raise InvalidS3Uri(f"{name} must name an object, not a bucket or prefix: {value!r}")
        return uri

    def __str__(self) -> str:
        return f"{_SCHEME}{self.bucket}/{self.key}"


def check_input_location(location: str, *, name: str) -> None:
    """Refuse a location that no ``X-Amzn-SageMaker-InputLocation`` header carries as it is.

    A header drops spaces at its end, and what becomes of other characters than US-ASCII is documented nowhere.
    SageMaker would read an object of another name, and blame that name in a failure object.

    :param location: ``s3://…`` or ``https://…``, from which SageMaker fetches the input
    :param name: of the location, for the message, which shows nothing else of ``https://…``: it may be signed
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
    """S3's answer to a HEAD of an object; without ``s3:ListBucket`` it is FORBIDDEN for a missing one, too."""

    PRESENT = "present"
    ABSENT = "absent"
    FORBIDDEN = "forbidden"
    UNKNOWN = "unknown"


def check_inputs_apart(inputs: str, outputs: Mapping[str, str], *, is_object: bool = False) -> None:
    """Refuse inputs of which one can be, or become, an object that a batch or its endpoint writes.

    :param inputs: ``s3://bucket/prefix`` that is listed, or the location of one object
    :param outputs: ``s3://bucket/prefix`` of each kind of output, by its name for the message
    :param is_object: whether ``inputs`` is the location of one object, as a manifest lists it
    :raises InvalidRequest: naming both locations
    """
    listed = S3Uri.parse(inputs, name="inputs")
    for kind_of_output, location in outputs.items():
        if _meet(listed, S3Uri.parse(location, name=kind_of_output), is_object=is_object):
            kind = "the input" if is_object else "inputs"
            raise InvalidRequest(
                f"{kind} {inputs} and {kind_of_output} {location} are not apart: outputs written there would be "
                f"taken for inputs, by this run or the next. Use prefixes of which neither contains the other; "
                f"nothing was sent"
            )


def _meet(listed: S3Uri, written: S3Uri, *, is_object: bool) -> bool:
    """Return whether a key can be below both locations."""
    path = written.key.rstrip("/")
    folder = f"{path}/" if path else ""
    if listed.bucket != written.bucket:
        return False
    return listed.key.startswith(folder) or (not is_object and folder.startswith(listed.key))


def relative_key(prefix: str, key: str) -> str:
    """Return the key relative to the folder that a prefix names or ends in, as Batch Transform names its outputs.

    The prefixes ``in`` and ``in/`` both leave ``a.csv`` of ``in/a.csv``; ``in/par`` leaves ``part-0.csv`` of
    ``in/part-0.csv``. AWS's MNIST notebook reads ``data-0.csv.out`` after a transform of ``…/mnist-1000-samples``.
    """
    if prefix and not prefix.endswith("/") and key.startswith(f"{prefix}/"):
        return key[len(prefix) + 1 :]
    top = prefix[: prefix.rfind("/") + 1]
    return key.removeprefix(top)


def object_not_found(location: str, *, code: str = "", what: str = "object") -> InputNotFound:
    """Build the error of an object that does not exist.

    :param code: of S3's answer; a HEAD's does not distinguish a missing bucket
    :param what: e.g. ``input object``
    """
    if code == "NoSuchBucket":
        return InputNotFound(
            f"the bucket of the {what} {location} does not exist",
            do="create the bucket, or correct its name, region_name or the account",
        )
    return InputNotFound(
        f"the {what} {location} does not exist", do="upload it first, or correct its location"
    )
