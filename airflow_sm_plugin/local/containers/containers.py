"""What a container is made of, and what goes in and comes out of it."""

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
    """One container of a model, as CreateModel was told.

    ``name`` is its ContainerHostname, ``primary`` where a model has only one, else ``container_<n>``. Model
    data is a ``tar.gz`` unless ``unpacked``: then ``model_data_url`` is the prefix of the loose files, or
    (``is_object``) one of them. Of a ``multi_model`` one it is the prefix below which the target models' archives lie;
    ``keeps_models`` says that they stay loaded (ModelCacheSetting).
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
        """The name under which failures to get its model data speak of it."""
        return f"container_{self.number}" if self.name == PRIMARY else self.name

    @property
    def source_url(self) -> str | None:
        """Where the code lies when it is not in the model data: SageMaker's SDK leaves it in S3 for some frameworks."""
        directory = self.environment.get("SAGEMAKER_SUBMIT_DIRECTORY", "")
        return directory if directory.startswith("s3://") else None


@dataclass(frozen=True)
class ContainerInput:
    """What one invocation sends."""

    body: bytes = field(repr=False)
    content_type: str
    accept: str | None
    custom_attributes: str | None = field(default=None, repr=False)
    target_model: str | None = None


@dataclass(frozen=True)
class ContainerReply:
    """What the last container answered."""

    body: bytes = field(repr=False)
    content_type: str
    custom_attributes: str | None = field(repr=False)


@dataclass(frozen=True)
class LogTarget:
    """Where output goes in CloudWatch Logs; each of several containers appends ``/<name>`` to stream."""

    group: str
    stream: str


def containers_of(model: Record) -> list[Record]:
    """Return the container definitions of a CreateModel record, in pipeline order.

    Once it is stored, those of model packages stand in their places.
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
    """Say whether a container of the model loads its target models by request."""
    return any(one.get("Mode") == MULTI_MODEL for one in containers_of(model))


def is_direct(model: Record) -> bool:
    """Say whether each invocation names the one container that answers it (InferenceExecutionConfig)."""
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
