"""The treatment of each member of a request: it has its effect, is ignored without harm, or is refused.

Each member of the operations in :data:`OPERATIONS` is listed here, so that none is ignored unnoticed; a member that is
not listed (of a newer botocore) is refused. A structure is a mapping of its members; a list is given by its items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from airflow_sm_plugin.local.protocol.errors import ValidationFailure


@dataclass(frozen=True)
class Done:
    """The member has its effect."""


@dataclass(frozen=True)
class Ignored:
    """The member is accepted and described, but has no effect; ``why`` is the reason that this does no harm."""

    why: str


@dataclass(frozen=True)
class Refused:
    """The member is refused: without its effect, answers would differ from SageMaker's. ``feature`` is missing here."""

    feature: str


Members: TypeAlias = "Mapping[str, Done | Ignored | Refused | Members]"


def _each(fate: Done | Ignored | Refused, names: str) -> Members:
    return dict.fromkeys(names.split(), fate)


DONE: Final = Done()
_HARDWARE: Final = Ignored("containers are processes of this machine")
_ENCRYPTION: Final = Ignored("the containers' disk is this machine's")
_NETWORK: Final = Ignored("containers are processes of this machine, with its network")
_IMAGE: Final = Ignored("the image is not pulled")
_ROLE: Final = Ignored("no permissions are checked")
_METRICS: Final = Ignored("no metrics of containers and instances are published")
_TIMES: Final = Ignored("the settings determine all durations")
_HUB: Final = Refused("models of a SageMaker hub")
_PINNED: Final = Refused("model data of a given version")

_KEPT: Final = Ignored("it is described, and nothing here reads it")
_MORE_DATA: Final = Refused("additional model data")
_MORE_SPECIFICATIONS: Final = Refused("additional inference specifications of a model package")

_TAGS: Members = {"Key": DONE, "Value": DONE}
_VPC: Members = {"SecurityGroupIds": _NETWORK, "Subnets": _NETWORK}

_MODEL_DATA: Members = {
    "S3DataSource": {
        **_each(DONE, "S3Uri S3DataType CompressionType"),
        "ModelAccessConfig": {"AcceptEula": Ignored("no licence is asked for")},
        "HubAccessConfig": _HUB,
        "ManifestS3Uri": Refused("model data listed in a manifest"),
        **_each(_PINNED, "ETag ManifestEtag"),
    }
}

_CONTAINER: Members = {
    **_each(DONE, "ContainerHostname Mode ModelDataUrl Environment ModelPackageName"),
    **_each(_IMAGE, "Image ImageConfig"),
    "ModelDataSource": _MODEL_DATA,
    "AdditionalModelDataSources": _MORE_DATA,
    "InferenceSpecificationName": _MORE_SPECIFICATIONS,
    "MultiModelConfig": {"ModelCacheSetting": DONE},
    "ContainerMetricsConfig": _METRICS,
}

_VARIANT: Members = {
    **_each(DONE, "VariantName ModelName InitialInstanceCount InitialVariantWeight"),
    **_each(_HARDWARE, "InstanceType AcceleratorType VolumeSizeInGB EnableSSMAccess InferenceAmiVersion"),
    "CapacityReservationConfig": _HARDWARE,
    "InstancePools": {
        **_each(_HARDWARE, "InstanceType Priority"),
        "ModelNameOverride": Refused("other models by instance type"),
    },
    **_each(_TIMES, "VariantInstanceProvisionTimeoutInSeconds ModelDataDownloadTimeoutInSeconds"),
    "ContainerStartupHealthCheckTimeoutInSeconds": _TIMES,
    "CoreDumpConfig": Ignored("no core is dumped"),
    "ServerlessConfig": {
        "MemorySizeInMB": DONE,
        "MaxConcurrency": Ignored("requests are not throttled"),
        "ProvisionedConcurrency": Ignored("the settings determine the cold start"),
    },
    "ManagedInstanceScaling": Ignored("it concerns inference components, which are refused"),
    "RoutingConfig": Ignored("requests go to the instances by round robin"),
}

_SIZE: Members = {"Type": DONE, "Value": DONE}
_DEPLOYMENT: Members = {
    "BlueGreenUpdatePolicy": {
        "TrafficRoutingConfiguration": {
            **_each(DONE, "Type WaitIntervalInSeconds"),
            "CanarySize": _SIZE,
            "LinearStepSize": _SIZE,
        },
        "TerminationWaitInSeconds": DONE,
        "MaximumExecutionTimeoutInSeconds": _TIMES,
    },
    "RollingUpdatePolicy": {
        "MaximumBatchSize": _SIZE,
        "WaitIntervalInSeconds": DONE,
        "MaximumExecutionTimeoutInSeconds": _TIMES,
        "RollbackMaximumBatchSize": Ignored("a rollback takes all instances back at once"),
    },
    "AutoRollbackConfiguration": {"Alarms": {"AlarmName": DONE}},
}

