"""Storage options of new objects and conditions of writes, as parameters of S3's operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """Storage options of a new object.

    :param kms_key_id: encrypt it with this KMS key (id, ARN or alias); None is as the bucket says
    :param acl: canned ACL, e.g. ``bucket-owner-full-control``
    :param metadata: of the object, names in lower case
    """

    kms_key_id: str | None = None
    acl: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        key = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id} if self.kms_key_id else {}
        acl = {"ACL": self.acl} if self.acl else {}
        metadata = {"Metadata": dict(self.metadata)} if self.metadata else {}
        return {**key, **acl, **metadata}


PLAIN = ObjectOptions()


def conditions(*, only_if_new: bool = False, if_match: str | None = None) -> dict[str, str]:
    """Make botocore's parameters of a conditional write or deletion.

    :param only_if_new: no object may exist
    :param if_match: the object with this ETag must exist, with or without quotes
    """
    new = {"IfNoneMatch": "*"} if only_if_new else {}
    return new if if_match is None else {**new, "IfMatch": quoted_etag(if_match)}


def quoted_etag(etag: str) -> str:
    return f'"{etag.strip(chr(34))}"'
