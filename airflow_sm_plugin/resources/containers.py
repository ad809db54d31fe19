"""The container definitions of a model: from one image, a pipeline, or a model package; single or multi-model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from airflow_sm_plugin.core.s3 import S3Uri
from airflow_sm_plugin.core.template_values import choice
from airflow_sm_plugin.exceptions import InvalidRequest

MULTI_MODEL = "MultiModel"
_MODES = ("SingleModel", MULTI_MODEL)
_CACHE_SETTINGS = ("Enabled", "Disabled")


@dataclass(frozen=True, kw_only=True)
class ContainerRequest:
    """The containers wanted for a model: exactly one of ``image``, ``containers`` and ``from_package`` is given.

    :param containers: definitions as SageMaker spells them, in pipeline order
    :param from_package: the container is a model package's, which :meth:`definitions` takes
    :param mode: ``SingleModel`` or ``MultiModel`` for the single container
    :param model_cache: ``Enabled`` or ``Disabled``, of a multi-model container
    :param serving_preset: of :data:`PRESETS`, for the single container
    """

    image: str | None = None
    model_data_url: str | None = None
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    containers: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    from_package: bool = False
    mode: str | None = None
    model_cache: str | None = None
    serving_preset: str | None = None

    def checked(self) -> ContainerRequest:
        """Return the request itself, or raise InvalidRequest for arguments that do not fit together."""
        if [self.image is not None, self.containers is not None, self.from_package].count(True) != 1:
            raise InvalidRequest(
                "give either image (one container), containers (a pipeline), or one of model_package_arn and "
                "model_package_group_name"
            )
        if self.containers is not None and (self.model_data_url or self.environment):
            raise InvalidRequest(
                "model_data_url and environment go with image; put them into containers instead"
            )
        if self.from_package and (self.model_data_url or self.mode == MULTI_MODEL):
            raise InvalidRequest(
                "model_data_url and mode='MultiModel' go with image: a model package brings its own"
            )
        if self.model_cache and self.mode != MULTI_MODEL:
            raise InvalidRequest("model_cache goes with mode='MultiModel': other models are loaded for good")
        if self.mode:
            choice(self.mode, "mode", _MODES)
        if self.model_cache:
            choice(self.model_cache, "model_cache", _CACHE_SETTINGS)
        if self.serving_preset:
            with_preset(None, self.serving_preset)
        self._check_pipeline()
        return self

    def _check_pipeline(self) -> None:
        if self.containers is None or len(self.containers) <= 1:
            return
        if self.mode == MULTI_MODEL:
            raise InvalidRequest(
                f"mode='MultiModel' goes with one container, not {len(self.containers)}: in a pipeline put "
                f"'Mode': 'MultiModel' into the one definition that loads many models"
            )
        if self.serving_preset:
            raise InvalidRequest(
                f"serving_preset goes with one container, not {len(self.containers)}: put the variables into the "
                f"definitions (airflow_sm_plugin.resources.containers.with_preset makes them)"
            )

    def definitions(
        self, package_arn: str | None = None, package_environment: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Build new definitions; the caller's are never changed.

        :param package_arn: the model package, with ``from_package``
        :param package_environment: the package's own variables, which a preset leaves alone
        :raises InvalidRequest: a multi-model container without a prefix or with a ModelDataSource, or several of them
        """
        definitions = [dict(container) for container in self._given(package_arn)]
        for container in definitions:
            if self.mode:
                container["Mode"] = self.mode
            if self.model_cache:
                container["MultiModelConfig"] = {"ModelCacheSetting": self.model_cache}
            if preset := self.serving_preset:
                own = container.get("Environment")
                container["Environment"] = with_preset(own, preset, kept=package_environment)
        return _with_prefixes(definitions)

    def _given(self, package_arn: str | None) -> Sequence[Mapping[str, Any]]:
        if self.containers is not None:
            return self.containers
        container = {
            "ModelPackageName": package_arn,
            "Image": self.image,
            "ModelDataUrl": self.model_data_url,
            "Environment": dict(self.environment or {}),
        }
        return [{key: value for key, value in container.items() if value}]


def _with_prefixes(containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    several = [container for container in containers if container.get("Mode") == MULTI_MODEL]
    if len(several) > 1:
        raise InvalidRequest(
            f"{len(several)} containers are multi-model, SageMaker takes one in a model: make the others SingleModel"
        )
    for container in several:
        if container.get("ModelDataSource"):
            raise InvalidRequest(
                "a multi-model container takes no ModelDataSource: give the prefix that its models lie under as "
                "ModelDataUrl"
            )
        if not container.get("ModelDataUrl"):
            raise InvalidRequest(
                "a multi-model container needs model_data_url: the prefix that its models lie under"
            )
        container["ModelDataUrl"] = model_prefix(container["ModelDataUrl"])
    return containers


def model_prefix(location: str) -> str:
    """Normalise the prefix that target models are relative to: exactly one slash at its end, no archive's name."""
    uri = S3Uri.parse(location, name="model_data_url")
    key = uri.key.rstrip("/")
    if key.endswith((".tar.gz", ".tgz")):
        raise InvalidRequest(
            f"model_data_url {location} names one archive, with mode='MultiModel' it is the prefix that the archives "
            f"lie under: leave the file name out, it is the invocation's target model"
        )
    return str(S3Uri(uri.bucket, f"{key}/" if key else ""))


def artefact_of(container: Mapping[str, Any]) -> str | None:
    """Find the ``s3://`` location of a container's single artefact; None for a prefix, or without an artefact."""
    if container.get("Mode") == MULTI_MODEL:
        return None
    source = (container.get("ModelDataSource") or {}).get("S3DataSource") or {}
    location = container.get("ModelDataUrl") or (
        source.get("S3Uri") if source.get("S3DataType") == "S3Object" else None
    )
    if not location or not str(location).startswith("s3://") or str(location).endswith("/"):
        return None
    return str(location) if S3Uri.parse(location).key else None


PRESETS: Mapping[str, Mapping[str, str]] = {
    "torchserve": {
        "TS_MAX_REQUEST_SIZE": "100000000",
        "TS_MAX_RESPONSE_SIZE": "100000000",
        "TS_DEFAULT_RESPONSE_TIMEOUT": "1000",
    },
    "mms": {
        "MMS_MAX_REQUEST_SIZE": "1000000000",
        "MMS_MAX_RESPONSE_SIZE": "1000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
    },
    "huggingface": {
        "MMS_MAX_REQUEST_SIZE": "2000000000",
        "MMS_MAX_RESPONSE_SIZE": "2000000000",
        "MMS_DEFAULT_RESPONSE_TIMEOUT": "900",
    },
}
"""Environments of TorchServe (PyTorch from 1.8 on), Multi Model Server (PyTorch 1.4), Hugging Face on the latter."""


def with_preset(
    environment: Mapping[str, str] | None, preset: str, *, kept: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Add a preset's variables to a user's environment, which wins.

    :param preset: ``torchserve``, ``mms`` or ``huggingface``
    :param kept: variables set elsewhere (in a model package): the preset leaves them alone, the result lacks them
    :raises InvalidRequest: no such preset
    """
    entries = PRESETS[choice(preset, "serving_preset", tuple(PRESETS))]
    return {key: value for key, value in entries.items() if key not in (kept or {})} | dict(environment or {})
