"""CreateEndpointConfig: the request, built from operators' arguments, and its content-derived name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.core.names import ENDPOINT_TAG, MOST_OWN_TAGS, check_name, content_name, users_tags
from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import mapping, number, whole_number
from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.resources.endpoint_cost import instances_of
from airflow_sm_plugin.resources.model import without_empty
from airflow_sm_plugin.resources.tags import as_tags, check_tags

MAX_VARIANTS = 10
MAX_CONCURRENCY = 1_000


@dataclass(frozen=True, kw_only=True)
class AsyncSection:
    """An endpoint's AsyncInferenceConfig. Paths are S3 prefixes, topics SNS ARNs; None is not set."""

    output_path: str | None
    failure_path: str | None = None
    success_topic: str | None = None
    error_topic: str | None = None
    max_concurrent_invocations_per_instance: int | None = None
    kms_key_id: str | None = None

    def checked(self) -> AsyncSection:
        """Return the section itself, or raise InvalidRequest naming the value, the limit and the remedy."""
        if not self.output_path:
            raise InvalidRequest(
                "an asynchronous endpoint needs async_output_path (s3://bucket/prefix): without it SageMaker has "
                "nowhere to put results; leave every async_* argument out for a real-time endpoint"
            )
        S3Uri.parse(self.output_path, name="async_output_path")
        if self.failure_path is not None:
            S3Uri.parse(self.failure_path, name="async_failure_path")
        concurrency = self.max_concurrent_invocations_per_instance
        if concurrency is not None and not 1 <= concurrency <= MAX_CONCURRENCY:
            raise InvalidRequest(
                f"max_concurrent_invocations_per_instance is {concurrency}, SageMaker takes 1 to {MAX_CONCURRENCY}"
            )
        return self

    def parameters(self) -> dict[str, Any]:
        topics = {"SuccessTopic": self.success_topic or None, "ErrorTopic": self.error_topic or None}
        output = {
            "S3OutputPath": self.output_path,
            "S3FailurePath": self.failure_path,
            "KmsKeyId": self.kms_key_id,
            "NotificationConfig": without_empty(topics),
        }
        client = {"MaxConcurrentInvocationsPerInstance": self.max_concurrent_invocations_per_instance}
        return without_empty({"OutputConfig": without_empty(output), "ClientConfig": without_empty(client)})


