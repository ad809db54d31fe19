"""Convert CreateAutoMLJob (V1) and CreateAutoMLJobV2 to the same class, with the service's checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_sm_plugin.local.account.operations import Params
from airflow_sm_plugin.local.automl.training.plan import METRICS
from airflow_sm_plugin.local.protocol.errors import ValidationFailure

_CSV = frozenset({"", "text/csv", "text/csv;header=present"})


@dataclass(frozen=True)
class InputChannel:
    """The location of a channel's CSV objects; ``kind`` is S3Prefix or ManifestFile."""

    kind: str
    uri: str
    gzipped: bool


@dataclass(frozen=True)
class JobRequest:
    """The request of either API version; ``mode`` is AUTO by default, times are in seconds.

    :param max_candidates: None trains a candidate of each kind
    :param tabular: a TabularJobConfig, also for a V1 job
    """

    name: str
    training: InputChannel
    validation: InputChannel | None
    target: str
    weight: str | None
    problem_type: str | None
    objective: str | None
    mode: str
    algorithms: tuple[str, ...]
    max_candidates: int | None
    most_seconds: float | None
    validation_fraction: float | None
    definitions_only: bool
    output: str
    role: str
    deploy: Mapping[str, object] | None
    tabular: Mapping[str, Any]


def from_v1(params: Params) -> JobRequest:
    """Convert CreateAutoMLJob. Raises ValidationFailure."""
    channels = params["InputDataConfig"]
    targets = {channel["TargetAttributeName"] for channel in channels}
    if len(targets) > 1:
        raise ValidationFailure("TargetAttributeName must be the same for all channels.")
    weights = {channel.get("SampleWeightAttributeName") for channel in channels} - {None}
    settings = params.get("AutoMLJobConfig") or {}
    return _read(
        params,
        channels=channels,
        tabular={
            "TargetAttributeName": targets.pop(),
            "SampleWeightAttributeName": weights.pop() if weights else None,
            "ProblemType": params.get("ProblemType"),
            "GenerateCandidateDefinitionsOnly": bool(params.get("GenerateCandidateDefinitionsOnly")),
            "CompletionCriteria": settings.get("CompletionCriteria"),
            "CandidateGenerationConfig": settings.get("CandidateGenerationConfig"),
            "Mode": settings.get("Mode"),
        },
        split=settings.get("DataSplitConfig"),
    )


def from_v2(params: Params) -> JobRequest:
    """Convert CreateAutoMLJobV2. Raises ValidationFailure."""
    config = params["AutoMLProblemTypeConfig"]
    if len(config) != 1:
        raise ValidationFailure("Exactly one member of AutoMLProblemTypeConfig must be set.")
    if "TabularJobConfig" not in config:
        raise ValidationFailure(
            f"The embedded SageMaker trains tabular jobs only; {next(iter(config))} is not supported."
        )
    return _read(
        params,
        channels=params["AutoMLJobInputDataConfig"],
        tabular=config["TabularJobConfig"],
        split=params.get("DataSplitConfig"),
    )


def _read(
    params: Params, *, channels: list[dict[str, Any]], tabular: Params, split: Mapping[str, float] | None
) -> JobRequest:
    training, validation = _channels(channels)
    problem_type = tabular.get("ProblemType")
    objective = (params.get("AutoMLJobObjective") or {}).get("MetricName")
    _check_objective(problem_type, objective)
    generation = tabular.get("CandidateGenerationConfig") or {}
    if generation.get("FeatureSpecificationS3Uri") or tabular.get("FeatureSpecificationS3Uri"):
        raise ValidationFailure("The embedded SageMaker does not support FeatureSpecificationS3Uri.")
    completion = tabular.get("CompletionCriteria") or {}
    algorithms = [
        name for item in generation.get("AlgorithmsConfig") or () for name in item["AutoMLAlgorithms"]
    ]
    return JobRequest(
        name=params["AutoMLJobName"],
        training=training,
        validation=validation,
        target=tabular["TargetAttributeName"],
        weight=tabular.get("SampleWeightAttributeName"),
        problem_type=problem_type,
        objective=objective,
        mode=tabular.get("Mode") or "AUTO",
        algorithms=tuple(algorithms),
        max_candidates=completion.get("MaxCandidates"),
        most_seconds=completion.get("MaxAutoMLJobRuntimeInSeconds"),
        validation_fraction=_fraction(split, validation),
        definitions_only=bool(tabular.get("GenerateCandidateDefinitionsOnly")),
        output=params["OutputDataConfig"]["S3OutputPath"].rstrip("/"),
        role=params["RoleArn"],
        deploy=_deployment(params.get("ModelDeployConfig")),
        tabular=tabular,
    )


def _channels(channels: list[dict[str, Any]]) -> tuple[InputChannel, InputChannel | None]:
    by_kind: dict[str, InputChannel] = {}
    for channel in channels:
        kind = channel.get("ChannelType") or "training"
        if kind in by_kind:
            raise ValidationFailure(f"There is more than one {kind} channel.")
        by_kind[kind] = _channel(channel)
    if "training" not in by_kind:
        raise ValidationFailure("A channel of type training is required.")
    return by_kind["training"], by_kind.get("validation")


def _channel(channel: dict[str, Any]) -> InputChannel:
    source = (channel.get("DataSource") or {}).get("S3DataSource")
    if source is None:
        raise ValidationFailure("A channel's DataSource.S3DataSource is required.")
    if source["S3DataType"] == "AugmentedManifestFile":
        raise ValidationFailure("S3DataType AugmentedManifestFile is not supported for tabular data.")
    content_type = (channel.get("ContentType") or "").replace(" ", "").lower()
    if content_type not in _CSV:
        raise ValidationFailure(
            f"The embedded SageMaker reads text/csv;header=present only; {channel['ContentType']} is not supported."
        )
    return InputChannel(source["S3DataType"], source["S3Uri"], channel.get("CompressionType") == "Gzip")


def _check_objective(problem_type: str | None, objective: str | None) -> None:
    if (problem_type is None) != (objective is None):
        raise ValidationFailure("Either provide both ProblemType and AutoMLJobObjective, or none of them.")
    if problem_type is None or objective is None or objective in METRICS[problem_type]:
        return
    supported = ", ".join(METRICS[problem_type])
    raise ValidationFailure(
        f"Objective metric {objective} is not supported for problem type {problem_type}. Supported: {supported}."
    )


def _fraction(split: Mapping[str, float] | None, validation: InputChannel | None) -> float | None:
    fraction = (split or {}).get("ValidationFraction")
    if fraction is None:
        return None
    if validation is not None:
        raise ValidationFailure("ValidationFraction cannot be set together with a validation channel.")
    if not 0 < fraction < 1:
        raise ValidationFailure(f"ValidationFraction must be greater than 0 and less than 1, not {fraction}.")
    return fraction


def _deployment(config: Mapping[str, object] | None) -> Mapping[str, object] | None:
    if not config:
        return None
    if bool(config.get("AutoGenerateEndpointName")) == bool(config.get("EndpointName")):
        raise ValidationFailure("Specify EndpointName if and only if AutoGenerateEndpointName is False.")
    return config
