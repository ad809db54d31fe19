"""The calls of S3 that an upload in parts is made of, whoever carries them out; they raise botocore's own errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from airflow_sm_plugin.core.s3 import S3Uri

METADATA = "x-amz-meta-"
"""What the headers of an object's own metadata begin with."""

CRC32 = "CRC32"
"""The checksum of uploads where botocore's configuration wants one, as in boto3's own uploads."""


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """How a new object is kept.

    :param kms_key_id: encrypt it with this KMS key (id, ARN or alias); None is as the bucket says
    :param acl: canned ACL, e.g. ``bucket-owner-full-control``
    :param metadata: of the object, names in lower case
    """

    kms_key_id: str | None = None
    acl: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """Return botocore's parameters of PutObject and CreateMultipartUpload."""
        metadata = {"Metadata": dict(self.metadata)} if self.metadata else {}
        return {**self._kept(), **metadata}

    def headers(self) -> dict[str, str]:
        """Return the same as S3's headers."""
        metadata = {f"{METADATA}{name}": value for name, value in self.metadata.items()}
        return {**as_headers(self._kept()), **metadata}

    def _kept(self) -> dict[str, str]:
        key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id} if self.kms_key_id else {}
        return {**key, "ACL": self.acl} if self.acl else {**key}


PLAIN = ObjectOptions()
_HEADERS = {
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
    "ACL": "x-amz-acl",
    "IfNoneMatch": "If-None-Match",
    "IfMatch": "If-Match",
}


def conditions(*, only_if_new: bool, if_match: str | None) -> dict[str, str]:
    """Return botocore's parameters of PutObject and CompleteMultipartUpload that make them depend on what is there.

    :param only_if_new: nothing may be there
    :param if_match: the object with this ETag must be there, with or without quotes
    """
    new = {"IfNoneMatch": "*"} if only_if_new else {}
    return new if if_match is None else {**new, "IfMatch": f'"{if_match.strip(chr(34))}"'}


def as_headers(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return botocore's parameters of a new object as S3's headers."""
    return {_HEADERS[name]: value for name, value in parameters.items()}


@dataclass(frozen=True)
class UploadedPart:
    """A part that S3 has: its number from 1, ETag as S3 spells it, checksum when S3 told one."""

    number: int
    etag: str
    crc32: str | None

    @classmethod
    def of(cls, number: int, told: Mapping[str, Any]) -> UploadedPart:
        """Read botocore's answer of UploadPart, or the result in that of UploadPartCopy."""
        return cls(number, str(told.get("ETag", "")), told.get(f"Checksum{CRC32}"))

    def as_parameter(self) -> dict[str, Any]:
        """Return it as CompleteMultipartUpload wants it."""
        told = {"ETag": self.etag, "PartNumber": self.number}
        return told if self.crc32 is None else {**told, f"Checksum{CRC32}": self.crc32}


class UploadCalls(Protocol):
    """One request of S3 each, repeated by nobody here."""

    async def begin(self, uri: S3Uri, content_type: str, options: ObjectOptions) -> str:
        """Begin an upload and return its id."""

    async def add(self, uri: S3Uri, upload: str, number: int, body: bytes) -> UploadedPart:
        """Upload a part."""

    async def copy(
        self, uri: S3Uri, upload: str, number: int, source: S3Uri, bytes_range: str
    ) -> UploadedPart:
        """Have S3 copy a part from another object.

        :param bytes_range: ``bytes=first-last``
        """

    async def complete(
        self,
        uri: S3Uri,
        upload: str,
        parts: Sequence[UploadedPart],
        *,
        only_if_new: bool = False,
        if_match: str | None = None,
    ) -> None:
        """Make the object of its parts, under :func:`conditions`."""

    async def abort(self, uri: S3Uri, upload: str) -> None:
        """Give an upload up, and what it has of parts."""