@dataclass(frozen=True, kw_only=True)
class EndpointConfigSpec:
    """A wanted endpoint configuration. Its name is derived from its content, so that a retry finds an earlier try's.

    :param data_capture: spelled as SageMaker's DataCaptureConfig
    :param volume_kms_key_id: encrypts the instances' storage
    :param tags: no part of the content: they may change without a new configuration
    :param endpoint_tags: further tags of the endpoint alone
    :param models_created_at: the models' CreationTimes in epoch seconds, where known: a model that was deleted and
        created again under its name is another model, and needs another configuration
    """

    endpoint_name: str
    variants: Sequence[Variant]
    async_section: AsyncSection | None = None
    data_capture: Mapping[str, Any] | None = None
    volume_kms_key_id: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    endpoint_tags: Mapping[str, str] = field(default_factory=dict)
    models_created_at: Mapping[str, float] = field(default_factory=dict)

    def checked(self) -> EndpointConfigSpec:
        """Return the spec itself, or raise InvalidRequest naming the value, the limit and the remedy."""
        check_name(self.endpoint_name, "endpoint name")
        check_tags(users_tags(self.tags), "endpoint", ours=MOST_OWN_TAGS)
        if not 1 <= len(self.variants) <= MAX_VARIANTS:
            raise InvalidRequest(
                f"an endpoint has 1 to {MAX_VARIANTS} production variants, not {len(self.variants)}"
            )
        names = [variant.checked().variant_name for variant in self.variants]
        if len(set(names)) != len(names):
            raise InvalidRequest(f"production variants share a name: {', '.join(names)}; give each its own")
        if self.async_section is not None:
            self.async_section.checked()
        if self.is_serverless:
            self._check_serverless()
        return self

    def instances(self, counts: Mapping[str, int] | None = None) -> str:
        """Describe the instances, as :func:`~airflow_sm_plugin.resources.endpoint_cost.instances_of` does."""
        return instances_of([variant.parameters() for variant in self.variants], counts)

    def _check_serverless(self) -> None:
        if self.async_section is not None:
            raise InvalidRequest(
                "a serverless variant cannot serve an asynchronous endpoint: give instances, or leave async_* out"
            )
        if len(self.variants) > 1:
            names = ", ".join(variant.variant_name for variant in self.variants)
            raise InvalidRequest(
                f"a serverless endpoint has one production variant, not {len(self.variants)} ({names}): give "
                f"instances, or deploy an endpoint for each"
            )
        if self.data_capture:
            raise InvalidRequest(
                "a serverless endpoint captures no data: leave data_capture_config out, or give instances"
            )

    def check_models(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """Raise InvalidRequest for a model (DescribeModel's answer by name) that a serverless endpoint cannot serve."""
        for name, model in models.items() if self.is_serverless else ():
            objection = serverless_objection(model)
            if objection is not None:
                raise InvalidRequest(
                    f"a serverless endpoint cannot serve model {name}: {objection}. Give instances (instance_type) "
                    f"instead of a ServerlessConfig"
                )

    @property
    def config_name(self) -> str:
        """``<endpoint name>-<digest of content and models' CreationTimes>``."""
        content = self._content()
        identities = dict(self.models_created_at)
        return content_name(self.endpoint_name, [content, identities] if identities else content)

    @property
    def is_serverless(self) -> bool:
        return any(variant.serverless is not None for variant in self.variants)

    @property
    def model_names(self) -> list[str]:
        return list(dict.fromkeys(variant.model_name for variant in self.variants))

    def _content(self) -> dict[str, Any]:
        return without_empty(
            {
                "ProductionVariants": [variant.parameters() for variant in self.variants],
                "AsyncInferenceConfig": self.async_section and self.async_section.parameters(),
                "DataCaptureConfig": dict(self.data_capture or {}),
                "KmsKeyId": self.volume_kms_key_id or None,
            }
        )

    def config_parameters(self) -> dict[str, Any]:
        return {
            "EndpointConfigName": self.config_name,
            **self._content(),
            "Tags": as_tags(self._config_tags()),
        }

    def _config_tags(self) -> dict[str, str]:
        return {**self.tags, ENDPOINT_TAG: self.endpoint_name}

    def endpoint_parameters(self) -> dict[str, Any]:
        tags = as_tags({**self.tags, **self.endpoint_tags})
        names = {"EndpointName": self.endpoint_name, "EndpointConfigName": self.config_name}
        return without_empty({**names, "Tags": tags})


def serverless_objection(model: Mapping[str, Any]) -> str | None:
    """Name the reason why a described model cannot be served without instances; None where it may be.

    Source: the SageMaker guide's page *Serverless Inference*, feature exclusions. Not checked are images for GPUs and
    packages of AWS Marketplace: a ``ModelPackageName`` of another account may also be a package that it shares.
    """
    containers = model.get("Containers") or [model.get("PrimaryContainer") or {}]
    if len(containers) > 1:
        return (
            f"it is an inference pipeline of {len(containers)} containers, as every Autopilot model of mode "
            f"HYPERPARAMETER_TUNING is (mode ENSEMBLING makes models of one container)"
        )
    if any(container.get("Mode") == "MultiModel" for container in containers):
        return "it has Mode MultiModel"
    if any(container.get("ModelDataSource") for container in containers):
        return "its model data is given as ModelDataSource; give ModelDataUrl"
    if model.get("VpcConfig"):
        return "it has a VpcConfig"
    if model.get("EnableNetworkIsolation"):
        return "it has EnableNetworkIsolation"
    return None


_MEMORY_STEP = 1_024
_MEMORY_MB = range(_MEMORY_STEP, 6 * _MEMORY_STEP + 1, _MEMORY_STEP)
_SERVERLESS_CONCURRENCY = range(1, 201)
_MOST_POOLS = 5


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model on instances (``instance_type``) or serverless (``serverless``, spelled as ServerlessConfig).

    ``others`` are further fields of SageMaker's ProductionVariant, sent unchanged. With InstancePools among them the
    variant needs no instance type, and no count.
    """

    model_name: str
    instance_type: str | None = None
    initial_instance_count: int | None = 1
    variant_name: str = "AllTraffic"
    initial_variant_weight: float = 1.0
    serverless: Mapping[str, Any] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Variant:
        """Read SageMaker's ProductionVariant, whose numbers may be text; raise InvalidRequest without ModelName."""
        others = dict(value)
        if not (model_name := others.pop("ModelName", None)):
            raise InvalidRequest(
                f"a production variant needs a ModelName; this one has only {sorted(value)}. Endpoints of inference "
                f"components, whose variants have none, are not deployed by this operator"
            )
        count = others.pop("InitialInstanceCount", None if others.get("InstancePools") else 1)
        if count is not None or not others.get("InstancePools"):
            count = whole_number(count, "InitialInstanceCount", at_least=None)
        serverless = mapping(others.pop("ServerlessConfig", None), "ServerlessConfig")
        if serverless is not None:
            serverless = {key: whole_number(item, key, at_least=None) for key, item in serverless.items()}
        return cls(
            model_name=str(model_name),
            instance_type=others.pop("InstanceType", None),
            initial_instance_count=count,
            variant_name=str(others.pop("VariantName", "AllTraffic")),
            initial_variant_weight=number(others.pop("InitialVariantWeight", 1.0), "InitialVariantWeight"),
            serverless=serverless,
            others=others,
        )

    def checked(self) -> Variant:
        """Return the variant itself, or raise InvalidRequest naming the value, the limit and the remedy."""
        check_name(self.variant_name, "variant name")
        check_name(self.model_name, "model name")
        pools = self.others.get("InstancePools")
        if (self.instance_type is None and not pools) == (self.serverless is None):
            raise InvalidRequest(
                f"variant {self.variant_name} needs either an instance type or a ServerlessConfig, and not both "
                f"(InstancePools stand for an instance type)"
            )
        if pools:
            self._check_pools(pools)
        if self.others.get("ManagedInstanceScaling"):
            raise InvalidRequest(
                f"variant {self.variant_name} has a ModelName, and ManagedInstanceScaling is for endpoints of "
                f"inference components only: leave it out, and take SageMakerScaleEndpointOperator"
            )
        if not 0 <= self.initial_variant_weight < math.inf:
            raise InvalidRequest(
                f"the weight of variant {self.variant_name} is {self.initial_variant_weight}; it must be 0 or more"
            )
        if self.serverless is not None:
            self._check_serverless(self.serverless)
        elif self.instance_type is not None and not str(self.instance_type).startswith("ml."):
            raise InvalidRequest(f"instance_type must look like ml.m5.xlarge, not {self.instance_type!r}")
        elif self.initial_instance_count is not None and self.initial_instance_count < 1:
            raise InvalidRequest(
                f"initial_instance_count must be 1 or more, not {self.initial_instance_count}"
            )
        return self

    def _check_pools(self, pools: object) -> None:
        if not isinstance(pools, list | tuple) or not 1 <= len(pools) <= _MOST_POOLS:
            raise InvalidRequest(
                f"InstancePools of variant {self.variant_name} must be a list of 1 to {_MOST_POOLS}, not {pools!r}"
            )
        for pool in pools:
            kind = pool.get("InstanceType") if isinstance(pool, Mapping) else None
            if not str(kind).startswith("ml.") or not isinstance(pool, Mapping) or "Priority" not in pool:
                raise InvalidRequest(
                    f"an instance pool of variant {self.variant_name} needs an InstanceType like ml.m5.xlarge and a "
                    f"Priority from 1 to {_MOST_POOLS}, not {pool!r}"
                )

    def _check_serverless(self, config: Mapping[str, Any]) -> None:
        if config.get("MemorySizeInMB") not in _MEMORY_MB:
            raise InvalidRequest(
                f"MemorySizeInMB of variant {self.variant_name} is {config.get('MemorySizeInMB')}; SageMaker takes "
                f"{', '.join(map(str, _MEMORY_MB))}"
            )
        if config.get("MaxConcurrency") not in _SERVERLESS_CONCURRENCY:
            raise InvalidRequest(
                f"MaxConcurrency of variant {self.variant_name} is {config.get('MaxConcurrency')}; SageMaker takes "
                f"{_SERVERLESS_CONCURRENCY[0]} to {_SERVERLESS_CONCURRENCY[-1]}"
            )
        provisioned, most = config.get("ProvisionedConcurrency", 1), config["MaxConcurrency"]
        if not 1 <= provisioned <= most:
            raise InvalidRequest(
                f"ProvisionedConcurrency of variant {self.variant_name} is {provisioned}; SageMaker takes 1 to its "
                f"MaxConcurrency, {most}: lower it, raise MaxConcurrency, or leave ProvisionedConcurrency out"
            )

    def parameters(self) -> dict[str, Any]:
        capacity: dict[str, Any] = {
            "InstanceType": self.instance_type,
            "InitialInstanceCount": self.initial_instance_count,
        }
        if self.serverless is not None:
            capacity = {"ServerlessConfig": dict(self.serverless)}
        return {
            "VariantName": self.variant_name,
            "ModelName": self.model_name,
            **{key: value for key, value in capacity.items() if value is not None},
            "InitialVariantWeight": self.initial_variant_weight,
            **self.others,
        }


def models_of(config: Mapping[str, Any] | None) -> list[str]:
    """List the models that a described configuration names, each once, in its order; None names none.

    Variants of inference components name no model; instance pools may each name another than their variant.
    """
    names: list[Any] = []
    for variant in (config or {}).get("ProductionVariants") or ():
        names.append(variant.get("ModelName"))
        names += [pool.get("ModelNameOverride") for pool in variant.get("InstancePools") or ()]
    return list(dict.fromkeys(str(name) for name in names if name))
