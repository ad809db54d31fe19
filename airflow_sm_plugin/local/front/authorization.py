"""Check a call against the policies of its access key, before it is carried out."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from botocore.exceptions import ClientError
from botocore.parsers import PROTOCOL_PARSERS

from airflow_sm_plugin.local.account.aws import ACCOUNT_ID
from airflow_sm_plugin.local.account.state import Account, Region
from airflow_sm_plugin.local.faults.recorded import recorded
from airflow_sm_plugin.local.iam.permissions import (
    CallContext,
    UnknownPermission,
    deregistering,
    kms_key_arn,
    needed_permissions,
)
from airflow_sm_plugin.local.iam.policies import Permission
from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.protocol.environ import ReceivedRequest
from airflow_sm_plugin.local.protocol.errors import NotAuthorizedFailure, ValidationFailure
from airflow_sm_plugin.local.protocol.protocol import RUNTIME, Request, json_object

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import GetBucketEncryptionOutputTypeDef

_LIST_MEMBER = re.compile(r"(\w+)\.member\.\d+")
"""An entry of a list in the query protocol."""


def check_permissions(
    account: Account, http: ReceivedRequest, name: CallName, request: Request | None
) -> None:
    """Check every permission that a call needs; calls of an access key without policy are not checked.

    Raises NotAuthorizedFailure with AWS's text, also for an operation whose permissions are not known here.
    """
    access_key = http.signature.access_key
    if not account.policies.restricts(access_key):
        return
    user = f"User: arn:aws:iam::{ACCOUNT_ID}:user/{access_key}"
    members = _members(http, name) if request is None else request.params
    call = CallContext(ACCOUNT_ID, name, members, http.headers)
    try:
        needed = needed_permissions(call)
    except UnknownPermission as unknown:
        text = f"is not authorized to perform: {unknown}; the embedded SageMaker does not know its resources"
        raise NotAuthorizedFailure(f"{user} {text}", service=name.service) from None
    region = account.region(name.region)
    for permission in (*needed, *_of_object(call, region)):
        missing = account.policies.missing(access_key, permission)
        if missing is not None:
            raise NotAuthorizedFailure(f"{user} {missing}", service=name.service)
    if (
        name.operation == "DeleteEndpoint"
        and _is_scaled(region, str(members.get("EndpointName")))
        and account.policies.missing(access_key, deregistering(call)) is not None
    ):
        raise recorded("a scaled variant may not be deregistered")


def _members(http: ReceivedRequest, name: CallName) -> Mapping[str, Any]:
    """Read the members of another service's request, in whichever protocol it came; S3's are in its address."""
    if name.service in ("s3", RUNTIME):
        return {}
    body = http.body()
    if "cbor" in http.headers.get("content-type", "") or "smithy-protocol" in http.headers:
        parser = cast("Callable[[], Any]", PROTOCOL_PARSERS["smithy-rpc-v2-cbor"])()
        found = parser.parse_data_item(io.BufferedReader(io.BytesIO(body))) if body else {}
        return found if isinstance(found, dict) else {}
    if "json" in http.headers.get("content-type", ""):
        try:
            return json_object(body)
        except ValidationFailure:
            return {}
    members: dict[str, Any] = {}
    for key, value in parse_qsl(f"{http.query}&{body.decode(errors='replace')}"):
        if match := _LIST_MEMBER.fullmatch(key):
            members.setdefault(match[1], []).append(value)
        else:
            members[key] = value
    return members


def _of_object(call: CallContext, region: Region) -> Iterator[Permission]:
    """List what a call needs further by what is in S3; nothing for an own call, as this one has the same key.

    The use of the key that encrypts the object, or new objects of the bucket; ListBucket to read an object that does
    not exist: without it S3 answers 403, not 404.
    """
    if call.name.service != "s3" or call.name.is_own:
        return
    bucket, _, key = (call.name.resource or "").partition("/")
    s3 = region.aws.s3(region.name)
    try:
        if call.operation in ("GetObject", "HeadObject"):
            key_id = s3.head_object(Bucket=bucket, Key=key).get("SSEKMSKeyId")
            if key_id and call.operation == "GetObject":
                yield Permission("kms:Decrypt", kms_key_arn(call, key_id))
        elif call.operation in ("PutObject", "CreateMultipartUpload"):
            for key_id in _default_keys(s3.get_bucket_encryption(Bucket=bucket)):
                yield Permission("kms:GenerateDataKey", kms_key_arn(call, key_id))
    except ClientError:
        if call.operation in ("GetObject", "HeadObject"):
            yield Permission("s3:ListBucket", f"arn:aws:s3:::{bucket}")


def _default_keys(encryption: GetBucketEncryptionOutputTypeDef) -> Iterator[str]:
    for rule in encryption["ServerSideEncryptionConfiguration"]["Rules"]:
        if key_id := rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID"):
            yield key_id


def _is_scaled(region: Region, endpoint: str) -> bool:
    client = region.aws.autoscaling(region.name)
    pages = client.get_paginator("describe_scalable_targets").paginate(ServiceNamespace="sagemaker")
    prefix = f"endpoint/{endpoint}/variant/"
    return any(
        target["ResourceId"].startswith(prefix) for page in pages for target in page["ScalableTargets"]
    )
