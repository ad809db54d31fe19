"""The plan of a multi-model batch as it lies in S3: the whole of it, and what each shard is to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from airflow_sm_plugin.batches.inputs import CHUNK
from airflow_sm_plugin.batches.task_try import StateWriter
from airflow_sm_plugin.exceptions import ResourceConflict

FORMAT = 2
"""Of a plan and all state below it. What cannot read older state has another number."""

_Json = bytes  # the name means a count in the classes below
_State = TypeVar("_State")


class ModelWork(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What a shard has of one model: entries ``first`` … ``first + count - 1`` of the shard.

    :param target_model: path below the endpoint's model prefix
    :param bytes: of its inputs whose size is known
    :param missing: whether its artefact was found to be missing
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
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, body: _Json) -> ShardPlan:
        return msgspec.json.decode(body, type=cls)

    @property
    def chunks(self) -> int:
        """Objects that hold its inputs, ``CHUNK`` each but the last."""
        return -(-self.inputs // CHUNK)


@dataclass(frozen=True, kw_only=True)
class MultiModelPlan:
    """A plan in short.

    :param number: 0 for the first; inputs that have changed make the next
    :param nonce: what no other plan has, however equal: it identifies its folder, outputs and reports
    :param outputs: ``s3://bucket/prefix`` of the results
    :param digest: of every input with its ETag, target model and output name, in order, those carried over included
    :param inputs: to be done, over all shards
    :param bytes: of these, as far as their size is known
    :param models: distinct target models of these
    :param missing_models: those of them whose artefact was found to be missing, in order
    :param carried: inputs that an earlier plan has done and that are the same still
    :param passed_over: objects below the inputs' prefix that were no inputs
    :param created_at: ISO 8601
    :param writer: which try of the task made it
    :param earlier: locations of the plans whose results count beside its own, the earliest first: none of those before
        a restart, or of a deleted DAG run's
    """

    format: int = FORMAT
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
        return msgspec.json.format(msgspec.json.encode(self), indent=1)

    def summary(self, location: str) -> dict[str, Any]:
        """Return the plan's XCom value: small, whatever the number of models.

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


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An entry of the log of plans.

    :param number: from 0
    :param writer: which try chose the plan; not always the one that made it
    """

    format: int = FORMAT
    number: int
    plan_location: str
    writer: StateWriter


def read_state(body: bytes, kind: type[_State], *, location: str, batch: str) -> _State:
    """Read a plan, or an entry of the log of plans.

    :param location: of the object
    :param batch: the folder of all plans of the batch
    :raises ResourceConflict: another version of this package wrote it
    """
    try:
        found: object = msgspec.json.decode(body, type=_Header).format
    except msgspec.MsgspecError:
        found = "unknown"
    if found != FORMAT:
        raise ResourceConflict(
            f"another version of airflow-sm-plugin began the batch in {batch}: {location} has format {found}, this "
            f"version reads {FORMAT}. Finish the batch with that version, or delete {batch} and clear the task that "
            f"plans: then everything is done again"
        )
    return msgspec.json.decode(body, type=kind)


class _Header(msgspec.Struct):
    format: int = 1  # state of the first format has no number


def shard_reference(location: str, shard: ShardPlan) -> dict[str, Any]:
    """Return the XCom reference of one shard.

    :param location: of the plan's folder
    """
    return {
        "plan_location": location,
        "shard": shard.number,
        "inputs": shard.inputs,
        "models": len(shard.models),
        "bytes": shard.bytes,
    }
