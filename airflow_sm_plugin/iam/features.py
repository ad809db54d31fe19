"""The permissions of each feature.

An action stands with the resource for which AWS checks it (Service Authorization Reference). Those on :data:`ANY`
support no resource. A grant with ``only_with`` is printed only where the user gave that argument.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

TASK_ROLE, EXECUTION_ROLE = "task-role", "execution-role"

ANY = "any"
"""The resource of actions that support none."""

RESOURCES: Mapping[str, str] = {
    ANY: "*",
    "endpoint": "arn:{partition}:sagemaker:{region}:{account}:endpoint/{endpoint}",
    "every-endpoint": "arn:{partition}:sagemaker:{region}:{account}:endpoint/*",
    "endpoint-config": "arn:{partition}:sagemaker:{region}:{account}:endpoint-config/{endpoint_config}",
    "every-endpoint-config": "arn:{partition}:sagemaker:{region}:{account}:endpoint-config/*",
    "model": "arn:{partition}:sagemaker:{region}:{account}:model/{model}",
    "automl-job": "arn:{partition}:sagemaker:{region}:{account}:automl-job/{auto_ml_job}",
    "model-package-group": "arn:{partition}:sagemaker:{region}:{account}:model-package-group/{model_package_group}",
    "model-package": "arn:{partition}:sagemaker:{region}:{account}:model-package/{model_package_group}/*",
    "transform-job": "arn:{partition}:sagemaker:{region}:{account}:transform-job/{transform_job}",
    "role": "{role}",
    "object": "arn:{partition}:s3:::{bucket}/{prefix}*",
    "bucket": "arn:{partition}:s3:::{bucket}",
    "key": "{kms_key}",
    "queue": "{queue}",
    "topic": "{topic}",
    "repository": "{repository}",
    "endpoint-logs": "arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/Endpoints/{log_endpoint}:*",
    "transform-logs": "arn:{partition}:logs:{region}:{account}:log-group:/aws/sagemaker/TransformJobs:*",
    "scalable-target": "arn:{partition}:application-autoscaling:{region}:{account}:scalable-target/*",
    "wake-alarm": (
        "arn:{partition}:cloudwatch:{region}:{account}:alarm:airflow-sm/endpoint/{log_endpoint}/variant/*"
    ),
    "tracking-alarm": (
        "arn:{partition}:cloudwatch:{region}:{account}:alarm:TargetTracking-endpoint/{log_endpoint}/variant/*"
    ),
    "every-alarm": "arn:{partition}:cloudwatch:{region}:{account}:alarm:*",
    "scaling-role": (
        "arn:{partition}:iam::{account}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    ),
}
"""ARNs of each kind of resource; a name in braces is an argument."""

WIDER = (
    ("every-endpoint", "endpoint"),
    ("every-endpoint-config", "endpoint-config"),
    ("every-alarm", "wake-alarm"),
    ("every-alarm", "tracking-alarm"),
)
"""Resources, and narrower ones that they cover: an action on the wider is not printed for the narrower."""

CONDITIONS: Mapping[str, Mapping[str, str]] = {
    "scalable-target": {"application-autoscaling:service-namespace": "sagemaker"},
    "scaling-role": {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"},
}
"""Conditions of all actions on a kind of resource. A scalable target's id is known only once it is registered."""

ACTION_CONDITIONS: Mapping[str, Mapping[str, str]] = {
    "iam:PassRole": {"iam:PassedToService": "sagemaker.amazonaws.com"}
}
"""Who can pass a role to any service runs code with it there."""


@dataclass(frozen=True)
class Grant:
    """Actions of one service on one kind of resource; ``only_with`` is an argument without which it is not printed."""

    resource: str
    actions: tuple[str, ...]
    only_with: str = ""


@dataclass(frozen=True)
class Feature:
    """What a leg of the package needs.

    :param about: the operators and arguments that need it
    """

    about: str
    task: tuple[Grant, ...] = ()
    execution: tuple[Grant, ...] = ()

    def grants(self, role: str) -> tuple[Grant, ...]:
        return self.task if role == TASK_ROLE else self.execution


def _grant(resource: str, service: str, actions: str, *, only_with: str = "") -> Grant:
    return Grant(resource, tuple(f"{service}:{action}" for action in actions.split()), only_with)


