"""The containers of a model, their requests and replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_sm_plugin.local.account.state import Record

PRIMARY = "primary"
MULTI_MODEL = "MultiModel"
DIRECT = "Direct"


class ContainerFailed(Exception):
    """A container did not come up; the text is what SageMaker puts into FailureReason."""


@dataclass(frozen=True)
class ContainerSpec:
    """One container of a model, as CreateModel names it.

    ``name`` is its ContainerHostname, ``primary`` where a model has only one, else ``container_<n>``. Model data is a
    ``tar.gz`` unless ``unpacked``: then ``model_data_url`` is the prefix of the loose files, or (``is_object``) one
    of them. Of a ``multi_model`` one it is the prefix of the target models' archives; ``keeps_models`` is
    ModelCacheSetting.
    """

    name: str
    image: str
    model_data_url: str | None
    environment: Mapping[str, str] = field(repr=False)
    unpacked: bool = False
    is_object: bool = False
    number: int = 1
    multi_model: bool = False
    keeps_models: bool = True

    @property
    def label(self) -> str:
        """The name in failures to get its model data."""
        return f"container_{self.number}" if self.name == PRIMARY else self.name

    @property
    def source_url(self) -> str | None:
        """The location of code outside of the model data: SageMaker's SDK leaves it in S3 for some frameworks."""
        directory = self.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        return directory if directory.startswith("s3://") else None


@dataclass(frozen=True)
class ContainerInput:
    """The input of one invocation."""

    body: bytes = field(repr=False)
    content_type: str
    accept: str | None
    custom_attributes: str | None = field(default=None, repr=False)
    target_model: str | None = None


@dataclass(frozen=True)
class ContainerReply:
    """The reply of the last container."""

    body: bytes = field(repr=False)
    content_type: str
    custom_attributes: str | None = field(repr=False)


@dataclass(frozen=True)
class LogTarget:
    """A log group and stream in CloudWatch; each of several containers appends ``/<name>`` to the stream."""

    group: str
    stream: str


def containers_of(model: Record) -> list[Record]:
    """Return the container definitions of a CreateModel record, in pipeline order.

    In a stored record, those of model packages are resolved.
    """
    if "_containers" in model:
        return list(model["_containers"])
    if model.get("Containers"):
        return list(model["Containers"])
    return [model["PrimaryContainer"]] if model.get("PrimaryContainer") else []


def container_specs(model: Record) -> tuple[ContainerSpec, ...]:
    definitions = containers_of(model)
    return tuple(_spec(one, number, len(definitions)) for number, one in enumerate(definitions, start=1))


def is_multi_model(model: Record) -> bool:
    return any(definition.get("Mode") == MULTI_MODEL for definition in containers_of(model))


def is_direct(model: Record) -> bool:
    """Return whether each invocation names the one container that answers it (InferenceExecutionConfig)."""
    return bool((model.get("InferenceExecutionConfig") or {}).get("Mode") == DIRECT)


def _spec(definition: Record, number: int, count: int) -> ContainerSpec:
    source = definition.get("ModelDataSource", {}).get("S3DataSource", {})
    return ContainerSpec(
        name=definition.get("ContainerHostname") or (PRIMARY if count == 1 else f"container_{number}"),
        image=definition.get("Image", ""),
        model_data_url=definition.get("ModelDataUrl") or source.get("S3Uri"),
        environment=dict(definition.get("Environment") or {}),
        unpacked=source.get("CompressionType") == "None",
        is_object=source.get("S3DataType") == "S3Object",
        number=number,
        multi_model=definition.get("Mode") == MULTI_MODEL,
        keeps_models=definition.get("MultiModelConfig", {}).get("ModelCacheSetting") != "Disabled",
    )
