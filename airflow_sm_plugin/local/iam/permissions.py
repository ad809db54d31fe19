"""The permissions that AWS asks for when a call is made, as the Service Authorization Reference defines them.

A call needs its own action on each of its resources, and the *dependent actions*: ``sagemaker:AddTags`` where it tags
what it creates, ``iam:PassRole`` where it names a role, what Application Auto Scaling asks of its caller, and the use
of a KMS key. Simplifications: a scalable target has a fixed id; the service-linked role of Application Auto Scaling
never exists beforehand, so that each registration needs the permission to create it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from airflow_sm_plugin.local.iam.policies import Permission
from airflow_sm_plugin.local.protocol.call_names import CallName
from airflow_sm_plugin.local.protocol.protocol import CONTROL_PLANE, RUNTIME

Members = Mapping[str, Any]

_SAGEMAKER_SERVICE = "sagemaker.amazonaws.com"
_SCALING_SERVICE = "sagemaker.application-autoscaling.amazonaws.com"
_SCALING_ROLE = (
    f"aws-service-role/{_SCALING_SERVICE}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)
_SCALABLE_TARGET = "scalable-target/0000000000000000000000000000000000"

_RESOURCE_KINDS = {
    "AutoMLJob": ("automl-job", "AutoMLJobName"),
    "AutoMLJobV2": ("automl-job", "AutoMLJobName"),
    "Endpoint": ("endpoint", "EndpointName"),
    "EndpointAsync": ("endpoint", "EndpointName"),
    "EndpointWithResponseStream": ("endpoint", "EndpointName"),
    "EndpointWeightsAndCapacities": ("endpoint", "EndpointName"),
    "EndpointConfig": ("endpoint-config", "EndpointConfigName"),
    "Model": ("model", "ModelName"),
    "ModelPackage": ("model-package", "ModelPackageName"),
    "ModelPackageGroup": ("model-package-group", "ModelPackageGroupName"),
    "TransformJob": ("transform-job", "TransformJobName"),
}
"""What follows an operation's verb: the resource's type in its ARN, and the member with its name."""
_VERBS = ("Create", "Describe", "Update", "Delete", "Invoke", "Stop")
_TAGGING = ("AddTags", "ListTags", "DeleteTags")
_PREFIXES = {RUNTIME: "sagemaker", "monitoring": "cloudwatch", "tagging": "tag"}
"""Prefixes of actions, where they differ from the name that a call is signed for."""
_WITHOUT_RESOURCE = {
    "application-autoscaling": ("Describe",),
    "monitoring": ("GetMetric", "ListMetrics", "PutMetricData"),
    CONTROL_PLANE: ("List", "Search"),
    "tagging": ("GetResources",),
    "logs": ("DescribeLogGroups",),
}
"""Beginnings of the actions that support no resource, by service."""
_S3_ACTIONS = {
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "ListObjects": "ListBucket",
    "HeadBucket": "ListBucket",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "DeleteObjects": "DeleteObject",
}
"""Operations of S3 whose action has another name."""
_OF_BUCKETS = ("ListBucket", "GetBucket", "PutBucket", "CreateBucket", "DeleteBucket")
_STREAM_ACTIONS = ("GetLogEvents", "PutLogEvents", "CreateLogStream", "DeleteLogStream")


class UnknownPermission(Exception):
    """The permissions of this operation are not known here."""


@dataclass(frozen=True)
class CallContext:
    """A call as its permissions depend on it.

    :param members: the request's members
    :param headers: lower-case names
    """

    account: str
    name: CallName
    members: Members
    headers: Mapping[str, str]

    @property
    def operation(self) -> str:
        return self.name.operation

    def arn(self, service: str, resource: str) -> str:
        return f"arn:aws:{service}:{self.name.region}:{self.account}:{resource}"


def needed_permissions(call: CallContext) -> list[Permission]:
    """List what the call needs. Raises UnknownPermission where that is not known."""
    service = call.name.service
    if (service, call.operation) == ("sts", "GetCallerIdentity"):
        return []  # AWS permits it to every identity
    action = f"{_PREFIXES.get(service, service)}:{call.operation}"
    takes_none = call.operation.startswith(_WITHOUT_RESOURCE.get(service, ("-",)))
    if takes_none and call.operation not in ("ListTags", "ListModelPackages"):
        return [Permission(action)]
    if service not in _SERVICES:
        raise UnknownPermission(action)
    return list(_SERVICES[service](call))


def _sagemaker(call: CallContext) -> Iterator[Permission]:
    operation, members = call.operation, call.members
    action = f"sagemaker:{operation}"
    if operation in _TAGGING:
        yield Permission(action, str(members.get("ResourceArn")))
        return
    if operation == "ListModelPackages":
        group = _sagemaker_arn(call, "model-package-group", str(members.get("ModelPackageGroupName", "*")))
        yield Permission(action, f"{group.replace(':model-package-group/', ':model-package/')}/*")
        return
    verb = next((verb for verb in _VERBS if operation.startswith(verb)), "")
    if operation.removeprefix(verb) not in _RESOURCE_KINDS:
        raise UnknownPermission(action)
    kind, name_member = _RESOURCE_KINDS[operation.removeprefix(verb)]
    resource = _sagemaker_arn(call, kind, str(members.get(name_member)))
    yield Permission(action, resource)
    if operation in ("CreateEndpoint", "UpdateEndpoint"):
        yield Permission(
            action, _sagemaker_arn(call, "endpoint-config", str(members.get("EndpointConfigName")))
        )
    if verb == "Create" and members.get("Tags"):
        yield Permission("sagemaker:AddTags", resource)
    for member in ("ExecutionRoleArn", "RoleArn"):
        if verb == "Create" and members.get(member):
            context = {"iam:PassedToService": _SAGEMAKER_SERVICE}
            yield Permission("iam:PassRole", str(members[member]), context)


def _sagemaker_arn(call: CallContext, kind: str, name: str) -> str:
    """Build a resource's ARN, in which SageMaker lower-cases the name; a name can be an ARN itself."""
    return name if name.startswith("arn:") else call.arn("sagemaker", f"{kind}/{name.lower()}")