_ENDPOINT_LOGS = _grant("endpoint-logs", "logs", "DescribeLogStreams GetLogEvents")
_PASS_ROLE = (_grant("role", "iam", "PassRole"), _grant("role", "iam", "GetRole", only_with="role_name"))
_CREATE_MODEL = (
    _grant("model", "sagemaker", "AddTags CreateModel DescribeModel ListTags"),
    _grant("object", "s3", "GetObject"),
    *_PASS_ROLE,
)
_USE_KEY = _grant("key", "kms", "Decrypt GenerateDataKey", only_with="kms_key")
_SET_ACL = _grant("object", "s3", "PutObjectAcl", only_with="acl")
_QUEUE = _grant("queue", "sqs", "DeleteMessage ReceiveMessage", only_with="queue")
_FIND_UNUSED = (
    _grant(ANY, "sagemaker", "ListEndpointConfigs ListEndpoints"),
    _grant("every-endpoint", "sagemaker", "DescribeEndpoint"),
)
_SERVE = (
    _grant("object", "s3", "GetObject"),
    _grant("bucket", "s3", "ListBucket"),
    _grant("repository", "ecr", "BatchCheckLayerAvailability BatchGetImage GetDownloadUrlForLayer"),
    _grant(ANY, "ecr", "GetAuthorizationToken"),
    _grant("key", "kms", "Decrypt", only_with="kms_key"),
)
_WRITE_RESULTS = (
    _grant("object", "s3", "GetObject PutObject"),
    _grant("bucket", "s3", "ListBucket"),
    _grant("topic", "sns", "Publish", only_with="topic"),
    _USE_KEY,
)