_PACKAGE_CONTAINER: Members = {
    **_each(DONE, "ContainerHostname ModelDataUrl Environment"),
    **_each(_IMAGE, "Image ImageDigest"),
    "ModelDataSource": _MODEL_DATA,
    **_each(_KEPT, "ProductId ModelInput Framework FrameworkVersion NearestModelName IsCheckpoint BaseModel"),
    **_each(_MORE_DATA, "AdditionalModelDataSources AdditionalS3DataSource"),
    "ModelDataETag": _PINNED,
}

_NOT_TABULAR: Final = Refused("Autopilot jobs on text, images and time series")
_TABULAR: Members = {
    "CandidateGenerationConfig": {"AlgorithmsConfig": {"AutoMLAlgorithms": DONE}},
    "CompletionCriteria": {
        **_each(DONE, "MaxCandidates MaxAutoMLJobRuntimeInSeconds"),
        "MaxRuntimePerTrainingJobInSeconds": _TIMES,
    },
    "FeatureSpecificationS3Uri": Refused("feature specifications"),
    **_each(
        DONE,
        "Mode GenerateCandidateDefinitionsOnly ProblemType TargetAttributeName SampleWeightAttributeName",
    ),
}

OPERATIONS: Final[Mapping[str, Members]] = {
    "CreateModel": {
        "ModelName": DONE,
        "PrimaryContainer": _CONTAINER,
        "Containers": _CONTAINER,
        "InferenceExecutionConfig": {"Mode": DONE},
        "ExecutionRoleArn": _ROLE,
        "Tags": _TAGS,
        "VpcConfig": _VPC,
        "EnableNetworkIsolation": _NETWORK,
    },
    "CreateModelPackage": {
        **_each(DONE, "ModelPackageName ModelPackageGroupName ModelPackageDescription"),
        **_each(DONE, "ModelPackageRegistrationType ModelApprovalStatus CustomerMetadataProperties"),
        "SourceUri": DONE,
        "InferenceSpecification": {
            "Containers": _PACKAGE_CONTAINER,
            **_each(_HARDWARE, "SupportedTransformInstanceTypes SupportedRealtimeInferenceInstanceTypes"),
            **_each(_KEPT, "SupportedContentTypes SupportedResponseMIMETypes"),
        },
        "ValidationSpecification": Refused("validation jobs of a model package"),
        "SourceAlgorithmSpecification": Refused("model packages made of an algorithm"),
        "CertifyForMarketplace": Refused("certification for AWS Marketplace"),
        "Tags": _TAGS,
        **_each(_KEPT, "MetadataProperties ModelMetrics Domain Task SamplePayloadUrl DriftCheckBaselines"),
        **_each(_KEPT, "ModelCard ManagedStorageType"),
        "ClientToken": Ignored("each call is one of its own"),
        "AdditionalInferenceSpecifications": _MORE_SPECIFICATIONS,
        "SkipModelValidation": Ignored("no model is validated"),
        "SecurityConfig": {"KmsKeyId": _ENCRYPTION},
        "ModelLifeCycle": {"Stage": DONE, "StageStatus": DONE, "StageDescription": DONE},
    },
    "CreateAutoMLJobV2": {
        "AutoMLJobName": DONE,
        "AutoMLJobInputDataConfig": {
            **_each(DONE, "ChannelType ContentType CompressionType"),
            "DataSource": {"S3DataSource": {"S3DataType": DONE, "S3Uri": DONE}},
        },
        "OutputDataConfig": {"KmsKeyId": _ENCRYPTION, "S3OutputPath": DONE},
        "AutoMLProblemTypeConfig": {
            **_each(_NOT_TABULAR, "ImageClassificationJobConfig TextClassificationJobConfig"),
            **_each(_NOT_TABULAR, "TimeSeriesForecastingJobConfig TextGenerationJobConfig"),
            "TabularJobConfig": _TABULAR,
        },
        "RoleArn": _ROLE,
        "Tags": _TAGS,
        "SecurityConfig": {
            "VolumeKmsKeyId": _ENCRYPTION,
            "EnableInterContainerTrafficEncryption": _NETWORK,
            "VpcConfig": _VPC,
        },
        "AutoMLJobObjective": {"MetricName": DONE},
        "ModelDeployConfig": {"AutoGenerateEndpointName": DONE, "EndpointName": DONE},
        "DataSplitConfig": {"ValidationFraction": DONE},
        "AutoMLComputeConfig": Refused("other compute than this machine's"),
    },
    "CreateEndpointConfig": {
        "EndpointConfigName": DONE,
        "ProductionVariants": _VARIANT,
        "DataCaptureConfig": {
            **_each(DONE, "EnableCapture InitialSamplingPercentage DestinationS3Uri KmsKeyId"),
            "CaptureOptions": {"CaptureMode": DONE},
            "CaptureContentTypeHeader": {"CsvContentTypes": DONE, "JsonContentTypes": DONE},
        },
        "Tags": _TAGS,
        "KmsKeyId": _ENCRYPTION,
        "AsyncInferenceConfig": {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": DONE},
            "OutputConfig": {
                **_each(DONE, "KmsKeyId S3OutputPath S3FailurePath"),
                "NotificationConfig": _each(DONE, "SuccessTopic ErrorTopic IncludeInferenceResponseIn"),
            },
        },
        "ExplainerConfig": Refused("explanations"),
        "ShadowProductionVariants": Refused("shadow variants"),
        "ExecutionRoleArn": _ROLE,
        "VpcConfig": _VPC,
        "EnableNetworkIsolation": _NETWORK,
        "MetricsConfig": _METRICS,
    },
    "CreateEndpoint": {
        **_each(DONE, "EndpointName EndpointConfigName"),
        "DeploymentConfig": _DEPLOYMENT,
        "Tags": _TAGS,
    },
    "UpdateEndpoint": {
        **_each(DONE, "EndpointName EndpointConfigName RetainAllVariantProperties RetainDeploymentConfig"),
        "ExcludeRetainedVariantProperties": {"VariantPropertyType": DONE},
        "DeploymentConfig": _DEPLOYMENT,
    },
    "UpdateEndpointWeightsAndCapacities": {
        "EndpointName": DONE,
        "DesiredWeightsAndCapacities": {
            **_each(DONE, "VariantName DesiredWeight DesiredInstanceCount"),
            "ServerlessUpdateConfig": Refused("changes of a serverless variant's concurrency"),
        },
    },
    "CreateTransformJob": {
        **_each(DONE, "TransformJobName ModelName MaxConcurrentTransforms MaxPayloadInMB BatchStrategy"),
        "Environment": DONE,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": DONE, "InvocationsMaxRetries": DONE},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": DONE, "S3Uri": DONE}},
            **_each(DONE, "ContentType CompressionType SplitType"),
        },
        "TransformOutput": {"S3OutputPath": DONE, "Accept": DONE, "AssembleWith": DONE, "KmsKeyId": DONE},
        "DataCaptureConfig": {"DestinationS3Uri": DONE, "KmsKeyId": DONE, "GenerateInferenceId": DONE},
        "TransformResources": {
            **_each(_HARDWARE, "InstanceType TransformAmiVersion"),
            "InstanceCount": DONE,
            "VolumeKmsKeyId": _ENCRYPTION,
        },
        "DataProcessing": {"InputFilter": DONE, "OutputFilter": DONE, "JoinSource": DONE},
        "Tags": _TAGS,
        "ExperimentConfig": Ignored("experiments are not kept"),
    },
    "InvokeEndpoint": {
        **_each(DONE, "EndpointName Body ContentType Accept CustomAttributes TargetModel TargetVariant"),
        **_each(DONE, "TargetContainerHostname InferenceId"),
        "EnableExplanations": Refused("explanations"),
        "InferenceComponentName": Refused("inference components"),
        "SessionId": Refused("stateful sessions"),
        "PrefixAwareId": Ignored("requests go to the instances by round robin"),
    },
    "InvokeEndpointAsync": {
        **_each(DONE, "EndpointName ContentType Accept CustomAttributes InferenceId InputLocation"),
        **_each(DONE, "S3OutputPathExtension Filename RequestTTLSeconds InvocationTimeoutSeconds Body"),
    },
}


def check_members(operation: str, params: Mapping[str, object]) -> None:
    """Raise ValidationFailure naming the members that are refused."""
    members = OPERATIONS.get(operation)
    problems = list(_problems(members, params, "")) if members is not None else []
    if problems:
        raise ValidationFailure(f"The embedded SageMaker cannot do this {operation}: {'; '.join(problems)}.")


def _problems(members: Members, value: object, path: str) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _problems(members, item, path)
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if inner is None or inner in ([], {}):
                continue
            member_path, member = f"{path}.{name}" if path else name, members.get(name)
            if member is None:
                yield f"it does not know the member {member_path}"
            elif isinstance(member, Refused) and inner is not False:
                yield f"it does not do {member.feature} (member {member_path})"
            elif isinstance(member, Mapping):
                yield from _problems(member, inner, member_path)