def _s3(call: CallContext) -> Iterator[Permission]:
    action = _S3_ACTIONS.get(call.operation, call.operation)
    bucket, _, key = (call.name.resource or "").partition("/")
    is_bucket = action.startswith(_OF_BUCKETS) or not key
    resource = f"arn:aws:s3:::{bucket}" + ("" if is_bucket else f"/{key}")
    yield Permission(f"s3:{action}", resource)
    if call.headers.get("x-amz-acl") or any(name.startswith("x-amz-grant-") for name in call.headers):
        yield Permission("s3:PutObjectAcl", resource)
    if call.headers.get("x-amz-tagging"):
        yield Permission("s3:PutObjectTagging", resource)
    if key_id := call.headers.get("x-amz-server-side-encryption-aws-kms-key-id"):
        yield Permission("kms:GenerateDataKey", kms_key_arn(call, key_id))
        if call.operation == "CreateMultipartUpload":
            yield Permission("kms:Decrypt", kms_key_arn(call, key_id))


def kms_key_arn(call: CallContext, key_id: str) -> str:
    return key_id if key_id.startswith("arn:") else call.arn("kms", f"key/{key_id}")


def _autoscaling(call: CallContext) -> Iterator[Permission]:
    members, operation = call.members, call.operation
    context = {"application-autoscaling:service-namespace": str(members.get("ServiceNamespace"))}
    target = call.arn("application-autoscaling", _SCALABLE_TARGET)
    yield Permission(f"application-autoscaling:{operation}", target, context)
    endpoint = str(members.get("ResourceId")).partition("/")[2].partition("/variant/")[0]
    resource = _sagemaker_arn(call, "endpoint", endpoint)
    if operation == "RegisterScalableTarget":
        yield Permission("sagemaker:DescribeEndpoint", resource)
        yield Permission("sagemaker:UpdateEndpointWeightsAndCapacities", resource)
        role = f"arn:aws:iam::{call.account}:role/{_SCALING_ROLE}"
        yield Permission("iam:CreateServiceLinkedRole", role, {"iam:AWSServiceName": _SCALING_SERVICE})
    alarm = call.arn("cloudwatch", f"alarm:TargetTracking-{members.get('ResourceId')}-AlarmHigh")
    if operation == "PutScalingPolicy" and members.get("TargetTrackingScalingPolicyConfiguration"):
        yield Permission("cloudwatch:PutMetricAlarm", alarm)
    if operation == "DeleteScalingPolicy":
        yield Permission("cloudwatch:DeleteAlarms", alarm)


def deregistering(call: CallContext) -> Permission:
    """Return what DeleteEndpoint needs for an endpoint that is a scalable target."""
    context = {"application-autoscaling:service-namespace": "sagemaker"}
    target = call.arn("application-autoscaling", _SCALABLE_TARGET)
    return Permission("application-autoscaling:DeregisterScalableTarget", target, context)


def _cloudwatch(call: CallContext) -> Iterator[Permission]:
    names = call.members.get("AlarmNames") or [call.members.get("AlarmName")]
    for name in names if call.operation != "DescribeAlarms" else [None]:
        yield Permission(f"cloudwatch:{call.operation}", call.arn("cloudwatch", f"alarm:{name or '*'}"))


def _logs(call: CallContext) -> Iterator[Permission]:
    stream = call.members.get("logStreamName", "") if call.operation in _STREAM_ACTIONS else ""
    group = call.members.get("logGroupName", "")
    yield Permission(f"logs:{call.operation}", call.arn("logs", f"log-group:{group}:log-stream:{stream}"))


def _sqs(call: CallContext) -> Iterator[Permission]:
    path = urlsplit(str(call.members.get("QueueUrl") or call.members.get("QueueName"))).path
    name = path.rpartition("/")[2]
    yield Permission(f"sqs:{call.operation.removesuffix('Batch')}", call.arn("sqs", name))


def _sns(call: CallContext) -> Iterator[Permission]:
    yield Permission(f"sns:{call.operation}", str(call.members.get("TopicArn")))


def _iam(call: CallContext) -> Iterator[Permission]:
    name = call.members.get("RoleName")
    if name is None:
        raise UnknownPermission(f"iam:{call.operation}")
    yield Permission(f"iam:{call.operation}", f"arn:aws:iam::{call.account}:role/{name}")


_SERVICES: Mapping[str, Callable[[CallContext], Iterator[Permission]]] = {
    CONTROL_PLANE: _sagemaker,
    RUNTIME: _sagemaker,
    "s3": _s3,
    "application-autoscaling": _autoscaling,
    "monitoring": _cloudwatch,
    "logs": _logs,
    "sqs": _sqs,
    "sns": _sns,
    "iam": _iam,
}