FEATURES: Mapping[str, Feature] = {
    "model": Feature(
        "SageMakerCreateModelOperator",
        task=_CREATE_MODEL,
        execution=_SERVE,
    ),
    "registry": Feature(
        "SageMakerCreateModelOperator with model_package_arn or model_package_group_name; with `model`",
        task=(
            _grant("model-package", "sagemaker", "DescribeModelPackage ListModelPackages"),
            _grant("model-package-group", "sagemaker", "DescribeModelPackageGroup"),
        ),
    ),
    "autopilot": Feature(
        "SageMakerExportAutopilotModelOperator",
        task=(
            *_CREATE_MODEL,
            _grant("automl-job", "sagemaker", "DescribeAutoMLJobV2"),
            _grant(ANY, "sagemaker", "ListCandidatesForAutoMLJob"),
        ),
        execution=_SERVE,
    ),
    "deploy": Feature(
        "SageMakerDeployEndpointOperator",
        task=(
            _grant(
                "endpoint",
                "sagemaker",
                "AddTags CreateEndpoint DeleteEndpoint DescribeEndpoint ListTags UpdateEndpoint",
            ),
            _grant(
                "endpoint-config",
                "sagemaker",
                "AddTags CreateEndpoint CreateEndpointConfig DeleteEndpointConfig DescribeEndpointConfig ListTags "
                "UpdateEndpoint",
            ),
            _grant("model", "sagemaker", "DescribeModel"),
            *_FIND_UNUSED,
            _grant(ANY, "application-autoscaling", "DescribeScalableTargets"),
            _ENDPOINT_LOGS,
        ),
        execution=(
            *_SERVE,
            _grant("endpoint-logs", "logs", "CreateLogGroup CreateLogStream DescribeLogStreams PutLogEvents"),
            _grant(ANY, "cloudwatch", "PutMetricData"),
        ),
    ),
    "delete": Feature(
        "SageMakerDeleteEndpointOperator",
        task=(
            _grant("endpoint", "sagemaker", "DeleteEndpoint DescribeEndpoint ListTags"),
            _grant("endpoint-config", "sagemaker", "DeleteEndpointConfig DescribeEndpointConfig ListTags"),
            *_FIND_UNUSED,
            _grant(ANY, "application-autoscaling", "DescribeScalableTargets"),
            _grant("every-alarm", "cloudwatch", "DescribeAlarms"),
        ),
    ),
    "delete-models": Feature(
        "SageMakerDeployEndpointOperator with delete_old_models, SageMakerDeleteEndpointOperator with delete_models; "
        "with `deploy` or `delete`",
        task=(
            _grant("model", "sagemaker", "DeleteModel DescribeModel ListTags"),
            _grant(
                "every-endpoint-config", "sagemaker", "DescribeEndpointConfig"
            ),  # another one may use the model
        ),
    ),
    "scaling": Feature(
        "SageMakerScaleEndpointOperator, and whatever deletes an endpoint that scales",
        task=(
            _grant(
                "endpoint",
                "sagemaker",
                "DescribeEndpoint ListTags UpdateEndpointWeightsAndCapacities",
            ),
            _grant("endpoint-config", "sagemaker", "DescribeEndpointConfig"),
            _grant(
                "scalable-target",
                "application-autoscaling",
                "DeleteScalingPolicy DeregisterScalableTarget PutScalingPolicy RegisterScalableTarget",
            ),
            _grant(ANY, "application-autoscaling", "DescribeScalableTargets DescribeScalingPolicies"),
            _grant("wake-alarm", "cloudwatch", "DeleteAlarms PutMetricAlarm"),
            _grant("tracking-alarm", "cloudwatch", "DeleteAlarms PutMetricAlarm"),
            _grant("every-alarm", "cloudwatch", "DescribeAlarms"),
            _grant("scaling-role", "iam", "CreateServiceLinkedRole"),
        ),
    ),
    "rescale": Feature(
        'SageMakerDeployEndpointOperator with on_scaled="rescale"; with `deploy` and `scaling`',
        task=(
            _grant("endpoint", "sagemaker", "AddTags DeleteTags ListTags"),
            _grant("scalable-target", "application-autoscaling", "PutScheduledAction"),
            _grant(ANY, "application-autoscaling", "DescribeScheduledActions"),
            _grant("every-alarm", "cloudwatch", "PutMetricAlarm"),
        ),
    ),
    "delete-idle": Feature(
        "SageMakerDeleteIdleEndpointsOperator; with `delete-models` for its delete_models",
        task=(
            _grant("endpoint", "sagemaker", "DeleteEndpoint"),
            _grant("endpoint-config", "sagemaker", "DeleteEndpointConfig"),
            *_FIND_UNUSED,
            _grant("every-endpoint", "sagemaker", "ListTags"),
            _grant("every-endpoint-config", "sagemaker", "DescribeEndpointConfig ListTags"),
            _grant(ANY, "application-autoscaling", "DescribeScalableTargets"),
            _grant(ANY, "cloudwatch", "GetMetricData"),
            _grant(ANY, "tag", "GetResources"),
            _grant("every-alarm", "cloudwatch", "DescribeAlarms"),
        ),
    ),
    "invoke": Feature(
        "SageMakerInvokeEndpointOperator",
        task=(
            _grant("endpoint", "sagemaker", "InvokeEndpoint"),
            _grant("object", "s3", "GetObject PutObject"),
            _ENDPOINT_LOGS,
            _USE_KEY,
        ),
    ),
    "async": Feature(
        "SageMakerInvokeEndpointAsyncOperator, SageMakerAsyncInferenceSensor",
        task=(
            _grant("endpoint", "sagemaker", "DescribeEndpoint InvokeEndpointAsync"),
            _grant("object", "s3", "GetObject PutObject"),
            _grant("bucket", "s3", "ListBucket"),
            _ENDPOINT_LOGS,
            _USE_KEY,
            _QUEUE,
        ),
        execution=_WRITE_RESULTS,
    ),
    "batch": Feature(
        "SageMakerAsyncBatchOperator",
        task=(
            _grant("endpoint", "sagemaker", "DescribeEndpoint InvokeEndpointAsync"),
            _grant("endpoint-config", "sagemaker", "DescribeEndpointConfig"),
            _grant("object", "s3", "GetObject PutObject"),
            _grant("bucket", "s3", "ListBucket"),
            _ENDPOINT_LOGS,
            _USE_KEY,
            _QUEUE,
        ),
        execution=_WRITE_RESULTS,
    ),
    "multi-model": Feature(
        "SageMakerPlanMultiModelBatchOperator, SageMakerMultiModelBatchOperator, SageMakerMergeBatchReportOperator",
        task=(
            _grant("endpoint", "sagemaker", "DescribeEndpoint InvokeEndpoint"),
            _grant("endpoint-config", "sagemaker", "DescribeEndpointConfig"),
            _grant("model", "sagemaker", "DescribeModel"),
            _grant("object", "s3", "AbortMultipartUpload DeleteObject GetObject PutObject"),
            _grant("bucket", "s3", "ListBucket"),
            _ENDPOINT_LOGS,
            _USE_KEY,
            _SET_ACL,
        ),
    ),
    "data-capture": Feature(
        "SageMakerDeployEndpointOperator with data_capture_config",
        execution=(_grant("object", "s3", "PutObject"), _USE_KEY),
    ),
    "transform-logs": Feature(
        "TransformJobLogs, the callback of failed transform jobs",
        task=(
            _grant("transform-job", "sagemaker", "DescribeTransformJob"),
            _grant("transform-logs", "logs", "DescribeLogStreams GetLogEvents"),
        ),
    ),
    "page": Feature(
        "The page of endpoints in Airflow's web interface; for the role of the web server",
        task=(
            _grant(ANY, "cloudwatch", "GetMetricData"),
            _grant(ANY, "sagemaker", "ListEndpoints"),
            _grant(ANY, "tag", "GetResources"),
            _grant("every-endpoint", "sagemaker", "DescribeEndpoint"),
            _grant("every-endpoint-config", "sagemaker", "DescribeEndpointConfig"),
        ),
    ),
}
"""The features by name, each with the operators that need it."""
