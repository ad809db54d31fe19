"""One production variant of an endpoint: a model on instances, or serverless."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.core.names import check_name
from airflow_sm_plugin.core.template_values import mapping
from airflow_sm_plugin.exceptions import InvalidRequest

_MEMORY_STEP = 1_024
_MEMORY_MB = range(_MEMORY_STEP, 6 * _MEMORY_STEP + 1, _MEMORY_STEP)
_SERVERLESS_CONCURRENCY = range(1, 201)
_MOST_POOLS = 5
_OWN_FIELDS = frozenset(
    {
        "VariantName",
        "ModelName",
        "InstanceType",
        "InitialInstanceCount",
        "InitialVariantWeight",
        "ServerlessConfig",
    }
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A model on instances (``instance_type``) or serverless (``serverless``, spelled as ServerlessConfig).

    ``others`` are further fields of SageMaker's ProductionVariant, passed on as they are. With InstancePools among
    them it needs no instance type, and no count.
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
        """Read a variant spelled as SageMaker's ProductionVariant; numbers may be texts, as templates render them.

        :raises InvalidRequest: no model's name, or a number that is none
        """
        if not value.get("ModelName"):
            raise InvalidRequest(
                f"a production variant needs a ModelName; this one has only {sorted(value)}. Endpoints of inference "
                f"components, whose variants have none, are not deployed by this operator"
            )
        pools = value.get("InstancePools")
        count = value.get("InitialInstanceCount", None if pools else 1)
        return cls(
            model_name=str(value["ModelName"]),
            instance_type=value.get("InstanceType"),
            initial_instance_count=(
                None if count is None and pools else whole_number(count, "InitialInstanceCount")
            ),
            variant_name=str(value.get("VariantName", "AllTraffic")),
            initial_variant_weight=_number(value.get("InitialVariantWeight", 1.0), "InitialVariantWeight"),
            serverless=_serverless(mapping(value.get("ServerlessConfig"), "ServerlessConfig")),
            others={key: item for key, item in value.items() if key not in _OWN_FIELDS},
        )

    def checked(self) -> Variant:
        """Return the variant itself when every limit holds.

        :raises InvalidRequest: naming the value, the limit and the remedy
        """
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
        """Return it as ``ProductionVariants`` spells it."""
        place: dict[str, Any] = (
            {"ServerlessConfig": dict(self.serverless)}
            if self.serverless is not None
            else {"InstanceType": self.instance_type, "InitialInstanceCount": self.initial_instance_count}
        )
        place = {key: value for key, value in place.items() if value is not None}
        return {
            "VariantName": self.variant_name,
            "ModelName": self.model_name,
            **place,
            "InitialVariantWeight": self.initial_variant_weight,
            **self.others,
        }


def whole_number(value: object, name: str) -> int:
    """Read a whole number that a template may have rendered to text.

    :raises InvalidRequest: it is none
    """
    try:
        return int(str(value))
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a whole number, not {value!r}") from error


def _number(value: object, name: str) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise InvalidRequest(f"{name} must be a number, not {value!r}") from error


def _serverless(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if config is None else {key: whole_number(value, key) for key, value in config.items()}


def models_of(config: Mapping[str, Any] | None) -> list[str]:
    """Return the models that a described configuration names, each once, in its order; None names none.

    Variants of inference components name no model; instance pools may each name another than their variant.
    """
    names: dict[str, None] = {}
    for variant in (config or {}).get("ProductionVariants") or ():
        pools = variant.get("InstancePools") or ()
        for name in (variant.get("ModelName"), *(pool.get("ModelNameOverride") for pool in pools)):
            if name:
                names[str(name)] = None
    return list(names)
