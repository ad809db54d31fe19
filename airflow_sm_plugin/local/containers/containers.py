"""The containers of a model; the input and the reply of an invocation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from airflow_sm_plugin.local.account.state import Record

PRIMARY = "primary"
MULTI_MODEL = "MultiModel"
DIRECT = "Direct"


class ContainerFailed(Exception):
    """A container did not start; the text is SageMaker's FailureReason."""


@dataclass(frozen=True)
class ContainerSpec:
    """A container of a model, from CreateModel.

    ``name`` is its ContainerHostname, else ``primary`` for a model's only container, else ``container_<n>``. Model data
    is a ``tar.gz`` unless ``unpacked``: then ``model_data_url`` is the prefix of the files, or (``is_object``) a single
    file. For ``multi_model``, it is the prefix of the target models' archives; ``keeps_models`` is ModelCacheSetting.
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
        """The container's name in messages about its model data."""
        return f"container_{self.number}" if self.name == PRIMARY else self.name

    @property
    def source_url(self) -> str | None:
        """The location of code outside of the model data: SageMaker's SDK puts it in S3 for some frameworks."""
        directory = self.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        return directory if directory.startswith("s3://") else None


@dataclass(frozen=True)
class ContainerInput:
    """The body of an invocation and the headers that a container gets with it."""

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
    """A log group and stream of CloudWatch; each of several containers appends ``/<name>`` to the stream."""

    group: str
    stream: str


def containers_of(model: Record) -> list[Record]:
    """List the container definitions of CreateModel in pipeline order; a stored record has model packages resolved."""
    if "_containers" in model:
        return list(model["_containers"])
    if model.get("Containers"):
        return list(model["Containers"])
    return [model["PrimaryContainer"]] if model.get("PrimaryContainer") else []


def container_specs(model: Record) -> tuple[ContainerSpec, ...]:
    definitions = containers_of(model)
    count = len(definitions)
    return tuple(_spec(definition, number, count) for number, definition in enumerate(definitions, start=1))


def is_multi_model(model: Record) -> bool:
    return any(definition.get("Mode") == MULTI_MODEL for definition in containers_of(model))


def is_direct(model: Record) -> bool:
    """Detect InferenceExecutionConfig's mode Direct: each invocation names the only container that answers it."""
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
