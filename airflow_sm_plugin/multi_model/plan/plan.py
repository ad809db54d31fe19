"""The plan of a multi-model batch as it lies in S3: the whole of it, and what each shard is to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_sm_plugin.batches.inputs import CHUNK
from airflow_sm_plugin.batches.state_writer import StateWriter

_Json = bytes  # the name means a count in the classes below


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelWork:
    """What a shard has of one model: entries ``first`` … ``first + count - 1`` of the shard.

    :param target_model: path below the endpoint's model prefix
    :param bytes: of its inputs whose size is known
    :param missing: whether its artefact was looked for and was not there
    """

    target_model: str
    first: int
    count: int
    bytes: int
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """What one shard is to do.

    :param number: from 0
    :param inputs: entries, each of one model
    :param bytes: of its inputs whose size is known
    :param models: the largest first, so that no long one comes last; their entries follow one another
    """

    number: int
    inputs: int
    bytes: int
    models: tuple[ModelWork, ...]

    def as_json(self) -> _Json:
        """Return the content of ``shard.json``, as :meth:`from_json` reads it; a row for each model."""
        rows = [[work.target_model, work.first, work.count, work.bytes, work.missing] for work in self.models]
        return _json({"number": self.number, "inputs": self.inputs, "bytes": self.bytes, "models": rows})

    @classmethod
    def from_json(cls, body: _Json) -> ShardPlan:
        """Read what :meth:`as_json` wrote."""
        value = json.loads(body)
        models = tuple(
            ModelWork(target_model=name, first=first, count=count, bytes=size, missing=missing)
            for name, first, count, size, missing in value.pop("models")
        )
        return cls(**value, models=models)

    @property
    def chunks(self) -> int:
        """Objects that hold its inputs, ``CHUNK`` each but the last."""
        return -(-self.inputs // CHUNK)


@dataclass(frozen=True, kw_only=True)
class MultiModelPlan:
    """A plan in short.

    :param number: 0 for the first; inputs that have changed make the next
    :param nonce: what no other plan has, however equal: of what its folder, outputs and reports are told by
    :param outputs: ``s3://bucket/prefix`` of the results
    :param digest: of every input with its ETag, target model and output name, in order, those carried over included
    :param inputs: to be done, over all shards
    :param bytes: of these, as far as their size is known
    :param models: distinct target models of these
    :param missing_models: those of them whose artefact was looked for and was not there, in order
    :param carried: inputs that an earlier plan has done and that are the same still
    :param passed_over: objects below the inputs' prefix that were no inputs
    :param created_at: ISO 8601
    :param writer: which try of the task made it
    :param earlier: locations of the plans whose results count beside its own, the earliest first: none of those before
        a restart, or of a deleted DAG run's
    """

    number: int
    nonce: str
    endpoint_name: str
    outputs: str
    digest: str
    inputs: int
    bytes: int
    models: int
    shards: int
    missing_models: tuple[str, ...] = ()
    carried: int = 0
    passed_over: int = 0
    created_at: str
    writer: StateWriter = field(default_factory=StateWriter)
    earlier: tuple[str, ...] = ()

    def as_json(self) -> _Json:
        """Return the content of ``plan.json``, as :meth:`from_json` reads it."""
        return json.dumps({**asdict(self), "writer": self.writer.as_json()}, indent=1).encode()

    @classmethod
    def from_json(cls, body: _Json) -> MultiModelPlan:
        """Read what :meth:`as_json` wrote."""
        value = json.loads(body)
        writer = StateWriter.from_json(value.pop("writer"))
        missing, earlier = (tuple(value.pop(name)) for name in ("missing_models", "earlier"))
        return cls(**value, writer=writer, missing_models=missing, earlier=earlier)

    def summary(self, location: str) -> dict[str, Any]:
        """Return what XCom tells of the plan: small, whatever the number of models.

        :param location: of the plan's folder
        """
        return {
            "plan_location": location,
            "inputs": self.inputs,
            "models": self.models,
            "shards": self.shards,
            "bytes": self.bytes,
            "carried": self.carried,
            "missing_models": len(self.missing_models),
            "passed_over": self.passed_over,
        }


def shard_reference(location: str, shard: ShardPlan) -> dict[str, Any]:
    """Return what XCom tells of one shard.

    :param location: of the plan's folder
    """
    return {
        "plan_location": location,
        "shard": shard.number,
        "inputs": shard.inputs,
        "models": len(shard.models),
        "bytes": shard.bytes,
    }


def _json(value: object) -> _Json:
    return json.dumps(value, separators=(",", ":")).encode()
